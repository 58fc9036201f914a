//! The reader for tars of any origin.

use std::io::{self, Read};

use super::header::{self, Block};
use super::pax::{self, Records};
use super::sparse::{self, Announced, Map, Region};
use super::{BLOCK_BYTES, EntryKind, TarError, XATTR_PREFIX};
use crate::limits;
use crate::tree::Meta;

/// One entry as the tar has it: names are neither checked nor cleaned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name, as it is written.
    pub path: Vec<u8>,
    /// What it is; the size of a sparse file is the expanded one.
    pub kind: EntryKind,
    /// Mode, owner, time and attributes.
    pub meta: Meta,
    /// The part of the time below a second, in nanoseconds.
    pub mtime_nanoseconds: u32,
    /// How many bytes of content follow in the tar; for a sparse file, less than its size.
    pub stored_bytes: u64,
    /// The regions of a sparse file that have data.
    pub sparse: Option<Vec<Region>>,
    /// Where the entry's first header begins in the tar.
    pub offset: u64,
}

/// What a reader accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries in the tar.
    pub entries: u64,
    /// Bytes of one extension header.
    pub extension_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: limits::TAR_ENTRIES_MAX, extension_bytes: limits::TAR_EXTENSION_BYTES_MAX }
    }
}

/// Reads entries; [`Read`] gives the content of the current one, sparse files expanded.
///
/// Reads are small, so the inner reader should be memory or buffered.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    limits: Limits,
    /// The position in the tar.
    offset: u64,
    entries: u64,
    global: Records,
    /// What was read since the content of the entry before.
    raw: Vec<u8>,
    /// Content bytes of the current entry that are still in the stream.
    remaining: u64,
    /// Padding after them.
    padding: usize,
    sparse: Option<Expansion>,
    ended: bool,
}

/// The progress within a sparse file.
#[derive(Debug)]
struct Expansion {
    map: Map,
    position: u64,
    region: usize,
}

/// What extension headers say about the entry that follows.
#[derive(Debug, Default)]
struct Extensions {
    records: Records,
    regions: Vec<Region>,
    pending_offset: Option<u64>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    count: u32,
}

impl<R: Read> Reader<R> {
    /// Starts at the first byte of a tar.
    pub fn new(inner: R) -> Self {
        Self::with_limits(inner, Limits::default())
    }

    /// Starts at the first byte of a tar with limits of the caller.
    pub fn with_limits(inner: R, limits: Limits) -> Self {
        Self {
            inner,
            limits,
            offset: 0,
            entries: 0,
            global: Records::new(),
            raw: Vec::new(),
            remaining: 0,
            padding: 0,
            sparse: None,
            ended: false,
        }
    }

    /// Returns the next entry, or `None` at the end; content that was not read is skipped.
    ///
    /// After the end, more bytes may follow in the stream, which belong to its digest.
    pub fn next_entry(&mut self) -> Result<Option<Header>, TarError> {
        self.skip_content()?;
        self.raw.clear();
        let padding = std::mem::take(&mut self.padding);
        self.read_raw(padding)?;
        if self.ended {
            return Ok(None);
        }
        let start = self.offset;
        let mut extensions = Extensions::default();
        loop {
            let offset = self.offset;
            let Some(block) = self.header_block()? else {
                if extensions.is_pending() {
                    return Err(TarError::Truncated { offset });
                }
                self.ended = true;
                return Ok(None);
            };
            if !self.extension(&block, &mut extensions, offset)? {
                self.entries += 1;
                if self.entries > self.limits.entries {
                    return Err(TarError::Limit { what: "the number of entries", offset });
                }
                return self.entry(&block, extensions, start).map(Some);
            }
        }
    }

    /// Returns the bytes between the content of the entry before and that of the current one:
    /// padding and headers. With the content as stored they make up the tar.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Returns the position in the tar.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the stream, at the position that was reached.
    pub fn into_inner(self) -> R {
        self.inner
    }

