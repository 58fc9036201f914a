//! Cache mounts as pieces.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Read};
use std::path::Path;

use corten_oci::digest::{DiffId, Digest};
use corten_store::{Store, StoreError};
use corten_sys::file;
use corten_sys::lock::FileLock;
use rayon::prelude::*;

use super::pieces::Splitter;
use super::place::{CacheError, Sink, Source};
use super::record::{Cache, Mount, Piece};
use crate::graph::{CacheSharing, Graph, Op, RunMountKind};

/// The level of zstd for pieces: its own default.
const LEVEL: i32 = 3;

/// How much is compressed at once by several threads.
const BATCH_BYTES: usize = 32 << 20;

/// A cache mount that a Dockerfile has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountUse {
    pub id: String,
    /// The name of its directory. Of a private cache, which has several, it is the first.
    pub name: String,
}

/// The name of the directory of a cache mount.
pub(crate) fn mount_name(id: &str) -> String {
    Digest::of(id.as_bytes()).hex()
}

/// The cache mounts of a build, in the order of their ids.
pub(crate) fn mounts_of(graph: &Graph) -> Vec<MountUse> {
    let mut mounts = BTreeMap::new();
    for step in graph.stages.iter().flat_map(|stage| &stage.steps) {
        let Op::Run(run) = &step.op else { continue };
        for mount in &run.mounts {
            if let RunMountKind::Cache { id, sharing, .. } = &mount.kind {
                let name = match sharing {
                    CacheSharing::Private => format!("{}-0", mount_name(id)),
                    CacheSharing::Shared | CacheSharing::Locked => mount_name(id),
                };
                mounts.insert(name.clone(), MountUse { id: id.clone(), name });
            }
        }
    }
    mounts.into_values().collect()
}

/// What became of a mount.
pub(crate) enum Packed {
    Done(Mount),
    /// It is not in this store.
    Absent,
    /// A build uses it.
    Busy,
}

/// Writes a cache mount into a cache, but for the pieces that are there already.
pub(crate) fn pack(
    mount: &MountUse,
    root: &Path,
    store: &Store,
    sink: &dyn Sink,
    known: &BTreeMap<Digest, Piece>,
) -> Result<Packed, CacheError> {
    let io = |source| CacheError::Io { place: root.display().to_string(), source };
    let directory = root.join(&mount.name);
    if is_vacant(&directory).map_err(io)? && !is_linked(mount, root, store)? {
        return Ok(Packed::Absent);
    }
    let lock = FileLock::try_exclusive(&root.join(format!("{}.lock", mount.name))).map_err(io)?;
    let Some(_lock) = lock else { return Ok(Packed::Busy) };
    if is_linked(mount, root, store)? {
        let settled = store.settle_cache_mount(&mount.name);
        settled.map_err(|error| CacheError::store(root.display().to_string(), error))?;
    }
    let mut packing = Packing { sink, known, batch: Vec::new(), bytes: 0, pieces: Vec::new() };
    let mut failure = None;
    let mut splitter = Splitter::new(|piece| {
        packing.push(piece).map_err(|error| {
            failure = Some(error);
            io::Error::other("a piece could not be written")
        })
    });
    let written = store.write_directory_tar(&directory, &mut splitter);
    let finished = written.and_then(|()| splitter.finish().map_err(StoreError::Sink));
    if let Some(error) = failure {
        return Err(error);
    }
    finished.map_err(|error| CacheError::store(sink.name(), error))?;
    packing.flush()?;
    let (name, id, pieces) = (mount.name.clone(), mount.id.clone(), packing.pieces);
    Ok(Packed::Done(Mount { name, id, pieces }))
}

/// Whether a cache lies where it can be a part of a root. The store has such, other directories not.
fn is_linked(mount: &MountUse, root: &Path, store: &Store) -> Result<bool, CacheError> {
    let carry = |error| CacheError::store(root.display().to_string(), error);
    Ok(root == store.cache_mounts_dir()
        && store.linked_cache_mount(&mount.name).map_err(carry)?.is_some())
}

