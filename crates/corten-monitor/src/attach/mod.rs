//! Terminals and pipes of a container that others look at and type into.
//!
//! Whoever attaches hands over one end of a pair of sockets that keep messages apart. The monitor sends
//! what the container writes, a message for each read; the program's terminal, or the pipe that it reads,
//! goes to the other side as a descriptor, so that nothing of what is typed passes through the monitor,
//! and a terminal gets its size from whoever has one.
//!
//! ```text
//! o BYTES   standard output, or a terminal's     t + descriptor   the container's terminal
//! e BYTES   standard error                       i + descriptor   the pipe that the container reads
//! x JSON    an Ending: the program has ended
//! ```
//!
//! The end of the messages without an Ending means that the monitor has let go of a client that was too
//! slow, or that it is gone.

mod client;
mod clients;
mod keys;

use corten_runtime::{Exit, Outcome};
use serde::{Deserialize, Serialize};

use crate::control::Ended;

pub use client::{AttachEnd, AttachOptions, Attachment};
pub(crate) use clients::{Client, Clients};
pub use keys::{DetachKeys, ParseKeysError};

const OUTPUT: u8 = b'o';
const ERRORS: u8 = b'e';
const TERMINAL: u8 = b't';
const INPUT: u8 = b'i';
const ENDING: u8 = b'x';

/// The largest message: the letter, and what is read from a container at once.
const MESSAGE_BYTES_MAX: usize = 1 + 64 * 1024;

/// How a container's program ended, for those who are attached to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    pub ended: Ended,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The most memory that it had, where it ran out of it.
    pub peak_bytes: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// What was otherwise than one might expect.
    pub warnings: Vec<String>,
}

impl Ending {
    /// Says how a container ended.
    pub fn of(outcome: &Outcome) -> Self {
        let warnings = outcome.notices.iter().filter(|notice| notice.is_warning());
        Self {
            ended: Ended { code: outcome.code(), oom_killed: outcome.oom.is_some() },
            signal: if let Exit::Signal(signal) = outcome.exit { Some(signal) } else { None },
            peak_bytes: outcome.oom.and_then(|oom| oom.peak_bytes),
            limit_bytes: outcome.oom.and_then(|oom| oom.limit_bytes),
            warnings: warnings.map(ToString::to_string).collect(),
        }
    }

    /// Of a container that could not be started.
    pub fn failed(code: i32) -> Self {
        Self {
            ended: Ended { code, oom_killed: false },
            signal: None,
            peak_bytes: None,
            limit_bytes: None,
            warnings: Vec::new(),
        }
    }
}
