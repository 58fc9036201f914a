//! What the first process and whoever makes it tell each other, over a socket that keeps messages apart.

use std::io;
use std::os::fd::BorrowedFd;

use corten_sys::socket;
use serde::{Deserialize, Serialize};

use crate::error::{BundleError, Failed, failed};

/// From the first process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "told")]
pub(crate) enum Told {
    /// From the one that joins namespaces before it makes the first process.
    Pid {
        pid: u32,
    },
    /// The hooks of the caller's namespaces are due.
    Hooks,
    /// Everything is there but the program.
    Ready,
    Failed {
        failure: Failed,
    },
}

/// To the first process.
pub(crate) const MAPPED: &[u8] = b"mapped";
/// Followed by its number out here.
pub(crate) const GO: &str = "go";
pub(crate) const HOOKED: &[u8] = b"hooked";
/// The record is written: from now on it waits for `start`, whatever becomes of its maker.
pub(crate) const SEALED: &[u8] = b"sealed";
pub(crate) const START: &[u8] = b"start";

const MESSAGE_BYTES_MAX: usize = 64 * 1024;

impl Told {
    pub(crate) fn send(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        bytes.truncate(MESSAGE_BYTES_MAX);
        corten_sys::socket::send(socket, &bytes, &[])
    }

    /// Waits for the next message; `None` is the end.
    pub(crate) fn receive(socket: BorrowedFd<'_>) -> Result<Option<Self>, BundleError> {
        let attempt = "hear from the container's first process";
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        let received = socket::receive(socket, &mut buffer).map_err(failed(attempt))?;
        let bytes = buffer.get(..received.length).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(None);
        }
        let told = serde_json::from_slice(bytes).map_err(io::Error::other);
        told.map(Some).map_err(failed(attempt))
    }
}

/// Waits for a word; its end means that nobody is there who could say it.
pub(crate) fn await_word(socket: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut buffer = [0; 32];
    let received = socket::receive(socket, &mut buffer)?;
    if received.length == 0 {
        return Err(io::Error::from_raw_os_error(libc::ECANCELED));
    }
    Ok(buffer.get(..received.length).unwrap_or_default().to_vec())
}
