//! Why a build failed.

use std::path::PathBuf;
use std::sync::Arc;

use corten_diag::{Diagnostic, SourceFile};
use corten_record::RecordError;
use corten_store::StoreError;
use corten_sys::error::IoError;

use crate::remote::RemoteError;

/// A failed build.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile or one of its steps is at fault, at a place that is known.
    #[error("{0}")]
    Diagnosed(Box<Diagnosed>),
    #[error("there is no Dockerfile at `{}`", path.display())]
    NoDockerfile {
        path: PathBuf,
        /// A file beside it that may have been meant.
        near: Option<String>,
    },
    #[error("failed to read what the build needs")]
    Read(#[source] IoError),
    #[error("the build context `{}` is no directory", path.display())]
    NoContext {
        path: PathBuf,
        #[source]
        source: IoError,
    },
    /// What the build needs could not be fetched.
    #[error(transparent)]
    Remote(RemoteError),
    #[error("failed to record what the build fetches")]
    Record(#[from] RecordError),
    #[error("the store failed during the build")]
    Store(#[from] StoreError),
}

impl BuildError {
    /// The diagnostics with the text that their places belong to.
    pub fn diagnosed(&self) -> Option<&Diagnosed> {
        match self {
            Self::Diagnosed(diagnosed) => Some(diagnosed),
            _ => None,
        }
    }

    /// What to do; a diagnosed error has its hints in its diagnostics.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoDockerfile { near: Some(near), .. } => {
                Some(format!("there is a file `{near}`: name it with `--file`"))
            }
            Self::NoDockerfile { near: None, .. } => {
                Some("name the Dockerfile with `--file PATH`".to_owned())
            }
            Self::NoContext { path, source }
                if source.kind() == std::io::ErrorKind::NotADirectory =>
            {
                let path = path.display();
                Some(format!("a tar is read from standard input: `corten build - < {path}`"))
            }
            Self::NoContext { .. } => {
                Some("give the directory that holds the files to copy".to_owned())
            }
            Self::Store(error) | Self::Record(RecordError::Store(error)) => error.hint(),
            Self::Remote(error) => error.hint(),
            Self::Record(_) | Self::Diagnosed(_) | Self::Read(_) => None,
        }
    }
}

/// Diagnostics about one text; at least one is an error.
#[derive(Debug)]
pub struct Diagnosed {
    pub diagnostics: Vec<Diagnostic>,
    pub source: Arc<SourceFile>,
}

impl Diagnosed {
    /// Joins diagnostics with their text.
    pub fn new(diagnostics: Vec<Diagnostic>, source: Arc<SourceFile>) -> Self {
        Self { diagnostics, source }
    }
}

impl std::fmt::Display for Diagnosed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let first = self.diagnostics.iter().find(|diagnostic| diagnostic.is_error());
        f.write_str(first.map_or("the Dockerfile is at fault", |first| &first.message))
    }
}

impl From<Diagnosed> for BuildError {
    fn from(diagnosed: Diagnosed) -> Self {
        Self::Diagnosed(Box::new(diagnosed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_that_is_a_file_can_be_piped() {
        let hint = |path: &str, code: i32| {
            let source = IoError::new("open", path, std::io::Error::from_raw_os_error(code));
            BuildError::NoContext { path: path.into(), source }.hint().unwrap()
        };
        assert!(hint("app.tar", 20).contains("corten build - < app.tar"));
        assert!(!hint("app", 2).contains("standard input"));
    }
}
