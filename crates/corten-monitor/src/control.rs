//! Asking a container's monitor.
//!
//! One connection is one request and one reply, each a line of JSON. A socket's address has room for 108
//! bytes of path only, so it is named by a descriptor of its directory.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use corten_runtime::Usage;
use corten_sys::error::IoError;
use corten_sys::{file, socket};
use serde::{Deserialize, Serialize};

use crate::attach::Attachment;
use crate::definition::Definition;
use crate::error::MonitorError;

/// The socket in a container's directory.
const SOCKET: &str = "control.sock";

/// Requests and replies are short; more is no monitor.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// What a monitor is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask")]
pub(crate) enum Request {
    /// Sends a signal to the first process.
    Signal { signal: i32 },
    /// Ends the container: by the signal, and when the time is over by SIGKILL. The reply comes when it
    /// has ended.
    Stop { signal: Option<i32>, timeout_seconds: Option<u32> },
    /// The reply comes when the program ends, also if it is started again.
    Wait,
    /// Which process is the container's first one, and whether others may share its memory.
    Process,
    /// Runs a further program in the container. The first reply says that its descriptors may be sent,
    /// the second that it runs (with its terminal, if it has one), the third how it ended.
    Execute(Execute),
    /// Shows what the container writes, and lets it read. The reply says that a socket may be sent (see
    /// [`crate::attach`]).
    Attach { input: bool },
    /// Stops every process where it is.
    Pause,
    /// Lets them go on.
    Unpause,
    /// Serves names to a container that was put on a network where others have some.
    ServeNames,
    /// Which processes there are, in the numbers of the host.
    Processes,
    /// What they use of the machine.
    Usage,
    /// From now on the container is run like this.
    Update { definition: Box<Definition> },
}

/// A further program in a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execute {
    /// Program and arguments.
    pub args: Vec<String>,
    /// Variables over those of the container, `NAME=value`.
    pub env: Vec<String>,
    /// Where to start; `None` is where the container's own program did.
    pub cwd: Option<PathBuf>,
    /// As whom, in the form of `--user`; `None` is as the container's own program.
    pub user: Option<String>,
    pub terminal: bool,
    /// Whether it reads anything.
    pub interactive: bool,
    /// With all capabilities and without a filter of system calls.
    pub privileged: bool,
}

/// What comes back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    /// Why it could not be done.
    pub error: Option<String>,
    pub ended: Option<Ended>,
    /// What to do about the error, and the exit code that it becomes.
    #[serde(default)]
    pub hint: Option<String>,
    #[serde(default)]
    pub code: Option<u8>,
    /// The container's first process, and whether others may share its memory.
    #[serde(default)]
    pub process: Option<(u32, bool)>,
    #[serde(default)]
    pub processes: Vec<u32>,
    #[serde(default)]
    pub usage: Option<Usage>,
    /// What is weaker than was asked for.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Reply {
    pub(crate) fn error(error: impl Into<String>) -> Self {
        Self { error: Some(error.into()), ..Self::default() }
    }
}

/// How a container's program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// As a shell tells it: 128 and the number for a signal.
    pub code: i32,
    pub oom_killed: bool,
}

/// A container's monitor that can be asked for one thing.
#[derive(Debug)]
pub struct Control {
    stream: UnixStream,
}

/// Finds the monitor of the container in a directory; `None` if nobody listens there.
pub fn connect(folder: &Path) -> Result<Option<Control>, MonitorError> {
    let named = Named::new(folder);
    let Some(named) = file::absent_is_none(named)? else { return Ok(None) };
    match UnixStream::connect(&named.path) {
        Ok(stream) => Ok(Some(Control { stream })),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(MonitorError::Control(error)),
    }
}

impl Control {
    /// Sends a signal to the container's first process.
    pub fn signal(self, signal: i32) -> Result<(), MonitorError> {
        self.ask(&Request::Signal { signal }).map(drop)
    }

    /// Stops every process of the container where it is.
    pub fn pause(self) -> Result<(), MonitorError> {
        self.answer(&Request::Pause).map(drop)
    }

    /// Lets a container that was paused go on.
    pub fn unpause(self) -> Result<(), MonitorError> {
        self.answer(&Request::Unpause).map(drop)
    }

    /// Has names served to the container, which is on a network where others have some by now.
    pub fn serve_names(self) -> Result<(), MonitorError> {
        self.ask(&Request::ServeNames).map(drop)
    }

    /// Finds the container's processes, in the numbers of the host, the first one first.
    pub fn processes(self) -> Result<Vec<u32>, MonitorError> {
        Ok(self.answer(&Request::Processes)?.processes)
    }

    /// Says what the container uses of the machine.
    pub fn usage(self) -> Result<Usage, MonitorError> {
        self.answer(&Request::Usage)?.usage.ok_or_else(gone)
    }

    /// Changes how the container is run, its limits at once. Returns what is weaker than was asked for.
    pub fn update(self, definition: Definition) -> Result<Vec<String>, MonitorError> {
        let definition = Box::new(definition);
        Ok(self.answer(&Request::Update { definition })?.warnings)
    }

    /// A reply that must come.
    fn answer(self, request: &Request) -> Result<Reply, MonitorError> {
        let mut stream = self.stream;
        let line = line(request).map_err(MonitorError::Encode)?;
        stream.write_all(&line).map_err(MonitorError::Control)?;
        answered(&stream)
    }

    /// Ends the container and waits for that; `None` takes what the container was made with.
    pub fn stop(
        self,
        signal: Option<i32>,
        timeout_seconds: Option<u32>,
    ) -> Result<(), MonitorError> {
        self.ask(&Request::Stop { signal, timeout_seconds }).map(drop)
    }

