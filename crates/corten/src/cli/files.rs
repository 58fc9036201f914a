use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// Keep owners also on the way out of the container
    #[arg(short, long)]
    pub archive: bool,
    /// Copy what a link leads to, if the source is one
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Do not say what was copied
    #[arg(short, long)]
    pub quiet: bool,
    /// `CONTAINER:PATH`, a path, or `-` for a tar on standard input
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// `CONTAINER:PATH`, a path, or `-` for a tar on standard output
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// Container name or ID
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    /// Who has made it
    #[arg(short, long, value_name = "TEXT")]
    pub author: Option<String>,
    /// What it is, for the history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Change what the image says about itself by an instruction, such as `CMD ["/app"]`
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub changes: Vec<String>,
    /// Stop the container's processes while its files are read, where that is possible
    #[arg(
        short,
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub pause: bool,
    /// Container name or ID
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Container name or ID
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Change what the image says about itself by an instruction, such as `CMD ["/app"]`
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub changes: Vec<String>,
    /// What it is, for the history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// What machines it is for, such as linux/arm64; this one otherwise
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// A tar of a root file system, compressed by gzip or zstd or not; `-` for standard input
    #[arg(value_name = "FILE")]
    pub file: String,
    /// Name of the image
    #[arg(value_name = "NAME[:TAG]")]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DebugArgs {
    /// The image that the tools are in
    #[arg(long, value_name = "IMAGE", default_value = "golden.internal/toolbox:12")]
    pub image: String,
    /// As whom, `name|uid[:group|gid]` of the tools' image; root otherwise
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// Name or ID of a container, else an image
    #[arg(value_name = "CONTAINER|IMAGE")]
    pub target: String,
    /// A command of the tools' image instead of a shell
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
}
