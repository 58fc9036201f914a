use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Directory whose files the Dockerfile may copy
    #[arg(value_name = "PATH")]
    pub context: PathBuf,
    /// The Dockerfile, `-` for standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Name for the image, `name[:tag]`; may be given several times
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Build this stage and what it needs
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Set a build argument, `NAME=value`, or `NAME` to take the value from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// Add a label, `name=value`
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Add an annotation to the manifest, `name=value`
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub annotations: Vec<String>,
    /// Do every step again
    #[arg(long)]
    pub no_cache: bool,
    /// Platform to build for; this version builds for the host's
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<String>,
    /// Another directory or image that `COPY --from=NAME` and `FROM NAME` may use
    #[arg(long = "build-context", value_name = "NAME=DIR|IMAGE")]
    pub build_contexts: Vec<String>,
    /// A secret for `RUN --mount=type=secret`: `id=ID,src=FILE` or `id=ID,env=NAME`
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,
    /// Network of RUN steps: default, none or host
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub network: String,
    /// Certificate authorities for RUN steps: host, none or a file
    #[arg(long, value_name = "host|none|FILE", default_value = "host")]
    pub ca_certs: String,
    /// Memory limit of a RUN step, such as 2g
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// CPU limit of a RUN step, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Write the image's ID to this file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// How progress is shown: auto, plain, tty, json or quiet
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub progress: ProgressMode,
    /// Print only the image's ID
    #[arg(short, long)]
    pub quiet: bool,
    /// Print the plan and build nothing
    #[arg(long)]
    pub plan: bool,
    /// Build twice, the second time without the cache, and explain every difference
    #[arg(long, conflicts_with = "plan")]
    pub verify: bool,
    /// Accepted for Docker's sake: the image is always in the store
    #[arg(long, hide = true)]
    pub load: bool,
    /// Accepted for Docker's sake: bases are taken from the store or made
    #[arg(long, hide = true)]
    pub pull: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    Auto,
    Plain,
    Tty,
    Json,
    #[value(alias = "none")]
    Quiet,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BaseCommand {
    /// Make a golden base image
    Build(BaseBuildArgs),
    /// List the recipes
    #[command(visible_alias = "ls")]
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct BaseBuildArgs {
    /// Name of a recipe (`corten base list`) or a recipe file
    #[arg(value_name = "RECIPE")]
    pub recipe: String,
    /// Debian mirror to use instead of the host's apt sources
    #[arg(long, value_name = "URL")]
    pub mirror: Option<String>,
    /// Mirror of the security suite, where it is another one
    #[arg(long, value_name = "URL", requires = "mirror")]
    pub security_mirror: Option<String>,
    /// Another name for the image; may be given several times
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    /// Use the packages of this lock and no others
    #[arg(long, value_name = "FILE")]
    pub lock: Option<PathBuf>,
    /// Write the lock file here
    #[arg(long, value_name = "FILE")]
    pub lock_out: Option<PathBuf>,
    /// Use only what the store already has
    #[arg(long)]
    pub offline: bool,
    /// Accept indices whose Valid-Until has passed, and record it in the lock
    #[arg(long)]
    pub allow_expired_index: bool,
    /// Verify InRelease with this keyring instead of Debian's own keys
    #[arg(long, value_name = "FILE")]
    pub keyring: Option<PathBuf>,
    /// How progress is shown: auto, plain, tty, json or quiet
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub progress: ProgressMode,
    /// Print only the image's ID
    #[arg(short, long)]
    pub quiet: bool,
}
