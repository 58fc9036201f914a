//! The canonical writer.

use std::io::{self, Read, Write};

use super::header::{self, Block};
use super::pax::{self, Records};
use super::{BLOCK_BYTES, EntryKind, OPAQUE_MARKER, TarError, WHITEOUT_PREFIX, XATTR_PREFIX};
use crate::tree::{Meta, TreePath};

/// The name that PAX headers have themselves; readers ignore it, and Python writes the same.
const PAX_NAME: &[u8] = b"././@PaxHeader";

/// Writes entries in their canonical form; see the module.
///
/// After an entry for a file, exactly its content must be written through [`Write`]. Writes are
/// small, so the inner writer should be a hasher, memory, or buffered.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    /// The entry before, which the next one must follow in order.
    last: Option<TreePath>,
    /// Content that the current entry still needs.
    remaining: u64,
    /// Zeros to write after it.
    padding: usize,
    written: u64,
}

impl<W: Write> Writer<W> {
    /// Starts a tar.
    pub fn new(inner: W) -> Self {
        Self { inner, last: None, remaining: 0, padding: 0, written: 0 }
    }

    /// Writes the header of an entry; entries come in the order of their paths.
    pub fn entry(
        &mut self,
        path: &TreePath,
        meta: &Meta,
        kind: &EntryKind,
    ) -> Result<(), TarError> {
        self.finish_entry()?;
        if let Some(previous) = &self.last
            && previous >= path
        {
            return Err(TarError::Order { path: path.clone(), previous: previous.clone() });
        }
        self.last = Some(path.clone());
        if *kind == EntryKind::Whiteout {
            return self.marker(path.parent().as_ref(), &[WHITEOUT_PREFIX, path.name()].concat());
        }
        if !path.is_root() {
            self.header(path.as_bytes(), meta, kind)?;
        }
        match kind {
            EntryKind::Directory { opaque: true } => self.marker(Some(path), OPAQUE_MARKER),
            EntryKind::File { size } => {
                self.remaining = *size;
                self.padding = padding(*size);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Writes a file with its content from a reader, which must have exactly `size` bytes.
    pub fn file(
        &mut self,
        path: &TreePath,
        meta: &Meta,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), TarError> {
        self.entry(path, meta, &EntryKind::File { size })?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(TarError::Read { offset: self.written, source }),
            };
            if count as u64 > self.remaining {
                return Err(TarError::ContentSize { path: path.clone() });
            }
            self.content(buffer.get(..count).unwrap_or_default())?;
        }
        self.finish_entry()
    }

    /// Writes a part of the current file's content.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        match self.remaining.checked_sub(bytes.len() as u64) {
            Some(remaining) => self.remaining = remaining,
            None => return Err(self.content_size()),
        }
        self.put(bytes)
    }

    /// Ends the tar and returns the writer and the number of bytes written.
    pub fn finish(mut self) -> Result<(W, u64), TarError> {
        self.finish_entry()?;
        self.put(&[0; 2 * BLOCK_BYTES])?;
        self.inner.flush().map_err(TarError::Write)?;
        Ok((self.inner, self.written))
    }

    fn finish_entry(&mut self) -> Result<(), TarError> {
        if self.remaining > 0 {
            return Err(self.content_size());
        }
        let padding = std::mem::take(&mut self.padding);
        self.put([0; BLOCK_BYTES].get(..padding).unwrap_or_default())
    }

    fn content_size(&self) -> TarError {
        TarError::ContentSize { path: self.last.clone().unwrap_or(TreePath::root()) }
    }

    /// Writes an empty file that stands for a whiteout or an opaque directory.
    fn marker(&mut self, directory: Option<&TreePath>, name: &[u8]) -> Result<(), TarError> {
        let path = match directory {
            Some(directory) if !directory.is_root() => {
                [directory.as_bytes(), b"/".as_slice(), name].concat()
            }
            _ => name.to_vec(),
        };
        self.header(&path, &Meta::default(), &EntryKind::File { size: 0 })
    }

    fn header(&mut self, path: &[u8], meta: &Meta, kind: &EntryKind) -> Result<(), TarError> {
        let mut block: Block = [0; BLOCK_BYTES];
        let mut records = Records::new();
        let mut name = path.to_vec();
        if matches!(kind, EntryKind::Directory { .. }) {
            name.push(b'/');
        }
        put_name(&mut block, &mut records, &name);
        put_meta(&mut block, &mut records, meta);
        put_kind(&mut block, &mut records, kind);
        if !records.is_empty() {
            self.pax_header(&records)?;
        }
        complete(&mut block);
        self.put(&block)
    }

    fn pax_header(&mut self, records: &Records) -> Result<(), TarError> {
        let body = pax::encode(records);
        let mut block: Block = [0; BLOCK_BYTES];
        header::NAME.put(&mut block, PAX_NAME);
        let meta = Meta { mode: 0o644, ..Meta::default() };
        put_meta(&mut block, &mut Records::new(), &meta);
        let size = EntryKind::File { size: body.len() as u64 };
        put_kind(&mut block, &mut Records::new(), &size);
        block[header::TYPE] = b'x';
        complete(&mut block);
        self.put(&block)?;
        self.put(&body)?;
        let padding = padding(body.len() as u64);
        self.put([0; BLOCK_BYTES].get(..padding).unwrap_or_default())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.inner.write_all(bytes).map_err(TarError::Write)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn padding(size: u64) -> usize {
    let over = size % BLOCK_BYTES as u64;
    usize::try_from((BLOCK_BYTES as u64 - over) % BLOCK_BYTES as u64).unwrap_or_default()
}

fn complete(block: &mut Block) {
    header::MAGIC.put(block, b"ustar\0");
    header::VERSION.put(block, b"00");
    header::put_checksum(block);
}

/// Puts a name whole, or split at a slash, or into a PAX record with its start in the header.
fn put_name(block: &mut Block, records: &mut Records, name: &[u8]) {
    if name.is_ascii() {
        if name.len() <= 100 {
            header::NAME.put(block, name);
            return;
        }
        // The longest name that fits leaves the shortest prefix.
        let from = name.len() - 101;
        let slash = name.iter().skip(from).position(|&byte| byte == b'/').map(|at| at + from);
        if let Some(slash) = slash
            && slash > 0
            && slash <= 155
            && slash + 1 < name.len()
        {
            header::PREFIX.put(block, name.get(..slash).unwrap_or_default());
            header::NAME.put(block, name.get(slash + 1..).unwrap_or_default());
            return;
        }
    }
    records.insert(b"path".to_vec(), name.to_vec());
    header::NAME.put(block, &ascii(name));
}

/// What old readers see of a name that they cannot have.
fn ascii(name: &[u8]) -> Vec<u8> {
    name.iter().copied().filter(u8::is_ascii).take(100).collect()
}

fn put_meta(block: &mut Block, records: &mut Records, meta: &Meta) {
    header::MODE.put_octal(block, u64::from(meta.mode & 0o7777));
    if !header::UID.put_octal(block, u64::from(meta.uid)) {
        records.insert(b"uid".to_vec(), meta.uid.to_string().into_bytes());
    }
    if !header::GID.put_octal(block, u64::from(meta.gid)) {
        records.insert(b"gid".to_vec(), meta.gid.to_string().into_bytes());
    }
    let time = u64::try_from(meta.mtime).ok();
    if !header::MTIME.put_octal(block, time.unwrap_or_default()) || time.is_none() {
        records.insert(b"mtime".to_vec(), meta.mtime.to_string().into_bytes());
    }
    for (name, value) in &meta.xattrs {
        let key = [XATTR_PREFIX, &pax::encode_xattr_name(name)].concat();
        records.insert(key, value.clone());
    }
}

fn put_kind(block: &mut Block, records: &mut Records, kind: &EntryKind) {
    let (mut size, mut device) = (0, (0, 0));
    let mut link: &[u8] = b"";
    let flag = match kind {
        EntryKind::File { size: bytes } => {
            size = *bytes;
            b'0'
        }
        EntryKind::Hardlink(target) => {
            link = target;
            b'1'
        }
        EntryKind::Symlink(target) => {
            link = target;
            b'2'
        }
        EntryKind::CharDevice { major, minor } => {
            device = (*major, *minor);
            b'3'
        }
        EntryKind::BlockDevice { major, minor } => {
            device = (*major, *minor);
            b'4'
        }
        EntryKind::Directory { .. } => b'5',
        EntryKind::Fifo => b'6',
        // The caller writes a whiteout as the file that stands for it.
        EntryKind::Whiteout => b'0',
    };
    block[header::TYPE] = flag;
    if !header::SIZE.put_octal(block, size) {
        records.insert(b"size".to_vec(), size.to_string().into_bytes());
    }
    if link.len() > 100 || !link.is_ascii() {
        records.insert(b"linkpath".to_vec(), link.to_vec());
        header::LINK.put(block, &ascii(link));
    } else {
        header::LINK.put(block, link);
    }
    // Linux has 12 bits of major and 20 of minor numbers, which fit.
    header::MAJOR.put_octal(block, u64::from(device.0));
    header::MINOR.put_octal(block, u64::from(device.1));
}
