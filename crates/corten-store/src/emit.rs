//! From the items of a walk to the canonical tar.
//!
//! Files are opened and small ones read by several threads, some hundreds at a time, while one thread
//! writes (and mostly that means: hashes) those before them in their order.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::mpsc::sync_channel;

use corten_oci::tar::{EntryKind, TarError, Writer};
use corten_oci::tree::{Meta, TreePath};
use corten_sys::beneath::{FileKind, Resolve, Root};
use corten_sys::error::IoError;

use crate::error::StoreError;
use crate::walk::{Fix, Item, Marks, Xattrs, file_xattrs};

/// Large files pass through memory in pieces of this size.
const BUFFER_BYTES: usize = 256 * 1024;

/// Files up to this size are read ahead; what is ahead takes 16 MiB of memory at most.
const AHEAD_BYTES_MAX: u64 = 64 * 1024;

/// How many items are read ahead together.
const AHEAD_ITEMS: usize = 256;

/// How many threads read ahead: more than one writer can use on any machine measured.
const READERS_MAX: usize = 3;

/// Fewer items than this are not worth waking threads for.
const PARALLEL_ITEMS_MIN: usize = 64;

/// What was found, summed up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) entries: u64,
    pub(crate) files: u64,
    pub(crate) content_bytes: u64,
}

/// Where the files are, and how overlayfs marks them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) root: &'a Root,
    pub(crate) marks: Marks,
    pub(crate) fix: Option<Fix<'a>>,
}

/// A file that is about to be written.
enum Ahead {
    /// What is no file needs nothing.
    Nothing,
    /// A second name of a file.
    Link(Xattrs),
    Read(Xattrs, Vec<u8>),
    Open(Xattrs, File),
}

/// Writes the canonical tar of listed items; returns their sums and the size of the tar.
pub(crate) fn write_tar(
    source: Source<'_>,
    items: &[Item],
    out: &mut dyn Write,
) -> Result<(Totals, u64), StoreError> {
    let mut emitter = Emitter::new(out);
    if items.len() < PARALLEL_ITEMS_MIN {
        for item in items {
            emitter.item(item, source.ahead(item)?)?;
        }
    } else {
        emitter.with_readers_ahead(source, items)?;
    }
    let (_, bytes) = emitter.writer.finish()?;
    Ok((emitter.totals, bytes))
}

/// Writes one tar of the items of several trees, each below a directory of its own or all at the
/// top, where a directory that several of them have is that of the first. Returns the size of the
/// tar. Items of a tree may come from several sources.
pub(crate) fn write_merged_tar<'a, I>(
    trees: impl Iterator<Item = (Option<&'a str>, I)>,
    out: &mut dyn Write,
) -> Result<u64, StoreError>
where
    I: Iterator<Item = (Source<'a>, &'a Item)>,
{
    let mut emitter = Emitter::new(out);
    let mut directories: BTreeSet<&[u8]> = BTreeSet::new();
    for (below, items) in trees {
        emitter.below = Vec::new();
        if let Some(name) = below {
            let meta = Meta { mode: 0o755, ..Meta::default() };
            let kind = EntryKind::Directory { opaque: false };
            emitter.writer.entry(&TreePath::new(name.as_bytes())?, &meta, &kind)?;
            emitter.below = [name.as_bytes(), b"/"].concat();
        }
        for (source, item) in items {
            let is_directory = item.stat.kind == FileKind::Directory;
            if is_directory && below.is_none() && !directories.insert(&item.path) {
                continue;
            }
            emitter.item(item, source.ahead(item)?)?;
        }
    }
    Ok(emitter.writer.finish()?.1)
}

impl Source<'_> {
    fn ahead(self, item: &Item) -> Result<Ahead, StoreError> {
        if item.stat.kind != FileKind::File {
            return Ok(Ahead::Nothing);
        }
        let shown = Path::new(OsStr::from_bytes(&item.path));
        let mut file = self.root.open_file(shown, Resolve::NoLinks)?;
        let xattrs = file_xattrs(&file, &item.path, self.marks, self.fix)?;
        if item.link.is_some() {
            return Ok(Ahead::Link(xattrs));
        }
        let size = item.stat.size_bytes;
        if size > AHEAD_BYTES_MAX {
            return Ok(Ahead::Open(xattrs, file));
        }
        let mut content = vec![0; usize::try_from(size).unwrap_or_default()];
        file.read_exact(&mut content).map_err(|source| changed_or_failed(item, source))?;
        Ok(Ahead::Read(xattrs, content))
    }
}

/// A file that is shorter than it was said to be was changed meanwhile.
fn changed_or_failed(item: &Item, source: io::Error) -> StoreError {
    if source.kind() == io::ErrorKind::UnexpectedEof
        && let Ok(path) = TreePath::new(&item.path)
    {
        return TarError::ContentSize { path }.into();
    }
    IoError::new("read", OsStr::from_bytes(&item.path), source).into()
}

