//! `corten run`: an image and flags to a container in the foreground.

mod describe;
mod options;

use std::process::ExitCode;

use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_runtime::emulation::{self, Execution};
use corten_runtime::{Exit, HostFacts, Io, Network, Notice, Outcome, Plan};
use corten_store::{ContainerRecord, Found, Image, RunningContainer, Snapshot, Store};
use corten_sys::clock::{Clock, SystemClock};

use super::Context;
use crate::bases::{GOLDEN, Resolver};
use crate::cli::{ProgressMode, PullPolicy, RunArgs};
use crate::error::CliError;
use crate::ui::{self, Progress};

/// Docker's code for "the container was not even started".
const EXIT_NOT_STARTED: u8 = 125;

pub(super) fn run(context: &Context, arguments: &RunArgs) -> Result<ExitCode, CliError> {
    start(context, arguments).map_err(|mut error| {
        if error.code == crate::cli::EXIT_FAILURE {
            error.code = EXIT_NOT_STARTED;
        }
        error
    })
}

fn start(context: &Context, arguments: &RunArgs) -> Result<ExitCode, CliError> {
    if arguments.tty && !rustix::termios::isatty(std::io::stdin()) {
        return Err(CliError::new(
            "standard input is no terminal, so `--tty` has nothing to show on",
        )
        .hint("leave out `-t`, or run it in a terminal".to_owned()));
    }
    let store = context.store()?;
    let image = find_image(context, arguments, &store)?;
    check_platform(context, &image, arguments)?;
    let snapshot = Snapshot::new(&image.layers)?;
    let facts = HostFacts::gather()?;
    let id = new_id();
    let request = options::Request::new(context, arguments, &image, &snapshot, &id)?;
    refuse_missing_environment(context, &image, &request)?;

    if arguments.plan {
        let rootfs = describe::rootfs(&image, None, arguments.read_only);
        let plan = corten_runtime::plan(&request.spec(rootfs), &facts)?;
        context.ui.data(&plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    let record = describe::record(&id, arguments, &image, &request);
    let container = create(&store, record, &image)?;
    let rootfs = describe::rootfs(&image, Some(&container), arguments.read_only);
    let mut spec = request.spec(rootfs);
    describe::warn_of_root(context, arguments, &store, &image, &spec)?;
    let plan = plan_with_network(context, arguments, &mut spec, &facts)?;
    if let Some(path) = &arguments.cidfile {
        corten_sys::file::write_atomic(path, id.as_bytes(), 0o644)?;
    }
    notices(context, arguments, &plan.notices);
    let outcome = corten_runtime::run(&plan, Io::inherit());
    finish(context, arguments, container, outcome)
}

/// Plans; where the default network cannot be had without root, plans without one and says so.
fn plan_with_network(
    context: &Context,
    arguments: &RunArgs,
    spec: &mut corten_runtime::ContainerSpec,
    facts: &HostFacts,
) -> Result<Plan, CliError> {
    if spec.network == Network::Default
        && arguments.network.is_none()
        && spec.ports.is_empty()
        && let Err(reasons) = facts.default_network()
    {
        // Less than asked for, but never less isolated.
        spec.network = Network::None;
        if !arguments.quiet {
            context.ui.warning(&format!("the container has no network: {reasons}"));
        }
    }
    Ok(corten_runtime::plan(spec, facts)?)
}

fn create(
    store: &Store,
    record: ContainerRecord,
    image: &Image,
) -> Result<RunningContainer, CliError> {
    Ok(store.create_container(record, image)?)
}

/// Says how it ended where the exit code alone does not, and removes or keeps the container.
fn finish(
    context: &Context,
    arguments: &RunArgs,
    container: RunningContainer,
    outcome: Result<Outcome, corten_runtime::RunError>,
) -> Result<ExitCode, CliError> {
    let outcome = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            let code = error.exit_code();
            container.finish(i32::from(code), false)?;
            return Err(CliError::from(error).with_code(code));
        }
    };
    if let Some(oom) = &outcome.oom {
        let of = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), ui::bytes_binary);
        let whom = match outcome.exit {
            Exit::Signal(libc::SIGKILL) => "killed",
            _ => "a process of the container was killed",
        };
        context.ui.status(&format!(
            "{whom}: out of memory at {} (limit {})",
            of(oom.peak_bytes),
            of(oom.limit_bytes)
        ));
        context.ui.hint("give it more with `--memory`, or look for what grows");
    }
    notices(context, arguments, &outcome.notices);
    let code = outcome.code();
    if arguments.tty
        && let Exit::Signal(signal) = outcome.exit
        && outcome.oom.is_none()
    {
        context.ui.status(&format!("ended by signal {signal}"));
    }
    container.finish(code, outcome.oom.is_some())?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn notices(context: &Context, arguments: &RunArgs, notices: &[Notice]) {
    for notice in notices {
        if notice.is_warning() {
            if !arguments.quiet {
                context.ui.warning(&notice.to_string());
            }
        } else if context.verbose {
            context.ui.note(&notice.to_string());
        }
    }
}

