//! Bytes on their way between the container and the caller, without waiting on either.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_diag::Stream;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::Output;

/// A pipe's whole buffer at its default size.
const CHUNK_BYTES: usize = 64 * 1024;
/// A pipe or terminal that can be written takes so much without waiting (`PIPE_BUF`).
const UNHURRIED_BYTES: usize = 4096;

/// Where bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    /// A descriptor of ours that is read without waiting.
    Container(OwnedFd),
    /// The caller's standard input, which others may read, too: its mode is left alone.
    CallerInput,
}

/// Where bytes go.
#[derive(Debug)]
pub(super) enum Sink {
    /// The caller's standard output or error.
    Caller(Stream),
    /// The container's input, written without waiting; `None` when it is closed.
    Container(Option<OwnedFd>),
    /// The container's terminal, which the session holds.
    Terminal(OwnedFd),
}

/// One direction.
#[derive(Debug)]
pub(super) struct Relay {
    source: Option<Source>,
    sink: Sink,
    waiting: Vec<u8>,
    /// How much may be written at once without waiting.
    at_once: usize,
}

impl Relay {
    pub(super) fn new(source: Source, sink: Sink) -> Result<Self, Errno> {
        for fd in [source_fd(&source), sink_fd(&sink)] {
            let ours = !matches!(fd, Fd::Callers(_));
            if ours {
                let flags = rustix::fs::fcntl_getfl(fd.get())?;
                rustix::fs::fcntl_setfl(fd.get(), flags | OFlags::NONBLOCK)?;
            }
        }
        let at_once = match &sink {
            Sink::Caller(stream) if waits(*stream) => UNHURRIED_BYTES,
            _ => CHUNK_BYTES,
        };
        Ok(Self { source: Some(source), sink, waiting: Vec::new(), at_once })
    }

    /// Returns true if no more bytes will come and none are waiting.
    pub(super) fn is_over(&self) -> bool {
        self.source.is_none() && self.waiting.is_empty()
    }

    /// Returns true for the direction from the container to the caller.
    pub(super) fn is_of_output(&self) -> bool {
        matches!(self.sink, Sink::Caller(_))
    }

    /// Returns what to wait for, if for anything.
    pub(super) fn interest(&self) -> Option<PollFd<'_>> {
        if !self.waiting.is_empty() {
            return Some(PollFd::from_borrowed_fd(sink_fd(&self.sink).get(), PollFlags::OUT));
        }
        let source = self.source.as_ref()?;
        Some(PollFd::from_borrowed_fd(source_fd(source).get(), PollFlags::IN))
    }

    /// Moves what can be moved now. Returns false when nothing could be.
    pub(super) fn advance(&mut self, output: &mut Output<'_>) -> bool {
        if !self.waiting.is_empty() {
            return self.write(output);
        }
        let Some(source) = &self.source else { return false };
        let mut buffer = std::mem::take(&mut self.waiting);
        buffer.resize(CHUNK_BYTES, 0);
        match rustix::io::read(source_fd(source).get(), &mut buffer[..]) {
            Ok(0) => self.end(),
            Ok(length) => {
                buffer.truncate(length);
                if let (Sink::Caller(stream), Output::Shown(function)) = (&self.sink, &mut *output)
                {
                    function(*stream, &buffer);
                }
                self.waiting = buffer;
                return self.write(output);
            }
            Err(Errno::AGAIN | Errno::INTR) => return false,
            // A terminal whose other side is closed says EIO; whatever it is, no more will come.
            Err(_) => self.end(),
        }
        true
    }

    /// Reads and writes what is left after the container's end.
    pub(super) fn drain(&mut self, output: &mut Output<'_>) {
        while !self.is_over() {
            if self.advance(output) {
                continue;
            }
            // Nothing moved: either the reader is slow, for whom we wait, or there is no more.
            let Some(interest) = self.interest().filter(|_| !self.waiting.is_empty()) else {
                break;
            };
            let mut interest = [interest];
            if let Err(errno) = rustix::event::poll(&mut interest, None)
                && errno != Errno::INTR
            {
                break;
            }
        }
    }

    fn end(&mut self) {
        self.source = None;
        match &mut self.sink {
            Sink::Container(fd) => *fd = None,
            Sink::Caller(_) | Sink::Terminal(_) => {}
        }
    }

    fn write(&mut self, output: &mut Output<'_>) -> bool {
        if let (Sink::Caller(stream), Output::Callback(function)) = (&self.sink, &mut *output) {
            function(*stream, &self.waiting);
            self.waiting.clear();
            return true;
        }
        let part = &self.waiting[..self.waiting.len().min(self.at_once)];
        match rustix::io::write(sink_fd(&self.sink).get(), part) {
            Ok(written) => {
                self.waiting.drain(..written);
                true
            }
            Err(Errno::AGAIN | Errno::INTR) => false,
            Err(_) => {
                // Nobody reads any more: closing our end tells the writer.
                self.waiting.clear();
                self.end();
                true
            }
        }
    }
}

/// Whose descriptor it is decides whether its mode may be changed.
enum Fd<'a> {
    Ours(BorrowedFd<'a>),
    Callers(BorrowedFd<'a>),
}

impl<'a> Fd<'a> {
    fn get(&self) -> BorrowedFd<'a> {
        match self {
            Self::Ours(fd) | Self::Callers(fd) => *fd,
        }
    }
}

fn source_fd(source: &Source) -> Fd<'_> {
    match source {
        Source::Container(fd) => Fd::Ours(fd.as_fd()),
        Source::CallerInput => Fd::Callers(rustix::stdio::stdin()),
    }
}

fn sink_fd(sink: &Sink) -> Fd<'_> {
    match sink {
        Sink::Caller(stream) => Fd::Callers(standard(*stream)),
        Sink::Container(Some(fd)) | Sink::Terminal(fd) => Fd::Ours(fd.as_fd()),
        // Writing to it fails, which is what a closed sink does.
        Sink::Container(None) => Fd::Callers(rustix::stdio::stdin()),
    }
}

/// This process's standard output or error.
pub fn standard(stream: Stream) -> BorrowedFd<'static> {
    match stream {
        Stream::Stdout => rustix::stdio::stdout(),
        Stream::Stderr => rustix::stdio::stderr(),
    }
}

/// Returns true if writing may wait for a reader.
fn waits(stream: Stream) -> bool {
    rustix::fs::fstat(standard(stream))
        .map_or(true, |stat| FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile)
}
