//! What the threads of a monitor know together.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use corten_diag::Stream;
use corten_runtime::{ContainerSpec, HostFacts, Live, LiveError, Notice, Plan, Running};
use corten_store::{ContainerRecord, Event, Journal, RunningContainer, current_record};
use corten_sys::process::PidFd;

use crate::attach::{Client, Clients, Ending};
use crate::control::Ended;
use crate::definition::Definition;
use crate::error::Failed;
use crate::pause;
use crate::peers::Peers;

/// Stacks of threads: the functions need little, and there may be many monitors.
pub(crate) const STACK_BYTES: usize = 128 * 1024;

/// Starts a thread of the monitor, which ends with it.
pub(crate) fn spawn(work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().stack_size(STACK_BYTES).spawn(work).map(drop)
}

/// How long the monitor waits for its last replies to be sent.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the threads of a monitor share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// How the container is run.
    definition: Mutex<Arc<Definition>>,
    state: Mutex<State>,
    changed: Condvar,
    clients: Clients,
    /// The container's directory.
    folder: PathBuf,
    record: ContainerRecord,
    journal: Journal,
    /// Why an event could not be written down.
    unwritten: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct State {
    /// The program and all others of the container wait.
    is_paused: bool,
    /// The program that runs now.
    running: Option<Running>,
    /// How often a program has begun.
    begins: u64,
    /// How often a program has ended.
    ends: u64,
    last: Option<Ended>,
    /// Somebody wants the container to end for good.
    is_stopped: bool,
    /// Connections that have not got their reply.
    asking: usize,
    /// What runs, and how.
    planned: Option<Arc<Planned>>,
}

/// Why something cannot be done just now.
pub(crate) const NOTHING_RUNS: &str = "no program of the container runs now";

/// A container that a further program may be started in.
#[derive(Debug)]
pub(crate) struct Target {
    pub pid: u32,
    pub process: PidFd,
    pub planned: Arc<Planned>,
}

/// What a container was decided by.
#[derive(Debug)]
pub struct Planned {
    pub plan: Plan,
    pub spec: ContainerSpec,
    pub facts: HostFacts,
    /// Whose namespaces it shares.
    pub peers: Peers,
}

impl Shared {
    pub(crate) fn new(definition: Definition, container: &RunningContainer) -> Self {
        Self {
            definition: Mutex::new(Arc::new(definition)),
            state: Mutex::default(),
            changed: Condvar::new(),
            clients: Clients::default(),
            folder: container.folder(),
            record: container.record().clone(),
            journal: container.journal(),
            unwritten: Mutex::default(),
        }
    }

