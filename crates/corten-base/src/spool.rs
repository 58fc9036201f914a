//! Where the content of files waits between unpacking and the layer: a few long files, so that a
//! package of a thousand files costs one open and not a thousand.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use corten_oci::tree::Content;
use corten_sys::error::IoError;
use corten_sys::file;

/// The number of the file is above these bits of a handle, the offset in it below.
const OFFSET_BITS: u32 = 48;

/// Content is written in pieces of this size.
const BUFFER_BYTES: usize = 1 << 20;

/// A set of spool files in a directory of ours.
#[derive(Debug)]
pub(crate) struct Spool {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Arc<File>>,
    idle: Vec<Pen>,
}

/// The end of one spool file; one thread has it at a time.
#[derive(Debug)]
pub(crate) struct Pen {
    number: u64,
    offset: u64,
    file: Arc<File>,
    path: PathBuf,
    buffer: Vec<u8>,
}

impl Spool {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), state: Mutex::default() }
    }

    /// Gives out a pen: one that is idle, or that of a new file.
    pub(crate) fn take_pen(&self) -> Result<Pen, IoError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pen) = state.idle.pop() {
            return Ok(pen);
        }
        let number = state.files.len() as u64;
        let path = self.folder.join(format!("spool-{number}"));
        let file = Arc::new(file::create_new(&path, 0o600)?);
        state.files.push(file.clone());
        Ok(Pen { number, offset: 0, file, path, buffer: Vec::with_capacity(BUFFER_BYTES) })
    }

    /// Takes a pen back; what it holds is written.
    pub(crate) fn put_pen(&self, mut pen: Pen) -> Result<(), IoError> {
        pen.flush()?;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).idle.push(pen);
        Ok(())
    }

    /// Opens content that one of our pens wrote.
    pub(crate) fn open(&self, handle: u64, size: u64) -> io::Result<SpoolReader> {
        let number = usize::try_from(handle >> OFFSET_BITS).unwrap_or(usize::MAX);
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let file = state.files.get(number).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(SpoolReader { file, offset: handle & ((1 << OFFSET_BITS) - 1), left: size })
    }
}

impl Pen {
    /// Writes the content of one file and returns where it is.
    pub(crate) fn keep(&mut self, content: &mut dyn Read, size: u64) -> io::Result<Content> {
        let handle = self.number << OFFSET_BITS | self.offset;
        let mut left = size;
        while left > 0 {
            let room = BUFFER_BYTES - self.buffer.len();
            let piece = left.min(room as u64);
            let count = content.take(piece).read_to_end(&mut self.buffer)? as u64;
            if count < piece {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= count;
            self.offset += count;
            if self.buffer.len() == BUFFER_BYTES {
                self.flush().map_err(|error| error.source)?;
            }
        }
        if self.offset >> OFFSET_BITS > 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(Content::External { handle, size })
    }

    fn flush(&mut self) -> Result<(), IoError> {
        let written = (&*self.file).write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(corten_sys::error::at("write", &self.path))
    }
}

/// Reads one content.
#[derive(Debug)]
pub(crate) struct SpoolReader {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for SpoolReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..wanted) else { return Ok(0) };
        let count = self.file.read_at(buffer, self.offset)?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pen_keeps_is_read_back() {
        let folder =
            std::env::temp_dir().join(format!("corten-spool-{}", corten_sys::random::name()));
        file::create_dirs(&folder, 0o700).unwrap();
        let spool = Spool::new(&folder);
        let (mut one, mut two) = (spool.take_pen().unwrap(), spool.take_pen().unwrap());
        let large = vec![7_u8; BUFFER_BYTES + 5];
        let contents = [
            (one.keep(&mut &b"abc"[..], 3).unwrap(), b"abc".to_vec()),
            (two.keep(&mut &large[..], large.len() as u64).unwrap(), large.clone()),
            (one.keep(&mut &b""[..], 0).unwrap(), Vec::new()),
            (one.keep(&mut &large[..], large.len() as u64).unwrap(), large),
        ];
        assert!(two.keep(&mut &b"a"[..], 2).is_err());
        spool.put_pen(one).unwrap();
        spool.put_pen(two).unwrap();
        for (content, expected) in contents {
            let Content::External { handle, size } = content else { panic!("content is external") };
            let mut bytes = Vec::new();
            spool.open(handle, size).unwrap().read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes, expected);
        }
        assert!(spool.open(9 << OFFSET_BITS, 1).is_err());
        file::remove_tree(&folder).unwrap();
    }
}
