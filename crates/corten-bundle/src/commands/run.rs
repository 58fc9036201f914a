//! `run`: a container from beginning to end, with its terminal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use corten_sys::process::{Ended, PidFd};
use corten_sys::signals::SignalReader;
use corten_sys::{socket, tty};
use rustix::event::{PollFd, PollFlags, poll};

use super::{Engine, MakeOptions, life};
use crate::error::{BundleError, failed};
use crate::make;
use crate::state;

/// What is passed on. Those that stop or that tell of a terminal come from the container's own.
const FORWARDED: &[i32] = &[
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCONT,
    libc::SIGWINCH,
    libc::SIGALRM,
];

/// How a container in the foreground has ended.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub warnings: Vec<String>,
}

impl Engine {
    /// Makes a container and lets it begin. Without `detach` waits for its end and removes it, unless it is
    /// to be kept.
    pub fn run(
        &self,
        id: &str,
        options: &MakeOptions,
        detach: bool,
        keep: bool,
    ) -> Result<Outcome, BundleError> {
        let attended =
            if detach || options.console_socket.is_some() { None } else { terminal_pair(options)? };
        let (ours, theirs) = attended.unzip();
        let made = make::create(self, id, options, theirs)?;
        let started = life::start(&made.home, &made.record);
        let mut warnings = made.warnings;
        if let Err(error) = started {
            // The first error is the one to tell.
            life::end(&made.record).unwrap_or_default();
            life::remove(&made.home, &made.record).map(drop).unwrap_or_default();
            return Err(error);
        }
        if detach {
            return Ok(Outcome { code: 0, warnings });
        }
        let code = attend(&made.process, ours.as_ref())?;
        if !keep {
            let lock = made.home.lock()?;
            let errors = life::remove(&made.home, &made.record)?;
            warnings.extend(errors.iter().map(BundleError::line));
            drop(lock);
        }
        Ok(Outcome { code, warnings })
    }
}

/// A pair for the terminal's other side, if the bundle wants a terminal.
fn terminal_pair(options: &MakeOptions) -> Result<Option<(OwnedFd, OwnedFd)>, BundleError> {
    let (config, _) = state::read_config(&options.bundle.join("config.json"))?;
    if !config.process.is_some_and(|process| process.terminal) {
        return Ok(None);
    }
    socket::pair().map(Some).map_err(failed("make a socket"))
}

/// Passes signals and, with a terminal, input and output on until the process ends.
pub(super) fn attend(process: &PidFd, console: Option<&OwnedFd>) -> Result<i32, BundleError> {
    let attempt = "attend to the container";
    let attended = attend_with(process, console);
    let report = process.wait().map_err(failed(attempt))?;
    attended.map_err(failed(attempt))?;
    Ok(match report.ended {
        Ended::Code(code) => code,
        Ended::Signal(signal) => 128 + signal,
    })
}

fn attend_with(process: &PidFd, console: Option<&OwnedFd>) -> io::Result<()> {
    let signals = SignalReader::new(FORWARDED)?;
    let terminal = match console {
        None => None,
        Some(console) => {
            let received = socket::receive(console.as_fd(), &mut [0; 64])?;
            received.fds.into_iter().next()
        }
    };
    let stdin = rustix::stdio::stdin();
    let raw = match &terminal {
        Some(terminal) if tty::is_terminal(stdin) => {
            resize(terminal);
            Some(tty::RawMode::enter(stdin)?)
        }
        _ => None,
    };
    let relayed = relay(process, &signals, terminal.as_ref());
    drop(raw);
    relayed
}

/// Gives the container's terminal the size of ours; without one there is none to give.
fn resize(terminal: &OwnedFd) {
    if let Ok(size) = tty::size(rustix::stdio::stdin()) {
        tty::set_size(terminal.as_fd(), size).unwrap_or_default();
    }
}

fn relay(process: &PidFd, signals: &SignalReader, terminal: Option<&OwnedFd>) -> io::Result<()> {
    let (stdin, stdout) = (rustix::stdio::stdin(), rustix::stdio::stdout());
    let (mut reads, mut writes) = (terminal.is_some(), terminal.is_some());
    loop {
        let ended = PollFd::new(process, PollFlags::IN);
        let mut fds = vec![ended, PollFd::new(signals, PollFlags::IN)];
        if let Some(terminal) = terminal.filter(|_| writes) {
            fds.push(PollFd::new(terminal, PollFlags::IN));
        }
        if reads {
            fds.push(PollFd::new(&stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        while let Some(signal) = signals.next()? {
            match terminal {
                Some(terminal) if signal == libc::SIGWINCH => resize(terminal),
                // One that has just ended takes no signal; its end comes next.
                _ => process.signal(signal).unwrap_or_default(),
            }
        }
        let is_ready = |index: usize| ready.get(index).copied().unwrap_or_default();
        if let Some(terminal) = terminal {
            if writes && is_ready(2) {
                writes = copy(terminal, stdout)?;
            }
            if reads && is_ready(if writes { 3 } else { 2 }) {
                reads = copy(&stdin, terminal.as_fd())?;
            }
        }
        if is_ready(0) && !(writes && is_ready(2)) {
            return Ok(());
        }
    }
}

/// Copies what is there; false at the end.
fn copy(from: &impl AsFd, to: impl AsFd) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    let length = match rustix::io::read(from, &mut buffer) {
        // Nobody has the terminal open any more.
        Ok(0) | Err(rustix::io::Errno::IO) => return Ok(false),
        Ok(length) => length,
        Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(true),
        Err(errno) => return Err(errno.into()),
    };
    let mut rest = buffer.get(..length).unwrap_or_default();
    while !rest.is_empty() {
        match rustix::io::write(&to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            // Whoever reads has gone: the container goes on without.
            Err(rustix::io::Errno::PIPE | rustix::io::Errno::IO) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}
