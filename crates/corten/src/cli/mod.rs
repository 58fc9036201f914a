//! The command line: structs that clap fills, one file per group of commands.

mod build;
mod files;
mod images;
mod isolation;
mod network;
pub(crate) mod oci;
mod run;
mod system;
mod volume;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

pub(crate) use build::{
    BaseBuildArgs, BaseCommand, BuildArgs, LockArgs, ProgressMode, SharedArgs, StepArgs,
};
pub(crate) use files::{CommitArgs, CpArgs, DebugArgs, DiffArgs, ExportArgs, ImportArgs};
pub(crate) use images::{
    HistoryArgs, ImagesArgs, InspectArgs, LoadArgs, RmiArgs, SaveArgs, SaveFormat, TagArgs,
};
pub(crate) use isolation::{IsolationArgs, LimitArgs};
pub(crate) use network::{
    NetworkCommand, NetworkConnectArgs, NetworkCreateArgs, NetworkDisconnectArgs,
    NetworkInspectArgs, NetworkListArgs, NetworkNamesArgs, PortArgs,
};
pub(crate) use run::{
    AttachArgs, AttachedArgs, ContainerArgs, ContainerCommand, ContainerPruneArgs, ContainersArgs,
    EventsArgs, ExecArgs, KillArgs, LogsArgs, PsArgs, PullPolicy, RenameArgs, RmArgs, RunArgs,
    StartArgs, StatsArgs, StopArgs, TopArgs, UpdateArgs, WaitArgs, WaitCondition,
};
pub(crate) use system::{
    DoctorArgs, EmulationArgs, FsckArgs, PruneArgs, ServiceArgs, StartContainersArgs,
    StopContainersArgs, SystemCommand, VersionArgs,
};
pub(crate) use volume::{
    VolumeCommand, VolumeCreateArgs, VolumeListArgs, VolumeNamesArgs, VolumePruneArgs,
};

use crate::ui::Ui;

/// Exit code for a wrong command line or a failed command.
pub(crate) const EXIT_FAILURE: u8 = 2;