/// Whether there is nothing that could be lost.
pub(crate) fn is_vacant(directory: &Path) -> Result<bool, corten_sys::error::IoError> {
    let names = file::absent_is_none(file::list_dir(directory))?;
    Ok(names.is_none_or(|names| names.is_empty()))
}

struct Packing<'a> {
    sink: &'a dyn Sink,
    known: &'a BTreeMap<Digest, Piece>,
    batch: Vec<Vec<u8>>,
    bytes: usize,
    pieces: Vec<Piece>,
}

impl Packing<'_> {
    fn push(&mut self, piece: Vec<u8>) -> Result<(), CacheError> {
        self.bytes += piece.len();
        self.batch.push(piece);
        if self.bytes >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), CacheError> {
        self.bytes = 0;
        let batch = std::mem::take(&mut self.batch);
        let pieces: Result<Vec<Piece>, CacheError> =
            batch.par_iter().map(|bytes| self.piece(bytes)).collect();
        self.pieces.extend(pieces?);
        Ok(())
    }

    fn piece(&self, bytes: &[u8]) -> Result<Piece, CacheError> {
        let plain = Digest::of(bytes);
        if let Some(known) = self.known.get(&plain)
            && self.sink.has(&known.digest, known.size)?
        {
            return Ok(*known);
        }
        let wrong = |source| CacheError::store(self.sink.name(), StoreError::Sink(source));
        let packed = zstd::encode_all(bytes, LEVEL).map_err(wrong)?;
        let (digest, size) = self.sink.add(&mut |out| out.write_all(&packed).map_err(wrong))?;
        Ok(Piece { plain, plain_size: bytes.len() as u64, digest, size })
    }
}

/// The pieces that a cache has, by the digest of what is in them.
pub(crate) fn known_pieces<'a>(caches: impl Iterator<Item = &'a Cache>) -> BTreeMap<Digest, Piece> {
    let mounts = caches.flat_map(|cache| cache.mounts.values());
    mounts.flat_map(|mount| &mount.pieces).map(|piece| (piece.plain, *piece)).collect()
}

/// Reads pieces one after the other; each is checked before a byte of it is handed on.
pub(crate) struct PieceReader<'a> {
    source: &'a dyn Source,
    pieces: std::slice::Iter<'a, Piece>,
    current: Cursor<Vec<u8>>,
    failed: Option<Digest>,
}

impl<'a> PieceReader<'a> {
    pub(crate) fn new(source: &'a dyn Source, pieces: &'a [Piece]) -> Self {
        let current = Cursor::new(Vec::new());
        Self { source, pieces: pieces.iter(), current, failed: None }
    }

    /// The piece that could not be read, if that is what went wrong.
    pub(crate) fn failed(&self) -> Option<Digest> {
        self.failed
    }
}

impl Read for PieceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let Some(piece) = self.pieces.next() else { return Ok(0) };
            match read_piece(self.source, piece) {
                Ok(bytes) => self.current = Cursor::new(bytes),
                Err(error) => {
                    self.failed = Some(piece.digest);
                    return Err(error);
                }
            }
        }
    }
}

/// Reads a piece and checks both of its digests.
fn read_piece(source: &dyn Source, piece: &Piece) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "a piece has another content");
    let packed = read_blob(source, &piece.digest, piece.size)?;
    let mut plain = Vec::new();
    let decoder = zstd::Decoder::new(packed.as_slice())?;
    decoder.take(piece.plain_size + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 != piece.plain_size || Digest::of(&plain) != piece.plain {
        return Err(wrong());
    }
    Ok(plain)
}

/// Reads a blob that fits into memory, and checks its digest.
pub(crate) fn read_blob(source: &dyn Source, digest: &Digest, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let stream = source.open(digest, size).map_err(io::Error::other)?;
    stream.take(size + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != size || Digest::of(&bytes) != *digest {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a blob has another content"));
    }
    Ok(bytes)
}

/// What is remembered of a layer that was compressed: where its blob is if a place has it.
pub(crate) fn packed_key(diff_id: &DiffId, media_type: &str) -> String {
    format!("{diff_id} {media_type}")
}
