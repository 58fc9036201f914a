//! What the helper and the container's first process tell the caller.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use corten_sys::socket;
use serde::{Deserialize, Serialize};

use crate::exec_error::ExecFailure;

/// The longest report holds the beginning of a program file as numbers in JSON.
pub(crate) const REPORT_BYTES_MAX: usize = 64 * 1024;

/// The caller's word that control groups and network are attached.
pub(crate) const GO: &[u8] = b"go";

/// The word with a file of hosts behind it: some thousand lines.
pub(crate) const GO_BYTES_MAX: usize = 128 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Report {
    /// The container's first process exists; a handle of it comes along.
    Started { pid: u32 },
    /// The root file system and all sources are made.
    Prepared,
    /// A mount point was missing and was made.
    Created { path: String },
    /// The container's terminal comes along.
    Terminal,
    /// The owners of files cannot be mapped on this file system.
    OwnersRefused { path: String },
    /// A step failed.
    Failed { attempt: String, subject: Option<String>, errno: i32 },
    /// Every step succeeded but the program could not be executed.
    NotExecuted(ExecFailure),
}

impl Report {
    pub(crate) fn failed(attempt: &str, subject: Option<String>, error: &io::Error) -> Self {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        Self::Failed { attempt: attempt.to_owned(), subject, errno }
    }

    pub(crate) fn send(&self, socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        socket::send(socket, &bytes, fds)
    }

    /// Reads a report from what was received; the end of all reports is `None`.
    pub(crate) fn parse(
        bytes: &[u8],
        fds: Vec<OwnedFd>,
    ) -> io::Result<Option<(Self, Vec<OwnedFd>)>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let report = serde_json::from_slice(bytes).map_err(io::Error::other)?;
        Ok(Some((report, fds)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec_error::{FoundFile, HEAD_BYTES};

    #[test]
    fn the_longest_report_fits_into_a_message() {
        let found =
            FoundFile { path: "/".repeat(4096), directory: false, head: vec![255; HEAD_BYTES] };
        let program = "x".repeat(4096);
        let failure = ExecFailure { program, errno: 2, found: Some(found) };
        let bytes = serde_json::to_vec(&Report::NotExecuted(failure)).expect("JSON");
        assert!(bytes.len() < REPORT_BYTES_MAX, "{}", bytes.len());
    }
}
