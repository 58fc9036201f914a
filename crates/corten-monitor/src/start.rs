//! Starting a container in the background.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use corten_runtime::Notice;
use corten_store::RunningContainer;
use corten_sys::command::{Command, pipe};
use serde::{Deserialize, Serialize};

use crate::error::{Failed, MonitorError};

/// The first argument that makes the program call [`crate::main`]: `corten __monitor STORE ID [WORD]`,
/// with a pipe for its report as descriptor 3 and the container's lock as 4. With a word, descriptor 5 is
/// the socket of somebody who is attached from the beginning.
pub const MONITOR_ARGUMENT: &str = "__monitor";

/// Somebody who is attached from the beginning sees what the container writes.
pub(crate) const LOOKS_ON: &str = "looks-on";

/// The same, and the container reads what they write.
pub(crate) const TYPES: &str = "types";

/// Who is attached to a container from its start.
#[derive(Debug)]
pub struct Attach {
    /// The monitor's end of an [`crate::attach::Attachment`].
    pub socket: OwnedFd,
    /// Whether the container reads what they write.
    pub input: bool,
}

/// A report has a few sentences.
const REPORT_BYTES_MAX: u64 = 1 << 20;

/// A container that runs in the background.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// What is weaker than was asked for.
    pub warnings: Vec<String>,
}

/// What the monitor tells whoever started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "report")]
pub(crate) enum Report {
    Started { warnings: Vec<String> },
    Failed(Failed),
}

impl Report {
    pub(crate) fn started(notices: &[Notice]) -> Self {
        let warnings = notices.iter().filter(|notice| notice.is_warning());
        Self::Started { warnings: warnings.map(Notice::to_string).collect() }
    }

    pub(crate) fn failed(error: &MonitorError) -> Self {
        Self::Failed(Failed { hint: error.hint(), ..Failed::of(error) })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        // Texts and numbers are always JSON.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Starts the monitor of a container and returns when its program runs.
///
/// The container's lock goes over to the monitor, so that nobody can come between.
pub fn start(
    root: &Path,
    container: RunningContainer,
    attach: Option<Attach>,
) -> Result<Begun, MonitorError> {
    let (reader, writer) = pipe().map_err(MonitorError::Start)?;
    let id = container.record().id.clone();
    let mut command = Command::new("/proc/self/exe")
        .name("corten")
        .arg(MONITOR_ARGUMENT)
        .arg(root)
        .arg(&id)
        .descriptor(3, writer.as_fd())
        .descriptor(4, container.lock());
    if let Some(attach) = &attach {
        let word = if attach.input { TYPES } else { LOOKS_ON };
        command = command.arg(word).descriptor(5, attach.socket.as_fd());
    }
    command.spawn().map_err(MonitorError::Start)?;
    drop(command);
    drop(writer);
    // Our copy would keep the messages from ending.
    drop(attach);
    let mut bytes = Vec::new();
    let read = File::from(reader).take(REPORT_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(MonitorError::Start)?;
    // Only now: while the monitor has not taken it, the lock is ours alone.
    drop(container);
    match serde_json::from_slice(&bytes) {
        Ok(Report::Started { warnings }) => Ok(Begun { warnings }),
        Ok(Report::Failed(Failed { message, hint, code })) => {
            Err(MonitorError::NotStarted { message, hint, code })
        }
        Err(error) => Err(MonitorError::Start(std::io::Error::other(error))),
    }
}
