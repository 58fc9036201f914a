//! The files of an archive, whether they lie in a directory or in a tar.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::limits;
use corten_oci::tar::{EntryKind, Reader};
use corten_oci::tree::TreePath;
use corten_sys::beneath::{Resolve, Root};
use corten_sys::error::IoError;
use corten_sys::file;

use crate::error::StoreError;

/// Reads go through memory in pieces of this size.
const BUFFER_BYTES: usize = 256 * 1024;

/// Files in an archive: each image has one per layer and a few more.
const FILES_MAX: usize = 100_000;

/// The first bytes of a gzip stream.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The first bytes of a zstd stream.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The first bytes of a zstd frame to be skipped, without the low half of the first byte.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// Decompresses gzip or zstd by what the stream begins with, or passes it on as it is.
///
/// The caller limits how much it reads: a few bytes can become gigabytes.
pub fn decompress<'a>(stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut stream = BufReader::with_capacity(BUFFER_BYTES, stream);
    let start = stream.fill_buf()?;
    let is_skippable = start.first().is_some_and(|byte| byte & 0xf0 == 0x50)
        && start.get(1..4) == Some(&ZSTD_SKIPPABLE);
    if start.starts_with(&GZIP_MAGIC) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(stream)))
    } else if start.starts_with(&ZSTD_MAGIC) || is_skippable {
        Ok(Box::new(zstd::Decoder::with_buffer(stream)?))
    } else {
        Ok(Box::new(stream))
    }
}

/// A reader that fails when more comes than is allowed, and remembers that.
pub(super) struct Limited<R> {
    inner: R,
    left: u64,
    pub(super) exceeded: bool,
}

impl<R: Read> Limited<R> {
    pub(super) fn new(inner: R, limit_bytes: u64) -> Self {
        Self { inner, left: limit_bytes, exceeded: false }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(left) = self.left.checked_sub(count as u64) else {
            self.exceeded = true;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        };
        self.left = left;
        Ok(count)
    }
}

/// A part of a file, read without moving the file's position.
pub(super) struct Section {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.file.read_at(buffer.get_mut(..want).unwrap_or_default(), self.offset)?;
        if count == 0 && want > 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// The files of an archive.
pub(super) enum Files {
    Directory(Root),
    Tar { file: Arc<File>, entries: BTreeMap<TreePath, Entry> },
}

/// A file of an archive, opened.
pub(super) struct Opened {
    pub(super) content: Box<dyn Read>,
    pub(super) size: u64,
}

/// A file in a tar.
pub(super) enum Entry {
    File {
        offset: u64,
        size: u64,
    },
    /// Old Docker archives have links from one layer to an equal one.
    Link(TreePath),
}

impl Files {
    pub(super) fn in_directory(path: &Path) -> Result<Self, StoreError> {
        Ok(Self::Directory(Root::open(path)?))
    }

    /// Lists the files of an uncompressed tar.
    pub(super) fn in_tar(file: File) -> Result<Self, StoreError> {
        let file = Arc::new(file);
        let size = file.metadata().map_err(StoreError::Source)?.len();
        let whole = Section { file: file.clone(), offset: 0, left: size };
        let mut reader = Reader::new(BufReader::with_capacity(BUFFER_BYTES, whole));
        let mut entries = BTreeMap::new();
        while let Some(header) = reader.next_entry().map_err(StoreError::ArchiveTar)? {
            let path = TreePath::clean(&header.path)?;
            let entry = match header.kind {
                EntryKind::File { size } if header.sparse.is_none() => {
                    Entry::File { offset: reader.offset(), size }
                }
                EntryKind::Symlink(target) => {
                    let Some(target) = relative(&path, &target) else { continue };
                    Entry::Link(target)
                }
                EntryKind::Hardlink(target) => Entry::Link(TreePath::clean(&target)?),
                _ => continue,
            };
            entries.insert(path, entry);
            if entries.len() > FILES_MAX {
                return Err(StoreError::Archive { reason: "it has too many files".to_owned() });
            }
        }
        Ok(Self::Tar { file, entries })
    }

    /// Opens a file and returns its size; `None` if it is not there.
    pub(super) fn open(&self, name: &str) -> Result<Option<Opened>, StoreError> {
        let mut path = TreePath::clean(name.as_bytes())?;
        match self {
            Self::Directory(root) => {
                let shown = PathBuf::from(path.to_string());
                let opened = root.open_file(&shown, Resolve::InRoot);
                let Some(opened) = file::absent_is_none(opened)? else { return Ok(None) };
                let inspect = |source| IoError::new("inspect", &shown, source);
                let metadata = opened.metadata().map_err(inspect)?;
                if !metadata.is_file() {
                    return Ok(None);
                }
                Ok(Some(Opened { size: metadata.len(), content: Box::new(opened) }))
            }
            Self::Tar { file, entries } => {
                for _ in 0..limits::SYMLINK_DEPTH_MAX {
                    match entries.get(&path) {
                        Some(Entry::File { offset, size }) => {
                            let (offset, left) = (*offset, *size);
                            let section = Section { file: file.clone(), offset, left };
                            return Ok(Some(Opened { content: Box::new(section), size: left }));
                        }
                        Some(Entry::Link(target)) => path = target.clone(),
                        None => return Ok(None),
                    }
                }
                Err(StoreError::Archive { reason: format!("`{name}` is a loop of links") })
            }
        }
    }

    /// Reads a small file; `None` if it is not there.
    pub(super) fn read(&self, name: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(Opened { content, size }) = self.open(name)? else { return Ok(None) };
        if size > limit_bytes {
            return Err(StoreError::TooLarge { limit_bytes });
        }
        let mut bytes = Vec::new();
        content.take(limit_bytes).read_to_end(&mut bytes).map_err(StoreError::Source)?;
        Ok(Some(bytes))
    }
}

/// Resolves the target of a link against the directory that the link is in.
fn relative(link: &TreePath, target: &[u8]) -> Option<TreePath> {
    let mut at = if target.starts_with(b"/") { TreePath::root() } else { link.parent()? };
    for component in target.split(|&byte| byte == b'/') {
        at = match component {
            b"" | b"." => at,
            b".." => at.parent()?,
            name => at.join(name).ok()?,
        };
    }
    Some(at)
}
