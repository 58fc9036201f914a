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
        let folder = folder.to_owned();
        let (waiting, begun) = (Vec::new(), [Vec::new(), Vec::new()]);
        Ok(Self { folder, options, file, size_bytes, waiting, begun })
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
        if self.size_bytes > 0 && self.size_bytes + line.len() as u64 > self.options.max_size_bytes
        {
            self.rotate()?;
        }
        self.size_bytes += line.len() as u64;
        self.waiting.append(&mut line);
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

fn index(stream: Stream) -> usize {
    usize::from(stream == Stream::Stderr)
}

fn name(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    }
}
