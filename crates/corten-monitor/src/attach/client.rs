//! The other side: this process's terminal or pipes as those of a container.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use corten_diag::Stream;
use corten_runtime::standard;
use corten_sys::signals::SignalReader;
use corten_sys::{socket, tty};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::{DetachKeys, ENDING, ERRORS, Ending, INPUT, MESSAGE_BYTES_MAX, OUTPUT, TERMINAL};

/// Signals that are passed on to the container where that is wanted.
const PASSED_ON: [i32; 6] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2];

/// After so many requests to end, the container is left alone, as in Docker.
const PATIENCE: u32 = 3;

/// A pipe or terminal that can be written takes so much without waiting (`PIPE_BUF`).
const UNHURRIED_BYTES: usize = 4096;

/// Our end of being attached.
#[derive(Debug)]
pub struct Attachment {
    socket: OwnedFd,
}

/// What is done while one is attached.
#[derive(Debug)]
pub struct AttachOptions {
    /// Whether the container reads what this process reads.
    pub input: bool,
    /// Whether signals to this process go to the container.
    pub signals: bool,
    /// With a terminal, what is typed to leave the container alone again.
    pub keys: DetachKeys,
    /// Lets a program that runs already draw its screen anew.
    pub redraw: bool,
}

/// How being attached ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachEnd {
    /// With the program.
    Ended(Ending),
    /// By the keys, or by asking too often.
    Detached,
    /// The monitor let go of us, or has gone itself.
    Cut,
}

impl Attachment {
    /// Makes both ends: ours, and the monitor's.
    pub fn new() -> io::Result<(Self, OwnedFd)> {
        let (socket, theirs) = socket::pair()?;
        Ok((Self { socket }, theirs))
    }

    /// Shows what the container writes and passes on what is typed, until one of the ends comes.
    /// `signal` passes a signal on.
    pub fn attend(
        self,
        options: AttachOptions,
        signal: &mut dyn FnMut(i32),
    ) -> io::Result<AttachEnd> {
        let stdin = rustix::stdio::stdin();
        let is_terminal = tty::is_terminal(stdin);
        let mut taken = Vec::new();
        if options.signals {
            taken.extend(PASSED_ON);
        }
        if is_terminal {
            taken.push(libc::SIGWINCH);
        }
        let signals = SignalReader::new(&taken)?;
        let reads = options.input;
        let mut attended = Attended {
            socket: self.socket,
            options,
            signals,
            is_terminal,
            input: None,
            reads,
            typed: Vec::new(),
            shown: (OUTPUT, Vec::new()),
            buffer: vec![0; MESSAGE_BYTES_MAX],
            raw: None,
            asked: 0,
        };
        loop {
            if let Some(end) = attended.round(signal)? {
                return Ok(end);
            }
        }
    }
}

/// What a container reads from.
enum Input {
    Terminal(OwnedFd),
    Pipe(OwnedFd),
}

struct Attended {
    socket: OwnedFd,
    options: AttachOptions,
    signals: SignalReader,
    /// Our standard input is a terminal.
    is_terminal: bool,
    input: Option<Input>,
    /// Our standard input has not ended.
    reads: bool,
    /// On its way to the container.
    typed: Vec<u8>,
    /// On its way to our standard output or error.
    shown: (u8, Vec<u8>),
    /// For messages.
    buffer: Vec<u8>,
    raw: Option<tty::RawMode<'static>>,
    asked: u32,
}

impl Attended {
    /// Waits for something to happen and does all of it.
    fn round(&mut self, signal: &mut dyn FnMut(i32)) -> io::Result<Option<AttachEnd>> {
        let [shown, message, typed, read, signalled] = self.wait()?;
        if signalled {
            while let Some(number) = self.signals.next()? {
                if number == libc::SIGWINCH {
                    self.resize();
                    continue;
                }
                self.asked += u32::from([libc::SIGINT, libc::SIGTERM].contains(&number));
                if self.asked >= PATIENCE {
                    return Ok(Some(AttachEnd::Detached));
                }
                signal(number);
            }
        }
        if shown && !self.show() {
            return Ok(Some(AttachEnd::Detached));
        }
        if typed {
            self.pass_on();
        }
        if read && self.read() {
            return Ok(Some(AttachEnd::Detached));
        }
        if message { self.take_message() } else { Ok(None) }
    }

