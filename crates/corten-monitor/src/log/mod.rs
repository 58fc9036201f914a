//! What containers write, in files of Docker's format `json-file`: one JSON object a line,
//! `{"log":"text\n","stream":"stdout","time":"2026-11-21T16:30:29.123456789Z"}`.

mod reader;
mod writer;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use reader::{Follow, Query, read};
pub use writer::Writer;

/// A line of a program that is longer comes in several entries, of which only the last one ends with
/// a line feed; Docker's limit.
const ENTRY_BYTES_MAX: usize = 16 * 1024;

/// One line, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The text, with its line feed. Bytes that are no UTF-8 were replaced.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// RFC 3339 in UTC, with nanoseconds.
    pub time: String,
}

/// The directory of the logs in that of a container.
pub fn folder(container: &Path) -> PathBuf {
    container.join("log")
}

/// The file with this age: 0 is written to, 1 was before.
fn file(folder: &Path, age: u32) -> PathBuf {
    match age {
        0 => folder.join("log.json"),
        age => folder.join(format!("log.json.{age}")),
    }
}
