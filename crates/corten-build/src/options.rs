//! What a caller wants built.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_runtime::Network;
use corten_runtime::cdi::Registry;
use corten_store::Image;
use corten_sys::file;

use crate::error::BuildError;
use crate::provenance::ProvenanceMode;
use crate::recording::{Recording, SourceMaterial};
use crate::remote::{Remotes, Source};
use crate::run::StepTuning;
use crate::ssh::SshAgent;

/// The largest Dockerfile or ignore file: what the frontend of Docker accepts.
pub const DOCKERFILE_BYTES_MAX: u64 = 16 << 20;

/// One build. [`BuildOptions::new`] gives the quiet defaults; a caller changes what it must.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// The files that `COPY` and `ADD` may take.
    pub context: Context,
    /// What the context is, if it was fetched.
    pub context_material: Option<SourceMaterial>,
    pub dockerfile: DockerfileText,
    /// The stage to build; the last one when absent.
    pub target: Option<String>,
    /// Values for `ARG`.
    pub build_args: BTreeMap<String, String>,
    /// Labels put over those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Whether the images come with a statement of where they come from, and how much of it is told.
    pub provenance: Option<ProvenanceMode>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Names that the image gets. Names that it has already are left alone.
    pub tags: Vec<Reference>,
    /// Does every step again; results are still recorded.
    pub no_cache: bool,
    /// Stages, by name or number, whose steps are done again.
    pub no_cache_filter: Vec<String>,
    /// The platforms to build for; the host's when there is none.
    pub platforms: Vec<Platform>,
    /// Seconds since 1970 that all times are set or clamped to. When absent, the build argument
    /// `SOURCE_DATE_EPOCH` counts (see [`settle_epoch`]), then the time at which the base image was
    /// created, then 0.
    ///
    /// [`settle_epoch`]: crate::settle_epoch
    pub epoch: Option<i64>,
    /// Further contexts by name: for `FROM name`, `COPY --from=name` and `RUN --mount=…,from=name`.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Agents for `RUN --mount=type=ssh` by id.
    pub agents: BTreeMap<String, SshAgent>,
    pub run: RunOptions,
    /// How things are fetched.
    pub remotes: Remotes,
    /// Whether what is fetched is recorded, or compared with what was.
    pub recording: Recording,
}

/// How `RUN` steps are carried out. Of it only the network mode and `normalise` are part of a cache
/// key.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The network of steps that do not choose one.
    pub network: Network,
    /// What steps may ask for beyond that.
    pub allow: Entitlements,
    /// A file with certificates in PEM form that programs in `RUN` shall trust.
    pub ca_certificates: Option<PathBuf>,
    /// Proxy variables (`HTTP_PROXY`, `no_proxy` and so on) for the environment of `RUN`.
    pub proxy: BTreeMap<String, String>,
    pub memory_bytes: Option<u64>,
    /// Processor time in thousandths of a processor.
    pub cpu_millis: Option<u64>,
    pub pids: Option<u64>,
    /// Whether what differs from run to run and matters to nobody is made the same: logs and caches
    /// of package managers go, times in byte code follow their sources, a machine id is made from the
    /// step.
    pub normalise: bool,
    /// Keeps what package managers download for other builds; for that the certificates must be
    /// those with which [`Remotes::downloads`] checks servers.
    pub auto_cache: bool,
    /// Names that steps find in `/etc/hosts`; they are part of the keys.
    pub hosts: Vec<(String, IpAddr)>,
    pub tuning: StepTuning,
    /// The devices of this machine that are described.
    pub devices: Arc<Registry>,
    /// Opens a shell where a step failed.
    pub shell_on_error: bool,
    /// Where `--mount=type=cache` keeps its directories; `caches` in the store when absent.
    pub cache_directory: Option<PathBuf>,
}

/// What a Dockerfile may ask for because the caller trusts it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entitlements {
    /// `RUN --security=insecure`.
    pub insecure: bool,
    /// `RUN --network=host`; it is also allowed where the caller chose the host's network for all.
    pub host_network: bool,
    /// `RUN --device`.
    pub devices: DeviceGrant,
}

/// Which devices a Dockerfile may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceGrant {
    /// Any.
    pub all: bool,
    /// By the names that `RUN --device` may give.
    pub names: BTreeSet<String>,
    /// Names that a Dockerfile may give, and the device that the caller means by each.
    pub aliases: BTreeMap<String, String>,
}

impl DeviceGrant {
    /// Returns true if this device may be had: by its name, or because everything that it stands
    /// for on this machine is granted.
    pub(crate) fn allows(&self, name: &str, registry: &Registry) -> bool {
        if self.all || self.names.contains(name) || self.aliases.contains_key(name) {
            return true;
        }
        let granted: BTreeSet<String> =
            self.names.iter().filter_map(|name| registry.find(name).ok()).flatten().collect();
        registry.find(name).is_ok_and(|found| found.iter().all(|one| granted.contains(one)))
    }

    /// What a name in the Dockerfile stands for: what the caller says, else itself.
    pub(crate) fn meant<'n>(&'n self, name: &'n str) -> &'n str {
        self.aliases.get(name).map_or(name, String::as_str)
    }
}