#[derive(Debug, Parser)]
#[command(
    name = "corten",
    version,
    about = "Build, run, ship and inspect containers without a daemon",
    disable_help_subcommand = false,
    arg_required_else_help = true,
    subcommand_required = true,
    propagate_version = false
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Global {
    /// Use the store in this directory
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    pub root: Option<PathBuf>,
    /// Read this configuration file and no other
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub config: Option<PathBuf>,
    /// Say more
    #[arg(long, global = true, help_heading = "Global options")]
    pub verbose: bool,
    /// Print plain lines instead of a moving display
    #[arg(long, global = true, help_heading = "Global options")]
    pub no_progress: bool,
    /// Use colour: auto, always or never
    #[arg(
        long,
        global = true,
        value_name = "WHEN",
        default_value = "auto",
        help_heading = "Global options"
    )]
    pub color: ColorChoice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ColorChoice {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
    /// Record what a build fetches, so that later builds use nothing else
    Lock(Box<LockArgs>),
    /// Same as `build`, in buildx's spelling
    #[command(subcommand, hide = true)]
    Buildx(BuildxCommand),
    /// Same as `build`, in another spelling of Docker's
    #[command(subcommand, hide = true)]
    Builder(BuildxCommand),
    /// Same as `build`, in another spelling of Docker's
    #[command(subcommand, hide = true)]
    Image(BuildxCommand),
    /// Create a container from an image and run a command in it
    Run(Box<RunArgs>),
    /// Create a container from an image without starting it
    Create(Box<ContainerArgs>),
    /// Start containers in the background
    Start(StartArgs),
    /// Show what a running container writes, and let it read what is typed
    Attach(AttachArgs),
    /// End running containers
    Stop(StopArgs),
    /// End containers and start them again
    Restart(StopArgs),
    /// Send a signal to running containers
    Kill(KillArgs),
    /// Stop every process of running containers where it is
    Pause(ContainersArgs),
    /// Let containers that are paused go on
    Unpause(ContainersArgs),
    /// Show the processes of a running container
    Top(TopArgs),
    /// Show what running containers use of the machine
    Stats(StatsArgs),
    /// Show what happens to containers, images, volumes and networks
    Events(EventsArgs),
    /// Change the limits and the restart policy of containers, also while they run
    Update(UpdateArgs),
    /// Wait until containers end, and print their exit codes
    Wait(WaitArgs),
    /// Run a further command in a running container
    Exec(ExecArgs),
    /// Show what a container in the background has written
    Logs(LogsArgs),
    /// Copy files between a container and the host
    Cp(CpArgs),
    /// Look into a container or an image with the tools of another one
    Debug(DebugArgs),
    /// Show which files a container has added, changed or deleted
    Diff(DiffArgs),
    /// Make an image of a container's files
    Commit(CommitArgs),
    /// Write a container's files to a tar
    Export(ExportArgs),
    /// Make an image of a tar
    Import(ImportArgs),
    /// Give a container another name
    Rename(RenameArgs),
    /// List containers
    Ps(PsArgs),
    /// Remove containers
    Rm(RmArgs),
    /// Commands on containers in a longer spelling, and `container prune`
    #[command(subcommand)]
    Container(ContainerCommand),
    /// Directories that outlive containers
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Networks that containers are on, and find each other by
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Show the ports of the host that lead to a container
    Port(PortArgs),
    /// List images
    Images(ImagesArgs),
    /// Remove images
    Rmi(RmiArgs),
    /// Give an image another name
    Tag(TagArgs),
    /// Show the steps that an image was made with
    History(HistoryArgs),
    /// Show everything that is known of an image
    Inspect(InspectArgs),
    /// Write images to an archive
    Save(SaveArgs),
    /// Read images from an archive
    Load(LoadArgs),
    /// Make golden base images from signed Debian packages
    #[command(subcommand)]
    Base(BaseCommand),
    /// Check whether containers can run here, and say what to install or change
    Doctor(DoctorArgs),
    /// Look after the store
    #[command(subcommand)]
    System(SystemCommand),
    /// Run containers from OCI bundles, as other engines ask for them
    Oci {
        /// See `corten oci --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Show the version
    Version(VersionArgs),
    /// Print the reference pages of the documentation
    #[command(name = "__reference", hide = true)]
    Reference { page: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BuildxCommand {
    /// Build an image from a Dockerfile
    Build(Box<BuildArgs>),
}

/// Parses the command line; on failure or for help, prints and gives the exit code.
pub(crate) fn parse(arguments: &[OsString], ui: &Ui) -> Result<Cli, ExitCode> {
    match Cli::try_parse_from(arguments) {
        Ok(cli) => Ok(cli),
        Err(error) => {
            use clap::error::ErrorKind;
            let text = error.render().to_string();
            if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
                ui.data(&text);
                return Err(ExitCode::SUCCESS);
            }
            ui.raw_error(&text);
            // `run` keeps Docker's code for "the container was not even tried".
            let docker_like = arguments
                .get(1)
                .is_some_and(|word| ["run", "exec", "debug"].iter().any(|known| word == known));
            Err(ExitCode::from(if docker_like { 125 } else { EXIT_FAILURE }))
        }
    }
}

/// The command line's reference page, in Markdown.
pub(crate) fn reference() -> String {
    let mut page = String::from(
        "# Command line\n\nGenerated from the program; `cargo xtask gen` writes it anew.\n",
    );
    let mut root = Cli::command();
    root.build();
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        if command.get_name() == "oci" {
            let mut oci = oci::OciCli::command().name("oci");
            oci.build();
            describe(&oci, "corten", &mut page);
        } else {
            describe(command, "corten", &mut page);
        }
    }
    page
}

fn describe(command: &clap::Command, parent: &str, page: &mut String) {
    let name = format!("{parent} {}", command.get_name());
    // What is another command in a longer spelling is on the page already.
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    if command.get_name() == "help" || about.starts_with("Same as `") {
        return;
    }
    if command.has_subcommands() {
        for child in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            describe(child, &name, page);
        }
        return;
    }
    let mut command = command.clone().bin_name(&name).term_width(100);
    let help = command.render_long_help().to_string();
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    page.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_definitions_are_consistent() {
        Cli::command().debug_assert();
        oci::OciCli::command().debug_assert();
    }

    #[test]
    fn dockers_run_line_is_understood() {
        let cli = Cli::try_parse_from([
            "corten", "run", "--rm", "-it", "-e", "A=1", "-e", "B", "-p", "80:8080", "-v", "/a:/b",
            "-u", "1:1", "-w", "/x", "img", "cmd", "-x", "--rm",
        ])
        .unwrap();
        let Command::Run(run) = cli.command else { panic!("not a run: {cli:?}") };
        assert_eq!(run.container.image, "img");
        assert_eq!(run.container.command, ["cmd", "-x", "--rm"]);
        assert_eq!(run.container.env, ["A=1", "B"]);
        assert!(run.container.interactive && run.container.tty && run.container.rm);
    }

    #[test]
    fn global_flags_may_follow_the_command() {
        let cli = Cli::try_parse_from(["corten", "images", "--root", "/x"]).unwrap();
        assert_eq!(cli.global.root, Some(PathBuf::from("/x")));
    }
}
