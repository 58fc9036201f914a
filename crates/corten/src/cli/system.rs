use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum SystemCommand {
    /// Show what the store's bytes are used for
    Df {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove what no image, container or running command needs
    Prune(PruneArgs),
    /// Prove that the store is whole, and repair it
    Fsck(FsckArgs),
}

#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Remove the build cache and unnamed images too
    #[arg(short, long)]
    pub all: bool,
    /// Accepted for Docker's sake: Corten never asks
    #[arg(short, long, hide = true)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
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
