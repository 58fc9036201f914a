//! What can go wrong around a container in the background.

use std::io;

use corten_store::StoreError;
use corten_sys::error::IoError;

/// An operation on a container in the background that failed.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A path in the description is not UTF-8.
    #[error("failed to write down how the container is run")]
    Encode(#[source] serde_json::Error),
    #[error("failed to read how the container is run")]
    Definition(#[source] serde_json::Error),
    #[error("the container was made by a newer version of corten (format {found})")]
    Version { found: u32 },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(#[from] IoError),
    /// The process that watches over the container could not be started, or went away at once.
    #[error("failed to start the container's monitor")]
    Start(#[source] io::Error),
    /// The container itself could not be started; its monitor says why.
    #[error("{message}")]
    NotStarted { message: String, hint: Option<String>, code: u8 },
    /// Nobody answers, or not as was agreed.
    #[error("failed to ask the container's monitor")]
    Control(#[source] io::Error),
    /// The monitor could not do what it was asked for.
    #[error("{0}")]
    Refused(String),
}

impl MonitorError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Version { .. } => Some("use that version for it, or remove it".to_owned()),
            Self::Store(error) => error.hint(),
            Self::NotStarted { hint, .. } => hint.clone(),
            Self::Control(_) => Some("`corten ps --all` says whether it still runs".to_owned()),
            _ => None,
        }
    }

    /// The exit code of a command that fails by this, where it is a certain one.
    pub fn exit_code(&self) -> Option<u8> {
        if let Self::NotStarted { code, .. } = self { Some(*code) } else { None }
    }
}
