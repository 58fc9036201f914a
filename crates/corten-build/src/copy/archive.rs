//! `ADD` of a local archive.
//!
//! The archive is read into a [`Draft`]: its names and links are resolved in memory, as if the
//! directory that it is unpacked into were `/`, and only then something is written. So an archive
//! cannot reach anything outside of that directory, whatever it contains.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use corten_oci::limits;
use corten_oci::tar::{EntryKind, Header, Reader, TarError};
use corten_oci::tree::{Meta, TreePath};
use corten_sys::error::{IoError, at};
use corten_sys::file;

use super::CopyError;
use super::draft::{Data, Draft, Node, NodeKind, Seen};
use crate::files::{FilesError, Found, join};

/// What an archive may always expand to; beyond it the ratio counts.
const EXPANDED_BYTES_ALWAYS: u64 = 1 << 30;

const BUFFER_BYTES: usize = 256 * 1024;

/// Small files stay in memory until they are written.
const INLINE_BYTES_MAX: u64 = 64 * 1024;

/// Files in memory stop being kept there at this sum.
const INLINE_TOTAL_BYTES_MAX: u64 = 64 << 20;

/// What begins a compressed stream.
const MAGICS: [(&[u8], Compression); 4] = [
    (&[0x1f, 0x8b, 0x08], Compression::Gzip),
    (b"BZh", Compression::Bzip2),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0x00], Compression::Xz),
    (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

/// Why an archive cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("the archive is damaged")]
    Tar(#[from] TarError),
    #[error("the archive has the entry `{path}`, which leads out of it")]
    Escape { path: String },
    #[error("the archive has the hard link `{path}` to `{target}`, which is no file")]
    LinkTarget { path: String, target: String },
    #[error("the archive has the entry `{path}`, which would be a deletion mark in an image")]
    Mark { path: String },
    #[error("the archive has the entry `{path}`, which is a device or a pipe")]
    Special { path: String },
    #[error("the archive expands to more than {limit_bytes} bytes")]
    TooLarge { limit_bytes: u64 },
    #[error("failed to read the archive")]
    Read(#[source] std::io::Error),
}

/// Says whether a file is a tar, plain or compressed, as Docker finds out: by looking at it.
pub(super) fn is_archive(found: &Found) -> Result<bool, CopyError> {
    Ok(is_tar(found.open_file()?))
}

/// Says whether a file is a build context: a tar, or anything that is compressed.
pub(super) fn is_context(mut file: File) -> Result<bool, CopyError> {
    let compression = compression(&mut file).map_err(ArchiveError::Read)?;
    Ok(compression != Compression::None || is_tar(file))
}

fn is_tar(file: File) -> bool {
    let Ok(stream) = decompress(file) else { return false };
    let mut reader = Reader::new(BufReader::new(stream));
    matches!(reader.next_entry(), Ok(Some(_)))
}

/// Unpacks an archive into a directory of the draft. `spool` is an empty directory of ours.
pub(super) fn unpack(
    found: &Found,
    draft: &mut Draft<'_>,
    dest: &TreePath,
    rules: &Rules<'_>,
    spool: &mut Spool,
) -> Result<(), CopyError> {
    let archive = (found.open_file()?, found.stat.size_bytes);
    unpack_file(archive, draft, dest, rules, spool)
}

/// Unpacks an open archive of a known size.
pub(super) fn unpack_file(
    (file, compressed): (File, u64),
    draft: &mut Draft<'_>,
    dest: &TreePath,
    rules: &Rules<'_>,
    spool: &mut Spool,
) -> Result<(), CopyError> {
    let limit_bytes =
        compressed.saturating_mul(limits::EXPANSION_RATIO_MAX).max(EXPANDED_BYTES_ALWAYS);
    let stream = decompress(file).map_err(ArchiveError::Read)?;
    let mut reader = Reader::new(BufReader::with_capacity(BUFFER_BYTES, stream));
    let mut expanded: u64 = 0;
    while let Some(header) = reader.next_entry().map_err(ArchiveError::from)? {
        if let EntryKind::File { size } = header.kind {
            expanded = expanded.saturating_add(size);
        }
        if expanded > limit_bytes {
            return Err(ArchiveError::TooLarge { limit_bytes }.into());
        }
        Unpack { draft, dest, rules, spool }.entry(header, &mut reader)?;
    }
    Ok(())
}

/// What unpacked files get instead of what the archive says.
pub(super) struct Rules<'a> {
    pub(super) owner: Option<(u32, u32)>,
    pub(super) special: Special,
    /// For directories that the archive does not mention.
    pub(super) made: &'a Meta,
}

/// What becomes of devices and pipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Make,
    Refuse,
}

/// Where contents wait until they are moved into place.
pub(super) struct Spool {
    directory: PathBuf,
    count: u64,
    in_memory_bytes: u64,
}

impl Spool {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), count: 0, in_memory_bytes: 0 }
    }

    fn take(&mut self, size: u64, content: &mut dyn Read) -> Result<Data, CopyError> {
        if size <= INLINE_BYTES_MAX && self.in_memory_bytes + size <= INLINE_TOTAL_BYTES_MAX {
            self.in_memory_bytes += size;
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
            content.read_to_end(&mut bytes).map_err(ArchiveError::Read)?;
            return Ok(Data::Bytes(bytes));
        }
        self.count += 1;
        let path = self.directory.join(self.count.to_string());
        let mut to = file::create_new(&path, 0o600)?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = content.read(&mut buffer).map_err(ArchiveError::Read)?;
            let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
            to.write_all(bytes).map_err(at("write", &path))?;
        }
        Ok(Data::Spooled(path))
    }
}