    /// How the container is run.
    pub(crate) fn definition(&self) -> Arc<Definition> {
        self.definition.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes down that something has happened to the container. That this cannot be done ends nothing.
    pub(crate) fn tell(&self, action: &str, attributes: &[(&str, &str)]) {
        let current = current_record(&self.folder);
        let event = Event::of(current.as_ref().unwrap_or(&self.record), action, attributes);
        if let Err(error) = self.journal.add(&event) {
            let mut unwritten = self.unwritten.lock().unwrap_or_else(PoisonError::into_inner);
            unwritten.get_or_insert(format!("an event is not written down: {error}"));
        }
    }

    /// Why an event could not be written down, if that was so.
    pub(crate) fn unwritten(&self) -> Option<String> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Lets somebody see what the container writes from now on, and write what it reads.
    pub(crate) fn attach(&self, client: Client) -> std::io::Result<()> {
        self.clients.add(client);
        self.give_input()
    }

    /// Gives the program's terminal or input to those who are attached and have not got it.
    fn give_input(&self) -> std::io::Result<()> {
        let copy = |fd: &Option<OwnedFd>| fd.as_ref().map(OwnedFd::try_clone).transpose();
        let (terminal, input) = match &self.lock().running {
            Some(running) => (copy(&running.terminal)?, copy(&running.input)?),
            // It comes when the program begins.
            None => return Ok(()),
        };
        let terminal = terminal.as_ref().map(|fd| fd.as_fd());
        let is_taken = self.clients.give(terminal, input.as_ref().map(|fd| fd.as_fd()));
        if is_taken
            && self.definition().input_once
            && let Some(running) = &mut self.lock().running
        {
            running.input = None;
        }
        Ok(())
    }

    /// Shows what the container has written to those who are attached.
    pub(crate) fn publish(&self, stream: Stream, bytes: &[u8]) {
        self.clients.publish(stream, bytes, self.definition().spec.terminal);
    }

    /// Tells those who are attached that the program has ended.
    pub(crate) fn tell_end(&self, ending: &Ending) {
        self.clients.end(ending);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    /// What the next program is run by.
    pub(crate) fn planned(&self, planned: &Arc<Planned>) {
        self.change(|state| state.planned = Some(planned.clone()));
    }

    /// The program that runs and what it is run by.
    pub(crate) fn running(&self) -> std::io::Result<Option<Target>> {
        let state = self.lock();
        let (Some(running), Some(planned)) = (&state.running, &state.planned) else {
            return Ok(None);
        };
        let process = running.process.try_clone()?;
        Ok(Some(Target { pid: running.pid, process, planned: planned.clone() }))
    }

    /// Somebody asks and has no answer yet.
    pub(crate) fn asks(&self) {
        self.change(|state| state.asking += 1);
    }

    /// Somebody has an answer, or will not have one.
    pub(crate) fn is_answered(&self) {
        self.change(|state| state.asking -= 1);
    }

    /// The program has begun; if the container was stopped meanwhile, it ends at once.
    pub(crate) fn began(&self, running: Running) -> std::io::Result<()> {
        // One whose monitor was killed while it was paused has the mark still.
        pause::unmark(&self.folder);
        let mut state = self.lock();
        if state.is_stopped {
            running.process.kill()?;
        }
        state.running = Some(running);
        state.begins += 1;
        self.changed.notify_all();
        drop(state);
        self.tell("start", &[]);
        self.give_input()
    }

    pub(crate) fn ended(&self, ended: Ended) {
        self.change(|state| {
            state.running = None;
            state.ends += 1;
            state.last = Some(ended);
            state.is_paused = false;
        });
        pause::unmark(&self.folder);
    }

    /// Tells how a program ended that had begun.
    pub(crate) fn tell_died(&self, ended: Ended) {
        if ended.oom_killed {
            self.tell("oom", &[]);
        }
        self.tell("die", &[("exitCode", &ended.code.to_string())]);
    }

    /// Waits for a program that begins after so many others, and returns how many there are with it.
    pub(crate) fn await_program(&self, seen: u64) -> u64 {
        let state = self.lock();
        let is_awaited = |state: &mut State| state.begins <= seen || state.running.is_none();
        let waited = self.changed.wait_while(state, is_awaited);
        waited.unwrap_or_else(PoisonError::into_inner).begins
    }

    /// Waits while this program runs; false if it has ended.
    pub(crate) fn rest(&self, program: u64, time: Duration) -> bool {
        let runs = |state: &State| state.begins == program && state.running.is_some();
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| runs(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        runs(&state)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// Waits before the next start; false if the container was stopped meanwhile.
    pub(crate) fn pause(&self, time: Duration) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| !state.is_stopped);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.is_stopped
    }

    /// Waits until everybody who asked has the answer.
    pub(crate) fn farewell(&self) {
        let state = self.lock();
        // Who does not take the answer has none; the end of the connection tells them.
        drop(self.changed.wait_timeout_while(state, FAREWELL, |state| state.asking > 0));
    }

    /// Ends the container for good and waits until it has ended.
    pub(crate) fn stop(&self, signal: i32, timeout: Duration) -> std::io::Result<()> {
        let mut state = self.lock();
        state.is_stopped = true;
        self.changed.notify_all();
        let ends = state.ends;
        let Some(running) = &state.running else { return Ok(()) };
        send(running, signal)?;
        self.tell("kill", &[("signal", &signal.to_string())]);
        // As in Docker, one that is paused hears it and has its time.
        self.thaw(&mut state)?;
        let waited = self.changed.wait_timeout_while(state, timeout, |state| state.ends == ends);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = state.running.as_ref().filter(|_| state.ends == ends) {
            running.process.kill()?;
            self.tell("kill", &[("signal", &libc::SIGKILL.to_string())]);
        }
        drop(self.changed.wait_while(state, |state| state.ends == ends));
        self.tell("stop", &[]);
        Ok(())
    }

    /// Waits for the next end of a program.
    pub(crate) fn wait(&self) -> Option<Ended> {
        let state = self.lock();
        let ends = state.ends;
        let waited = self.changed.wait_while(state, |state| state.ends == ends && !state.is_over());
        waited.unwrap_or_else(PoisonError::into_inner).last
    }

    /// Stops every process of the container where it is, or lets them go on; false if that is so already.
    pub(crate) fn set_paused(&self, is_paused: bool) -> Result<bool, Failed> {
        let mut state = self.lock();
        let (Some(running), Some(planned)) = (&state.running, &state.planned) else {
            return Err(Failed::refused(NOTHING_RUNS));
        };
        if state.is_paused == is_paused {
            return Ok(false);
        }
        let failed = |error: LiveError| Failed { hint: error.hint(), ..Failed::of(error) };
        if is_paused {
            let live = Live::new(&planned.plan, running.pid);
            live.freeze(&planned.facts.cgroups).map_err(failed)?;
            state.is_paused = true;
            pause::mark(&self.folder).map_err(Failed::of)?;
            self.tell("pause", &[]);
        } else {
            self.thaw(&mut state).map_err(Failed::of)?;
        }
        Ok(true)
    }

    /// Lets a paused container go on.
    fn thaw(&self, state: &mut State) -> std::io::Result<()> {
        if let (true, Some(running), Some(planned)) =
            (state.is_paused, &state.running, &state.planned)
        {
            let live = Live::new(&planned.plan, running.pid);
            live.thaw(&planned.facts.cgroups).map_err(std::io::Error::other)?;
            state.is_paused = false;
            pause::unmark(&self.folder);
            self.tell("unpause", &[]);
        }
        Ok(())
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.lock().is_paused
    }

    /// From now on the container is run like this; its limits are changed at once.
    pub(crate) fn update(&self, definition: Definition) -> Result<Vec<Notice>, Failed> {
        let target = self.running().map_err(Failed::of)?;
        let mut notices = Vec::new();
        if let Some(Target { pid, planned, .. }) = target {
            let live = Live::new(&planned.plan, pid);
            let changed = live.limit(&definition.spec, &planned.facts);
            notices =
                changed.map_err(|error| Failed { hint: error.hint(), ..Failed::of(error) })?;
        }
        *self.definition.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(definition);
        Ok(notices)
    }

    /// Sends a signal to the program; false if none runs.
    pub(crate) fn signal(&self, signal: i32) -> std::io::Result<bool> {
        let mut state = self.lock();
        let Some(running) = &state.running else { return Ok(false) };
        send(running, signal)?;
        self.tell("kill", &[("signal", &signal.to_string())]);
        if signal == self.definition().stop_signal {
            self.thaw(&mut state)?;
        }
        Ok(true)
    }
}

impl State {
    /// Nothing runs, and nothing will.
    fn is_over(&self) -> bool {
        self.is_stopped && self.running.is_none()
    }
}

/// One that has just ended takes no signal.
fn send(running: &Running, signal: i32) -> std::io::Result<()> {
    match running.process.signal(signal) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}
