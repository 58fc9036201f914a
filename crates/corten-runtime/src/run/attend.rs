//! The other side of a program whose descriptors are ours but which is not: bytes between it and this
//! process's standard input and output.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use corten_diag::Stream;
use corten_sys::signals::SignalReader;
use corten_sys::tty;
use rustix::event::{PollFd, PollFlags, poll};

use super::Output;
use super::relay::{Relay, Sink, Source};

/// Our ends of what a program reads and writes.
#[derive(Debug)]
pub enum Streams {
    Pipes {
        /// What it reads; `None` if it reads nothing.
        stdin: Option<OwnedFd>,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    Terminal {
        terminal: OwnedFd,
        /// Whether what is typed goes there.
        interactive: bool,
    },
}

/// Moves bytes until a descriptor becomes readable, which tells that the program has ended, and then
/// what it has left. With a terminal, ours is in raw mode meanwhile and gives its size.
pub fn attend(streams: Streams, ended: BorrowedFd<'_>) -> io::Result<()> {
    let stdin = rustix::stdio::stdin();
    let (mut relays, terminal) = relays(streams)?;
    let is_terminal = terminal.is_some() && tty::is_terminal(stdin);
    let raw = if is_terminal { Some(tty::RawMode::enter(stdin)?) } else { None };
    let resized = if is_terminal { Some(SignalReader::new(&[libc::SIGWINCH])?) } else { None };
    let resize = || {
        if let (Some(terminal), Ok(size)) = (&terminal, tty::size(stdin)) {
            tty::set_size(terminal.as_fd(), size).unwrap_or_default();
        }
    };
    resize();
    let mut output = Output::Inherit;
    while !wait(&mut relays, resized.as_ref(), ended, &mut output)? {
        while resized.as_ref().map_or(Ok(None), SignalReader::next)?.is_some() {
            resize();
        }
    }
    for relay in relays.iter_mut().filter(|relay| relay.is_of_output()) {
        relay.drain(&mut output);
    }
    drop(raw);
    Ok(())
}

fn relays(streams: Streams) -> io::Result<(Vec<Relay>, Option<OwnedFd>)> {
    let mut relays = Vec::new();
    match streams {
        Streams::Pipes { stdin, stdout, stderr } => {
            for (fd, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
                relays.push(Relay::new(Source::Container(fd), Sink::Caller(stream))?);
            }
            if let Some(stdin) = stdin {
                relays.push(Relay::new(Source::CallerInput, Sink::Container(Some(stdin)))?);
            }
            Ok((relays, None))
        }
        Streams::Terminal { terminal, interactive } => {
            if interactive {
                let sink = Sink::Terminal(terminal.try_clone()?);
                relays.push(Relay::new(Source::CallerInput, sink)?);
            }
            let source = Source::Container(terminal.try_clone()?);
            relays.push(Relay::new(source, Sink::Caller(Stream::Stdout))?);
            Ok((relays, Some(terminal)))
        }
    }
}

/// Waits for something to happen and moves what can be moved. Returns true at the end.
fn wait(
    relays: &mut [Relay],
    resized: Option<&SignalReader>,
    ended: BorrowedFd<'_>,
    output: &mut Output<'_>,
) -> io::Result<bool> {
    let mut fds = vec![PollFd::from_borrowed_fd(ended, PollFlags::IN)];
    let mut places = Vec::with_capacity(relays.len());
    for relay in relays.iter() {
        let interest = relay.interest();
        places.push(interest.is_some().then_some(fds.len()));
        fds.extend(interest);
    }
    fds.extend(resized.map(|signals| PollFd::new(signals, PollFlags::IN)));
    match poll(&mut fds, None) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => fds.iter_mut().for_each(PollFd::clear_revents),
        Err(errno) => return Err(errno.into()),
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    drop(fds);
    let is_ready = |place: Option<usize>| {
        place.and_then(|place| ready.get(place)).copied().unwrap_or_default()
    };
    for (relay, place) in relays.iter_mut().zip(places) {
        if is_ready(place) {
            relay.advance(output);
        }
    }
    Ok(is_ready(Some(0)))
}
