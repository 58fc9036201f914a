//! `corten attach`, and `start` and `run` where they show a container that has a monitor.

use std::process::ExitCode;

use corten_monitor::Attach;
use corten_monitor::attach::{
    AttachEnd, AttachOptions, Attachment, DetachKeys, Ending, ParseKeysError,
};
use corten_store::{Container, Event, RunningContainer, Store};

use super::exec::not_running;
use super::life::{existing, reach, start_with};
use super::ps::is_paused;
use super::run::{code_of, not_started, tell_memory};
use super::{Context, tell};
use crate::cli::{AttachArgs, AttachedArgs, StartArgs};
use crate::error::CliError;

/// The keys that leave a container alone, by the flag, the configuration, or Docker's.
pub(super) fn keys(context: &Context, arguments: &AttachedArgs) -> Result<DetachKeys, CliError> {
    let flag = arguments.detach_keys.as_deref().map(|keys| ("--detach-keys", keys));
    let configured = context.settings.config.run.detach_keys.as_deref();
    let Some((whence, keys)) = flag.or(configured.map(|keys| ("detach-keys", keys))) else {
        return Ok(DetachKeys::default());
    };
    keys.parse().map_err(|error: ParseKeysError| {
        let hint = error.hint().to_owned();
        CliError::new(format!("failed to read `{whence}`: {error}")).hint(hint)
    })
}

/// `corten attach CONTAINER`.
pub(super) fn attach(context: &Context, arguments: &AttachArgs) -> Result<ExitCode, CliError> {
    let options = AttachOptions {
        input: !arguments.no_stdin,
        signals: arguments.attached.sig_proxy,
        keys: keys(context, &arguments.attached)?,
        redraw: true,
    };
    let store = context.store()?;
    let container = existing(&store, &arguments.container)?;
    attach_to(context, &store, &container, options)
}

fn attach_to(
    context: &Context,
    store: &Store,
    container: &Container,
    options: AttachOptions,
) -> Result<ExitCode, CliError> {
    let name = &container.record.name;
    let control = reach(store, container)?.ok_or_else(|| not_running(name))?;
    if is_paused(store, container)? {
        return Err(CliError::new(format!("container `{name}` is paused"))
            .hint(format!("`corten unpause {name}` lets it go on")));
    }
    let attachment = control.attach(options.input)?;
    attend(context, store, container, attachment, options)
}

/// `corten start --attach CONTAINER`.
pub(super) fn start(context: &Context, arguments: &StartArgs) -> Result<ExitCode, CliError> {
    let [name] = arguments.containers.as_slice() else {
        return Err(CliError::new("only one container can be attached to at once")
            .hint("leave out `--attach` and `--interactive`, or name one".to_owned()));
    };
    let options = AttachOptions {
        input: arguments.interactive,
        signals: arguments.attached.sig_proxy,
        keys: keys(context, &arguments.attached)?,
        redraw: false,
    };
    let store = context.store()?;
    let container = existing(&store, name)?;
    if container.running {
        return attach_to(context, &store, &container, AttachOptions { redraw: true, ..options });
    }
    let taken = store.take_container(&container.record.id)?;
    begin(context, &store, taken, options, false).map_err(not_started)
}

/// Starts a container that was taken and is attached to it from its first byte.
pub(super) fn begin(
    context: &Context,
    store: &Store,
    container: RunningContainer,
    options: AttachOptions,
    is_quiet: bool,
) -> Result<ExitCode, CliError> {
    let made = Container {
        record: container.record().clone(),
        state: container.state().clone(),
        running: true,
    };
    let (attachment, socket) = Attachment::new().map_err(CliError::new)?;
    let attach = Attach { socket, input: options.input };
    start_with(context, container, Some(attach), is_quiet)?;
    attend(context, store, &made, attachment, options)
}

fn attend(
    context: &Context,
    store: &Store,
    container: &Container,
    attachment: Attachment,
    options: AttachOptions,
) -> Result<ExitCode, CliError> {
    // One that has gone meanwhile takes no signal; its end comes next.
    let mut pass_on = |signal: i32| {
        if let Ok(Some(control)) = super::life::control(store, container) {
            control.signal(signal).unwrap_or_default();
        }
    };
    tell(context, store, &Event::of(&container.record, "attach", &[]));
    match attachment.attend(options, &mut pass_on).map_err(CliError::new)? {
        AttachEnd::Ended(ending) => Ok(ended(context, &ending)),
        AttachEnd::Detached => {
            tell(context, store, &Event::of(&container.record, "detach", &[]));
            let name = &container.record.name;
            if context.ui.stderr_is_terminal() {
                context.ui.status("");
                context.ui.note(&format!("`{name}` goes on: `corten attach {name}` comes back"));
            }
            Ok(ExitCode::SUCCESS)
        }
        AttachEnd::Cut => cut(store, container),
    }
}

fn ended(context: &Context, ending: &Ending) -> ExitCode {
    tell_memory(context, ending);
    for warning in &ending.warnings {
        context.ui.warning(warning);
    }
    code_of(ending.ended.code)
}

/// The messages ended before the program did.
fn cut(store: &Store, container: &Container) -> Result<ExitCode, CliError> {
    let name = &container.record.name;
    let found = store.container(&container.record.id)?;
    if found.as_ref().is_some_and(|found| found.running) {
        return Err(CliError::new(format!(
            "what container `{name}` writes was not taken quickly enough, and is shown no more"
        ))
        .hint(format!("it goes on, and nothing is lost: `corten logs --follow {name}`")));
    }
    match found.and_then(|found| found.state.exit_code) {
        Some(code) => Ok(code_of(code)),
        None => Err(CliError::new(format!(
            "the monitor of container `{name}` was killed, and the container with it"
        ))),
    }
}
