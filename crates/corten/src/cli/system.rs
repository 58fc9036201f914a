use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Show what the store's bytes are used for
    Df {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove ended containers, unused networks, and what no image, container or running command needs
    Prune(PruneArgs),
    /// Show which processors' programs can be executed here, and let more of them
    Emulation(EmulationArgs),
    /// Print a systemd unit that starts containers after a boot and ends them before a shutdown
    Service(ServiceArgs),
    /// Start the containers that are to run after a boot, by their restart policy
    StartContainers(StartContainersArgs),
    /// End all containers before a shutdown; those that are to come back, do
    StopContainers(StopContainersArgs),
    /// Prove that the store is whole, and repair it
    Fsck(FsckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Remove the build cache and the directories of cache mounts too
    #[arg(short, long)]
    pub all: bool,
    /// Remove the volumes without a name that no container has, too
    #[arg(long)]
    pub volumes: bool,
    /// Keep the most recently used part of the build cache, up to this size, such as 10g
    #[arg(long, visible_alias = "reserved-space", value_name = "BYTES")]
    pub keep_storage: Option<String>,
    /// Keep what was made or used within this time, such as 24h
    #[arg(long, value_name = "DURATION")]
    pub keep_younger: Option<String>,
    /// Accepted for Docker's sake: Corten never asks
    #[arg(short, long, hide = true)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct EmulationArgs {
    /// Make the installed emulators known to the kernel, until it is restarted; as root
    #[arg(long)]
    pub register: bool,
    /// Only these architectures, such as arm64
    #[arg(value_name = "ARCH")]
    pub architectures: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServiceArgs {
    /// A unit of the user instead of the system; an ordinary user has no other
    #[arg(long)]
    pub user: bool,
    /// Write it to this file, or to where systemd looks for it
    #[arg(
        long,
        value_name = "PATH",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = ""
    )]
    pub write: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StartContainersArgs {
    /// Say nothing but what went wrong
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StopContainersArgs {
    /// Seconds before a container is killed; what it was made with otherwise
    #[arg(short = 't', long, value_name = "SECONDS")]
    pub time: Option<u32>,
    /// Say nothing but what went wrong
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// Remove what is damaged, so that it is made or fetched again
    #[arg(long)]
    pub repair: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Show only what is not as it should be
    #[arg(short, long)]
    pub quiet: bool,
    /// Print JSON, with everything that was found out
    #[arg(long)]
    pub json: bool,
}
