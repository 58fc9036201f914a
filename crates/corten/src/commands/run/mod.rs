//! `corten run` and `corten create`: an image and flags to a container.

mod describe;
mod gpu;
mod isolation;
mod mounts;
pub(super) mod networks;
pub(super) mod options;

use std::process::ExitCode;

use corten_monitor::attach::{AttachOptions, Ending};
use corten_monitor::{Foreground, Planned};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_runtime::emulation::{self, Execution};
use corten_runtime::{ContainerSpec, Exit, HostFacts, HostFiles, Network, Notice, Outcome};
use corten_store::{
    ContainerNetwork, ContainerRecord, ContainerState, Event, Found, Image, RunningContainer, Store,
};
use corten_sys::clock::{Clock, SystemClock};
use corten_sys::error::IoError;

use mounts::UsedVolume;

use super::{Context, tell};
use crate::bases::{GOLDEN, Resolver};
use crate::cli::{ContainerArgs, ProgressMode, PullPolicy, RunArgs};
use crate::error::CliError;
use crate::ui::{self, Progress};

/// Docker's code for "the container was not even started".
pub(super) const EXIT_NOT_STARTED: u8 = 125;

pub(super) fn run(context: &Context, arguments: &RunArgs) -> Result<ExitCode, CliError> {
    start(context, arguments).map_err(not_started)
}

/// `corten create`: everything but the start.
pub(super) fn create(context: &Context, flags: &ContainerArgs) -> Result<ExitCode, CliError> {
    let made = prepare(context, flags).and_then(|prepared| {
        let container = prepared.record(context, flags, Runs::Later)?;
        context.ui.line(&container.record().id);
        Ok(ExitCode::SUCCESS)
    });
    made.map_err(not_started)
}

pub(super) fn not_started(mut error: CliError) -> CliError {
    if error.code == crate::cli::EXIT_FAILURE {
        error.code = EXIT_NOT_STARTED;
    }
    error
}

/// Fails if there is no terminal that a container's could be shown on.
pub(super) fn require_terminal() -> Result<(), CliError> {
    if rustix::termios::isatty(std::io::stdin()) {
        return Ok(());
    }
    Err(CliError::new("standard input is no terminal, so `--tty` has nothing to show on")
        .hint("leave out `-t`, or run it in a terminal".to_owned()))
}

fn start(context: &Context, arguments: &RunArgs) -> Result<ExitCode, CliError> {
    let flags = &arguments.container;
    if flags.tty && !arguments.detach {
        require_terminal()?;
    }
    let keys = super::attach::keys(context, &arguments.attached)?;
    let prepared = prepare(context, flags)?;
    if arguments.plan {
        let mut spec = prepared.settled(&prepared.describe(flags)?)?;
        spec.settle()?;
        corten_monitor::find_peers(&prepared.store, &mut spec)?;
        let plan = corten_runtime::plan(&spec, &prepared.facts)?;
        context.ui.data(&plan.to_string());
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.detach {
        let container = prepared.record(context, flags, Runs::InBackground)?;
        return super::life::begin(context, container, flags.quiet);
    }
    // One whose secrets only this command knows ends with it.
    if lives_on(flags) && !(flags.restart == "no" && isolation::has_passing_secrets(&prepared.spec))
    {
        let container = prepared.record(context, flags, Runs::InBackground)?;
        describe::warn_of_root(context, flags, &prepared.store, &prepared.image, &prepared.spec)?;
        let options = AttachOptions {
            input: flags.interactive,
            signals: arguments.attached.sig_proxy,
            keys,
            redraw: false,
        };
        return super::attach::begin(context, &prepared.store, container, options, flags.quiet);
    }
    let container = prepared.record(context, flags, Runs::Here)?;
    here(context, arguments, prepared, container)
}

/// Runs a container that goes away, in this process, with a description that is changed before.
pub(super) fn beside(
    context: &Context,
    arguments: &RunArgs,
    change: impl FnOnce(&mut ContainerSpec),
) -> Result<ExitCode, CliError> {
    let flags = &arguments.container;
    let mut prepared = prepare(context, flags)?;
    change(&mut prepared.spec);
    let container = prepared.record(context, flags, Runs::Here)?;
    here(context, arguments, prepared, container)
}

/// True for a container that may outlive the command that shows it: one with a terminal, which keys
/// leave alone, or one that is started again. It has a monitor from the beginning.
fn lives_on(flags: &ContainerArgs) -> bool {
    (flags.tty && flags.interactive) || flags.restart != "no"
}

/// Runs a container in this process.
fn here(
    context: &Context,
    arguments: &RunArgs,
    prepared: Prepared,
    container: RunningContainer,
) -> Result<ExitCode, CliError> {
    let flags = &arguments.container;
    let mut spec = prepared.settled(container.record())?;
    // What is found out for this start alone is no part of it.
    let definition = describe::definition(flags, &prepared.image, &prepared.spec)?;
    let Prepared { store, image, facts, .. } = prepared;
    spec.settle()?;
    let peers = corten_monitor::find_peers(&store, &mut spec)?;
    spec.rootfs = describe::rootfs(&image, Some(&container), flags.read_only);
    describe::warn_of_root(context, flags, &store, &image, &spec)?;
    let plan = corten_runtime::plan(&spec, &facts)?;
    notices(context, flags, &plan.notices);
    let foreground = Foreground::new(&container, definition)?;
    let passes_on = arguments.attached.sig_proxy;
    let outcome = foreground.run(Planned { plan, spec, facts, peers }, passes_on);
    finish(context, flags, container, &foreground, outcome)
}

/// Who runs a container that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runs {
    /// This process.
    Here,
    InBackground,
    /// Nobody yet.
    Later,
}

