//! The process that watches over one container.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use corten_diag::Stream;
use corten_runtime::{HostFacts, HostFiles, Input, Io, Outcome, Rootfs};
use corten_store::{Image, RunningContainer, Store, StoreOptions};
use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::{memory, process, signals};

use crate::attach::{Client, Ending};
use crate::control::{self, Ended};
use crate::definition::Definition;
use crate::error::{Failed, MonitorError};
use crate::health;
use crate::log;
use crate::networks;
use crate::peers::find_peers;
use crate::restart::Backoff;
use crate::serve::{heed_signals, serve};
use crate::shared::{Planned, Shared};
use crate::start::{Report, TYPES};

/// Is the monitor of a container: the program calls it first thing when its first argument is
/// [`crate::MONITOR_ARGUMENT`].
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(2).collect();
    let inherited = process::take_inherited(if arguments.len() > 2 { 3 } else { 2 });
    let mut inherited = inherited.unwrap_or_default().into_iter();
    let (Some(report), Some(lock)) = (inherited.next(), inherited.next()) else {
        return ExitCode::FAILURE;
    };
    let types = arguments.get(2).is_some_and(|word| word == TYPES);
    let client = inherited.next().map(|socket| Client::new(socket, types));
    let reporter = Reporter(Mutex::new(Some(report)));
    match watch(&arguments, lock, client, &reporter) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            reporter.tell(&Report::failed(&error));
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever started the monitor once how that went.
struct Reporter(Mutex<Option<OwnedFd>>);

impl Reporter {
    /// A starter that is gone does not want to know.
    fn tell(&self, report: &Report) {
        let pipe = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(pipe) = pipe {
            std::fs::File::from(pipe).write_all(&report.encode()).unwrap_or_default();
        }
    }
}

fn watch(
    arguments: &[OsString],
    lock: OwnedFd,
    client: Option<Client>,
    reporter: &Reporter,
) -> Result<(), MonitorError> {
    // Threads that come inherit it; programs are started with none blocked.
    signals::block_all().map_err(MonitorError::Start)?;
    rustix::process::setsid().map_err(|errno| MonitorError::Start(errno.into()))?;
    rustix::process::chdir("/").map_err(|errno| MonitorError::Start(errno.into()))?;
    let [root, id, ..] = arguments else {
        return Err(MonitorError::Start(std::io::Error::from_raw_os_error(libc::EINVAL)));
    };
    let store = Store::open(&StoreOptions::here(root)?)?;
    let (container, image) = store.adopt_container(&id.to_string_lossy(), lock)?;
    let definition = Definition::decode(&container.definition()?)?;
    let listener = control::listen(&container.folder())?;
    let health = definition.health.clone();
    let shared = Arc::new(Shared::new(definition, &container));
    if let Some(client) = client {
        shared.attach(client).map_err(MonitorError::Start)?;
    }
    serve(listener, &shared)?;
    heed_signals(&shared)?;
    if let Some(health) = &health {
        health::watch(&shared, health, container.folder())?;
    }
    let watched = Watch { store, container, image, shared: shared.clone(), reporter }.run();
    shared.farewell();
    watched
}

struct Watch<'a> {
    store: Store,
    container: RunningContainer,
    image: Image,
    shared: Arc<Shared>,
    reporter: &'a Reporter,
}

