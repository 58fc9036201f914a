//! One function per command: it takes settled arguments, calls the engines, and prints.

mod archive;
mod attach;
mod attest;
mod base;
mod boot;
mod build;
mod cache;
mod checks;
mod container;
mod container_files;
mod cp;
mod debug;
mod doctor;
mod emulation;
mod events;
mod exec;
mod files;
mod history;
mod images;
mod inspect;
mod life;
mod lock;
mod logs;
mod network;
pub(crate) mod oci;
mod outputs;
mod port;
mod ps;
mod rm;
mod rmi;
mod run;
mod sources;
mod ssh;
mod stats;
mod steps;
mod system;
mod tag;
mod top;
mod update;
mod verify;
mod version;
mod volume;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use corten_runtime::options::OptionError;
use corten_store::{Event, Store, StoreOptions};
use corten_sys::userns::{self, RootlessIds};

use crate::cli::{BuildxCommand, Cli, Command, ContainerCommand, SystemCommand};
use crate::error::CliError;
use crate::settings::{Environment, Settings};
use crate::ui::Ui;

/// What every command gets.
#[derive(Debug)]
pub(crate) struct Context {
    pub settings: Settings,
    pub ui: Ui,
    pub verbose: bool,
    pub no_progress: bool,
}

impl Context {
    /// Opens the store, creating it on first use.
    pub(crate) fn store(&self) -> Result<Store, CliError> {
        Ok(Store::open(&StoreOptions::here(&self.settings.root)?)?)
    }
}

/// Writes an event down. That this cannot be done ends nothing, but is said.
fn tell(context: &Context, store: &Store, event: &Event) {
    if let Err(error) = store.journal().add(event) {
        context.ui.warning(&format!("an event is not written down: {error}"));
    }
}

/// Names the flag in the message of a value that cannot be understood.
fn flag<T>(name: &str, result: Result<T, OptionError>) -> Result<T, CliError> {
    result.map_err(|error| {
        let hint = error.hint();
        CliError::new(format!("failed to read `--{name}`: {error}")).hint(hint)
    })
}

/// Reads the time that a flag gives; at most what Go can hold, 292 years.
fn duration(name: &str, text: &str, hint: &str) -> Result<Duration, CliError> {
    corten_dockerfile::duration::parse(text).map_err(|_| {
        CliError::new(format!("failed to read `--{name}`: `{text}` is no time"))
            .hint(hint.to_owned())
    })
}

/// Runs the command and turns its result into the process's exit code.
pub(crate) fn dispatch(cli: Cli, environment: Environment, mut ui: Ui) -> ExitCode {
    ui.set_color(cli.global.color);
    let command = match cli.command {
        Command::Container(command) => command.shorter(),
        command => command,
    };
    let result = prepare(&cli.global, &command, environment, &ui)
        .and_then(|context| execute(&context, command));
    match result {
        Ok(code) => code,
        Err(error) => error.print(&ui),
    }
}

/// Settles the settings and, for an ordinary user, enters the user namespace that the
/// command needs. No thread exists yet.
fn prepare(
    global: &crate::cli::Global,
    command: &Command,
    environment: Environment,
    ui: &Ui,
) -> Result<Context, CliError> {
    let settings = Settings::load(global, environment, project_of(command))?;
    if needs_namespace(command)
        && !container_files::enter_namespace_of(&settings, container_of(command))?
        && let Some(rootless) = userns::enter_rootless()?
        && let RootlessIds::Single(reason) = &rootless.ids
        && starts_programs(command)
    {
        ui.warning(&format!("only one user id is available: {reason}"));
        ui.hint(reason.hint());
    }
    Ok(Context {
        settings,
        ui: ui.clone(),
        verbose: global.verbose,
        no_progress: global.no_progress,
    })
}

/// The directory whose `corten.toml` applies: the build's context, else where we are.
fn project_of(command: &Command) -> &Path {
    match command {
        Command::Lock(arguments) => &arguments.shared.context,
        Command::Build(arguments)
        | Command::Buildx(BuildxCommand::Build(arguments))
        | Command::Builder(BuildxCommand::Build(arguments))
        | Command::Image(BuildxCommand::Build(arguments)) => &arguments.shared.context,
        _ => Path::new("."),
    }
}