struct Emitter<'a> {
    writer: Writer<&'a mut dyn Write>,
    /// Where in the tar the items are: nothing, or a path with a slash at its end.
    below: Vec<u8>,
    buffer: Vec<u8>,
    totals: Totals,
}

impl<'a> Emitter<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        let writer = Writer::new(out);
        Self { writer, below: Vec::new(), buffer: Vec::new(), totals: Totals::default() }
    }

    /// Where in the tar something is.
    fn place(&self, path: &[u8]) -> Vec<u8> {
        [self.below.as_slice(), path].concat()
    }

    /// Writes on this thread what others read ahead: the first of n threads reads the first chunk,
    /// the n-th plus first and so on.
    ///
    /// These are threads of their own and not those of rayon: this may itself run on one of rayon's,
    /// and waiting there for work that only the others can do has no end once all of them wait.
    fn with_readers_ahead(&mut self, source: Source<'_>, items: &[Item]) -> Result<(), StoreError> {
        let readers = std::thread::available_parallelism().map_or(1, usize::from) - 1;
        let readers = readers.clamp(1, READERS_MAX);
        std::thread::scope(|scope| {
            let mut receivers = Vec::new();
            for reader in 0..readers {
                let (send, receive) = sync_channel(1);
                receivers.push(receive);
                scope.spawn(move || {
                    for chunk in items.chunks(AHEAD_ITEMS).skip(reader).step_by(readers) {
                        let ahead: Result<Vec<Ahead>, StoreError> =
                            chunk.iter().map(|item| source.ahead(item)).collect();
                        // Nobody receives any more once writing has failed.
                        if send.send(ahead).is_err() {
                            return;
                        }
                    }
                });
            }
            for (chunk, receive) in items.chunks(AHEAD_ITEMS).zip(receivers.iter().cycle()) {
                // A reader ends early only after a failure that it has sent.
                let Ok(ahead) = receive.recv() else { break };
                chunk.iter().zip(ahead?).try_for_each(|(item, ahead)| self.item(item, ahead))?;
            }
            Ok(())
        })
    }

    fn item(&mut self, item: &Item, ahead: Ahead) -> Result<(), StoreError> {
        self.totals.entries += 1;
        let path = TreePath::new(&self.place(&item.path))?;
        let (major, minor) = item.stat.represents;
        let kind = match item.stat.kind {
            FileKind::File => return self.file(item, &path, ahead),
            FileKind::Directory => EntryKind::Directory { opaque: item.opaque },
            FileKind::Symlink => EntryKind::Symlink(item.target.clone()),
            FileKind::CharDevice if (major, minor) == (0, 0) => EntryKind::Whiteout,
            FileKind::CharDevice => EntryKind::CharDevice { major, minor },
            FileKind::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileKind::Fifo => EntryKind::Fifo,
            // The walk leaves sockets out.
            FileKind::Socket => return Ok(()),
        };
        Ok(self.writer.entry(&path, &item.meta(), &kind)?)
    }

    fn file(&mut self, item: &Item, path: &TreePath, ahead: Ahead) -> Result<(), StoreError> {
        let size = item.stat.size_bytes;
        let mut meta = item.meta();
        match ahead {
            // Only what is no file needs nothing.
            Ahead::Nothing => Ok(()),
            Ahead::Link(xattrs) => {
                meta.xattrs = xattrs;
                let kind =
                    EntryKind::Hardlink(self.place(item.link.as_deref().unwrap_or_default()));
                Ok(self.writer.entry(path, &meta, &kind)?)
            }
            Ahead::Read(xattrs, content) => {
                meta.xattrs = xattrs;
                self.count(size);
                self.writer.entry(path, &meta, &EntryKind::File { size })?;
                Ok(self.writer.content(&content)?)
            }
            Ahead::Open(xattrs, file) => {
                meta.xattrs = xattrs;
                self.count(size);
                self.writer.entry(path, &meta, &EntryKind::File { size })?;
                self.stream(item, file)
            }
        }
    }

    fn count(&mut self, size: u64) {
        self.totals.files += 1;
        self.totals.content_bytes += size;
    }

    fn stream(&mut self, item: &Item, mut file: File) -> Result<(), StoreError> {
        self.buffer.resize(BUFFER_BYTES, 0);
        let mut left = item.stat.size_bytes;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let piece = self.buffer.get_mut(..want).unwrap_or_default();
            file.read_exact(piece).map_err(|source| changed_or_failed(item, source))?;
            self.writer.content(piece)?;
            left -= want as u64;
        }
        Ok(())
    }
}