    /// Reads stored content: for a sparse file only the regions that have data, one after the other.
    pub fn read_stored(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let want = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let count = loop {
            match self.inner.read(buffer.get_mut(..want).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(count) => break count,
                Err(source) => return Err(TarError::Read { offset: self.offset, source }),
            }
        };
        if count == 0 {
            return Err(TarError::Truncated { offset: self.offset });
        }
        self.offset += count as u64;
        self.remaining -= count as u64;
        Ok(count)
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        self.sparse = None;
        if self.remaining == 0 {
            return Ok(());
        }
        let mut buffer = [0; 16 * 1024];
        while self.remaining > 0 {
            self.read_stored(&mut buffer)?;
        }
        Ok(())
    }

    /// Reads the next header block; `None` at the end, by two zero blocks or by the end of the stream.
    fn header_block(&mut self) -> Result<Option<Block>, TarError> {
        let offset = self.offset;
        let Some(block) = self.block()? else { return Ok(None) };
        if block != [0; BLOCK_BYTES] {
            if !header::checksum_is_valid(&block) {
                return Err(TarError::Checksum { offset });
            }
            return Ok(Some(block));
        }
        match self.block()? {
            None => Ok(None),
            Some(second) if second == [0; BLOCK_BYTES] => Ok(None),
            Some(_) => Err(TarError::Checksum { offset }),
        }
    }

