//! Layer tars: a canonical writer, and a reader for what others write.
//!
//! # The canonical form
//!
//! - Entries come in the order of the bytes of their paths in the tree, so a directory comes before
//!   what is in it. The root directory itself has no entry.
//! - Headers are ustar; a PAX header comes before an entry only when ustar cannot hold a value: a
//!   name that does not fit or is not ASCII, a size of 8 GiB or more, a negative or huge time, an id
//!   of 2²¹ or more, extended attributes (`SCHILY.xattr.`). Its records are sorted.
//! - User and group names are empty and device numbers of what is no device are zero.
//! - Times are whole seconds.
//! - A whiteout of `a/b` is the empty file `a/.wh.b` at the place of `a/b`; an opaque directory is
//!   followed by the empty file `.wh..wh..opq` in it. Both have mode, owner and time zero.
//! - Of the names of one file, the first in order is the file and the others are hard links to it.
//! - Two blocks of zeros end it, without further padding.
//!
//! Changing any of this changes the digest of every image. The golden digest in the tests is there
//! so that it does not happen unnoticed.

mod header;
mod pax;
mod reader;
mod sparse;
mod tree;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{Header, Limits, Reader};
pub use sparse::Region;
pub use tree::{KeepContent, OpenContent};
pub use writer::Writer;

use std::io;

use crate::tree::{PathError, TreePath};

/// The unit of the format.
pub const BLOCK_BYTES: usize = 512;

/// What precedes the name that a whiteout hides.
pub const WHITEOUT_PREFIX: &[u8] = b".wh.";

/// The name of the file that makes its directory opaque.
pub const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// The PAX key prefix of extended attributes.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory {
        /// Written as a marker after it; never set by the reader, which reports the marker.
        opaque: bool,
    },
    /// A regular file.
    File {
        /// The size of the content in bytes.
        size: u64,
    },
    /// A symbolic link with its target.
    Symlink(Vec<u8>),
    /// A hard link with the path of the file.
    Hardlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// The major number.
        major: u32,
        /// The minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A whiteout; never made by the reader, which reports the file that stands for it.
    Whiteout,
}

/// What the name of an entry means for the layers below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker<'a> {
    /// Hides this name in the same directory.
    Whiteout(&'a [u8]),
    /// Hides everything that the directory has in the layers below.
    Opaque,
    /// Other names that begin with `.wh..wh.` belong to AUFS and are ignored.
    Reserved,
}

/// Returns what a name means, or `None` for an ordinary one.
pub fn marker(name: &[u8]) -> Option<Marker<'_>> {
    if name == OPAQUE_MARKER {
        return Some(Marker::Opaque);
    }
    let hidden = name.strip_prefix(WHITEOUT_PREFIX)?;
    if hidden.is_empty() || hidden == b"." || hidden == b".." || hidden.starts_with(WHITEOUT_PREFIX)
    {
        return Some(Marker::Reserved);
    }
    Some(Marker::Whiteout(hidden))
}

/// A tar that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream could not be read.
    #[error("failed to read the tar at byte {offset}")]
    Read {
        /// The position in the tar.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stream could not be written.
    #[error("failed to write the layer tar")]
    Write(#[source] io::Error),
    /// The stream ends within an entry.
    #[error("the tar ends too early, at byte {offset}")]
    Truncated {
        /// The position in the tar.
        offset: u64,
    },
    /// A header does not have the sum that it states, so this is no tar or a damaged one.
    #[error("the tar has a damaged header at byte {offset}")]
    Checksum {
        /// The position of the header.
        offset: u64,
    },
    /// A field cannot be understood.
    #[error("the tar has an invalid {field} in the header at byte {offset}")]
    Field {
        /// Which field.
        field: &'static str,
        /// The position of the header.
        offset: u64,
    },
    /// A kind of entry that has no meaning in a layer.
    #[error("the tar has an entry of unsupported type `{kind}` at byte {offset}: `{path}`")]
    UnsupportedEntry {
        /// The type flag.
        kind: String,
        /// The name of the entry.
        path: String,
        /// The position of the header.
        offset: u64,
    },
    /// Something is beyond its named maximum.
    #[error("the tar is beyond a limit at byte {offset}: {what}")]
    Limit {
        /// What is too large or too many, with the maximum.
        what: &'static str,
        /// The position.
        offset: u64,
    },
    /// A name is not a path.
    #[error("the tar has an invalid path")]
    Path(#[from] PathError),
    /// An entry is below something that is no directory.
    #[error("the tar has the entry `{path}` below something that is no directory")]
    NotInDirectory {
        /// The entry.
        path: TreePath,
    },
    /// A hard link leads to nothing in this tar.
    #[error("the tar has the hard link `{path}` to `{target}`, which is no file in it")]
    LinkTarget {
        /// The link.
        path: TreePath,
        /// Where it points.
        target: String,
    },
    /// Our own code wrote entries in the wrong order.
    #[error("the entry `{path}` comes after `{previous}`, but a canonical tar is sorted")]
    Order {
        /// The entry.
        path: TreePath,
        /// The one before.
        previous: TreePath,
    },
    /// The content that was written is not as long as the header says.
    #[error("the content of `{path}` has another size than its header: the file changed meanwhile")]
    ContentSize {
        /// The entry.
        path: TreePath,
    },
    /// Content that is not in memory was asked for where only content in memory can be written.
    #[error("the content of `{path}` is not in memory")]
    ExternalContent {
        /// The entry.
        path: TreePath,
    },
}