/// The container whose processes or mounts a command needs to reach.
fn container_of(command: &Command) -> Option<&str> {
    match command {
        Command::Cp(arguments) => cp::container_of(arguments),
        Command::Debug(arguments) => Some(&arguments.target),
        _ => None,
    }
}

/// True for commands that own, read or remove files of other ids, or start containers.
fn needs_namespace(command: &Command) -> bool {
    !matches!(
        command,
        Command::Version(_)
            | Command::Doctor(_)
            | Command::Oci { .. }
            | Command::Reference { .. }
            | Command::System(SystemCommand::Emulation(_) | SystemCommand::Service(_))
    )
}

/// True for commands in which a program may want to be more than one user.
fn starts_programs(command: &Command) -> bool {
    matches!(
        command,
        Command::Build(_)
            | Command::Buildx(_)
            | Command::Lock(_)
            | Command::Builder(_)
            | Command::Image(_)
            | Command::Run(_)
            | Command::Start(_)
            | Command::Restart(_)
            | Command::Debug(_)
            | Command::System(SystemCommand::StartContainers(_))
            | Command::Base(_)
    )
}

fn execute(context: &Context, command: Command) -> Result<ExitCode, CliError> {
    match command {
        Command::Lock(arguments) => lock::lock(context, &arguments),
        Command::Build(arguments)
        | Command::Buildx(BuildxCommand::Build(arguments))
        | Command::Builder(BuildxCommand::Build(arguments))
        | Command::Image(BuildxCommand::Build(arguments)) => build::build(context, &arguments),
        Command::Run(arguments) => run::run(context, &arguments),
        Command::Create(arguments) => run::create(context, &arguments),
        Command::Start(arguments) => life::start(context, &arguments),
        Command::Attach(arguments) => attach::attach(context, &arguments),
        Command::Stop(arguments) => life::stop(context, &arguments),
        Command::Restart(arguments) => life::restart(context, &arguments),
        Command::Kill(arguments) => life::kill(context, &arguments),
        Command::Pause(arguments) => life::pause(context, &arguments),
        Command::Unpause(arguments) => life::unpause(context, &arguments),
        Command::Top(arguments) => top::top(context, &arguments),
        Command::Events(arguments) => events::events(context, &arguments),
        Command::Stats(arguments) => stats::stats(context, &arguments),
        Command::Update(arguments) => update::update(context, &arguments),
        Command::Container(ContainerCommand::Prune(arguments)) => {
            container::prune(context, &arguments)
        }
        Command::Container(other) => execute(context, other.shorter()),
        Command::Wait(arguments) => life::wait(context, &arguments),
        Command::Exec(arguments) => exec::exec(context, &arguments),
        Command::Logs(arguments) => logs::logs(context, &arguments),
        Command::Cp(arguments) => cp::cp(context, &arguments),
        Command::Debug(arguments) => debug::debug(context, &arguments),
        Command::Diff(arguments) => files::diff(context, &arguments),
        Command::Commit(arguments) => files::commit(context, &arguments),
        Command::Export(arguments) => files::export(context, &arguments),
        Command::Import(arguments) => files::import(context, &arguments),
        Command::Rename(arguments) => life::rename(context, &arguments),
        Command::Ps(arguments) => ps::ps(context, &arguments),
        Command::Rm(arguments) => rm::rm(context, &arguments),
        Command::Volume(command) => volume::volume(context, &command),
        Command::Network(command) => network::network(context, &command),
        Command::Port(arguments) => port::port(context, &arguments),
        Command::Images(arguments) => images::images(context, &arguments),
        Command::Rmi(arguments) => rmi::rmi(context, &arguments),
        Command::Tag(arguments) => tag::tag(context, &arguments),
        Command::History(arguments) => history::history(context, &arguments),
        Command::Inspect(arguments) => inspect::inspect(context, &arguments),
        Command::Save(arguments) => archive::save(context, &arguments),
        Command::Load(arguments) => archive::load(context, &arguments),
        Command::Base(command) => base::base(context, &command),
        Command::Doctor(arguments) => doctor::doctor(context, &arguments),
        Command::System(command) => system::system(context, &command),
        Command::Oci { .. } => Err(CliError::new("`oci` has global options of its own")
            .hint("give them behind it: `corten oci --root DIR …`".to_owned())),
        Command::Version(arguments) => {
            version::version(context, &arguments);
            Ok(ExitCode::SUCCESS)
        }
        Command::Reference { page } => version::reference(context, &page),
    }
}