    /// Reads one block; `None` if the stream has ended before it.
    fn block(&mut self) -> Result<Option<Block>, TarError> {
        let mut block = [0; BLOCK_BYTES];
        let mut filled = 0;
        while let Some(rest) = block.get_mut(filled..)
            && !rest.is_empty()
        {
            match self.inner.read(rest) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated { offset: self.offset + filled as u64 }),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Read { offset: self.offset, source }),
            }
        }
        self.offset += BLOCK_BYTES as u64;
        self.raw.extend_from_slice(&block);
        Ok(Some(block))
    }

    /// Reads padding; a stream that ends within the last padding is accepted, as others do.
    fn read_raw(&mut self, count: usize) -> Result<(), TarError> {
        let before = self.raw.len();
        let mut limited = (&mut self.inner).take(count as u64);
        limited
            .read_to_end(&mut self.raw)
            .map_err(|source| TarError::Read { offset: self.offset, source })?;
        self.offset += (self.raw.len() - before) as u64;
        Ok(())
    }

    /// Takes in an extension header; false if the block is the entry itself.
    fn extension(
        &mut self,
        block: &Block,
        extensions: &mut Extensions,
        offset: u64,
    ) -> Result<bool, TarError> {
        let flag = block[header::TYPE];
        if !matches!(flag, b'x' | b'X' | b'g' | b'L' | b'K' | b'V') {
            return Ok(false);
        }
        extensions.count += 1;
        if extensions.count > limits::TAR_EXTENSIONS_PER_ENTRY_MAX {
            return Err(TarError::Limit { what: "extension headers before one entry", offset });
        }
        let body = self.extension_body(block, offset)?;
        let malformed = || TarError::Field { field: "extended header", offset };
        match flag {
            b'L' => extensions.long_name = Some(header::until_nul(&body).to_vec()),
            b'K' => extensions.long_link = Some(header::until_nul(&body).to_vec()),
            b'g' => {
                for (key, value) in pax::decode(&body).ok_or_else(malformed)? {
                    self.global.insert(key.to_vec(), value.to_vec());
                }
                let size: usize = self.global.iter().map(|(k, v)| k.len() + v.len()).sum();
                if size as u64 > self.limits.extension_bytes {
                    return Err(TarError::Limit { what: "the size of global headers", offset });
                }
            }
            // The label of a volume says nothing about files.
            b'V' => {}
            _ => {
                for (key, value) in pax::decode(&body).ok_or_else(malformed)? {
                    extensions.record(key, value).ok_or_else(malformed)?;
                }
            }
        }
        Ok(true)
    }

    fn extension_body(&mut self, block: &Block, offset: u64) -> Result<Vec<u8>, TarError> {
        let size = header::SIZE.number(block).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or(TarError::Field { field: "size", offset })?;
        if size > self.limits.extension_bytes {
            return Err(TarError::Limit { what: "the size of an extended header", offset });
        }
        let blocks = size.div_ceil(BLOCK_BYTES as u64);
        let start = self.raw.len();
        for _ in 0..blocks {
            if self.block()?.is_none() {
                return Err(TarError::Truncated { offset: self.offset });
            }
        }
        let end = start + usize::try_from(size).unwrap_or_default();
        Ok(self.raw.get(start..end).unwrap_or_default().to_vec())
    }

    fn entry(
        &mut self,
        block: &Block,
        extensions: Extensions,
        offset: u64,
    ) -> Result<Header, TarError> {
        let Extensions { records: mut own, regions, long_name, long_link, .. } = extensions;
        let mut records = self.global.clone();
        records.append(&mut own);
        // An empty value takes back what a global header said; an attribute may well be empty.
        records.retain(|key, value| !value.is_empty() || key.starts_with(XATTR_PREFIX));
        let path = records
            .get(b"GNU.sparse.name".as_slice())
            .or_else(|| records.get(b"path".as_slice()))
            .cloned()
            .or(long_name)
            .unwrap_or_else(|| ustar_name(block));
        let link = records.get(b"linkpath".as_slice()).cloned().or(long_link);
        let link = link.unwrap_or_else(|| header::LINK.text(block).to_vec());
        if path.contains(&0) || link.contains(&0) {
            return Err(TarError::Field { field: "name", offset });
        }
        let stored = stored_bytes(block, &records, offset)?;
        let (meta, mtime_nanoseconds) = meta(block, &records, offset)?;
        let mut kind = kind(block, &path, link, stored, offset)?;
        let mut map = None;
        let mut stored_bytes = 0;
        if let EntryKind::File { size } = &mut kind {
            (map, stored_bytes) = self.sparse_map(block, &records, &regions, stored, offset)?;
            if let Some(map) = &map {
                *size = map.size;
            }
        }
        self.remaining = stored_bytes;
        let over = stored_bytes % BLOCK_BYTES as u64;
        self.padding =
            usize::try_from((BLOCK_BYTES as u64 - over) % BLOCK_BYTES as u64).unwrap_or_default();
        let sparse = map.as_ref().map(|map| map.regions.clone());
        self.sparse = map.map(|map| Expansion { map, position: 0, region: 0 });
        Ok(Header { path, kind, meta, mtime_nanoseconds, stored_bytes, sparse, offset })
    }

    /// Returns the map of a sparse file and how much data follows.
    fn sparse_map(
        &mut self,
        block: &Block,
        records: &Records,
        regions: &[Region],
        stored: u64,
        offset: u64,
    ) -> Result<(Option<Map>, u64), TarError> {
        let malformed = || TarError::Field { field: "sparse map", offset };
        let (map, stored) = if block[header::TYPE] == b'S' {
            let (mut map, mut more) = sparse::old_header(block).ok_or_else(malformed)?;
            while more {
                let extension = self.block()?.ok_or(TarError::Truncated { offset: self.offset })?;
                more = sparse::old_extension(&extension, &mut map.regions).ok_or_else(malformed)?;
            }
            (map, stored)
        } else {
            match sparse::announced(records, regions).ok_or_else(malformed)? {
                Announced::No => return Ok((None, stored)),
                Announced::Map(map) => (map, stored),
                Announced::InContent(size) => {
                    let (regions, used) = self.map_in_content(stored, offset)?;
                    (Map { regions, size }, stored - used)
                }
            }
        };
        if map.is_valid(stored) { Ok((Some(map), stored)) } else { Err(malformed()) }
    }

    /// Reads the map of sparse format 1.0, which takes whole blocks of the content.
    fn map_in_content(&mut self, stored: u64, offset: u64) -> Result<(Vec<Region>, u64), TarError> {
        let malformed = || TarError::Field { field: "sparse map", offset };
        let start = self.raw.len();
        let (mut used, mut lines, mut wanted) = (0, 0, None);
        loop {
            used += BLOCK_BYTES as u64;
            if used > stored || used > self.limits.extension_bytes {
                return Err(malformed());
            }
            let block = self.block()?.ok_or(TarError::Truncated { offset: self.offset })?;
            lines += block.split(|&byte| byte == b'\n').count() - 1;
            let text = self.raw.get(start..).unwrap_or_default();
            if wanted.is_none() {
                wanted = Some(sparse::map_lines(text).ok_or_else(malformed)?);
            }
            // Looking only once all lines are there keeps this linear.
            if wanted.is_some_and(|wanted| lines >= wanted) {
                let regions = sparse::map_in_content(text).ok_or_else(malformed)?;
                return Ok((regions, used));
            }
        }
    }
}