    /// Waits until the program ends; `None` if the monitor went away before it could say how.
    pub fn wait(self) -> Result<Option<Ended>, MonitorError> {
        Ok(self.ask(&Request::Wait)?.and_then(|reply| reply.ended))
    }

    /// Attaches to the container; `input` says whether it is to read what the caller reads.
    pub fn attach(self, input: bool) -> Result<Attachment, MonitorError> {
        let mut stream = self.stream;
        let line = line(&Request::Attach { input }).map_err(MonitorError::Encode)?;
        stream.write_all(&line).map_err(MonitorError::Control)?;
        answered(&stream)?;
        let (attachment, theirs) = Attachment::new().map_err(MonitorError::Control)?;
        let sent = socket::send(stream.as_fd(), HANDED_OVER, &[theirs.as_fd()]);
        sent.map_err(MonitorError::Control)?;
        Ok(attachment)
    }

    /// Returns the number of the container's first process and whether others may share its memory;
    /// `None` if it does not run.
    pub fn process(self) -> Result<Option<(u32, bool)>, MonitorError> {
        Ok(self.ask(&Request::Process)?.and_then(|reply| reply.process))
    }

    /// Asks for a further program in the container and hands over its descriptors: standard input,
    /// output and error, in this order, or none with a terminal. Returns when the program runs.
    pub fn execute(
        self,
        execute: &Execute,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Executed, MonitorError> {
        let mut stream = self.stream;
        let line = line(&Request::Execute(execute.clone())).map_err(MonitorError::Encode)?;
        stream.write_all(&line).map_err(MonitorError::Control)?;
        answered(&stream)?;
        socket::send(stream.as_fd(), HANDED_OVER, descriptors).map_err(MonitorError::Control)?;
        let mut word = [0; 1];
        let received = socket::receive(stream.as_fd(), &mut word).map_err(MonitorError::Control)?;
        if received.length == 0 {
            return Err(gone());
        }
        if word != *RUNS {
            answered(&stream)?;
            return Err(gone());
        }
        Ok(Executed { stream, terminal: received.fds.into_iter().next() })
    }

    /// The reply; `None` if the monitor went away meanwhile.
    fn ask(self, request: &Request) -> Result<Option<Reply>, MonitorError> {
        let mut stream = self.stream;
        let line = line(request).map_err(MonitorError::Encode)?;
        let is_gone = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        };
        match stream.write_all(&line) {
            Err(error) if is_gone(&error) => return Ok(None),
            other => other.map_err(MonitorError::Control)?,
        }
        let reply: Option<Reply> = match receive(&stream) {
            Err(error) if is_gone(&error) => return Ok(None),
            other => other.map_err(MonitorError::Control)?,
        };
        match reply {
            Some(Reply { error: Some(message), hint, .. }) => {
                Err(MonitorError::Refused { message, hint })
            }
            reply => Ok(reply),
        }
    }
}

/// A further program that runs in a container.
#[derive(Debug)]
pub struct Executed {
    stream: UnixStream,
    /// Our side of its terminal.
    pub terminal: Option<OwnedFd>,
}

impl Executed {
    /// Becomes readable when the program has ended.
    pub fn ended(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Waits for the end of the program.
    pub fn wait(self) -> Result<Ended, MonitorError> {
        answered(&self.stream)?.ended.ok_or_else(gone)
    }
}

/// The monitor went away where it still had to say something.
fn gone() -> MonitorError {
    MonitorError::Control(io::ErrorKind::ConnectionReset.into())
}

/// A reply that is no error.
fn answered(stream: &UnixStream) -> Result<Reply, MonitorError> {
    let reply: Option<Reply> = receive(stream).map_err(MonitorError::Control)?;
    match reply.ok_or_else(gone)? {
        Reply { error: Some(message), hint, code: Some(code), .. } => {
            Err(MonitorError::NotStarted { message, hint, code })
        }
        Reply { error: Some(message), hint, .. } => Err(MonitorError::Refused { message, hint }),
        reply => Ok(reply),
    }
}

/// Goes with descriptors that are handed over.
pub(crate) const HANDED_OVER: &[u8; 1] = b"d";

/// Comes when a further program runs.
pub(crate) const RUNS: &[u8; 1] = b"r";

/// Comes before a reply that says why it does not.
pub(crate) const RUNS_NOT: &[u8; 1] = b"n";

/// Listens for requests in a container's directory. A socket that a dead monitor left is replaced.
pub(crate) fn listen(folder: &Path) -> Result<UnixListener, IoError> {
    let path = folder.join(SOCKET);
    file::remove_tree(&path)?;
    let named = Named::new(folder)?;
    UnixListener::bind(&named.path).map_err(|error| IoError::new("listen on", &path, error))
}

/// Reads one line of JSON; `None` at the end.
pub(crate) fn receive<T: for<'de> Deserialize<'de>>(stream: &UnixStream) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    // Nobody sends more before there was an answer, so that nothing is read too early.
    BufReader::new(stream.take(LINE_BYTES_MAX)).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Ok(None);
    }
    serde_json::from_slice(&line).map(Some).map_err(io::Error::other)
}

/// Writes one line of JSON.
pub(crate) fn send(mut stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    stream.write_all(&line(reply).map_err(io::Error::other)?)
}

fn line(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

/// A short path for the socket, valid while the descriptor is open.
struct Named {
    path: PathBuf,
    _folder: std::fs::File,
}

impl Named {
    fn new(folder: &Path) -> Result<Self, IoError> {
        let opened = file::open(folder)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd())).join(SOCKET);
        Ok(Self { path, _folder: opened })
    }
}
