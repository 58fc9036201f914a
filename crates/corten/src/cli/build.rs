use std::path::PathBuf;

use clap::{Arg, Args, Subcommand, ValueEnum};

/// What `corten build` and `corten lock` both take: what is built, and how its steps run.
#[derive(Debug, Args)]
pub(crate) struct SharedArgs {
    /// Directory whose files the Dockerfile may copy, `-` for a tar or a Dockerfile on standard input,
    /// or the URL of a git repository, a tar or a Dockerfile
    #[arg(value_name = "PATH")]
    pub context: PathBuf,
    /// The Dockerfile, `-` for standard input [default: PATH/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Build this stage and what it needs
    #[arg(long, value_name = "STAGE")]
    pub target: Option<String>,
    /// Set a build argument, `NAME=value`, or `NAME` to take the value from the environment
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub build_args: Vec<String>,
    /// Do every step again
    #[arg(long)]
    pub no_cache: bool,
    /// Platforms to build for, such as `linux/amd64,linux/arm64`; several give an index
    /// [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<String>,
    /// Another directory, URL (git or HTTP), `docker-image://IMAGE`,
    /// `oci-layout://DIR[:TAG]` or `target:STAGE` that `COPY --from=NAME` and `FROM NAME` may use
    #[arg(long = "build-context", value_name = "NAME=DIR|URL|IMAGE")]
    pub build_contexts: Vec<String>,
    /// A secret for `RUN --mount=type=secret`: `id=ID,src=FILE` or `id=ID,env=NAME`
    #[arg(long = "secret", value_name = "SPEC")]
    pub secrets: Vec<String>,
    /// An agent for `RUN --mount=type=ssh` and git over ssh: `default` for the one of
    /// `SSH_AUTH_SOCK`, or `ID=SOCKET`, or `ID=KEYFILE[,KEYFILE]`; may be given several times
    #[arg(long = "ssh", value_name = "ID[=SOCKET|KEY]")]
    pub agents: Vec<String>,
    /// Let RUN steps ask for more: `security.insecure`, `network.host`, `device`,
    /// `device=NAME[,alias=OTHER]`; may be given several times
    #[arg(long = "allow", value_name = "ENTITLEMENT")]
    pub allow: Vec<String>,
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
    /// Whether what RUN steps write differently each time, such as logs of package managers, is made
    /// the same [default: true, or `[build] normalize`]
    #[arg(long, value_name = "BOOL", visible_alias = "normalise", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub normalize: Option<bool>,
    /// The lock file [default: corten.lock beside the Dockerfile]
    #[arg(long, value_name = "FILE")]
    pub lock_file: Option<PathBuf>,
    #[command(flatten)]
    pub steps: StepArgs,
    /// How progress is shown: auto, plain, tty, json, rawjson or quiet
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub progress: ProgressMode,
    /// Print only the image's ID
    #[arg(short, long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Name for the image, `name[:tag]`; may be given several times
    #[arg(short, long = "tag", value_name = "NAME")]
    pub tags: Vec<String>,
    #[command(flatten)]
    pub shared: SharedArgs,
    /// Add a label, `name=value`
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub labels: Vec<String>,
    /// Where the result goes: `type=image`, `registry`, or `oci`, `docker`, `local` or `tar` with
    /// `dest=PATH`, or a directory alone; may be given several times [default: the store]
    #[arg(short, long = "output", value_name = "SPEC", conflicts_with_all = ["plan", "verify"])]
    pub outputs: Vec<String>,
    /// Write the digests of the result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub metadata_file: Option<PathBuf>,
    /// Add an annotation, `name=value`, to the manifest or, with `manifest-descriptor:`, `index:` or
    /// `index-descriptor:` before the name, to these
    #[arg(long = "annotation", value_name = "NAME=VALUE")]
    pub annotations: Vec<String>,
    /// State where the image comes from, beside it in archives and registries: `true`, `mode=min` or
    /// `mode=max`
    #[arg(long, value_name = "BOOL|mode=MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub provenance: Option<String>,
    /// The same in another spelling: `type=provenance,mode=max`; may be given several times
    #[arg(long = "attest", value_name = "SPEC")]
    pub attest: Vec<String>,
    /// Accepted for Docker's sake, with a note
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub sbom: Option<String>,
    /// Do every step of this stage again; may be given several times
    #[arg(long = "no-cache-filter", value_name = "STAGE", value_delimiter = ',')]
    pub no_cache_filter: Vec<String>,
    /// A cache of another machine to take steps and cache mounts from: `type=local,src=DIRECTORY`,
    /// `type=registry,ref=NAME` or a name alone; may be given several times
    #[arg(long = "cache-from", value_name = "SPEC")]
    pub cache_from: Vec<String>,
    /// Where to put steps and cache mounts for other machines: `type=local,dest=DIRECTORY`,
    /// `type=registry,ref=NAME` or `type=inline`, with `mode=max` for the steps of all stages; may be
    /// given several times
    #[arg(long = "cache-to", value_name = "SPEC", conflicts_with_all = ["plan", "verify"])]
    pub cache_to: Vec<String>,
    /// Whether what apt, pip, uv and npm download in RUN steps is kept in the store for other builds;
    /// images are the same either way [default: true, or `[build] auto-cache`]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub auto_cache: Option<bool>,
    /// Use nothing but what the lock file has, and fail for anything else
    #[arg(long, conflicts_with = "plan")]
    pub locked: bool,
    /// Build from the lock file and the store alone, without the network; implies `--locked`
    #[arg(long, conflicts_with = "plan")]
    pub offline: bool,
    /// Write the image's ID to this file
    #[arg(long, value_name = "FILE")]
    pub iidfile: Option<PathBuf>,
    /// Print the plan and build nothing
    #[arg(long)]
    pub plan: bool,
    /// Check the Dockerfile and build nothing; the same as `--call check`
    #[arg(long, conflicts_with_all = ["plan", "verify", "call"])]
    pub check: bool,
    /// What to do with the Dockerfile: build, check, outline or targets; `,format=json` for JSON
    #[arg(long, value_name = "METHOD", conflicts_with_all = ["plan", "verify"])]
    pub call: Option<String>,
    /// Open a shell in the place of a RUN step that fails; needs a terminal
    #[arg(long, conflicts_with_all = ["plan", "check", "call"])]
    pub shell_on_error: bool,
    /// Build twice, the second time without the cache, and explain every difference
    #[arg(long, conflicts_with = "plan")]
    pub verify: bool,
    /// Put the image into the store, besides the outputs
    #[arg(long, hide = true)]
    pub load: bool,
    /// Push the image to the registries of its names; the same as `--output type=registry`
    #[arg(long, conflicts_with_all = ["plan", "verify"])]
    pub push: bool,
    /// Whether registries must prove who they are; those on this machine need not
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub tls_verify: bool,
    /// Accepted for Docker's sake: bases are taken from the store or made
    #[arg(long, hide = true)]
    pub pull: bool,
}