impl Extensions {
    /// Returns true if something was said about an entry that then did not come.
    fn is_pending(&self) -> bool {
        !self.records.is_empty() || self.long_name.is_some() || self.long_link.is_some()
    }

    /// Takes in one PAX record; `None` if it is malformed.
    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        // Sparse format 0.0 repeats these two keys for every region.
        match key {
            b"GNU.sparse.offset" => self.pending_offset = Some(sparse::decimal(value)?),
            b"GNU.sparse.numbytes" => {
                let region =
                    Region { offset: self.pending_offset.take()?, size: sparse::decimal(value)? };
                if self.regions.len() >= limits::TAR_SPARSE_REGIONS_MAX {
                    return None;
                }
                self.regions.push(region);
            }
            _ => {
                self.records.insert(key.to_vec(), value.to_vec());
            }
        }
        Some(())
    }
}

/// Returns the name in the header, with the prefix of ustar or star.
fn ustar_name(block: &Block) -> Vec<u8> {
    let name = header::NAME.text(block);
    let prefix = if header::MAGIC.of(block) == b"ustar\0" {
        if header::STAR_MAGIC.of(block) == b"tar\0" {
            header::STAR_PREFIX.text(block)
        } else {
            header::PREFIX.text(block)
        }
    } else {
        // GNU's older magic has times where the prefix would be; still older tars have nothing.
        b""
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

fn stored_bytes(block: &Block, records: &Records, offset: u64) -> Result<u64, TarError> {
    let size = match records.get(b"size".as_slice()) {
        Some(text) => sparse::decimal(text),
        None => header::SIZE.number(block).and_then(|size| u64::try_from(size).ok()),
    };
    // No file can be larger, and sums of offsets stay far from overflowing.
    let fits = size.filter(|&size| i64::try_from(size).is_ok());
    fits.ok_or(TarError::Field { field: "size", offset })
}

fn meta(block: &Block, records: &Records, offset: u64) -> Result<(Meta, u32), TarError> {
    let invalid = |field| TarError::Field { field, offset };
    let id = |key: &[u8], field: header::Field, name| {
        let number = match records.get(key) {
            Some(text) => sparse::decimal(text),
            None => field.number(block).and_then(|number| u64::try_from(number).ok()),
        };
        // The largest number means "no change" to chown.
        let id = number.and_then(|number| u32::try_from(number).ok());
        id.filter(|&id| id != u32::MAX).ok_or(invalid(name))
    };
    let (mtime, nanoseconds) = match records.get(b"mtime".as_slice()) {
        Some(text) => pax::parse_time(text),
        None => header::MTIME.number(block).map(|seconds| (seconds, 0)),
    }
    .ok_or(invalid("time"))?;
    let mode = header::MODE.number(block).ok_or(invalid("mode"))?;
    let mut meta = Meta {
        mode: u32::try_from(mode & 0o7777).unwrap_or_default(),
        uid: id(b"uid", header::UID, "user id")?,
        gid: id(b"gid", header::GID, "group id")?,
        mtime,
        ..Meta::default()
    };
    for (key, value) in records {
        let Some(name) = key.strip_prefix(XATTR_PREFIX) else { continue };
        let name = pax::decode_xattr_name(name);
        let valid = !name.is_empty()
            && !name.contains(&0)
            && name.len() <= limits::XATTR_NAME_BYTES_MAX
            && value.len() <= limits::XATTR_VALUE_BYTES_MAX;
        if !valid {
            return Err(invalid("extended attribute"));
        }
        meta.xattrs.insert(name, value.clone());
    }
    Ok((meta, nanoseconds))
}

fn kind(
    block: &Block,
    path: &[u8],
    link: Vec<u8>,
    size: u64,
    offset: u64,
) -> Result<EntryKind, TarError> {
    let invalid = |field| TarError::Field { field, offset };
    let device = || -> Result<(u32, u32), TarError> {
        // Linux has 12 and 20 bits.
        let part = |field: header::Field, bits: u32| {
            let number = field.number(block).and_then(|number| u32::try_from(number).ok());
            number.filter(|&number| number >> bits == 0).ok_or(invalid("device number"))
        };
        Ok((part(header::MAJOR, 12)?, part(header::MINOR, 20)?))
    };
    match block[header::TYPE] {
        // Before POSIX, a directory was a file whose name ends in a slash.
        0 | b'0' if path.ends_with(b"/") && size == 0 => Ok(EntryKind::Directory { opaque: false }),
        0 | b'0' | b'7' | b'S' => Ok(EntryKind::File { size }),
        b'1' | b'2' if link.is_empty() => Err(invalid("link target")),
        b'1' => Ok(EntryKind::Hardlink(link)),
        b'2' => Ok(EntryKind::Symlink(link)),
        b'3' => device().map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        b'4' => device().map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
        // GNU's 'D' is a directory of an incremental backup, with a list that we do not need.
        b'5' => Ok(EntryKind::Directory { opaque: false }),
        b'6' => Ok(EntryKind::Fifo),
        other => Err(TarError::UnsupportedEntry {
            kind: char::from(other).escape_default().to_string(),
            path: String::from_utf8_lossy(path).chars().take(200).collect(),
            offset,
        }),
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut expansion) = self.sparse.take() else {
            return self.read_stored(buffer).map_err(into_io);
        };
        let count = self.read_expanded(&mut expansion, buffer);
        self.sparse = Some(expansion);
        count.map_err(into_io)
    }
}

impl<R: Read> Reader<R> {
    fn read_expanded(
        &mut self,
        expansion: &mut Expansion,
        buffer: &mut [u8],
    ) -> Result<usize, TarError> {
        let Expansion { map, position, region } = expansion;
        while map.regions.get(*region).is_some_and(|at| at.offset + at.size <= *position) {
            *region += 1;
        }
        let next = map.regions.get(*region);
        let count = match next {
            Some(at) if at.offset <= *position => {
                let left = at.offset + at.size - *position;
                let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                self.read_stored(buffer.get_mut(..want).unwrap_or_default())?
            }
            _ => {
                let end = next.map_or(map.size, |at| at.offset);
                let zeros = usize::try_from(end - *position).unwrap_or(usize::MAX);
                let zeros = zeros.min(buffer.len());
                buffer.get_mut(..zeros).unwrap_or_default().fill(0);
                zeros
            }
        };
        *position += count as u64;
        Ok(count)
    }
}

fn into_io(error: TarError) -> io::Error {
    match error {
        TarError::Read { source, .. } => source,
        TarError::Truncated { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, error),
        other => io::Error::new(io::ErrorKind::InvalidData, other),
    }
}
