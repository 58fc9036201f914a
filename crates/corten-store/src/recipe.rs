//! How the tar of an imported layer is made again, byte for byte.
//!
//! A foreign tar has its own order, headers and padding, and its digest is the layer's name. So
//! everything in it but the content of files is kept in `recipe.zst`: a zstd stream of
//!
//! ```text
//! "corten recipe 1\n"
//! 1 length:u32 bytes               bytes of the tar as they are
//! 2 length:u16 path offset:u64 size:u64   a part of a file in `tree/`
//! 0                                the end
//! ```
//!
//! with little-endian numbers. A tar may hold a path twice, and only the last one is in `tree/`. What
//! was there before lies in `aside/<number>`, and `meta.json` lists for it how many file parts the
//! recipe had at that moment: parts before that, of that path or below it, are read from there.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::limits;
use corten_sys::beneath::{Resolve, Root};
use corten_sys::error::{IoError, at};
use corten_sys::file;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::store::Inner;

const MAGIC: &[u8] = b"corten recipe 1\n";

const END: u8 = 0;
const RAW: u8 = 1;
const PART: u8 = 2;

/// The compression level: headers are so regular that more brings nothing.
const LEVEL: i32 = 3;

/// The most that one raw segment holds; longer ones are split.
const RAW_BYTES_MAX: usize = 1 << 20;

/// Content passes through memory in pieces of this size.
const BUFFER_BYTES: usize = 256 * 1024;

/// Something that the tar itself replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Displaced {
    /// The path that it had, in hexadecimal since it may be any bytes.
    path: String,
    /// How many parts were written before.
    before: u64,
    /// Its name in `aside/`.
    aside: u64,
}

impl Displaced {
    pub(crate) fn new(path: &[u8], before: u64, aside: u64) -> Self {
        let path = path.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let path = path.filter_map(|digit| char::from_digit(u32::from(digit), 16)).collect();
        Self { path, before, aside }
    }

    fn path(&self) -> Option<Vec<u8>> {
        let digits = self.path.as_bytes().chunks(2);
        digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
    }
}

/// Writes through the store's file system, so that tests can fail it.
struct Sink {
    inner: Arc<Inner>,
    file: File,
    path: PathBuf,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.inner.fs().write(&self.file, &self.path, bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => Err(error.source),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a recipe while a tar is read.
pub(crate) struct Recorder {
    encoder: zstd::Encoder<'static, Sink>,
    path: PathBuf,
    parts: u64,
}

impl Recorder {
    pub(crate) fn create(inner: &Arc<Inner>, folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("recipe.zst");
        let file = inner.fs().create_new(&path, 0o600)?;
        let sink = Sink { inner: inner.clone(), file, path: path.clone() };
        let encoder = zstd::Encoder::new(sink, LEVEL).map_err(at("write", &path))?;
        let mut recorder = Self { encoder, path, parts: 0 };
        recorder.put(MAGIC)?;
        Ok(recorder)
    }

    /// Returns how many parts of files there are so far.
    pub(crate) fn parts(&self) -> u64 {
        self.parts
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        for piece in bytes.chunks(RAW_BYTES_MAX) {
            // The pieces are far below 4 GiB.
            let length = u32::try_from(piece.len()).unwrap_or(u32::MAX);
            self.put(&[RAW])?;
            self.put(&length.to_le_bytes())?;
            self.put(piece)?;
        }
        Ok(())
    }

    pub(crate) fn part(&mut self, path: &[u8], offset: u64, size: u64) -> Result<(), StoreError> {
        // Paths have at most 4095 bytes.
        let length = u16::try_from(path.len()).unwrap_or(u16::MAX);
        self.put(&[PART])?;
        self.put(&length.to_le_bytes())?;
        self.put(path)?;
        self.put(&offset.to_le_bytes())?;
        self.put(&size.to_le_bytes())?;
        self.parts += 1;
        Ok(())
    }

    /// Ends the recipe. It is as durable as the rest of its layer, which is proven with it.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        self.put(&[END])?;
        drop(self.encoder.finish().map_err(at("write", &self.path))?);
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        Ok(self.encoder.write_all(bytes).map_err(at("write", &self.path))?)
    }
}

/// Writes the tar that a recipe is of.
pub(crate) fn replay(
    folder: &Path,
    displaced: &[Displaced],
    out: &mut dyn Write,
) -> Result<(), StoreError> {
    let path = folder.join("recipe.zst");
    let decoder = zstd::Decoder::new(file::open(&path)?).map_err(at("read", &path))?;
    let decoded = displaced.iter().map(|d| Some((d.path()?, d.before, d.aside))).collect();
    let displaced: Option<Vec<_>> = decoded;
    let mut player = Player {
        recipe: BufReader::new(decoder),
        tree: Root::open(&folder.join("tree"))?,
        displaced: displaced.ok_or_else(|| damaged(&path))?,
        folder,
        path,
        parts: 0,
        buffer: vec![0; BUFFER_BYTES],
    };
    let magic: [u8; MAGIC.len()] = player.array()?;
    if magic != *MAGIC {
        return Err(damaged(&player.path).into());
    }
    while player.segment(out)? {}
    Ok(())
}

struct Player<'a> {
    recipe: BufReader<zstd::Decoder<'static, BufReader<File>>>,
    tree: Root,
    displaced: Vec<(Vec<u8>, u64, u64)>,
    folder: &'a Path,
    path: PathBuf,
    parts: u64,
    buffer: Vec<u8>,
}

