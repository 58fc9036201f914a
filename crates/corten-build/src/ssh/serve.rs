//! A socket of ours that answers for an agent.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use corten_sys::error::{IoError, at};
use corten_sys::file;

use super::keys::{FAILURE, LIST, SIGN};
use super::{Kind, SshAgent};
use crate::run::scratch::Scratch;

/// The name of the socket in its directory.
const NAME: &str = "agent";

/// The largest message; OpenSSH's agent has the same limit.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// How many programs of a step may ask at one time; each has a thread here.
const CONNECTIONS_MAX: usize = 64;

/// How long to wait when no connection can be taken, for want of descriptors for example.
const PAUSE: Duration = Duration::from_millis(100);

/// Who may use a socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Access {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A socket that is answered until this value is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    path: PathBuf,
    scratch: Scratch,
    stop: Arc<AtomicBool>,
}

impl Served {
    /// Makes a socket in an empty directory and answers there.
    pub(crate) fn start(
        agent: &SshAgent,
        scratch: Scratch,
        access: &Access,
    ) -> Result<Self, IoError> {
        let path = scratch.path().join(NAME);
        let listener = on(scratch.path(), |path| UnixListener::bind(path))?;
        std::os::unix::fs::chown(&path, Some(access.uid), Some(access.gid))
            .map_err(at("change the owner of", &path))?;
        file::set_mode(&path, access.mode)?;
        let stop = Arc::new(AtomicBool::new(false));
        let server = Server { agent: agent.clone(), stop: Arc::clone(&stop), busy: Arc::default() };
        std::thread::Builder::new()
            .name("ssh agent".to_owned())
            .spawn(move || server.accept(&listener))
            .map_err(at("start a thread for", &path))?;
        Ok(Self { path, scratch, stop })
    }

    /// Where the socket is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // The thread waits for a connection. If it cannot be woken, it waits on until the program
        // ends, for a socket that nobody can reach any more.
        drop(on(self.scratch.path(), |path| UnixStream::connect(path)));
    }
}

/// Names a socket by its directory's descriptor: the name of one has at most 107 bytes.
fn on<T>(directory: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> Result<T, IoError> {
    let opened = file::open(directory)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd()));
    act(&path).map_err(at("use the socket", directory.join(NAME)))
}

struct Server {
    agent: SshAgent,
    stop: Arc<AtomicBool>,
    busy: Arc<AtomicUsize>,
}

impl Server {
    fn accept(&self, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let Ok(stream) = stream else {
                std::thread::sleep(PAUSE);
                continue;
            };
            if self.busy.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                self.busy.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (agent, busy) = (self.agent.clone(), Arc::clone(&self.busy));
            let spawned = std::thread::Builder::new().spawn(move || {
                // A connection that breaks concerns nobody but who made it.
                drop(converse(stream, &agent));
                busy.fetch_sub(1, Ordering::Relaxed);
            });
            if spawned.is_err() {
                self.busy.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

/// Answers all requests of one connection.
fn converse(mut stream: UnixStream, agent: &SshAgent) -> io::Result<()> {
    let mut upstream = None;
    while let Some(request) = receive(&mut stream)? {
        let answer = match (request.first(), &agent.0) {
            (Some(&(LIST | SIGN)), Kind::Socket(path)) => ask(&mut upstream, path, &request)
                .unwrap_or_else(|_| {
                    upstream = None;
                    vec![FAILURE]
                }),
            (_, Kind::Keys(keys)) => keys.answer(&request),
            _ => vec![FAILURE],
        };
        send(&mut stream, &answer)?;
    }
    Ok(())
}

/// Passes a request on to an agent of the host.
fn ask(upstream: &mut Option<UnixStream>, path: &Path, request: &[u8]) -> io::Result<Vec<u8>> {
    let stream = match upstream {
        Some(stream) => stream,
        None => upstream.insert(UnixStream::connect(path)?),
    };
    send(stream, request)?;
    receive(stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Reads a message; `None` at the end.
pub(super) fn receive(stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MESSAGE_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(Some(message))
}

pub(super) fn send(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(message);
    stream.write_all(&bytes)
}
