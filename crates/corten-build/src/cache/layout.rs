//! A cache in an OCI layout in a directory.
//!
//! Readers take no lock: whatever they find is checked, and what vanishes meanwhile is a miss.
//! Writers take turns. A killed writer leaves blobs that nothing names; the next one removes them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use corten_oci::digest::{Digest, HashingWriter};
use corten_oci::image::{Descriptor, ImageConfig, Index, Manifest, media_type};
use corten_oci::{json, limits};
use corten_sys::beneath::{Dir, FileKind, Resolve, Root};
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::lock::FileLock;
use corten_sys::pending::PendingFile;

use super::place::{CacheError, Fill, Sink, Source};
use super::record::{
    ARTIFACT_TYPE, Cache, DOCUMENT_BYTES_MAX, INLINE_ANNOTATION, RecordError, parse_inline,
};

/// The annotation with the name of an entry.
const ANNOTATION_REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The file that makes a directory a layout.
const LAYOUT_FILE: &str = "oci-layout";
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

const INDEX_FILE: &str = "index.json";

/// The file that writers lock.
const LOCK_FILE: &str = ".corten-lock";

/// What unfinished blobs are called where the file system has no files without names.
const UNFINISHED: &str = ".corten-";

const BLOBS: &str = "blobs/sha256";

/// What is written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// A layout that is open.
struct Layout {
    root: Root,
    path: PathBuf,
    tag: String,
}

impl Layout {
    fn open(path: &Path, tag: &str) -> Result<Self, CacheError> {
        match Root::open(path) {
            Ok(root) => Ok(Self { root, path: path.to_owned(), tag: tag.to_owned() }),
            Err(error) if error.is_not_found() => Err(CacheError::Absent { place: shown(path) }),
            Err(source) => Err(CacheError::Io { place: shown(path), source }),
        }
    }

    fn io(&self) -> impl Fn(IoError) -> CacheError + use<> {
        let place = shown(&self.path);
        move |source| CacheError::Io { place: place.clone(), source }
    }

    fn damaged(&self, what: impl Into<String>) -> CacheError {
        CacheError::Damaged { place: shown(&self.path), what: what.into() }
    }

    /// Reads a small file; `None` if it is absent.
    fn file(&self, name: &str, limit_bytes: u64) -> Result<Option<Vec<u8>>, CacheError> {
        let opened = self.root.open_file(Path::new(name), Resolve::NoLinks);
        let Some(opened) = file::absent_is_none(opened).map_err(self.io())? else {
            return Ok(None);
        };
        let path = self.path.join(name);
        file::read_file_limited(&opened, &path, limit_bytes).map(Some).map_err(self.io())
    }

    fn index(&self) -> Result<Option<Index>, CacheError> {
        let Some(bytes) = self.file(INDEX_FILE, limits::MANIFEST_BYTES_MAX)? else {
            return Ok(None);
        };
        let index = Index::parse(&bytes).map_err(|error| self.damaged(error.to_string()))?;
        Ok(Some(index))
    }

    /// Reads a document and checks it.
    fn document(&self, digest: &Digest, limit_bytes: u64) -> Result<Vec<u8>, CacheError> {
        let bytes = self.file(&blob_path(digest), limit_bytes)?;
        let bytes = bytes.ok_or_else(|| self.damaged(format!("`{digest}` is missing")))?;
        if Digest::of(&bytes) == *digest {
            return Ok(bytes);
        }
        Err(self.damaged(format!("`{digest}` has another content")))
    }

    fn manifest(&self, digest: &Digest) -> Result<Manifest, CacheError> {
        let bytes = self.document(digest, limits::MANIFEST_BYTES_MAX)?;
        Manifest::parse(&bytes).map_err(|error| self.damaged(error.to_string()))
    }

    fn is_ours(&self, entry: &Descriptor) -> bool {
        entry.artifact_type.as_deref() == Some(ARTIFACT_TYPE)
            && entry.annotations.get(ANNOTATION_REF_NAME) == Some(&self.tag)
    }

