//! The life of a started container: reports, output, input, signals, and its end.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use corten_diag::Stream;
use corten_sys::netlink::in_namespace;
use corten_sys::process::PidFd;
use corten_sys::signals::SignalReader;
use corten_sys::{socket, tty};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::launch::Launched;
use super::outcome::EndedContainer;
use super::relay::{Relay, Sink, Source};
use super::{Input, Io, Output, Running, hosts};
use crate::cgroup::Groups;
use crate::error::RunError;
use crate::exec_error::diagnose;
use crate::facts::SEARCH_PATH;
use crate::network::{self, Attachment, NetworkRequest};
use crate::notice::Notice;
use crate::plan::Plan;
use crate::report::{REPORT_BYTES_MAX, Report};
use crate::spec::Stdin;
use crate::steps::{RootStep, Step};

/// How often the caller's wish to cancel is looked at.
const CANCEL_POLL: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Signals that are passed on to the container.
const FORWARDED: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGALRM,
    libc::SIGWINCH,
];

/// After so many requests to end, the container is killed, as in Docker.
const PATIENCE: u32 = 3;

pub(super) struct Session<'a, 'io> {
    plan: &'a Plan,
    io: &'a mut Io<'io>,
    groups: &'a Groups,
    helper: corten_sys::command::Child,
    /// `None` once the program runs.
    control: Option<OwnedFd>,
    alive: Option<OwnedFd>,
    signals: Option<SignalReader>,
    child: Option<(u32, PidFd)>,
    /// The helper went away before the program could run.
    is_lost: bool,
    relays: Vec<Relay>,
    terminal: Option<OwnedFd>,
    /// What the container reads, until somebody has it.
    input: Option<OwnedFd>,
    network: Option<Attachment>,
    created: Vec<PathBuf>,
    failure: Option<RunError>,
    interrupted: Option<i32>,
    requests: u32,
}

/// What to do after a round.
enum Next {
    Continue,
    End,
}

impl<'a, 'io> Session<'a, 'io> {
    pub(super) fn new(
        plan: &'a Plan,
        io: &'a mut Io<'io>,
        groups: &'a Groups,
        launched: Launched,
    ) -> Self {
        let Launched { helper, control, alive, stdin, output } = launched;
        let mut this = Self {
            plan,
            io,
            groups,
            helper,
            control: Some(control),
            alive: Some(alive),
            signals: None,
            child: None,
            relays: Vec::new(),
            terminal: None,
            input: None,
            network: None,
            created: Vec::new(),
            failure: None,
            is_lost: false,
            interrupted: None,
            requests: 0,
        };
        // The helper is there already: a failure is told once it has ended.
        if let Err(source) = this.connect(stdin, output) {
            this.failure = Some(RunError::Start { attempt: "connect the container", source });
        }
        this
    }

    fn connect(
        &mut self,
        stdin: Option<OwnedFd>,
        output: Option<(OwnedFd, OwnedFd)>,
    ) -> io::Result<()> {
        if let Some((stdout, stderr)) = output {
            for (fd, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
                self.relays.push(Relay::new(Source::Container(fd), Sink::Caller(stream))?);
            }
        }
        if self.io.input == Input::Held {
            self.input = stdin;
        } else if let Some(stdin) = stdin {
            let sink = Sink::Container(Some(stdin));
            self.relays.push(Relay::new(Source::CallerInput, sink)?);
        }
        if self.io.forward_signals {
            self.signals = Some(SignalReader::new(&FORWARDED)?);
        }
        Ok(())
    }

    /// Lives through the container's life.
    pub(super) fn run(mut self, notices: &mut Vec<Notice>) -> Result<EndedContainer, RunError> {
        let raw = self.raw_mode();
        while self.failure.is_none() {
            match self.round() {
                Ok(Next::Continue) => {}
                Ok(Next::End) => break,
                Err(error) => self.failure = Some(error),
            }
        }
        let ended = self.finish(notices);
        drop(raw);
        ended
    }

