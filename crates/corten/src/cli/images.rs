use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct ImagesArgs {
    /// Show only images of this name
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Option<String>,
    /// Print only IDs
    #[arg(short, long)]
    pub quiet: bool,
    /// Show whole IDs
    #[arg(long)]
    pub no_trunc: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// `json`, `table TEMPLATE` or a Go template such as `{{.ID}}`
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// Remove an image with several names, and say nothing of one that is not there
    #[arg(short, long)]
    pub force: bool,
    /// Of an index, remove only the image of this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Name or ID of the image
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// The new name
    #[arg(value_name = "TARGET")]
    pub target: String,
}

#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Of an index, the image of this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Do not shorten the commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Print only IDs
    #[arg(short, long)]
    pub quiet: bool,
    /// `json`, `table TEMPLATE` or a Go template
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// Names or IDs
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// Of an index, the image of this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// `json` or a Go template such as `{{.Id}}`
    #[arg(short, long, value_name = "FORMAT")]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Names or IDs
    #[arg(value_name = "IMAGE", required = true)]
    pub images: Vec<String>,
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Of an index, only the image of this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Kind of archive
    #[arg(long, value_name = "KIND", default_value = "oci-archive")]
    pub format: SaveFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SaveFormat {
    #[value(alias = "oci")]
    OciArchive,
    #[value(alias = "docker")]
    DockerArchive,
}

#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// The archive or OCI layout directory [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Of an index, only the image of this platform
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Print nothing but the names
    #[arg(short, long)]
    pub quiet: bool,
}
