//! `RUN`: what a step is to the thing that carries it out.

mod conda_meta;
pub(crate) mod downloads;
mod executor;
mod links;
mod mounts;
pub(crate) mod normalise;
pub(crate) mod scratch;
pub(crate) mod step;
pub(crate) mod tidy;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use corten_record::StepRecorder;
use corten_runtime::cdi::Injection;
use corten_runtime::{Network, PlanError, Rlimit, RunError, SettleError};
use corten_sys::error::IoError;

pub use downloads::Downloads;
pub use executor::{RuntimeExecutor, Terminal};

/// Where a here-document that begins with `#!` is put for the time of its step.
pub(crate) const SCRIPT_DIRECTORY: &str = "/dev/pipes";

/// Everything that is needed to run one step; all decisions are made.
#[derive(Debug, Clone)]
pub struct RunStep {
    /// Letters, digits and `-`; unique among steps that run at the same time.
    pub id: String,
    /// Program and arguments.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Absolute; it exists.
    pub cwd: PathBuf,
    pub uid: u32,
    pub gid: u32,
    pub additional_gids: Vec<u32>,
    pub network: Network,
    /// Whether it has all rights that the caller can give: see `RuntimeExecutor`.
    pub insecure: bool,
    pub hostname: String,
    pub mounts: Vec<StepMount>,
    /// What it needs for the devices that it has.
    pub devices: Injection,
    /// Read-only layers, top first; may be empty for a stage from scratch.
    pub lowers: Vec<PathBuf>,
    /// Becomes the layer.
    pub upper: PathBuf,
    /// Overlayfs' work directory.
    pub work: PathBuf,
    pub limits: StepLimits,
    /// Further names in `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    pub tuning: StepTuning,
    /// Becomes true when the result is not wanted any more.
    pub cancelled: Arc<AtomicBool>,
    /// Answers everything that the step asks for; then it has a network with loopback alone, and
    /// [`corten_record::LISTEN_PORT`] of it is served by this.
    pub recorder: Option<StepRecorder>,
    /// Leads package managers to a cache of downloads, where the step has a network of its own.
    pub downloads: Option<Downloads>,
}

/// What a step may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StepLimits {
    pub memory_bytes: Option<u64>,
    pub cpu_millis: Option<u64>,
    pub pids: Option<u64>,
}

/// What a step may use that is seldom set; nothing of it is part of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepTuning {
    /// Memory and swap together.
    pub memory_swap_bytes: Option<u64>,
    /// Relative weight; 1024 is normal.
    pub cpu_shares: Option<u64>,
    /// Processors, such as `0-3`.
    pub cpuset: Option<String>,
    /// The size of `/dev/shm`.
    pub shm_size_bytes: Option<u64>,
    pub rlimits: Vec<Rlimit>,
}

/// Something mounted for the time of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepMount {
    /// Absolute.
    pub target: PathBuf,
    pub kind: StepMountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepMountKind {
    Bind { source: PathBuf, readonly: bool },
    Tmpfs { size_bytes: Option<u64>, mode: u32 },
}

/// How the program of a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunOutcome {
    /// As a shell tells it: 128 and the number for a signal.
    pub code: i32,
    pub signal: Option<i32>,
    /// Set when the kernel killed for want of memory.
    pub out_of_memory: Option<OutOfMemory>,
}

impl RunOutcome {
    /// The program ended with this code.
    pub fn exited(code: i32) -> Self {
        Self { code, signal: None, out_of_memory: None }
    }
}

/// What is known of a kill for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory {
    pub limit_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
}

/// What kept the program of a step from running.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("failed to plan the container of the step")]
    Plan(#[from] PlanError),
    #[error("failed to run the container of the step")]
    Run(#[from] RunError),
    #[error("failed to prepare the container of the step")]
    Prepare(#[from] IoError),
    #[error("failed to complete the container of the step")]
    Settle(#[from] SettleError),
    #[error("steps cannot be run here: {reason}")]
    Unavailable { reason: String },
}

impl ExecError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Plan(error) => error.hint(),
            Self::Run(error) => error.hint(),
            Self::Settle(error) => error.hint(),
            Self::Prepare(_) | Self::Unavailable { .. } => None,
        }
    }
}
