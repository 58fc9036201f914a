//! Keeping what a container writes.

use std::fs::File;
use std::path::{Path, PathBuf};

use corten_diag::Stream;
use corten_oci::time::rfc3339_nanos;
use corten_sys::clock::Timestamp;
use corten_sys::error::IoError;
use corten_sys::file;

use super::{ENTRY_BYTES_MAX, Entry};
use crate::definition::LogOptions;

/// Longer than any line of a log: every byte of a text can become six in JSON.
const LINE_BYTES_MAX: u64 = 8 * ENTRY_BYTES_MAX as u64;

/// Writes entries, and puts full files aside.
///
/// What is complete of what was written goes to the kernel at once, so that a killed monitor loses
/// none of it.
#[derive(Debug)]
pub struct Writer {
    folder: PathBuf,
    options: LogOptions,
    file: File,
    /// Of the file, with what is waiting.
    size_bytes: u64,
    /// When the first entry of the file was written, in seconds since 1970, if it is looked at.
    born: Option<i64>,
    /// Entries that go to the file together.
    waiting: Vec<u8>,
    /// The beginning of a line of standard output and of standard error.
    begun: [Vec<u8>; 2],
}

impl Writer {
    /// Continues the log in a directory, which is made when it is missing.
    pub fn open(folder: &Path, options: LogOptions) -> Result<Self, IoError> {
        file::create_dirs(folder, 0o700)?;
        let (file, size_bytes) = open(folder)?;
        let born = match options.retention_seconds {
            Some(_) => edge(&super::file(folder, 0), Edge::First)?,
            None => None,
        };
        let folder = folder.to_owned();
        let (waiting, begun) = (Vec::new(), [Vec::new(), Vec::new()]);
        Ok(Self { folder, options, file, size_bytes, born, waiting, begun })
    }

    /// Takes what the container has written just now.
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> Result<(), IoError> {
        let mut begun = std::mem::take(&mut self.begun[index(stream)]);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = ENTRY_BYTES_MAX.saturating_sub(begun.len()).max(1);
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            let (part, more) = rest.split_at(end.min(room));
            begun.extend_from_slice(part);
            rest = more;
            if begun.ends_with(b"\n") || begun.len() >= ENTRY_BYTES_MAX {
                self.put(stream, &begun, now)?;
                begun.clear();
            }
        }
        self.begun[index(stream)] = begun;
        self.flush()
    }

    /// Takes the ends of lines that will not be completed.
    pub fn finish(&mut self, now: Timestamp) -> Result<(), IoError> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = std::mem::take(&mut self.begun[index(stream)]);
            if !begun.is_empty() {
                self.put(stream, &begun, now)?;
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), IoError> {
        let waiting = std::mem::take(&mut self.waiting);
        file::write_all(&self.file, &super::file(&self.folder, 0), &waiting)
    }

    fn put(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) -> Result<(), IoError> {
        let entry = Entry {
            log: String::from_utf8_lossy(bytes).into_owned(),
            stream: name(stream).to_owned(),
            time: rfc3339_nanos(now.seconds, now.nanoseconds),
        };
        // Texts are always JSON.
        let mut line = serde_json::to_vec(&entry).unwrap_or_default();
        line.push(b'\n');
        let is_full = self.size_bytes + line.len() as u64 > self.options.max_size_bytes;
        if self.size_bytes > 0 && (is_full || self.is_old(now.seconds)) {
            self.rotate()?;
            self.expire(now.seconds)?;
        }
        if self.size_bytes == 0 && self.options.retention_seconds.is_some() {
            self.born = Some(now.seconds);
        }
        self.size_bytes += line.len() as u64;
        self.waiting.append(&mut line);
        Ok(())
    }

    /// Whether the file has had its share of the time for which lines are kept.
    fn is_old(&self, now_seconds: i64) -> bool {
        let (Some(born), Some(oldest)) = (self.born, self.options.oldest(now_seconds)) else {
            return false;
        };
        let aside = i64::from(self.options.max_files.max(2) - 1);
        now_seconds.saturating_sub(born) >= (now_seconds.saturating_sub(oldest) / aside).max(1)
    }

    /// Removes files all of whose entries are too old.
    fn expire(&self, now_seconds: i64) -> Result<(), IoError> {
        let Some(oldest) = self.options.oldest(now_seconds) else { return Ok(()) };
        for age in 1..self.options.max_files {
            let path = super::file(&self.folder, age);
            if edge(&path, Edge::Last)?.is_some_and(|last| last < oldest) {
                file::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Makes every file one older, the oldest goes.
    fn rotate(&mut self) -> Result<(), IoError> {
        self.flush()?;
        let oldest = self.options.max_files.max(1) - 1;
        if oldest == 0 {
            file::remove_file(&super::file(&self.folder, 0))?;
        }
        for age in (0..oldest).rev() {
            let (from, to) = (super::file(&self.folder, age), super::file(&self.folder, age + 1));
            file::absent_is_none(file::rename(&from, &to))?;
        }
        (self.file, self.size_bytes) = open(&self.folder)?;
        Ok(())
    }
}

/// Opens the newest file to append to it. One that ends within an entry, after a loss of power, gets a
/// line feed first.
fn open(folder: &Path) -> Result<(File, u64), IoError> {
    let path = super::file(folder, 0);
    let file = file::open_to_append(&path, 0o600)?;
    let mut size_bytes = file::metadata(&path)?.len();
    if size_bytes > 0 && file::read_at(&file, &path, size_bytes - 1, 1)? != b"\n" {
        file::write_all(&file, &path, b"\n")?;
        size_bytes += 1;
    }
    Ok((file, size_bytes))
}

/// Which entry of a file is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    First,
    Last,
}

/// Returns when the first or the last entry of a file was written, in seconds since 1970; `None` if it has
/// none.
fn edge(path: &Path, edge: Edge) -> Result<Option<i64>, IoError> {
    let Some(file) = file::absent_is_none(file::open(path))? else { return Ok(None) };
    let size_bytes = file::metadata(path)?.len();
    let start = match edge {
        Edge::First => 0,
        Edge::Last => size_bytes.saturating_sub(LINE_BYTES_MAX),
    };
    let length = usize::try_from(LINE_BYTES_MAX).expect("it is small");
    let bytes = file::read_at(&file, path, start, length)?;
    let time = |line: &[u8]| {
        let entry: Entry = serde_json::from_slice(line).ok()?;
        corten_oci::time::parse_rfc3339(&entry.time)
    };
    let mut lines = bytes.split(|byte| *byte == b'\n');
    Ok(match edge {
        Edge::First => lines.find_map(time),
        Edge::Last => lines.rev().find_map(time),
    })
}

fn index(stream: Stream) -> usize {
    usize::from(stream == Stream::Stderr)
}

fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}
