//! What goes wrong before and while a container runs.

use std::io;
use std::path::PathBuf;

use corten_sys::error::IoError;

use crate::exec_error::ExecError;
use crate::network::NetworkError;
use crate::plan::SysctlRefusal;
use crate::spec::RlimitKind;

/// Why a spec cannot become a plan on this host.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("no command was given and the image has none")]
    NoProgram,
    #[error("container id `{id}` has characters other than letters, digits, `_`, `.` and `-`")]
    InvalidId { id: String },
    #[error("{what} `{}` is not an absolute path", path.display())]
    RelativePath { what: &'static str, path: PathBuf },
    #[error("{what} `{}` has a `..` in it", path.display())]
    ParentInPath { what: &'static str, path: PathBuf },
    #[error("{what} has a NUL byte in it: {text:?}")]
    NulByte { what: &'static str, text: String },
    #[error("the root file system has no layer")]
    NoLayers,
    #[error("an upper directory needs a work directory beside it, and the other way round")]
    UpperWithoutWork,
    #[error("{what} {id} is outside the {available} ids that are available here")]
    UnmappedId { what: &'static str, id: u32, available: u64 },
    #[error("the {limit} limit cannot be set here: {reason}")]
    LimitNotEnforceable { limit: &'static str, reason: String, remedy: &'static str },
    #[error("the {limit} limit is {problem}")]
    InvalidLimit { limit: &'static str, problem: &'static str },
    #[error("the soft limit of `{kind}` is above its hard limit")]
    SoftAboveHard { kind: RlimitKind },
    #[error("kernel setting `{name}` cannot be set for a container: {reason}")]
    Sysctl { name: String, reason: SysctlRefusal },
    #[error("the {what} ids have no 0, which files of the system belong to")]
    NoRootId { what: &'static str },
    #[error("an ordinary user's files cannot be shown under other ids, which these maps need")]
    OwnersOfMaps,
    #[error("container `{id}`, whose namespaces are to be shared, was not looked up")]
    NotLookedUp { id: String },
    #[error("control group `{parent}` is no path such as `/batch/night`")]
    CgroupParent { parent: String },
    #[error("device link `{}` is not below `/dev`", path.display())]
    LinkOutsideOfDev { path: PathBuf },
    #[error("secret `{id}` was not read")]
    SecretNotRead { id: String },
    #[error("{what} cannot be had together with {other}")]
    Conflict { what: &'static str, other: &'static str },
    #[error("mounts of `{}` cannot be shared with the host: {reason}", path.display())]
    NotShareable { path: PathBuf, reason: &'static str },
    #[error("ports cannot be published with network `{network}`")]
    PortsWithoutNetwork { network: &'static str },
    #[error("failed to understand the seccomp profile")]
    Seccomp(#[source] crate::seccomp::ProfileError),
    #[error("variable `{text}` is not of the form `NAME=value`")]
    Variable { text: String },
    #[error("host name `{name}` is empty or longer than 64 bytes")]
    Hostname { name: String },
    #[error("{count} mounts and devices are more than the {limit} that a container can have")]
    TooManyMounts { count: usize, limit: usize },
    #[error("mount target `/` would hide the whole container")]
    MountOverRoot,
}

impl PlanError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoProgram => {
                Some("name a command after the image, or set `CMD` in it".to_owned())
            }
            Self::UnmappedId { .. } => Some(
                "give your user a range of ids: `usermod --add-subuids 100000-165535 \
                 --add-subgids 100000-165535 USER`"
                    .to_owned(),
            ),
            Self::LimitNotEnforceable { remedy, .. } => Some((*remedy).to_owned()),
            Self::PortsWithoutNetwork { .. } => Some("leave out `--network`".to_owned()),
            Self::Sysctl { reason, .. } => reason.hint(),
            Self::OwnersOfMaps => Some(
                "leave the maps out: root of the container is you, so that with `-u 0` files in \
                 `-v` directories are yours"
                    .to_owned(),
            ),
            Self::NotShareable { .. } => {
                Some("use `rslave`, with which mounts of the host reach the container".to_owned())
            }
            _ => None,
        }
    }
}

/// Why a planned container did not start, or what became of it is unknown.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The container's program could not be executed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A step before the program failed.
    #[error("failed to {step}{}", .path.as_ref().map(|path| format!(" `{path}`")).unwrap_or_default())]
    Step {
        /// The step as a verb phrase: "mount the overlay".
        step: String,
        path: Option<String>,
        #[source]
        source: io::Error,
    },
    #[error("failed to {attempt}")]
    Start {
        attempt: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("failed to limit the container's resources")]
    Cgroup(#[source] IoError),
    #[error("failed to show the files of `{path}` under the container's ids")]
    OwnersRefused { path: String },
    #[error("failed to find the container's network namespace")]
    Namespace(#[source] IoError),
    #[error("failed to connect the container to the network")]
    Network(#[source] NetworkError),
    #[error("the container's network has no way to the host that `host-gateway` could stand for")]
    NoHostGateway,
    #[error("failed to encode the plan")]
    Encode(#[source] serde_json::Error),
    #[error("the container's helper process ended without a word")]
    HelperLost,
    #[error("the helper process sent something that is no report")]
    Garbled,
}

impl RunError {
    /// Returns what `corten run` exits with: 127 no such command, 126 cannot be executed, else 125.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exec(error) => error.exit_code(),
            _ => 125,
        }
    }

    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exec(error) => error.hint(),
            Self::Network(error) => error.hint(),
            Self::Cgroup(error) if error.is_not_found() => {
                Some("this kernel's control groups cannot limit that: leave it out".to_owned())
            }
            Self::OwnersRefused { .. } => Some("run it with `--userns host`".to_owned()),
            Self::NoHostGateway => {
                Some("give the host's address instead: `--add-host NAME:ADDRESS`".to_owned())
            }
            Self::Step { step, source, .. } => crate::run::step_hint(step, source),
            _ => None,
        }
    }
}