    fn cache(&self) -> Result<Cache, CacheError> {
        let absent = || CacheError::Absent { place: shown(&self.path) };
        let index = self.index()?.ok_or_else(absent)?;
        let record = |source| CacheError::Record { place: shown(&self.path), source };
        let Some(entry) = index.manifests.iter().find(|entry| self.is_ours(entry)) else {
            if let Some(cache) = self.of_image(&index)? {
                return Ok(cache);
            }
            // A newer version may have another type.
            let is_other = |entry: &Descriptor| entry.artifact_type.is_some();
            let is_foreign = index.manifests.iter().any(is_other);
            return Err(if is_foreign { record(RecordError::Foreign) } else { absent() });
        };
        let manifest = self.manifest(&entry.digest)?;
        let config = self.document(&manifest.config.digest, DOCUMENT_BYTES_MAX)?;
        Cache::parse(&config).map_err(record)
    }
}

impl Layout {
    /// The records of an image's own layers, if the layout has an image with records.
    fn of_image(&self, index: &Index) -> Result<Option<Cache>, CacheError> {
        for entry in &index.manifests {
            if !media_type::is_manifest(&entry.media_type) || entry.artifact_type.is_some() {
                continue;
            }
            let manifest = self.manifest(&entry.digest)?;
            let Some(text) = manifest.annotations.get(INLINE_ANNOTATION) else { continue };
            let config = self.document(&manifest.config.digest, limits::CONFIG_BYTES_MAX)?;
            let config =
                ImageConfig::parse(&config).map_err(|error| self.damaged(error.to_string()))?;
            let cache = parse_inline(text, &manifest, &config.rootfs.diff_ids)
                .map_err(|source| CacheError::Record { place: shown(&self.path), source })?;
            return Ok(Some(cache));
        }
        Ok(None)
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn blob_path(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

/// A directory that a cache is read from.
pub(crate) struct LayoutSource {
    path: PathBuf,
    tag: String,
}

impl LayoutSource {
    pub(crate) fn new(path: &Path, tag: &str) -> Self {
        Self { path: path.to_owned(), tag: tag.to_owned() }
    }
}

impl Source for LayoutSource {
    fn name(&self) -> String {
        shown(&self.path)
    }

    fn read(&self) -> Result<Cache, CacheError> {
        Layout::open(&self.path, &self.tag)?.cache()
    }

    fn open(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + Send>, CacheError> {
        let layout = Layout::open(&self.path, &self.tag)?;
        let path = blob_path(digest);
        let opened = layout.root.open_file(Path::new(&path), Resolve::NoLinks);
        let opened = file::absent_is_none(opened).map_err(layout.io())?;
        let opened = opened.ok_or_else(|| layout.damaged(format!("`{digest}` is missing")))?;
        let inspect = |source| layout.io()(IoError::new("inspect", &path, source));
        let metadata = opened.metadata().map_err(inspect)?;
        if !metadata.is_file() || metadata.len() != size {
            return Err(layout.damaged(format!("`{digest}` has another size")));
        }
        Ok(Box::new(opened))
    }
}

/// A directory that a cache is written to.
pub(crate) struct LayoutSink {
    layout: Layout,
    blobs: Dir,
    previous: Option<Cache>,
    /// The last field: other writers wait until all else is done.
    _lock: FileLock,
}

impl LayoutSink {
    /// Makes the directory, if it is absent, and waits for other writers.
    pub(crate) fn open(path: &Path, tag: &str) -> Result<Self, CacheError> {
        let io = |source| CacheError::Io { place: shown(path), source };
        file::create_dirs(path, 0o755).map_err(io)?;
        check_place(path)?;
        let lock = FileLock::exclusive(&path.join(LOCK_FILE)).map_err(io)?;
        let layout = Layout::open(path, tag)?;
        if !file::exists(&path.join(LAYOUT_FILE)).map_err(io)? {
            write(layout.root.dir(), LAYOUT_FILE, LAYOUT).map_err(io)?;
        }
        let blobs =
            layout.root.create_dirs(Path::new(BLOBS), 0o755, Resolve::NoLinks).map_err(io)?;
        // What cannot be read is not worth keeping: it is written again.
        let previous = layout.cache().ok();
        Ok(Self { layout, blobs, previous, _lock: lock })
    }

    /// All blobs that something in the index needs; `None` if that cannot be known.
    fn needed(&self, index: &Index) -> Option<BTreeSet<Digest>> {
        let mut needed = BTreeSet::new();
        for entry in &index.manifests {
            needed.insert(entry.digest);
            if !media_type::is_manifest(&entry.media_type) {
                return None;
            }
            let manifest = self.layout.manifest(&entry.digest).ok()?;
            needed.insert(manifest.config.digest);
            needed.extend(manifest.layers.iter().map(|layer| layer.digest));
        }
        Some(needed)
    }

    /// Removes blobs that nothing names any more.
    fn sweep(&self, index: &Index) -> Result<(), IoError> {
        let Some(needed) = self.needed(index) else { return Ok(()) };
        for entry in self.blobs.list()? {
            let name = entry.name.to_string_lossy();
            let is_old = match Digest::from_hex(&name) {
                Ok(digest) => !needed.contains(&digest),
                Err(_) => name.starts_with(UNFINISHED),
            };
            if is_old {
                file::absent_is_none(self.blobs.remove_file(&entry.name))?;
            }
        }
        Ok(())
    }
}

impl Sink for LayoutSink {
    fn name(&self) -> String {
        shown(&self.layout.path)
    }

    fn previous(&self) -> Option<&Cache> {
        self.previous.as_ref()
    }

    fn has(&self, digest: &Digest, size: u64) -> Result<bool, CacheError> {
        let found = self.blobs.stat(OsStr::new(&digest.hex()));
        let found = file::absent_is_none(found).map_err(self.layout.io())?;
        Ok(found.is_some_and(|stat| stat.kind == FileKind::File && stat.size_bytes == size))
    }

    fn add(&self, fill: Fill<'_>) -> Result<(Digest, u64), CacheError> {
        let unfinished = format!("{UNFINISHED}{}", corten_sys::random::name());
        let unfinished = OsStr::new(&unfinished);
        let pending =
            PendingFile::create(&self.blobs, unfinished, 0o644).map_err(self.layout.io())?;
        let path = pending.path();
        let buffered = BufWriter::with_capacity(BUFFER_BYTES, pending.file());
        let mut out = HashingWriter::new(buffered);
        fill(&mut out)?;
        let (digest, size, mut buffered) = out.finish();
        let flushed = buffered.flush();
        flushed.map_err(|error| self.layout.io()(IoError::new("write", &path, error)))?;
        drop(buffered);
        pending.publish().map_err(self.layout.io())?;
        let name = digest.hex();
        let named = self.blobs.rename(&self.blobs, unfinished, OsStr::new(&name));
        named.map_err(self.layout.io())?;
        Ok((digest, size))
    }

    fn finish(&self, config: &[u8], manifest: &[u8]) -> Result<(), CacheError> {
        let io = self.layout.io();
        for bytes in [config, manifest] {
            write(&self.blobs, &Digest::of(bytes).hex(), bytes).map_err(&io)?;
        }
        let index = self.layout.index().ok().flatten();
        let mut index = index.unwrap_or_else(|| Index::new(Vec::new()));
        index.manifests.retain(|entry| !self.layout.is_ours(entry));
        let digest = Digest::of(manifest);
        let tag = (ANNOTATION_REF_NAME.to_owned(), self.layout.tag.clone());
        index.manifests.push(Descriptor {
            artifact_type: Some(ARTIFACT_TYPE.to_owned()),
            annotations: [tag].into(),
            ..Descriptor::new(media_type::MANIFEST, digest, manifest.len() as u64)
        });
        write(self.layout.root.dir(), INDEX_FILE, &json::canonical(&index)).map_err(&io)?;
        self.sweep(&index).map_err(&io)
    }
}

/// A directory that holds something else is not made a layout.
fn check_place(path: &Path) -> Result<(), CacheError> {
    let names =
        file::list_dir(path).map_err(|source| CacheError::Io { place: shown(path), source })?;
    if names.iter().any(|name| name == LAYOUT_FILE) {
        return Ok(());
    }
    let is_foreign = |name: &&std::ffi::OsString| !name.to_string_lossy().starts_with(UNFINISHED);
    match names.iter().find(is_foreign) {
        Some(found) => Err(CacheError::Occupied {
            path: path.to_owned(),
            found: found.to_string_lossy().into_owned(),
        }),
        None => Ok(()),
    }
}

fn write(dir: &Dir, name: &str, bytes: &[u8]) -> Result<(), IoError> {
    let pending = PendingFile::create(dir, OsStr::new(name), 0o644)?;
    file::write_all(pending.file(), &pending.path(), bytes)?;
    pending.publish()
}
