use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum VolumeCommand {
    /// Make a volume
    Create(VolumeCreateArgs),
    /// List volumes
    #[command(alias = "list")]
    Ls(VolumeListArgs),
    /// Show everything that is known of volumes
    Inspect(VolumeNamesArgs),
    /// Remove volumes that no container has
    #[command(alias = "remove")]
    Rm(VolumeNamesArgs),
    /// Remove volumes that no container has: those without a name, or all
    Prune(VolumePruneArgs),
}

#[derive(Debug, Args)]
pub(crate) struct VolumeCreateArgs {
    /// Its name; without one, a name is made up
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// A label, `NAME=VALUE`
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeListArgs {
    /// Print only names
    #[arg(short, long)]
    pub quiet: bool,
    /// `json`, `table TEMPLATE` or a Go template such as `{{.Name}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VolumeNamesArgs {
    /// Names
    #[arg(value_name = "VOLUME", required = true)]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct VolumePruneArgs {
    /// Those with a name too
    #[arg(short, long)]
    pub all: bool,
    /// Accepted for Docker's sake: Corten never asks
    #[arg(short, long, hide = true)]
    pub force: bool,
}