impl Watch<'_> {
    /// Runs the container until it has ended for good.
    fn run(mut self) -> Result<(), MonitorError> {
        let folder = log::folder(&self.container.folder());
        let mut writer = log::Writer::open(&folder, self.shared.definition().log)?;
        let mut backoff = Backoff::default();
        let mut restarts = 0;
        let own_pid = std::process::id();
        self.container.update(|state| {
            state.pid = Some(own_pid);
            state.restarts = 0;
            state.error = None;
        })?;
        loop {
            let began = SystemClock.monotonic();
            let result = self.run_once(&mut writer);
            let ending = match &result {
                Ok(outcome) => Ending::of(outcome),
                Err(Failed { code, .. }) => Ending::failed(i32::from(*code)),
            };
            let ended = ending.ended;
            self.note(ended, result.as_ref().err())?;
            if result.is_ok() {
                self.shared.tell_died(ended);
            }
            // Whoever hears of the end finds the container finished, unless it is started again.
            if let Err(failed) = result {
                // Nothing would be otherwise the next time.
                finish(self.container, &self.shared, ended)?;
                self.shared.ended(ended);
                self.shared.tell_end(&ending);
                self.reporter.tell(&Report::Failed(failed));
                return Ok(());
            }
            let restart = self.shared.definition().restart;
            let goes_on = restart.applies(ended.code, restarts) && !self.shared.is_stopped();
            if !goes_on {
                finish(self.container, &self.shared, ended)?;
                self.shared.ended(ended);
                self.shared.tell_end(&ending);
                return Ok(());
            }
            self.shared.ended(ended);
            self.shared.tell_end(&ending);
            let ran = SystemClock.monotonic().saturating_sub(began);
            if !self.shared.pause(backoff.pause(ran)) {
                finish(self.container, &self.shared, ended)?;
                self.shared.tell_end(&ending);
                return Ok(());
            }
            restarts += 1;
            self.container.update(|state| state.restarts = restarts)?;
            self.container.renew()?;
        }
    }

    fn run_once(&mut self, writer: &mut log::Writer) -> Result<Outcome, Failed> {
        let planned = Arc::new(self.plan()?);
        self.shared.planned(&planned);
        let plan = &planned.plan;
        let lost = Mutex::new(None);
        let mut take = |stream: Stream, bytes: &[u8]| {
            let written = writer.write(stream, bytes, SystemClock.now());
            keep_first(&lost, written.err());
            self.shared.publish(stream, bytes);
        };
        let container = Mutex::new(&mut self.container);
        let started = |running: corten_runtime::Running| {
            let mut container = container.lock().unwrap_or_else(PoisonError::into_inner);
            let now = SystemClock.now().seconds;
            let noted = container.update(|state| {
                state.started = Some(now);
                state.exit_code = None;
            });
            noted.map_err(std::io::Error::other)?;
            planned.peers.check().map_err(std::io::Error::other)?;
            self.shared.began(running)?;
            self.reporter.tell(&Report::started(&plan.notices));
            memory::forget_code().map_err(std::io::Error::other)
        };
        let io = Io { started: Some(&started), input: Input::Held, ..Io::callback(&mut take) };
        let outcome = corten_runtime::run(plan, io);
        let outcome = outcome.map_err(|error| Failed::of_run(&error))?;
        keep_first(&lost, writer.finish(SystemClock.now()).err());
        if let Some(error) = lost.into_inner().unwrap_or_else(PoisonError::into_inner) {
            // A full disk is no reason to end what works, but it is to be known.
            let text = format!("a part of the log is lost: {error}");
            self.container.update(|state| state.error = Some(text)).map_err(Failed::of)?;
        }
        Ok(outcome)
    }

    fn plan(&self) -> Result<Planned, Failed> {
        let mut spec = self.shared.definition().spec.clone();
        let lowers = self.image.layers.iter().rev().map(|layer| layer.path.clone()).collect();
        let readonly = spec.rootfs.readonly;
        spec.rootfs = Rootfs::layered(lowers, self.container.upper(), self.container.work());
        spec.rootfs.readonly = readonly;
        spec.rootfs.volatile = self.container.record().remove_at_end;
        // As it is now: it may have been renamed, or put on another network.
        if let Some(now) = self.store.container(&self.container.record().id).map_err(Failed::of)? {
            networks::settle(&self.store, &now.record, &mut spec)
                .map_err(|error| Failed { hint: error.hint(), ..Failed::of(&error) })?;
        }
        spec.host_files = HostFiles::for_container(&spec).map_err(Failed::of)?;
        let facts = HostFacts::gather().map_err(Failed::of)?;
        spec.settle().map_err(|error| Failed::of_own(&error.into()))?;
        let peers = find_peers(&self.store, &mut spec).map_err(|error| Failed::of_own(&error))?;
        let plan = corten_runtime::plan(&spec, &facts).map_err(|error| Failed::of_plan(&error))?;
        Ok(Planned { plan, spec, facts, peers })
    }

    fn note(&mut self, ended: Ended, failed: Option<&Failed>) -> Result<(), MonitorError> {
        let now = SystemClock.now().seconds;
        self.container.update(|state| {
            state.exit_code = Some(ended.code);
            state.oom_killed = ended.oom_killed;
            state.finished = Some(now);
            if let Some(failed) = failed {
                state.error = Some(failed.message.clone());
            }
        })?;
        Ok(())
    }
}

/// Writes down how a container ended for good.
fn finish(
    mut container: RunningContainer,
    shared: &Shared,
    ended: Ended,
) -> Result<(), MonitorError> {
    if let Some(text) = shared.unwritten() {
        container.update(|state| state.error = state.error.take().or(Some(text)))?;
    }
    let goes_away = container.record().remove_at_end;
    container.finish(ended.code, ended.oom_killed)?;
    if goes_away {
        shared.tell("destroy", &[]);
    }
    Ok(())
}

fn keep_first<E>(place: &Mutex<Option<E>>, error: Option<E>) {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    if place.is_none() {
        *place = error;
    }
}
