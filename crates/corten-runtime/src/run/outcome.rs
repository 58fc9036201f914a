//! What became of a container.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use corten_sys::process::{Ended, Report};

use crate::cgroup::MemoryReport;
use crate::notice::Notice;

/// How the container's program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

/// The kernel killed for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oom {
    pub limit_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
    /// How many processes were killed.
    pub kills: u64,
}

/// What became of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub exit: Exit,
    /// Set if the kernel killed a process of the container for want of memory, the program or
    /// another.
    pub oom: Option<Oom>,
    /// The processor time that the program and its ended children took.
    pub cpu: Duration,
    /// The most memory at one time: of the whole container under a memory limit, else of its
    /// largest process.
    pub peak_memory_bytes: u64,
    /// What was otherwise than one might expect, beyond the notices of the plan.
    pub notices: Vec<Notice>,
    /// Mount points that were missing and were made in the upper directory, in order.
    pub created_mount_points: Vec<PathBuf>,
}

/// What a session leaves behind.
#[derive(Debug)]
pub(super) struct EndedContainer {
    pub report: Report,
    /// Set if the caller's signal ended the container before the program began.
    pub interrupted: Option<i32>,
    pub created: Vec<PathBuf>,
}

impl EndedContainer {
    /// A signal came before there was a process.
    pub(super) fn never_started(signal: i32) -> Self {
        let ended = Ended::Signal(signal);
        let report = Report { ended, cpu: Duration::ZERO, peak_resident_bytes: 0 };
        Self { report, interrupted: Some(signal), created: Vec::new() }
    }
}

impl Outcome {
    pub(super) fn new(
        ended: &EndedContainer,
        memory: Option<MemoryReport>,
        notices: Vec<Notice>,
    ) -> Self {
        let exit = match (ended.interrupted, ended.report.ended) {
            (Some(signal), _) | (None, Ended::Signal(signal)) => Exit::Signal(signal),
            (None, Ended::Code(code)) => Exit::Code(code),
        };
        let oom = memory.filter(|memory| memory.kills > 0).map(|memory| Oom {
            limit_bytes: memory.limit_bytes,
            peak_bytes: memory.peak_bytes,
            kills: memory.kills,
        });
        let peak = memory.and_then(|memory| memory.peak_bytes);
        Self {
            exit,
            oom,
            cpu: ended.report.cpu,
            peak_memory_bytes: peak.unwrap_or(ended.report.peak_resident_bytes),
            notices,
            created_mount_points: ended.created.clone(),
        }
    }

    /// Returns the exit code as a shell tells it: 128 and the number for a signal.
    pub fn code(&self) -> i32 {
        match self.exit {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Says what to do about a failed step, where we know.
pub(crate) fn step_hint(step: &str, source: &io::Error) -> Option<String> {
    let errno = source.raw_os_error()?;
    let hint = match (step, errno) {
        (_, libc::ENOSPC) if step.contains("namespace") => {
            "the host's limit of namespaces is reached: `sysctl user.max_user_namespaces`, \
             `user.max_net_namespaces` and the like"
        }
        ("change to the working directory", libc::ENOENT) => {
            "create the directory in the image, or choose another with `--workdir`"
        }
        ("change to the working directory", libc::ELOOP) => {
            "it is a link to what another process has open: name the directory itself"
        }
        ("change to the working directory", libc::EACCES) => {
            "the container's user may not enter it: choose another with `--workdir`"
        }
        (_, libc::EROFS) if step.starts_with("mount") => {
            "the mount point is missing and the place is read-only: create it in the image"
        }
        ("make a keyring", libc::EDQUOT) => {
            "the user's quota of kernel keys is reached: `sysctl kernel.keys.maxkeys`"
        }
        ("mount", libc::ENOENT) => "the path does not exist on the host",
        ("mount the overlay of", libc::EINVAL) => {
            "the kernel's log says why: `dmesg | grep overlayfs | tail`"
        }
        _ => return None,
    };
    Some(hint.to_owned())
}