fn damaged(path: &Path) -> IoError {
    IoError::new("read", path, io::Error::from(io::ErrorKind::InvalidData))
}

impl Player<'_> {
    /// Writes one segment; false at the end.
    fn segment(&mut self, out: &mut dyn Write) -> Result<bool, StoreError> {
        let [tag] = self.array()?;
        match tag {
            END => Ok(false),
            RAW => {
                let length = u32::from_le_bytes(self.array()?);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length > RAW_BYTES_MAX {
                    return Err(damaged(&self.path).into());
                }
                let bytes = self.bytes(length)?;
                out.write_all(&bytes).map_err(StoreError::Sink)?;
                Ok(true)
            }
            PART => {
                let length = usize::from(u16::from_le_bytes(self.array()?));
                if length > limits::PATH_BYTES_MAX {
                    return Err(damaged(&self.path).into());
                }
                let path = self.bytes(length)?;
                let offset = u64::from_le_bytes(self.array()?);
                let size = u64::from_le_bytes(self.array()?);
                self.part(&path, offset, size, out)?;
                Ok(true)
            }
            _ => Err(damaged(&self.path).into()),
        }
    }

    fn part(
        &mut self,
        path: &[u8],
        offset: u64,
        size: u64,
        out: &mut dyn Write,
    ) -> Result<(), StoreError> {
        let number = self.parts;
        self.parts += 1;
        let (mut file, shown) = self.open(path, number)?;
        file.seek(SeekFrom::Start(offset)).map_err(at("seek in", &shown))?;
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let count = match file.read(self.buffer.get_mut(..want).unwrap_or_default()) {
                Ok(0) => return Err(damaged(&shown).into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(IoError::new("read", shown, source).into()),
            };
            let bytes = self.buffer.get(..count).unwrap_or_default();
            out.write_all(bytes).map_err(StoreError::Sink)?;
            left -= count as u64;
        }
        Ok(())
    }

    /// Opens the file that a part is of, where it is now.
    fn open(&self, path: &[u8], number: u64) -> Result<(File, PathBuf), StoreError> {
        for (displaced, before, aside) in &self.displaced {
            let rest = path.strip_prefix(displaced.as_slice());
            let Some(rest) = rest.filter(|rest| rest.first().is_none_or(|&byte| byte == b'/'))
            else {
                continue;
            };
            if number < *before {
                let root = Root::open(&self.folder.join("aside"))?;
                let moved = [aside.to_string().as_bytes(), rest].concat();
                let shown = PathBuf::from(OsStr::from_bytes(&moved));
                return Ok((root.open_file(&shown, Resolve::NoLinks)?, shown));
            }
        }
        let shown = PathBuf::from(OsStr::from_bytes(path));
        Ok((self.tree.open_file(&shown, Resolve::NoLinks)?, shown))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut array = [0; N];
        self.recipe.read_exact(&mut array).map_err(at("read", &self.path))?;
        Ok(array)
    }

    fn bytes(&mut self, length: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; length];
        self.recipe.read_exact(&mut bytes).map_err(at("read", &self.path))?;
        Ok(bytes)
    }
}
