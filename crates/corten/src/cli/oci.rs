//! `corten oci`: the command line of an OCI runtime, with the flags of `runc`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "corten oci",
    version,
    about = "Run containers from OCI bundles, as other engines ask for them",
    arg_required_else_help = true,
    subcommand_required = true,
    disable_help_subcommand = false
)]
pub(crate) struct OciCli {
    #[command(flatten)]
    pub global: OciGlobal,
    #[command(subcommand)]
    pub command: OciCommand,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciGlobal {
    /// Keep the state of containers in this directory
    #[arg(long, value_name = "DIR", global = true, help_heading = "Global options")]
    pub root: Option<PathBuf>,
    /// Append what goes wrong to this file
    #[arg(long, value_name = "FILE", global = true, help_heading = "Global options")]
    pub log: Option<PathBuf>,
    /// Form of the log
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        global = true,
        help_heading = "Global options"
    )]
    pub log_format: LogFormat,
    /// Take `cgroupsPath` as `slice:prefix:name`; groups are made directly, not by systemd
    #[arg(long, global = true, help_heading = "Global options")]
    pub systemd_cgroup: bool,
    /// Log also what goes well
    #[arg(long, global = true, help_heading = "Global options")]
    pub debug: bool,
    /// Accepted for compatibility: `true`, `false` or `auto`; Corten sees what it may do
    #[arg(
        long = "rootless",
        id = "when-rootless",
        value_name = "WHEN",
        help_heading = "Global options"
    )]
    pub rootless: Option<String>,
    /// Accepted for compatibility
    #[arg(long, value_name = "PROGRAM", global = true, hide = true)]
    pub criu: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum OciCommand {
    /// Make a container from a bundle; its program waits for `start`
    Create(OciCreateArgs),
    /// Let the program of a container begin
    Start(OciIdArgs),
    /// Make a container, let its program begin, and wait for its end
    Run(OciRunArgs),
    /// Print the state of a container as JSON
    State(OciIdArgs),
    /// Send a signal to a container's first process
    Kill(OciKillArgs),
    /// Remove a container that has ended
    Delete(OciDeleteArgs),
    /// Run a further program in a container
    Exec(Box<OciExecArgs>),
    /// List containers
    List(OciListArgs),
    /// List the processes of a container
    Ps(OciPsArgs),
    /// Halt all processes of a container
    Pause(OciIdArgs),
    /// Let a halted container go on
    Resume(OciIdArgs),
    /// Change the limits of a container
    Update(Box<OciUpdateArgs>),
    /// Show what a container uses of the machine
    Events(OciEventsArgs),
    /// Write a configuration to begin with
    Spec(OciSpecArgs),
    /// Print what this runtime can do as JSON
    Features,
    /// Refused: Corten does not save running containers
    #[command(hide = true)]
    Checkpoint(OciRefusedArgs),
    /// Refused: Corten does not save running containers
    #[command(hide = true)]
    Restore(OciRefusedArgs),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciIdArgs {
    /// Container
    pub id: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciCreateArgs {
    /// Container
    pub id: String,
    #[command(flatten)]
    pub make: OciMakeArgs,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciMakeArgs {
    /// Directory with `config.json`
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// Send the controlling side of the container's terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Write the number of the first process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Change the root by `chroot`, for root file systems in memory
    #[arg(long)]
    pub no_pivot: bool,
    /// Leave the container the caller's keyring
    #[arg(long)]
    pub no_new_keyring: bool,
    /// Pass on this many descriptors behind the standard ones
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub preserve_fds: u32,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciRunArgs {
    /// Container
    pub id: String,
    #[command(flatten)]
    pub make: OciMakeArgs,
    /// Do not wait for the end
    #[arg(long, short)]
    pub detach: bool,
    /// Do not remove the container at its end
    #[arg(long)]
    pub keep: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciKillArgs {
    /// Send it to all processes of the container
    #[arg(long, short)]
    pub all: bool,
    /// Container
    pub id: String,
    /// Signal, by name or number
    #[arg(default_value = "TERM", allow_hyphen_values = true)]
    pub signal: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciDeleteArgs {
    /// Container
    pub id: String,
    /// End it first; none is fine, too
    #[arg(long, short)]
    pub force: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciExecArgs {
    /// Container
    pub id: String,
    /// Program and arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Take the whole process from this JSON file
    #[arg(long, short, value_name = "FILE")]
    pub process: Option<PathBuf>,
    /// Send the controlling side of the terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    pub console_socket: Option<PathBuf>,
    /// Write the number of the process to this file
    #[arg(long, value_name = "FILE")]
    pub pid_file: Option<PathBuf>,
    /// Do not wait for the end
    #[arg(long, short)]
    pub detach: bool,
    /// Directory to start in
    #[arg(long, value_name = "DIR")]
    pub cwd: Option<PathBuf>,
    /// Set a variable
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub env: Vec<String>,
    /// Give it a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// User and group by number
    #[arg(long, short, value_name = "UID[:GID]")]
    pub user: Option<String>,
    /// Further groups by number
    #[arg(long, short = 'g', value_name = "GID")]
    pub additional_gids: Vec<u32>,
    /// Add a capability
    #[arg(long, short, value_name = "CAP")]
    pub cap: Vec<String>,
    /// Profile of `AppArmor`
    #[arg(long, value_name = "PROFILE")]
    pub apparmor: Option<String>,
    /// Label of `SELinux`
    #[arg(long, value_name = "LABEL")]
    pub process_label: Option<String>,
    /// Do not let it gain privileges
    #[arg(long)]
    pub no_new_privs: bool,
    /// Pass on this many descriptors behind the standard ones
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    pub preserve_fds: u32,
    /// Put it into a control group below the container's: `[CONTROLLER,…:]PATH`
    #[arg(long, value_name = "PATH")]
    pub cgroup: Vec<String>,
    /// Also in a halted container
    #[arg(long)]
    pub ignore_paused: bool,
    /// Accepted for compatibility
    #[arg(long, hide = true)]
    pub no_subreaper: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciListArgs {
    /// `table` or `json`
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub format: OciFormat,
    /// Print ids only
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum OciFormat {
    Table,
    Json,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciPsArgs {
    /// `table` or `json`
    #[arg(long, short, value_name = "FORMAT", default_value = "table")]
    pub format: OciFormat,
    /// Container
    pub id: String,
    /// Options of `ps(1)`, `-ef` without any
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciUpdateArgs {
    /// Container
    pub id: String,
    /// Read the limits from this JSON file, `-` for standard input
    #[arg(long, short, value_name = "FILE")]
    pub resources: Option<PathBuf>,
    /// Relative weight at disks, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    pub blkio_weight: Option<u16>,
    /// Period of the processor quota in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_period: Option<u64>,
    /// Processor time in each period in microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Processor time that may be saved up, in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_burst: Option<u64>,
    /// Relative weight at processors
    #[arg(long, value_name = "SHARES")]
    pub cpu_share: Option<u64>,
    /// Period of realtime scheduling in microseconds
    #[arg(long, value_name = "US")]
    pub cpu_rt_period: Option<u64>,
    /// Realtime in each period in microseconds
    #[arg(long, value_name = "US", allow_hyphen_values = true)]
    pub cpu_rt_runtime: Option<i64>,
    /// Run only when nothing else does: 1
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    pub cpu_idle: Option<i64>,
    /// Processors, `0-3,7`
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Memory in bytes, -1 for no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory: Option<i64>,
    /// Memory that it should keep in bytes
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_reservation: Option<i64>,
    /// Memory and swap together in bytes, -1 for no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<i64>,
    /// Accepted for compatibility: Linux has no such limit any more
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    pub kernel_memory: Option<i64>,
    /// Accepted for compatibility: Linux has no such limit any more
    #[arg(long, value_name = "BYTES", hide = true, allow_hyphen_values = true)]
    pub kernel_memory_tcp: Option<i64>,
    /// Processes and threads, -1 for no limit
    #[arg(long, value_name = "COUNT", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciEventsArgs {
    /// Container
    pub id: String,
    /// Print the numbers once
    #[arg(long)]
    pub stats: bool,
    /// Time between two times, `5s`
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub interval: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciSpecArgs {
    /// Directory to write `config.json` into
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    pub bundle: PathBuf,
    /// For an ordinary user
    #[arg(long)]
    pub rootless: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct OciRefusedArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub rest: Vec<String>,
}
