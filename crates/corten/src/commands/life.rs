//! The life of containers in the background: start, stop, restart, kill, wait, rename.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use corten_monitor::{Attach, Control};
use corten_runtime::options::parse_signal;
use corten_store::{Container, ContainerRecord, Event, RunningContainer, Store};
use corten_sys::clock::{Clock as _, SystemClock};

use super::exec::not_running;
use super::ps::{choose, find_container};
use super::{Context, flag, tell};
use crate::cli::{
    ContainersArgs, KillArgs, RenameArgs, StartArgs, StopArgs, WaitArgs, WaitCondition,
};
use crate::error::CliError;

/// A killed process that is still there after this waits for a disk or a device.
const GONE_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether a container has gone.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How often it is looked whether one in the foreground of another terminal has ended.
const LOOK_AT_FOREIGN_EVERY: Duration = Duration::from_millis(50);

/// Starts a container that was taken, says what is weaker than asked for, and prints its ID.
pub(super) fn begin(
    context: &Context,
    container: RunningContainer,
    is_quiet: bool,
) -> Result<ExitCode, CliError> {
    let id = container.record().id.clone();
    start_taken(context, container, is_quiet)?;
    context.ui.line(&id);
    Ok(ExitCode::SUCCESS)
}

fn start_taken(
    context: &Context,
    container: RunningContainer,
    is_quiet: bool,
) -> Result<(), CliError> {
    start_with(context, container, None, is_quiet)
}

/// Starts a container that was taken; somebody may be attached to it from the beginning.
pub(super) fn start_with(
    context: &Context,
    container: RunningContainer,
    attach: Option<Attach>,
    is_quiet: bool,
) -> Result<(), CliError> {
    let begun = corten_monitor::start(&context.settings.root, container, attach)?;
    for warning in begun.warnings.iter().filter(|_| !is_quiet) {
        context.ui.warning(warning);
    }
    Ok(())
}

/// `corten start CONTAINER…`.
pub(super) fn start(context: &Context, arguments: &StartArgs) -> Result<ExitCode, CliError> {
    if arguments.attach || arguments.interactive {
        return super::attach::start(context, arguments);
    }
    let store = context.store()?;
    Ok(each(context, &store, &arguments.containers, |container, name| {
        // As in Docker, one that runs is as it was asked for.
        if !container.running {
            start_taken(context, store.take_container(&container.record.id)?, false)?;
        }
        context.ui.line(name);
        Ok(())
    }))
}

/// `corten stop CONTAINER…`, all at once.
pub(super) fn stop(context: &Context, arguments: &StopArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let signal = signal(arguments)?;
    let refuse = |name: &str| Err(missing(name));
    each_at_once(context, &store, &arguments.containers, refuse, |container, _| {
        store.note_stopped(&container.record.id)?;
        stop_one(&store, container, signal, arguments.time)
    })
}

/// `corten restart CONTAINER…`.
pub(super) fn restart(context: &Context, arguments: &StopArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let signal = signal(arguments)?;
    Ok(each(context, &store, &arguments.containers, |container, name| {
        if container.running && container.record.remove_at_end {
            return Err(CliError::new(format!("container `{name}` goes away when it ends"))
                .hint("one without `--rm` can be restarted".to_owned()));
        }
        stop_one(&store, container, signal, arguments.time)?;
        start_taken(context, store.take_container(&container.record.id)?, false)?;
        tell(context, &store, &Event::of(&container.record, "restart", &[]));
        context.ui.line(name);
        Ok(())
    }))
}

fn signal(arguments: &StopArgs) -> Result<Option<i32>, CliError> {
    arguments.signal.as_deref().map(|text| flag("signal", parse_signal(text))).transpose()
}

pub(super) fn stop_one(
    store: &Store,
    container: &Container,
    signal: Option<i32>,
    time: Option<u32>,
) -> Result<(), CliError> {
    match reach(store, container)? {
        None => return Ok(()),
        Some(control) => control.stop(signal, time)?,
    }
    wait_until_gone(store, container)
}