    /// Puts the caller's terminal into raw mode until the answer is dropped.
    fn raw_mode(&mut self) -> Option<tty::RawMode<'static>> {
        let stdin = rustix::stdio::stdin();
        if !self.plan.stdio.terminal
            || !matches!(self.io.output, Output::Inherit | Output::Shown(_))
            || !tty::is_terminal(stdin)
        {
            return None;
        }
        match tty::RawMode::enter(stdin) {
            Ok(raw) => Some(raw),
            Err(source) => {
                let attempt = "put the terminal into raw mode";
                self.failure = Some(RunError::Start { attempt, source });
                None
            }
        }
    }

    /// Waits for something to happen and handles all of it.
    fn round(&mut self) -> Result<Next, RunError> {
        let failed = |source| RunError::Start { attempt: "wait for the container", source };
        let ready = self.wait().map_err(failed)?;
        if self.io.cancelled.is_some_and(|cancelled| cancelled.load(Ordering::Relaxed)) {
            self.interrupted.get_or_insert(libc::SIGKILL);
            return Ok(Next::End);
        }
        if ready.signals {
            self.take_signals().map_err(failed)?;
            if self.interrupted.is_some() {
                return Ok(Next::End);
            }
        }
        if let Some(visitor) = self.io.visitor.filter(|_| ready.visitor) {
            (visitor.answer)();
        }
        if ready.control {
            self.take_report()?;
        }
        for (relay, ready) in self.relays.iter_mut().zip(&ready.relays) {
            if *ready {
                relay.advance(&mut self.io.output);
            }
        }
        // A last report may be waiting: it comes first.
        let told = self.control.is_none();
        Ok(if ready.child && told { Next::End } else { Next::Continue })
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut fds = Vec::with_capacity(7);
        let control = add(&mut fds, self.control.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let child = self.child.as_ref().map(|(_, fd)| PollFd::new(fd, PollFlags::IN));
        let child = add(&mut fds, child);
        let signals = add(&mut fds, self.signals.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
        let relays: Vec<Option<usize>> =
            self.relays.iter().map(|relay| add(&mut fds, relay.interest())).collect();
        let visitor = self.io.visitor.map(|visitor| visitor.knocks);
        let visitor = visitor.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let visitor = add(&mut fds, visitor);
        let timeout = self.io.cancelled.map(|_| CANCEL_POLL);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => fds.iter_mut().for_each(PollFd::clear_revents),
            Err(errno) => return Err(errno.into()),
        }
        let is_ready =
            |index: Option<usize>| index.is_some_and(|index| !fds[index].revents().is_empty());
        Ok(Ready {
            control: is_ready(control),
            child: is_ready(child),
            signals: is_ready(signals),
            visitor: is_ready(visitor),
            relays: relays.into_iter().map(is_ready).collect(),
        })
    }

    fn take_report(&mut self) -> Result<(), RunError> {
        let Some(control) = &self.control else { return Ok(()) };
        let mut buffer = vec![0; REPORT_BYTES_MAX];
        let failed = |source| RunError::Start { attempt: "hear from the container", source };
        let received = socket::receive(control.as_fd(), &mut buffer).map_err(failed)?;
        let bytes = buffer.get(..received.length).unwrap_or_default();
        let report = Report::parse(bytes, received.fds).map_err(|_| RunError::Garbled)?;
        let Some((report, fds)) = report else {
            // Every step has succeeded and the program runs; or the helper is gone.
            self.control = None;
            let runs = self.child.is_some() && !self.is_lost;
            return if runs { self.tell_started() } else { Err(RunError::HelperLost) };
        };
        match report {
            Report::Started { pid } => {
                let handle = fds.into_iter().next().ok_or(RunError::Garbled)?;
                self.child = Some((pid, PidFd::from_fd(handle)));
                let started_there = self.plan.starts_in_groups();
                self.groups.attach(pid, started_there).map_err(RunError::Cgroup)
            }
            Report::Prepared => self.attach_network(),
            Report::Created { path } => {
                self.created.push(PathBuf::from(path));
                Ok(())
            }
            Report::Terminal => {
                let terminal = fds.into_iter().next().ok_or(RunError::Garbled)?;
                self.connect_terminal(terminal).map_err(failed)
            }
            Report::OwnersRefused { path } => Err(RunError::OwnersRefused { path }),
            Report::Failed { attempt, subject, errno } => Err(RunError::Step {
                step: attempt,
                path: subject,
                source: io::Error::from_raw_os_error(errno),
            }),
            Report::NotExecuted(failure) => Err(diagnose(failure).into()),
        }
    }

    /// Says that the program runs. One that has ended already is told of as well.
    fn tell_started(&mut self) -> Result<(), RunError> {
        let input = self.input.take();
        let (Some(started), Some((pid, process))) = (self.io.started, &self.child) else {
            return Ok(());
        };
        let tell = || {
            let terminal = self.terminal.as_ref().map(OwnedFd::try_clone).transpose()?;
            started(Running { pid: *pid, process: process.try_clone()?, terminal, input })
        };
        let attempt = "tell that the program has begun";
        tell().map_err(|source| RunError::Start { attempt, source })
    }

    /// Gives the container its network, then its word to go on, if it waits for one.
    ///
    /// A container that has failed meanwhile does not take the word; its report of that comes next.
    fn attach_network(&mut self) -> Result<(), RunError> {
        if let Some(joined) = &self.plan.network.networking.joined
            && !self.plan.network.rootless
        {
            network::share(&joined.container).map_err(RunError::Network)?;
        }
        if self.plan.network.is_attached() {
            self.network = Some(self.attachment()?);
            self.listen()?;
        }
        let waits = self.plan.helper.container.contains(&Step::AwaitCaller);
        let word = hosts::word(self.plan, self.network.as_ref())?;
        match &self.control {
            Some(control) if waits => match socket::send(control.as_fd(), &word, &[]) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.is_lost = true;
                    Ok(())
                }
                sent => sent.map_err(|source| {
                    let attempt = "let the container go on";
                    RunError::Start { attempt, source }
                }),
            },
            _ => Ok(()),
        }
    }

    /// Listens on loopback in the container's network, in which only a thread of its own is for a
    /// moment, and hands the socket over.
    fn listen(&self) -> Result<(), RunError> {
        let (Some(port), Some(take)) = (self.plan.network.listen_port, self.io.listener) else {
            return Ok(());
        };
        let failed = |source| RunError::Start { attempt: "listen in the container", source };
        let netns = self.netns()?;
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = in_namespace(netns.as_fd(), bind).and_then(|bound| bound);
        listener.and_then(take).map_err(failed)
    }

    fn netns(&self) -> Result<std::fs::File, RunError> {
        let (pid, _) = self.child.as_ref().ok_or(RunError::Garbled)?;
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        corten_sys::file::open(&path).map_err(RunError::Namespace)
    }

    fn attachment(&self) -> Result<Attachment, RunError> {
        let (pid, _) = self.child.as_ref().ok_or(RunError::Garbled)?;
        let netns = self.netns()?;
        let networking = &self.plan.network.networking;
        let state = network::state_directory().map_err(RunError::Network)?;
        let request = NetworkRequest {
            container_id: &self.plan.id,
            name: &networking.name,
            pid: i32::try_from(*pid).unwrap_or_default(),
            netns: netns.as_fd(),
            network: self.plan.network.network,
            endpoints: &networking.endpoints,
            reserved: &networking.reserved,
            nameservers: &networking.names.servers,
            ports: &self.plan.network.ports,
            rootless: self.plan.network.rootless,
            state_dir: &state,
            search_path: SEARCH_PATH.as_ref(),
        };
        network::attach(&request).map_err(RunError::Network)
    }

    fn connect_terminal(&mut self, terminal: OwnedFd) -> io::Result<()> {
        if matches!(self.io.output, Output::Elsewhere(_)) {
            self.terminal = Some(terminal);
            return Ok(());
        }
        let copy = || terminal.try_clone();
        if self.plan.stdio.stdin == Stdin::Inherit && self.io.input == Input::Caller {
            let sink = Sink::Terminal(copy()?);
            self.relays.push(Relay::new(Source::CallerInput, sink)?);
        }
        let source = Source::Container(copy()?);
        self.relays.push(Relay::new(source, Sink::Caller(Stream::Stdout))?);
        self.terminal = Some(terminal);
        self.resize();
        Ok(())
    }

    /// Gives the container's terminal the size of the caller's.
    fn resize(&self) {
        let shown = matches!(self.io.output, Output::Inherit | Output::Shown(_));
        let Some(terminal) = self.terminal.as_ref().filter(|_| shown) else { return };
        // A caller without a terminal has no size to give.
        if let Ok(size) = tty::size(rustix::stdio::stdin()) {
            tty::set_size(terminal.as_fd(), size).unwrap_or_default();
        }
    }

    fn take_signals(&mut self) -> io::Result<()> {
        while let Some(signal) = self.signals.as_ref().map_or(Ok(None), SignalReader::next)? {
            let ends = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP];
            let running = self.control.is_none();
            match &self.child {
                _ if signal == libc::SIGWINCH => self.resize(),
                Some((_, child)) if running => {
                    self.requests += u32::from([libc::SIGINT, libc::SIGTERM].contains(&signal));
                    if self.requests >= PATIENCE {
                        child.kill()?;
                    } else {
                        // One that has just ended takes no signal; its end comes next.
                        child.signal(signal).unwrap_or_default();
                    }
                }
                // Before the program runs, there is nobody to pass it on to.
                _ if ends.contains(&signal) => self.interrupted = Some(signal),
                _ => {}
            }
        }
        Ok(())
    }

    /// Sees to it that nothing is left, and says how it ended.
    fn finish(mut self, notices: &mut Vec<Notice>) -> Result<EndedContainer, RunError> {
        let killed = self.failure.is_some() || self.interrupted.is_some();
        // The helper kills what is still there.
        self.alive = None;
        let mut report = None;
        if let Some((pid, child)) = &self.child {
            // The first process of a container takes all others with it; a further one does not.
            let is_further = matches!(self.plan.helper.root, RootStep::Joined { .. });
            let kill = || if is_further { child.kill_with_group(*pid) } else { child.kill() };
            let waited = if killed { kill().and_then(|()| child.wait()) } else { child.wait() };
            match waited {
                Ok(found) => report = Some(found),
                Err(source) => {
                    let attempt = "wait for the container";
                    self.failure.get_or_insert(RunError::Start { attempt, source });
                }
            }
        }
        if self.plan.among_others
            && let Err(error) = self.groups.kill()
        {
            self.failure.get_or_insert(RunError::Cgroup(error));
        }
        // Every process of the container is gone with its first; what they wrote is in the pipes.
        for relay in self.relays.iter_mut().filter(|relay| relay.is_of_output()) {
            relay.drain(&mut self.io.output);
        }
        if let Some(network) = self.network.take() {
            notices.extend(network.notices().iter().map(Notice::from));
            let errors = network.detach();
            notices.extend(errors.iter().map(|error| Notice::Cleanup { text: error.to_string() }));
        }
        if killed {
            self.helper.handle.kill().unwrap_or_default();
        }
        if let Err(source) = self.helper.handle.wait() {
            let attempt = "wait for the helper process";
            self.failure.get_or_insert(RunError::Start { attempt, source });
        }
        match (self.failure, report) {
            (Some(failure), _) => Err(failure),
            (None, Some(report)) => {
                Ok(EndedContainer { report, interrupted: self.interrupted, created: self.created })
            }
            (None, None) => match self.interrupted {
                Some(signal) => Ok(EndedContainer::never_started(signal)),
                None => Err(RunError::HelperLost),
            },
        }
    }
}

/// Adds a descriptor to wait for and returns its place.
fn add<'fd>(fds: &mut Vec<PollFd<'fd>>, fd: Option<PollFd<'fd>>) -> Option<usize> {
    fds.push(fd?);
    Some(fds.len() - 1)
}

/// What has something for us.
struct Ready {
    control: bool,
    child: bool,
    signals: bool,
    visitor: bool,
    relays: Vec<bool>,
}
