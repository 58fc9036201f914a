//! What goes wrong with descriptions of devices.

use std::fmt;
use std::path::PathBuf;

/// Names that are shown of many.
const SHOWN_MAX: usize = 20;

/// Why a text is no description of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// From 1, where it is known.
    pub line: Option<usize>,
    /// Such as `devices[0].name`; empty for the whole text.
    pub place: String,
    pub reason: String,
}

impl Fault {
    pub(super) fn new(line: Option<usize>, place: &str, reason: impl Into<String>) -> Self {
        Self { line, place: place.to_owned(), reason: reason.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "`{}`: ", self.place)?;
        }
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Fault {}

/// Why a container cannot have a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CdiError {
    #[error("no CDI device `{name}` is described on this machine")]
    NotFound { name: String, known: Vec<String>, directories: Vec<PathBuf>, problems: Vec<String> },
    #[error("the CDI device `{name}` is described by {}", paths(files))]
    Conflict { name: String, files: Vec<PathBuf> },
    #[error("the CDI device `{name}` needs a mount of type `{kind}` on `{}`", path.display())]
    MountType { name: String, kind: String, path: PathBuf },
    #[error("the CDI device `{name}` has the mount option `{option}`, which is not understood")]
    MountOption { name: String, option: String },
    #[error("the CDI device `{name}` needs `{}`: {reason}", path.display())]
    Node { name: String, path: PathBuf, reason: String },
    #[error("failed to find the device `{}`: {reason}", path.display())]
    Plain { path: PathBuf, reason: String },
}

impl CdiError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { known, directories, .. } if known.is_empty() => Some(format!(
                "there are no CDI descriptions in {}; for NVIDIA devices, \
                 `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` writes them",
                paths(directories)
            )),
            Self::NotFound { name, known, .. } => {
                let names: Vec<&str> = known.iter().map(String::as_str).collect();
                if let Some(near) = corten_diag::suggest::nearest(name, &names) {
                    return Some(format!("did you mean `{near}`?"));
                }
                let shown: Vec<String> =
                    known.iter().take(SHOWN_MAX).map(|name| format!("`{name}`")).collect();
                let more = known.len().saturating_sub(SHOWN_MAX);
                let more = if more == 0 { String::new() } else { format!(" and {more} more") };
                Some(format!("there are {}{more}", shown.join(", ")))
            }
            Self::Conflict { .. } => Some("remove one of the files".to_owned()),
            Self::MountType { .. } | Self::MountOption { .. } => {
                Some("Corten mounts `bind` and `tmpfs`, with their usual options".to_owned())
            }
            Self::Plain { .. } => Some("look for it with `ls -l /dev`".to_owned()),
            Self::Node { .. } => Some(
                "is its driver loaded? Descriptions may be out of date: for NVIDIA devices, \
                 `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` writes them anew"
                    .to_owned(),
            ),
        }
    }

    /// What else may be the reason: files that could not be read.
    pub fn notes(&self) -> &[String] {
        match self {
            Self::NotFound { problems, .. } => problems,
            _ => &[],
        }
    }
}

fn paths(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
    shown.join(" and ")
}
