//! A stream becomes a directory: a tar is unpacked, anything else is told apart.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;

use corten_store::Staging;
use corten_sys::error::{IoError, at};
use corten_sys::file;

use super::RemoteError;
use crate::copy::{self, CopyError};

/// The largest context or file that is taken: a whole model, and far less than a disk.
pub(crate) const REMOTE_BYTES_MAX: u64 = 256 << 30;

const BUFFER_BYTES: usize = 256 * 1024;

/// The name under which the stream waits.
const SPOOLED: &str = "stream";

/// What a stream turned out to be.
#[derive(Debug)]
pub(crate) enum Content {
    Nothing,
    /// It is unpacked.
    Archive,
    /// Something else, in this file.
    Other(File),
}

/// Takes a stream into the staging directory; a tar is unpacked to its tree.
pub(crate) fn take(
    stream: &mut dyn Read,
    name: &str,
    staging: &Staging,
    limit_bytes: u64,
) -> Result<Content, RemoteError> {
    let path = staging.work().join(SPOOLED);
    let size = spool(stream, name, &path, limit_bytes)?;
    if size == 0 {
        file::remove_file(&path)?;
        return Ok(Content::Nothing);
    }
    let told = archive(&path, name, staging)?;
    let file = file::open(&path)?;
    // The open file stays; the name would be in the way of the next use of the directory.
    file::remove_file(&path)?;
    Ok(if told { Content::Archive } else { Content::Other(file) })
}

/// Unpacks a file that is an archive; returns false for any other.
pub(crate) fn archive(path: &Path, name: &str, staging: &Staging) -> Result<bool, RemoteError> {
    let failed =
        |source: CopyError| RemoteError::Unpack { name: name.to_owned(), source: Box::new(source) };
    let opened = file::open(path)?;
    if !copy::is_context_archive(&opened).map_err(failed)? {
        return Ok(false);
    }
    let spool = staging.work().join("spool");
    file::create_dir(&spool, 0o700)?;
    copy::unpack_context(opened, staging.tree(), &spool).map_err(failed)?;
    file::remove_dir(&spool)?;
    Ok(true)
}

fn spool(
    stream: &mut dyn Read,
    name: &str,
    path: &Path,
    limit_bytes: u64,
) -> Result<u64, RemoteError> {
    let mut to = file::create_new(path, 0o600)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut size: u64 = 0;
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(0) => return Ok(size),
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => {
                return Err(RemoteError::Read { name: name.to_owned(), source });
            }
        };
        size += length as u64;
        if size > limit_bytes {
            return Err(RemoteError::TooLarge { name: name.to_owned(), limit_bytes });
        }
        let bytes = buffer.get(..length).unwrap_or_default();
        to.write_all(bytes).map_err(at("write", path))?;
    }
}

impl From<IoError> for RemoteError {
    fn from(error: IoError) -> Self {
        Self::Io(error)
    }
}
