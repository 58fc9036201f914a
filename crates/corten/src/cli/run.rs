use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Command;
use super::images::InspectArgs;
use super::isolation::{IsolationArgs, LimitArgs};
use super::network::NetworkArgs;

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Run in the background and print the container's ID
    #[arg(short, long)]
    pub detach: bool,
    /// Print the plan and start nothing
    #[arg(long)]
    pub plan: bool,
    #[command(flatten)]
    pub attached: AttachedArgs,
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// How one is attached to a container.
#[derive(Debug, Args)]
pub(crate) struct AttachedArgs {
    /// Pass signals on to the program
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub sig_proxy: bool,
    /// Keys that leave the container alone again, with a terminal; `ctrl-p,ctrl-q` if nobody says otherwise
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Do not read anything
    #[arg(long)]
    pub no_stdin: bool,
    #[command(flatten)]
    pub attached: AttachedArgs,
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Show what the container writes, pass signals on, and end with its exit code
    #[arg(short, long)]
    pub attach: bool,
    /// The same, and let the container read what is typed
    #[arg(short, long)]
    pub interactive: bool,
    #[command(flatten)]
    pub attached: AttachedArgs,
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

/// What a container shall be, for `run` and `create`.
#[derive(Debug, Args)]
pub(crate) struct ContainerArgs {
    /// Remove the container when it ends
    #[arg(long)]
    pub rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Set a variable, `NAME=value`, or `NAME` to take the host's value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read variables from a file, one `NAME=value` a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Mount a host directory or a volume, `HOST-PATH|NAME:CONTAINER[:ro]`
    #[arg(short, long = "volume", value_name = "SPEC")]
    pub volumes: Vec<String>,
    /// Mount: `type=bind|volume|tmpfs,source=…,target=…[,readonly]`
    #[arg(long = "mount", value_name = "SPEC")]
    pub mounts: Vec<String>,
    /// Mount an empty tmpfs, `PATH[:OPTIONS]`
    #[arg(long = "tmpfs", value_name = "PATH")]
    pub tmpfs: Vec<String>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User, `name|uid[:group|gid]`
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Set a label, `NAME=VALUE`
    #[arg(short, long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Read labels from a file, one `NAME=VALUE` a line
    #[arg(long = "label-file", value_name = "FILE")]
    pub label_files: Vec<PathBuf>,
    /// Run this instead of the image's entrypoint
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// Memory limit, such as 512m or 2g
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// CPU limit, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Limit of processes and threads
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Make the root file system read-only
    #[arg(long)]
    pub read_only: bool,
    /// Add a capability, such as `NET_BIND_SERVICE` or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// `no-new-privileges[=false]`, `seccomp=unconfined|FILE`, `mask=PATH`, `unmask=ALL|PATH`
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    #[command(flatten)]
    pub isolation: IsolationArgs,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Give a device, `/dev/NAME[:/dev/NAME][:rwm]` or a CDI device `vendor/class=name`
    #[arg(long = "device", value_name = "DEVICE")]
    pub devices: Vec<String>,
    /// Give GPUs by CDI: `all`, a number, or `device=0,1`
    #[arg(long, value_name = "GPUS")]
    pub gpus: Option<String>,
    #[command(flatten)]
    pub net: NetworkArgs,
    /// Host name inside
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Resource limit, `NAME=SOFT[:HARD]`
    #[arg(long = "ulimit", value_name = "SPEC")]
    pub ulimits: Vec<String>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Run a tiny init as process 1 that reaps orphans
    #[arg(long)]
    pub init: bool,
    /// Take the image from the store only (never), or make it when absent (missing)
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub pull: PullPolicy,
    /// Of an index, the image of this platform; refuse any other
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Write the container's ID to this file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Start it again when it ends: no, on-failure[:TIMES], always or unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub restart: String,
    /// What asks the program to end, instead of the image's signal or SIGTERM
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// How many seconds it may take for that before it is killed
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u32>,
    /// How much of its output is kept, `max-size=20m`, `max-file=5` or `retention=7d`
    #[arg(long = "log-opt", value_name = "NAME=VALUE")]
    pub log_options: Vec<String>,
    /// See whether the program works by this command, instead of the image's
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between two such checks
    #[arg(long, value_name = "DURATION")]
    pub health_interval: Option<String>,
    /// Time that one may take
    #[arg(long, value_name = "DURATION")]
    pub health_timeout: Option<String>,
    /// Time after the start in which failures do not count
    #[arg(long, value_name = "DURATION")]
    pub health_start_period: Option<String>,
    /// Time between two checks in the start period
    #[arg(long, value_name = "DURATION")]
    pub health_start_interval: Option<String>,
    /// How many failures in a row make the container unhealthy
    #[arg(long, value_name = "NUMBER")]
    pub health_retries: Option<u32>,
    /// Do not check, whatever the image says
    #[arg(long, conflicts_with = "health_cmd")]
    pub no_healthcheck: bool,
    /// Say nothing of one's own
    #[arg(short, long)]
    pub quiet: bool,
    /// Name or ID of the image
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Command and arguments
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullPolicy {
    Missing,
    Never,
}

#[derive(Debug, Args)]
pub(crate) struct PsArgs {
    /// Show ended containers too
    #[arg(short, long)]
    pub all: bool,
    /// Only those with `id`, `name`, `status`, `exited`, `label`, `ancestor`, `volume`, `network` or `health`,
    /// `NAME=VALUE`
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub filters: Vec<String>,
    /// Only so many, those that were made last, also ended ones
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub last: Option<usize>,
    /// Only the one that was made last, also if it has ended
    #[arg(short, long)]
    pub latest: bool,
    /// Print only IDs
    #[arg(short, long)]
    pub quiet: bool,
    /// Show whole IDs
    #[arg(long)]
    pub no_trunc: bool,
    /// `json`, `table TEMPLATE` or a Go template such as `{{.Names}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
    /// Kill a running container first, and say nothing of one that is not there
    #[arg(short, long)]
    pub force: bool,
    /// Remove the volumes that were made for the container alone, too
    #[arg(short, long)]
    pub volumes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// What is waited for: not-running, next-exit or removed
    #[arg(long, value_name = "CONDITION", default_value = "not-running")]
    pub condition: WaitCondition,
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitCondition {
    NotRunning,
    NextExit,
    Removed,
}

#[derive(Debug, Args)]
pub(crate) struct ContainerPruneArgs {
    /// Only those with `label`, or `until`: made before a time, or longer ago, such as `until=24h`
    #[arg(long = "filter", value_name = "NAME=VALUE")]
    pub filters: Vec<String>,
    /// Accepted for Docker's sake: Corten never asks
    #[arg(short, long, hide = true)]
    pub force: bool,
}

/// The commands on containers in Docker's longer spelling.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ContainerCommand {
    /// List containers
    #[command(alias = "list", alias = "ps")]
    Ls(PsArgs),
    /// Show everything that is known of containers
    Inspect(InspectArgs),
    /// Remove containers that do not run
    Prune(ContainerPruneArgs),
    /// Same as `run`
    Run(Box<RunArgs>),
    /// Same as `create`
    Create(Box<ContainerArgs>),
    /// Same as `start`
    Start(StartArgs),
    /// Same as `attach`
    Attach(AttachArgs),
    /// Same as `stop`
    Stop(StopArgs),
    /// Same as `restart`
    Restart(StopArgs),
    /// Same as `kill`
    Kill(KillArgs),
    /// Same as `pause`
    Pause(ContainersArgs),
    /// Same as `unpause`
    Unpause(ContainersArgs),
    /// Same as `top`
    Top(TopArgs),
    /// Same as `stats`
    Stats(StatsArgs),
    /// Same as `update`
    Update(UpdateArgs),
    /// Same as `wait`
    Wait(WaitArgs),
    /// Same as `exec`
    Exec(ExecArgs),
    /// Same as `logs`
    Logs(LogsArgs),
    /// Same as `rename`
    Rename(RenameArgs),
    /// Same as `rm`
    #[command(alias = "remove")]
    Rm(RmArgs),
}

impl ContainerCommand {
    /// The same in the shorter spelling; `prune` has none.
    pub(crate) fn shorter(self) -> Command {
        match self {
            Self::Ls(arguments) => Command::Ps(arguments),
            Self::Inspect(arguments) => Command::Inspect(arguments),
            Self::Prune(arguments) => Command::Container(Self::Prune(arguments)),
            Self::Run(arguments) => Command::Run(arguments),
            Self::Create(arguments) => Command::Create(arguments),
            Self::Start(arguments) => Command::Start(arguments),
            Self::Attach(arguments) => Command::Attach(arguments),
            Self::Stop(arguments) => Command::Stop(arguments),
            Self::Restart(arguments) => Command::Restart(arguments),
            Self::Kill(arguments) => Command::Kill(arguments),
            Self::Pause(arguments) => Command::Pause(arguments),
            Self::Unpause(arguments) => Command::Unpause(arguments),
            Self::Top(arguments) => Command::Top(arguments),
            Self::Stats(arguments) => Command::Stats(arguments),
            Self::Update(arguments) => Command::Update(arguments),
            Self::Wait(arguments) => Command::Wait(arguments),
            Self::Exec(arguments) => Command::Exec(arguments),
            Self::Logs(arguments) => Command::Logs(arguments),
            Self::Rename(arguments) => Command::Rename(arguments),
            Self::Rm(arguments) => Command::Rm(arguments),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ContainersArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
    /// What asks the program to end, instead of the signal that the container was made with
    #[arg(short, long, value_name = "SIGNAL")]
    pub signal: Option<String>,
    /// How many seconds it may take for that before it is killed
    #[arg(short, long, visible_alias = "timeout", value_name = "SECONDS")]
    pub time: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Which columns, as `ps` takes them: `-o pid,rss,args`, `aux` or `-ef`
    #[arg(value_name = "PS-OPTIONS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Names or IDs; without any, all that run
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
    /// Those that do not run, too
    #[arg(short, long)]
    pub all: bool,
    /// Show it once, and end
    #[arg(long)]
    pub no_stream: bool,
    /// Show whole IDs
    #[arg(long)]
    pub no_trunc: bool,
    /// `json`, `table TEMPLATE` or a Go template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Print JSON, once
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Also those since this time, such as `2026-11-21T16:30:00Z`, or since so long ago, such as `10m`
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only up to this time, and end then
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only those with `type`, `event`, `container`, `image`, `volume`, `network` or `label`, `NAME=VALUE`
    #[arg(short, long = "filter", value_name = "NAME=VALUE")]
    pub filters: Vec<String>,
    /// `json` or a Go template such as `{{.Action}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Print JSON, an event a line
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UpdateArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
    /// Memory limit, such as 512m or 2g
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Memory and swap together, or -1 for any swap
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Memory that it keeps when the machine is short of it
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// CPU limit, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Weight against other containers; 1024 is normal
    #[arg(short, long, value_name = "NUMBER")]
    pub cpu_shares: Option<u64>,
    /// CPU time in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus")]
    pub cpu_quota: Option<u64>,
    /// Length of such a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus")]
    pub cpu_period: Option<u64>,
    /// CPUs to run on, such as 0-3,6
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes to use, such as 0-1
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Disk weight, 10 to 1000
    #[arg(long, value_name = "NUMBER")]
    pub blkio_weight: Option<u64>,
    /// Limit of processes and threads, or -1 for none
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Start it again when it ends: no, on-failure[:TIMES], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Names or IDs
    #[arg(value_name = "CONTAINER", required = true)]
    pub containers: Vec<String>,
    /// The signal to send
    #[arg(short, long, value_name = "SIGNAL", default_value = "KILL")]
    pub signal: String,
}

#[derive(Debug, Args)]
pub(crate) struct RenameArgs {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Its new name
    #[arg(value_name = "NAME")]
    pub name: String,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Go on as the container writes, until it ends
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines, or `all`
    #[arg(short = 'n', long, value_name = "LINES", default_value = "all")]
    pub tail: String,
    /// Not before this time, such as `2026-11-21T16:30:00Z`, or so long ago, such as `10m`
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Not after this time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Print the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the program a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Run it in the background
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    pub detach: bool,
    /// Set a variable, `NAME=value`, or `NAME` to take the host's value
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<String>,
    /// Read variables from a file, one `NAME=value` a line
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<PathBuf>,
    /// User, `name|uid[:group|gid]`
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Give it all capabilities of the container's user namespace, and every system call
    #[arg(long)]
    pub privileged: bool,
    /// Name or ID of the container
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Command and arguments
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub command: Vec<String>,
}