/// A container that could be made now.
struct Prepared {
    id: String,
    store: Store,
    image: Image,
    facts: HostFacts,
    /// With the image's layers as root file system, and changes in memory.
    spec: ContainerSpec,
    /// Made with the container.
    volumes: Vec<UsedVolume>,
    networks: Option<Vec<ContainerNetwork>>,
}

/// An ordinary user has no bridges.
fn refuse_rootless(networks: &[ContainerNetwork]) -> CliError {
    let network = networks.first().map(|one| one.name.clone()).unwrap_or_default();
    let error = corten_runtime::network::NetworkError::Rootless { network };
    let hint = error.hint();
    CliError::new(error).hint(hint)
}

fn prepare(context: &Context, flags: &ContainerArgs) -> Result<Prepared, CliError> {
    let store = context.store()?;
    let image = find_image(context, flags, &store)?;
    check_platform(context, &image, flags)?;
    let facts = HostFacts::gather()?;
    let id = new_id();
    let request = options::Request::new(context, flags, &image, &store, &id)?;
    refuse_missing_environment(context, &image, &request)?;
    let mut spec = request.spec(describe::rootfs(&image, None, flags.read_only));
    settle_network(context, flags, &mut spec, &facts);
    let (volumes, networks) = (request.volumes().to_vec(), request.networks());
    if spec.network == Network::User && facts.is_rootless() {
        return Err(refuse_rootless(networks.as_deref().unwrap_or_default()));
    }
    Ok(Prepared { id, store, image, facts, spec, volumes, networks })
}

impl Prepared {
    fn describe(&self, flags: &ContainerArgs) -> Result<ContainerRecord, CliError> {
        let labels = describe::labels(flags, &self.image)?;
        let record = describe::record(&self.id, flags, &self.image, &self.spec, labels);
        Ok(ContainerRecord { networks: self.networks.clone(), ..record })
    }

    /// The description with what its networks are now.
    fn settled(&self, record: &ContainerRecord) -> Result<ContainerSpec, CliError> {
        let mut spec = self.spec.clone();
        corten_monitor::settle(&self.store, record, &mut spec)?;
        if spec.network == Network::User || spec.networking.joined.is_some() {
            spec.host_files = HostFiles::for_container(&spec)?;
        }
        Ok(spec)
    }