/// Takes the image from the store, or makes it where its name says how.
fn find_image(context: &Context, arguments: &RunArgs, store: &Store) -> Result<Image, CliError> {
    let chosen = super::images::platform(arguments.platform.as_deref())?;
    let wanted = chosen.clone().unwrap_or_else(Platform::host);
    match store.find(&arguments.image)? {
        Some(Found::Image(image))
            if chosen.is_none() || wanted.accepts(&image.config.platform()) =>
        {
            return Ok(*image);
        }
        Some(Found::Index(index)) if index.select(&wanted).is_some() => {
            return Ok(store.index_image(&index, &wanted)?);
        }
        _ => {}
    }
    let reference: Result<Reference, _> = arguments.image.parse();
    let is_here = store.find(&arguments.image)?.is_some();
    // A golden base is made for any platform; of anything else there is only what is here.
    let is_golden = reference.as_ref().is_ok_and(|name| name.registry() == GOLDEN);
    if arguments.pull == PullPolicy::Never || (is_here && !is_golden) {
        return super::images::find(store, &arguments.image, chosen.as_ref());
    }
    let progress =
        Progress::new(&context.ui, ProgressMode::Auto, arguments.quiet, context.no_progress, None);
    let resolver = Resolver::new(store, &context.settings, &progress);
    let found = resolver.resolve(&reference?, &wanted);
    progress.finish();
    found.map_err(|error| {
        let hint = error.hint.clone();
        CliError::new(error).hint(hint)
    })
}

/// Refuses an image of another processor before the kernel does in its own words, or says that it is
/// emulated.
fn check_platform(context: &Context, image: &Image, arguments: &RunArgs) -> Result<(), CliError> {
    let platform = image.config.platform();
    if let Some(wanted) = super::images::platform(arguments.platform.as_deref())?
        && !wanted.accepts(&platform)
    {
        let message = format!("image `{}` is for {platform}, not for {wanted}", arguments.image);
        return Err(CliError::new(message));
    }
    match emulation::execution(&platform)? {
        Ok(Execution::Native) => Ok(()),
        Ok(Execution::Emulated { interpreter }) => {
            if !arguments.quiet {
                let interpreter = interpreter.display();
                context.ui.note(&format!("programs of {platform} are emulated by {interpreter}"));
            }
            Ok(())
        }
        Err(refused) => {
            let hint = refused.hint();
            Err(CliError::new(refused).hint(hint))
        }
    }
}

/// Stops before the start when a declared variable is not there.
fn refuse_missing_environment(
    context: &Context,
    image: &Image,
    request: &options::Request,
) -> Result<(), CliError> {
    let mut required = context.settings.config.run.required_env.clone();
    if let Some(names) = image.config.config.labels.get("io.corten.env.required") {
        let names = names.split([',', ' ']).filter(|name| !name.is_empty());
        required.extend(names.map(str::to_owned));
    }
    let missing = corten_runtime::options::missing(&required, request.environment());
    if missing.is_empty() {
        return Ok(());
    }
    let flags: Vec<String> = missing.iter().map(|name| format!("-e {name}=…")).collect();
    Err(CliError::new(format!("the container needs {} and does not have it", missing.join(", ")))
        .hint(format!("give it: `corten run {} …`", flags.join(" "))))
}

/// 64 random hexadecimal digits, as Docker's containers have.
fn new_id() -> String {
    (0..4).map(|_| corten_sys::random::name()).collect()
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemClock.now().seconds
}