/// Kills a container that runs, and waits until it has gone.
pub(super) fn kill_and_wait(store: &Store, container: &Container) -> Result<(), CliError> {
    match reach(store, container)? {
        None => return Ok(()),
        Some(control) => control.stop(Some(libc::SIGKILL), Some(0))?,
    }
    wait_until_gone(store, container)
}

/// `corten kill CONTAINER…`, all at once.
pub(super) fn kill(context: &Context, arguments: &KillArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let signal = flag("signal", parse_signal(&arguments.signal))?;
    let refuse = |name: &str| Err(missing(name));
    each_at_once(context, &store, &arguments.containers, refuse, |container, name| {
        if !container.running {
            return Err(not_running(name));
        }
        if signal == libc::SIGKILL {
            store.note_stopped(&container.record.id)?;
            kill_and_wait(&store, container)?;
        } else if let Some(control) = reach(&store, container)? {
            control.signal(signal)?;
        }
        Ok(())
    })
}

/// `corten pause CONTAINER…`.
pub(super) fn pause(context: &Context, arguments: &ContainersArgs) -> Result<ExitCode, CliError> {
    each_running(context, &arguments.containers, |control| Ok(control.pause()?))
}

/// `corten unpause CONTAINER…`.
pub(super) fn unpause(context: &Context, arguments: &ContainersArgs) -> Result<ExitCode, CliError> {
    each_running(context, &arguments.containers, |control| Ok(control.unpause()?))
}

/// Does something with each container, which must run.
fn each_running(
    context: &Context,
    names: &[String],
    act: impl Fn(Control) -> Result<(), CliError>,
) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    Ok(each(context, &store, names, |container, name| {
        let control = reach(&store, container)?.ok_or_else(|| not_running(name))?;
        act(control)?;
        context.ui.line(name);
        Ok(())
    }))
}

/// `corten wait CONTAINER…`.
pub(super) fn wait(context: &Context, arguments: &WaitArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    Ok(each(context, &store, &arguments.containers, |container, name| {
        let container = match arguments.condition {
            WaitCondition::NextExit => wait_for_start(&store, container)?,
            WaitCondition::NotRunning | WaitCondition::Removed => container.clone(),
        };
        let told = match control(&store, &container)? {
            Some(control) => control.wait()?,
            None => None,
        };
        let mut code = match told {
            Some(ended) => Some(ended.code),
            None => wait_for_record(&store, &container)?,
        };
        if arguments.condition == WaitCondition::Removed {
            while let Some(found) = store.container(&container.record.id)? {
                code = found.state.exit_code.or(code);
                std::thread::sleep(LOOK_AT_FOREIGN_EVERY);
            }
        }
        let code = code.ok_or_else(|| {
            CliError::new(format!("container `{name}` has ended, and nobody knows how"))
        })?;
        context.ui.line(&code.to_string());
        Ok(())
    }))
}

/// Waits until a container runs; one that has been removed meanwhile is returned as it was.
fn wait_for_start(store: &Store, container: &Container) -> Result<Container, CliError> {
    let mut container = container.clone();
    while !container.running {
        std::thread::sleep(LOOK_AT_FOREIGN_EVERY);
        match store.container(&container.record.id)? {
            Some(found) => container = found,
            None => break,
        }
    }
    Ok(container)
}

/// Waits until nobody runs the container, and reads how it ended.
fn wait_for_record(store: &Store, container: &Container) -> Result<Option<i32>, CliError> {
    loop {
        match store.container(&container.record.id)? {
            None => return Ok(None),
            Some(found) if !found.running => return Ok(found.state.exit_code),
            Some(_) => std::thread::sleep(LOOK_AT_FOREIGN_EVERY),
        }
    }
}

/// `corten rename CONTAINER NAME`.
pub(super) fn rename(context: &Context, arguments: &RenameArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let container = existing(&store, &arguments.container)?;
    let container_name = container.record.name.clone();
    store.rename_container(&container.record.id, &arguments.name)?;
    // Others on its networks find it by the new name from now on.
    corten_runtime::network::rename(&container.record.id, &arguments.name)?;
    let record = ContainerRecord { name: arguments.name.clone(), ..container.record };
    let former = [("oldName", container_name.as_str())];
    tell(context, &store, &Event::of(&record, "rename", &former));
    Ok(ExitCode::SUCCESS)
}