    /// Writes the container down and takes it.
    fn record(
        &self,
        context: &Context,
        flags: &ContainerArgs,
        runs: Runs,
    ) -> Result<RunningContainer, CliError> {
        if runs != Runs::Here {
            isolation::refuse_passing_secrets(&self.spec)?;
        }
        let mut definition = describe::definition(flags, &self.image, &self.spec)?;
        // As in Docker: what it reads ends with the one whom it was made for.
        definition.input_once =
            flags.interactive && (runs != Runs::InBackground || lives_on(flags));
        let definition = definition.encode()?;
        let mut record = self.describe(flags)?;
        for volume in &self.volumes {
            volume.make(&self.store, &self.image)?;
            let names =
                if volume.anonymous { &mut record.anonymous_volumes } else { &mut record.volumes };
            names.push(volume.name.clone());
        }
        let state = ContainerState {
            // Until a monitor takes over, it is this process.
            pid: (runs != Runs::Later).then(std::process::id),
            started: (runs == Runs::Here).then_some(record.created),
            ..ContainerState::default()
        };
        let container = self.store.create_container(record, state, &definition, &self.image)?;
        tell(context, &self.store, &Event::of(container.record(), "create", &[]));
        if let Some(path) = &flags.cidfile {
            corten_sys::file::write_atomic(path, self.id.as_bytes(), 0o644)?;
        }
        if context.verbose {
            context.ui.note(&format!("the container is `{}`", container.record().name));
        }
        Ok(container)
    }
}

/// Where the default network cannot be had without root, there is none, and that is said.
fn settle_network(
    context: &Context,
    flags: &ContainerArgs,
    spec: &mut ContainerSpec,
    facts: &HostFacts,
) {
    if spec.network == Network::Default
        && flags.net.networks.is_empty()
        && spec.ports.is_empty()
        && let Err(reasons) = facts.default_network()
    {
        // Less than asked for, but never less isolated.
        spec.network = Network::None;
        if !flags.quiet {
            context.ui.warning(&format!("the container has no network: {reasons}"));
        }
    }
}

/// Says how it ended where the exit code alone does not, and removes or keeps the container.
fn finish(
    context: &Context,
    arguments: &ContainerArgs,
    mut container: RunningContainer,
    foreground: &Foreground,
    outcome: Result<(Outcome, Option<IoError>), corten_runtime::RunError>,
) -> Result<ExitCode, CliError> {
    let (outcome, lost) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            let code = error.exit_code();
            container.finish(i32::from(code), false)?;
            foreground.farewell(&Ending::failed(i32::from(code)));
            return Err(CliError::from(error).with_code(code));
        }
    };
    let ending = Ending::of(&outcome);
    if let Some(text) = foreground.unwritten() {
        context.ui.warning(&text);
    }
    tell_memory(context, &ending);
    notices(context, arguments, &outcome.notices);
    if arguments.tty
        && let Exit::Signal(signal) = outcome.exit
        && outcome.oom.is_none()
    {
        context.ui.status(&format!("ended by signal {signal}"));
    }
    if let Some(error) = lost {
        let text = format!("a part of the log is lost: {error}");
        context.ui.warning(&text);
        container.update(|state| state.error = Some(text))?;
    }
    container.finish(outcome.code(), outcome.oom.is_some())?;
    foreground.farewell(&ending);
    Ok(code_of(ending.ended.code))
}

/// Says that memory ran out, if it did.
pub(super) fn tell_memory(context: &Context, ending: &Ending) {
    if !ending.ended.oom_killed {
        return;
    }
    let of = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), ui::bytes_binary);
    let whom = match ending.signal {
        Some(libc::SIGKILL) => "killed",
        _ => "a process of the container was killed",
    };
    let (peak, limit) = (of(ending.peak_bytes), of(ending.limit_bytes));
    context.ui.status(&format!("{whom}: out of memory at {peak} (limit {limit})"));
    context.ui.hint("give it more with `--memory`, or look for what grows");
}

/// A container's code as this process's.
pub(super) fn code_of(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

fn notices(context: &Context, arguments: &ContainerArgs, notices: &[Notice]) {
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
fn find_image(
    context: &Context,
    arguments: &ContainerArgs,
    store: &Store,
) -> Result<Image, CliError> {
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
fn check_platform(
    context: &Context,
    image: &Image,
    arguments: &ContainerArgs,
) -> Result<(), CliError> {
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
pub(super) fn new_id() -> String {
    (0..4).map(|_| corten_sys::random::name()).collect()
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemClock.now().seconds
}