struct Unpack<'a, 'd> {
    draft: &'a mut Draft<'d>,
    dest: &'a TreePath,
    rules: &'a Rules<'a>,
    spool: &'a mut Spool,
}

impl Unpack<'_, '_> {
    fn entry(&mut self, header: Header, content: &mut dyn Read) -> Result<(), CopyError> {
        let Some((parent, name)) = place(&header.path)? else { return Ok(()) };
        let parent = self.draft.resolve(self.dest, &parent)?;
        self.draft.make_dirs(&parent, self.rules.made)?;
        let path = join(&parent, &name)?;
        if corten_oci::tar::marker(&name).is_some() {
            return Err(ArchiveError::Mark { path: lossy(&header.path) }.into());
        }
        let mut meta = header.meta;
        meta.xattrs.retain(|name, _| is_kept(name));
        if let Some((uid, gid)) = self.rules.owner {
            (meta.uid, meta.gid) = (uid, gid);
        }
        let kind = match header.kind {
            EntryKind::Directory { .. } => return self.directory(path, meta),
            EntryKind::File { size } => NodeKind::File(self.spool.take(size, content)?),
            EntryKind::Symlink(target) => NodeKind::Symlink(target),
            EntryKind::Hardlink(target) => return self.hard_link(path, &target),
            EntryKind::CharDevice { major: 0, minor: 0 } | EntryKind::Whiteout => {
                return Err(ArchiveError::Mark { path: lossy(&header.path) }.into());
            }
            EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo
                if self.rules.special == Special::Refuse =>
            {
                return Err(ArchiveError::Special { path: lossy(&header.path) }.into());
            }
            EntryKind::CharDevice { major, minor } => NodeKind::CharDevice(major, minor),
            EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice(major, minor),
            EntryKind::Fifo => NodeKind::Fifo,
        };
        self.draft.put(path, Node { meta, kind })
    }

    /// A directory joins one that is there; anything else is replaced, a link too.
    fn directory(&mut self, path: TreePath, meta: Meta) -> Result<(), CopyError> {
        if self.draft.look(&path)? == Some(Seen::Directory) {
            return self.draft.change_directory(&path, |old| *old = meta);
        }
        self.draft.put(path, Node { meta, kind: NodeKind::Directory { opaque: false } })
    }

    fn hard_link(&mut self, path: TreePath, target: &[u8]) -> Result<(), CopyError> {
        let missing = || ArchiveError::LinkTarget { path: path.to_string(), target: lossy(target) };
        let (parent, name) = place(target)?.ok_or_else(missing)?;
        let parent = self.draft.resolve(self.dest, &parent)?;
        let mut to = join(&parent, &name)?;
        if to == path {
            return Ok(());
        }
        if self.draft.node(&to).is_none() && !self.draft.take_up_file(&to)? {
            return Err(missing().into());
        }
        let node = self.draft.node(&to).ok_or_else(missing)?;
        let node = match &node.kind {
            NodeKind::Directory { .. } => return Err(missing().into()),
            NodeKind::File(_) => {
                Node { meta: node.meta.clone(), kind: NodeKind::Hardlink(to.clone()) }
            }
            NodeKind::Hardlink(first) => {
                to = first.clone();
                Node { meta: node.meta.clone(), kind: NodeKind::Hardlink(to) }
            }
            _ => node.clone(),
        };
        self.draft.put(path, node)
    }
}

/// A directory and a name in it.
type Split = (Vec<u8>, Vec<u8>);

/// Splits a name of an archive into its directory and its last component; none for the directory
/// that is unpacked into. `..` may not lead out.
fn place(path: &[u8]) -> Result<Option<Split>, CopyError> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop().ok_or_else(|| ArchiveError::Escape { path: lossy(path) })?;
            }
            part => parts.push(part),
        }
    }
    let Some(name) = parts.pop() else { return Ok(None) };
    if parts.len() > limits::DIRECTORY_DEPTH_MAX {
        let path = TreePath::clean(name).unwrap_or_else(|_| TreePath::root());
        return Err(FilesError::Depth { path }.into());
    }
    Ok(Some((parts.join(&b'/'), name.to_vec())))
}

/// The attributes that belong to images.
fn is_kept(name: &[u8]) -> bool {
    name == b"security.capability"
        || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A stream without its compression, which is known by its first bytes.
fn decompress(mut file: File) -> std::io::Result<Box<dyn Read>> {
    let compression = compression(&mut file)?;
    let input = BufReader::with_capacity(BUFFER_BYTES, file);
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
        Compression::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(input)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
    })
}

/// How a file is compressed; its position is its beginning afterwards.
fn compression(file: &mut File) -> std::io::Result<Compression> {
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    Read::by_ref(file).take(8).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;
    let known = MAGICS.iter().find(|(magic, _)| head.starts_with(magic));
    Ok(known.map_or(Compression::None, |(_, compression)| *compression))
}

impl From<ArchiveError> for CopyError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(Box::new(error))
    }
}

impl From<IoError> for CopyError {
    fn from(error: IoError) -> Self {
        Self::Write(error)
    }
}
