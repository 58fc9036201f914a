//! What can go wrong around a container in the background.

use std::io;

use corten_runtime::network::{MacError, NetworkError};
use corten_runtime::{PlanError, RunError, SettleError};
use corten_store::StoreError;
use corten_sys::error::IoError;
use serde::{Deserialize, Serialize};

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
    /// One whose namespaces are to be shared.
    #[error("container `{}`, whose namespaces are to be shared, does not run", short(id))]
    PeerIsGone { id: String },
    #[error("container `{}` shares its memory with nobody", short(id))]
    PeerIsPrivate { id: String },
    #[error(
        "an ordinary user's containers are each in a user namespace of their own, which those of others \
         cannot be joined from"
    )]
    PeerOfUser,
    #[error(transparent)]
    Settle(#[from] SettleError),
    /// A network that the container is made for is no more.
    #[error("the network `{name}`, which the container is made for, is no more")]
    NetworkGone { name: String },
    #[error("failed to read the container's hardware address")]
    Mac(#[source] MacError),
    #[error("failed to find the container's networks")]
    Network(#[source] NetworkError),
    /// The monitor could not do what it was asked for.
    #[error("{message}")]
    Refused { message: String, hint: Option<String> },
}

impl MonitorError {
    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Version { .. } => Some("use that version for it, or remove it".to_owned()),
            Self::Store(error) => error.hint(),
            Self::Network(error) => error.hint(),
            Self::NetworkGone { name } => {
                Some(format!("make it anew: `corten network create {name}`"))
            }
            Self::NotStarted { hint, .. } | Self::Refused { hint, .. } => hint.clone(),
            Self::PeerIsGone { id } => {
                let id = short(id);
                Some(format!("start it in the background first: `corten start {id}`"))
            }
            Self::PeerOfUser => Some("share them as root".to_owned()),
            Self::PeerIsPrivate { .. } => {
                Some("it was made with `--ipc private`; make it with `--ipc shareable`".to_owned())
            }
            Self::Settle(error) => error.hint(),
            Self::Control(_) => Some("`corten ps --all` says whether it still runs".to_owned()),
            _ => None,
        }
    }

    /// The exit code of a command that fails by this, where it is a certain one.
    pub fn exit_code(&self) -> Option<u8> {
        if let Self::NotStarted { code, .. } = self { Some(*code) } else { None }
    }
}

/// The first twelve digits of an ID, as everywhere.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Why a container could not be started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub message: String,
    pub hint: Option<String>,
    pub code: u8,
}

/// Docker's code for "the container was not even started".
const NOT_STARTED: u8 = 125;

impl Failed {
    pub(crate) fn of_plan(error: &PlanError) -> Self {
        Self { hint: error.hint(), ..Self::of(error) }
    }

    pub(crate) fn of_own(error: &MonitorError) -> Self {
        Self { hint: error.hint(), ..Self::of(error) }
    }

    pub(crate) fn of(error: impl std::error::Error) -> Self {
        Self { message: chain(&error), hint: None, code: NOT_STARTED }
    }

    /// Something that cannot be done just now.
    pub(crate) fn refused(message: &str) -> Self {
        Self { message: message.to_owned(), hint: None, code: NOT_STARTED }
    }

    pub(crate) fn of_run(error: &RunError) -> Self {
        Self { message: chain(error), hint: error.hint(), code: error.exit_code() }
    }
}

/// An error with its reasons, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