    /// Says what can be done: show, take a message, pass on, read, take a signal.
    fn wait(&self) -> io::Result<[bool; 5]> {
        let standard = standard(self.shown_stream());
        let is_shown = self.shown.1.is_empty();
        let sink = match &self.input {
            Some(Input::Terminal(fd) | Input::Pipe(fd)) => Some(fd),
            None => None,
        };
        let stdin = rustix::stdio::stdin();
        let wanted = [
            (!is_shown).then(|| PollFd::from_borrowed_fd(standard, PollFlags::OUT)),
            is_shown.then(|| PollFd::new(&self.socket, PollFlags::IN)),
            sink.filter(|_| !self.typed.is_empty()).map(|fd| PollFd::new(fd, PollFlags::OUT)),
            sink.filter(|_| self.reads && self.typed.is_empty())
                .map(|_| PollFd::from_borrowed_fd(stdin, PollFlags::IN)),
            Some(PollFd::new(&self.signals, PollFlags::IN)),
        ];
        let mut places = [None; 5];
        let mut fds = Vec::with_capacity(wanted.len());
        for (place, fd) in places.iter_mut().zip(wanted) {
            *place = fd.is_some().then_some(fds.len());
            fds.extend(fd);
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => fds.iter_mut().for_each(PollFd::clear_revents),
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |place: Option<usize>| {
            place.and_then(|place| fds.get(place)).is_some_and(|fd| !fd.revents().is_empty())
        };
        Ok(places.map(is_ready))
    }

    /// Writes a part of what waits to be shown; false if nobody reads it any more.
    fn show(&mut self) -> bool {
        let standard = standard(self.shown_stream());
        let waiting = &mut self.shown.1;
        let part = &waiting[..waiting.len().min(UNHURRIED_BYTES)];
        let written = rustix::io::write(standard, part);
        match written {
            Ok(count) => drop(waiting.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return false,
        }
        true
    }

    fn shown_stream(&self) -> Stream {
        if self.shown.0 == ERRORS { Stream::Stderr } else { Stream::Stdout }
    }

    fn pass_on(&mut self) {
        let Some(Input::Terminal(fd) | Input::Pipe(fd)) = &self.input else { return };
        match rustix::io::write(fd, &self.typed) {
            Ok(count) => drop(self.typed.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                // The program reads no more.
                self.typed.clear();
                self.end_input();
            }
        }
    }

    /// Reads what was typed; true if the keys for leaving were among it.
    fn read(&mut self) -> bool {
        let mut buffer = vec![0; UNHURRIED_BYTES];
        match rustix::io::read(rustix::stdio::stdin(), buffer.as_mut_slice()) {
            Ok(0) => self.end_input(),
            Ok(count) => {
                let bytes = buffer.get(..count).unwrap_or_default();
                if matches!(self.input, Some(Input::Terminal(_))) {
                    return self.options.keys.filter(bytes, &mut self.typed);
                }
                self.typed.extend_from_slice(bytes);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.end_input(),
        }
        false
    }

    /// Nothing more will be typed: the end of a pipe tells the program.
    fn end_input(&mut self) {
        self.reads = false;
        if matches!(self.input, Some(Input::Pipe(_))) {
            self.input = None;
        }
    }

    fn take_message(&mut self) -> io::Result<Option<AttachEnd>> {
        let received = socket::receive(self.socket.as_fd(), &mut self.buffer)?;
        let message = self.buffer.get(..received.length).unwrap_or_default();
        let Some((kind, bytes)) = message.split_first() else { return Ok(Some(AttachEnd::Cut)) };
        match *kind {
            OUTPUT | ERRORS => {
                self.shown.0 = *kind;
                self.shown.1.extend_from_slice(bytes);
            }
            ENDING => {
                let ending = serde_json::from_slice(bytes).map_err(io::Error::other)?;
                return Ok(Some(AttachEnd::Ended(ending)));
            }
            TERMINAL | INPUT => {
                let kind = *kind;
                if let Some(fd) = received.fds.into_iter().next() {
                    self.take_input(kind, fd)?;
                }
            }
            // Of a newer monitor: nothing that has to be known.
            _ => {}
        }
        Ok(None)
    }

    fn take_input(&mut self, kind: u8, fd: OwnedFd) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&fd)?;
        rustix::fs::fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        if kind == INPUT {
            self.input = Some(Input::Pipe(fd));
            return Ok(());
        }
        if self.is_terminal && self.options.input && self.raw.is_none() {
            self.raw = Some(tty::RawMode::enter(rustix::stdio::stdin())?);
        }
        self.input = Some(Input::Terminal(fd));
        if self.options.redraw && self.is_terminal {
            self.set_size(1);
        }
        self.resize();
        Ok(())
    }

    /// Gives the container's terminal the size of ours.
    fn resize(&self) {
        self.set_size(0);
    }

    fn set_size(&self, more_rows: u16) {
        // A caller without a terminal has no size to give.
        if let (Some(Input::Terminal(terminal)), Ok((rows, columns))) =
            (&self.input, tty::size(rustix::stdio::stdin()))
        {
            let size = (rows.saturating_add(more_rows), columns);
            tty::set_size(terminal.as_fd(), size).unwrap_or_default();
        }
    }
}