/// Where the main context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Context {
    /// No files at all; for a Dockerfile from standard input without a directory.
    Empty,
    Directory(PathBuf),
    /// Files that were fetched or unpacked: foreign ones, whose links lead nowhere else.
    Fetched {
        directory: PathBuf,
        /// Below the directory: what of it is the context; empty for all.
        path: PathBuf,
        /// Whether the next build finds the same directory.
        kept: bool,
        /// When it was made where it comes from, in seconds since 1970, if that is known.
        time: Option<i64>,
    },
}

/// What a name of a further context stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum NamedContext {
    Directory(PathBuf),
    Image(Reference),
    /// An image that was found already, such as one of an OCI layout, for each platform.
    Found(Vec<Image>),
    /// Something that is fetched.
    Remote(Source),
    /// A stage of the Dockerfile, by name or number.
    Stage(String),
}

/// The largest secret: what BuildKit allows.
pub(crate) const SECRET_BYTES_MAX: u64 = 500 * 1024;

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Read when a step asks for it.
    File(PathBuf),
    Value(Vec<u8>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(value) => write!(f, "Value({} bytes)", value.len()),
        }
    }
}

/// A Dockerfile with its ignore file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerfileText {
    /// As it shall be shown.
    pub name: String,
    pub text: String,
    /// `NAME.dockerignore` beside the Dockerfile. When absent, `.dockerignore` of the context counts.
    pub ignore: Option<IgnoreText>,
}

/// An ignore file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreText {
    /// As it shall be shown.
    pub name: String,
    pub text: String,
}

impl DockerfileText {
    /// Takes a text that was read elsewhere, such as standard input.
    pub fn inline(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), ignore: None }
    }

    /// Reads a Dockerfile and, where there is one, `FILE.dockerignore` beside it.
    pub fn read(path: &Path) -> Result<Self, BuildError> {
        let text = read_text(path)?;
        let mut ignore_path = path.as_os_str().to_owned();
        ignore_path.push(".dockerignore");
        let ignore_path = PathBuf::from(ignore_path);
        let ignore = if file::exists(&ignore_path).map_err(BuildError::Read)? {
            let name = ignore_path.display().to_string();
            Some(IgnoreText { name, text: read_text(&ignore_path)? })
        } else {
            None
        };
        Ok(Self { name: path.display().to_string(), text, ignore })
    }
}

/// Reads text; bytes that are no text are replaced, as the parser is told nothing of encodings.
fn read_text(path: &Path) -> Result<String, BuildError> {
    let bytes = match file::read_limited(path, DOCKERFILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            return Err(BuildError::NoDockerfile { path: path.to_owned(), near: near(path) });
        }
        Err(error) => return Err(BuildError::Read(error)),
    };
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// A file beside the missing one that may have been meant.
fn near(path: &Path) -> Option<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let names = file::list_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let names: Vec<&str> = names.iter().filter_map(|name| name.to_str()).collect();
    let wanted = path.file_name()?.to_str()?;
    let found = corten_diag::suggest::nearest(wanted, &names).or_else(|| {
        let known = ["Dockerfile", "Containerfile", "dockerfile"];
        known.into_iter().find(|known| *known != wanted && names.contains(known))
    });
    found.map(ToOwned::to_owned)
}

impl BuildOptions {
    /// Builds the last stage of a Dockerfile for the host's platform, without a name.
    pub fn new(context: Context, dockerfile: DockerfileText) -> Self {
        Self {
            context,
            context_material: None,
            dockerfile,
            target: None,
            build_args: BTreeMap::new(),
            labels: BTreeMap::new(),
            provenance: None,
            annotations: BTreeMap::new(),
            tags: Vec::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            platforms: Vec::new(),
            epoch: None,
            contexts: BTreeMap::new(),
            secrets: BTreeMap::new(),
            agents: BTreeMap::new(),
            run: RunOptions::new(),
            remotes: Remotes::default(),
            recording: Recording::Off,
        }
    }
}

impl RunOptions {
    /// A network of its own, no certificates, no proxy, no limits, normalised files.
    pub fn new() -> Self {
        Self {
            network: Network::Default,
            allow: Entitlements::default(),
            ca_certificates: None,
            proxy: BTreeMap::new(),
            memory_bytes: None,
            cpu_millis: None,
            pids: None,
            normalise: true,
            auto_cache: false,
            hosts: Vec::new(),
            tuning: StepTuning::default(),
            devices: Arc::default(),
            shell_on_error: false,
            cache_directory: None,
        }
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_grants_one_name_and_says_what_it_stands_for() {
        let mut registry = Registry::default();
        let text =
            "cdiVersion: 0.6.0\nkind: a/b\ndevices:\n- {name: c, containerEdits: {env: [X=1]}}\n";
        registry.add(std::path::Path::new("/etc/cdi/a.yaml"), 0, text);
        let aliases = [("gpu".to_owned(), "a/b=c".to_owned())].into();
        let grant = DeviceGrant { aliases, ..DeviceGrant::default() };
        assert!(grant.allows("gpu", &registry));
        assert_eq!(grant.meant("gpu"), "a/b=c");
        // As in BuildKit, what it stands for is not granted by its own name.
        assert!(!grant.allows("a/b=c", &registry));
        assert_eq!(grant.meant("a/b=c"), "a/b=c");
    }
}
