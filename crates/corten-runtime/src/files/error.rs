//! What copying files in and out of a container can fail with.

use std::io;

use corten_oci::tar::TarError;
use corten_oci::tree::PathError;
use corten_sys::beneath;
use corten_sys::error::IoError;
use serde::{Deserialize, Serialize};

use super::place::PlaceError;

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The destination does not take what is copied.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// There is nothing of this name.
    #[error("there is no file `{path}` {whose}")]
    Missing { path: String, whose: &'static str },
    /// A file of another kind is in the way.
    #[error("`{path}` is a directory, and would become none")]
    OverDirectory { path: String },
    #[error("`{path}` is no directory, and would become one")]
    OverFile { path: String },
    /// A device or the like as a destination.
    #[error("`{path}` is neither a directory nor a regular file")]
    Irregular { path: String },
    /// More links than Linux follows.
    #[error("`{path}` leads through too many links")]
    Links { path: String },
    /// More directories in each other than are walked.
    #[error("`{path}` has too many directories in each other")]
    Depth { path: String },
    #[error(transparent)]
    Tar(#[from] TarError),
    #[error("the tar has an invalid path")]
    Path(#[from] PathError),
    #[error(transparent)]
    Io(#[from] IoError),
    /// A part of the machinery failed.
    #[error("failed to {attempt}")]
    Step {
        attempt: &'static str,
        #[source]
        source: io::Error,
    },
    /// The process that works in the container said so.
    #[error("{message}")]
    Told { message: String, hint: Option<String> },
    /// It ended without a word.
    #[error("the process that reads and writes the container's files ended too early")]
    Lost,
}

impl FilesError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Place(error) => Some(error.hint().to_owned()),
            Self::Told { hint, .. } => hint.clone(),
            Self::Io(error) if error.errno() == Some(libc::EROFS) => Some(
                "it is read-only for the container: write to a volume or a tmpfs of it".to_owned(),
            ),
            Self::Io(error) if beneath::is_escape(error) => {
                Some("a link or a `..` in the path leads out of the directory".to_owned())
            }
            Self::OverDirectory { .. } | Self::OverFile { .. } => {
                Some("remove it first, or choose another destination".to_owned())
            }
            _ => None,
        }
    }

    /// Returns a function that makes an error of the system into this, for `map_err`.
    pub(super) fn step<E: Into<io::Error>>(attempt: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Step { attempt, source: error.into() }
    }
}

/// A failure on its way between processes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wire {
    message: String,
    hint: Option<String>,
}

impl From<&FilesError> for Wire {
    fn from(error: &FilesError) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self { message, hint: error.hint() }
    }
}

impl From<Wire> for FilesError {
    fn from(wire: Wire) -> Self {
        Self::Told { message: wire.message, hint: wire.hint }
    }
}