/// What shared arguments mean for `corten lock`, where that is not what they mean for a build.
const LOCK_HELP: [(&str, &str); 10] = [
    (
        "context",
        "Directory whose files the Dockerfile may copy, or the URL of a git repository or a tar",
    ),
    ("lock_file", "Where to write the lock [default: corten.lock beside the Dockerfile]"),
    (
        "no_cache",
        "Fetch everything again, also for steps that are in the cache with what they fetched",
    ),
    ("target", "Lock this stage and what it needs"),
    (
        "platforms",
        "Platforms to build for, such as `linux/amd64,linux/arm64` [default: this machine's]",
    ),
    (
        "agents",
        "An agent for `RUN --mount=type=ssh` and git over ssh: `default` for the one of `SSH_AUTH_SOCK`, `ID=SOCKET`, or `ID=KEYFILE`; may be given several times",
    ),
    ("allow", "Allow what a Dockerfile may ask for: `security.insecure`, `network.host`"),
    ("network", "Network of RUN steps: default or none"),
    (
        "normalize",
        "Whether what RUN steps write differently each time is made the same, as for `corten build`",
    ),
    ("quiet", "Print nothing but failures"),
];

#[derive(Debug, Args)]
#[command(mut_args(for_lock))]
pub(crate) struct LockArgs {
    #[command(flatten)]
    pub shared: SharedArgs,
    /// Write nothing, and exit with 1 if the lock would change
    #[arg(long)]
    pub check: bool,
}

fn for_lock(argument: Arg) -> Arg {
    match LOCK_HELP.iter().find(|(name, _)| argument.get_id() == name) {
        Some((_, help)) => argument.help(*help),
        None => argument,
    }
}

/// What RUN steps get, in the spelling of `docker build`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StepArgs {
    /// A name for `/etc/hosts` of RUN steps, `NAME:ADDRESS`; may be given several times
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub hosts: Vec<String>,
    /// Size of /dev/shm in RUN steps, such as 1g
    #[arg(long, value_name = "BYTES")]
    pub shm_size: Option<String>,
    /// Resource limit of RUN steps, `NAME=SOFT[:HARD]`; may be given several times
    #[arg(long = "ulimit", value_name = "SPEC")]
    pub ulimits: Vec<String>,
    /// Memory and swap together of a RUN step; -1 for any amount of swap
    #[arg(long, value_name = "BYTES", requires = "memory", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Weight of RUN steps against other programs; 1024 is normal
    #[arg(short = 'c', long, value_name = "NUMBER")]
    pub cpu_shares: Option<u64>,
    /// Processors for RUN steps, such as 0-3
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Processor time in each period, in microseconds; with `--cpu-period` the same as `--cpus`
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus", hide = true)]
    pub cpu_quota: Option<u64>,
    /// Length of a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", requires = "cpu_quota", hide = true)]
    pub cpu_period: Option<u64>,
    /// Processes and threads of a RUN step at one time
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
    /// Accepted for Docker's sake, with a note
    #[arg(long, value_name = "LIST", hide = true)]
    pub cpuset_mems: Option<String>,
    /// Accepted for Docker's sake, with a note
    #[arg(long, value_name = "GROUP", hide = true)]
    pub cgroup_parent: Option<String>,
    /// Accepted for Docker's sake, with a note
    #[arg(long, value_name = "KIND", hide = true)]
    pub isolation: Option<String>,
    /// Accepted for Docker's sake, with a note
    #[arg(long, hide = true)]
    pub squash: bool,
    /// Accepted for Docker's sake: a context is never sent anywhere
    #[arg(long, hide = true)]
    pub compress: bool,
    /// Accepted for Docker's sake: nothing of a step is left behind
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub rm: Option<bool>,
    /// Accepted for Docker's sake: nothing of a step is left behind
    #[arg(long, hide = true)]
    pub force_rm: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressMode {
    Auto,
    Plain,
    Tty,
    Json,
    /// As of `docker buildx build`
    #[value(name = "rawjson")]
    RawJson,
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
    /// Platforms to make it for, such as `linux/amd64,linux/arm64` [default: this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<String>,
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
    /// How progress is shown: auto, plain, tty, json, rawjson or quiet
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub progress: ProgressMode,
    /// Print only the image's ID
    #[arg(short, long)]
    pub quiet: bool,
}