/// Does something with each container; one that fails does not keep the others from it.
pub(super) fn each(
    context: &Context,
    store: &Store,
    names: &[String],
    mut act: impl FnMut(&Container, &str) -> Result<(), CliError>,
) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for name in names {
        let done = existing(store, name).and_then(|container| act(&container, name));
        if let Err(error) = done {
            code = error.print(&context.ui);
        }
    }
    code
}

/// So many containers are waited for at once.
const AT_ONCE: usize = 16;

/// Does something with several containers at once and prints the name of each, in their order; one that
/// fails does not keep the others from it. Containers that are not there are what `missing` says.
pub(super) fn each_at_once(
    context: &Context,
    store: &Store,
    names: &[String],
    missing: impl Fn(&str) -> Result<(), CliError> + Sync,
    act: impl Fn(&Container, &str) -> Result<(), CliError> + Sync,
) -> Result<ExitCode, CliError> {
    // Read once for all: with a thousand names, a look for each would be a million.
    let containers = store.containers()?;
    let do_one = |name: &String| -> Result<bool, CliError> {
        match choose(&containers, name)? {
            Some(container) => act(container, name).map(|()| true),
            None => missing(name).map(|()| false),
        }
    };
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut code = ExitCode::SUCCESS;
    std::thread::scope(|scope| {
        for _ in 0..names.len().min(AT_ONCE) {
            let (sender, next, do_one) = (sender.clone(), &next, &do_one);
            scope.spawn(move || {
                while let Some((at, name)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    names.get(at).map(|name| (at, name))
                } {
                    if sender.send((at, do_one(name))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut done = BTreeMap::new();
        let mut told = 0;
        for (at, result) in receiver {
            done.insert(at, result);
            while let (Some(result), Some(name)) = (done.remove(&told), names.get(told)) {
                told += 1;
                match result {
                    Ok(true) => context.ui.line(name),
                    Ok(false) => {}
                    Err(error) => code = error.print(&context.ui),
                }
            }
        }
    });
    Ok(code)
}

/// Finds a container that must be there.
pub(super) fn existing(store: &Store, name: &str) -> Result<Container, CliError> {
    find_container(store, name)?.ok_or_else(|| missing(name))
}

pub(super) fn missing(name: &str) -> CliError {
    CliError::new(format!("no container `{name}`")).hint("`corten ps --all` lists them".to_owned())
}

pub(super) fn control(store: &Store, container: &Container) -> Result<Option<Control>, CliError> {
    if !container.running {
        return Ok(None);
    }
    Ok(corten_monitor::connect(&store.container_folder(&container.record.id)?)?)
}

/// Finds who runs a container; `None` if nobody does any more. One that is just being started is waited
/// for: its lock is on the way from the command to the monitor.
pub(super) fn reach(store: &Store, container: &Container) -> Result<Option<Control>, CliError> {
    let began = SystemClock.monotonic();
    loop {
        let Some(found) = store.container(&container.record.id)?.filter(|found| found.running)
        else {
            return Ok(None);
        };
        if let Some(control) = control(store, &found)? {
            return Ok(Some(control));
        }
        if SystemClock.monotonic().saturating_sub(began) > GONE_WAIT_MAX {
            return Err(CliError::new(format!(
                "whoever runs container `{}` does not answer",
                found.record.name
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn wait_until_gone(store: &Store, container: &Container) -> Result<(), CliError> {
    let waited = SystemClock.monotonic();
    while store.container_runs(&container.record.id)? {
        if SystemClock.monotonic().saturating_sub(waited) > GONE_WAIT_MAX {
            return Err(CliError::new(format!(
                "container `{}` did not end within {} seconds",
                container.record.name,
                GONE_WAIT_MAX.as_secs()
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
