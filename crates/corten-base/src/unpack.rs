//! One package, unpacked: its control files in memory, its content in the spool.

use std::io::Read;

use corten_oci::limits;
use corten_oci::tar::{self, EntryKind, TarError};
use corten_oci::tree::{Content, Kind, Meta, PathError, TreePath};
use corten_sys::error::IoError;

use crate::deb::{Control, Deb, DebError};
use crate::deb822;
use crate::filter::Filter;
use crate::spool::{Pen, Spool};

/// A package as it is merged into an image.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// The name.
    pub(crate) name: String,
    /// The version.
    pub(crate) version: String,
    /// The architecture, or `all`.
    pub(crate) architecture: String,
    /// Whether files of the package database carry the architecture in their names.
    pub(crate) is_multiarch_same: bool,
    /// The control files.
    pub(crate) control: Control,
    /// What goes into the image, in the order of the package.
    pub(crate) entries: Vec<Entry>,
    /// All paths of the package, as the database lists them; excluded ones too.
    pub(crate) listed: Vec<Vec<u8>>,
    /// False if only some of its files were wanted, so that the database must not list it.
    pub(crate) is_installed: bool,
}

/// One file of a package.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) path: TreePath,
    pub(crate) meta: Meta,
    pub(crate) kind: Kind,
    /// False for a directory that is excluded but may be needed for what is in it.
    pub(crate) included: bool,
}

/// A package that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The file is damaged.
    #[error(transparent)]
    Deb(#[from] DebError),
    /// A path in it cannot be used.
    #[error("a path in the package is not usable")]
    Path(#[from] PathError),
    /// It has more files than any package.
    #[error("the package has more than {} files", limits::TAR_ENTRIES_MAX)]
    TooMany,
    /// The disk did not take its content.
    #[error("failed to keep the content of the package")]
    Spool(#[from] IoError),
    /// The description in it is not the one of the index.
    #[error("the package says that it is `{found}`, but the index lists it as `{expected}`")]
    Identity {
        /// What the index says.
        expected: String,
        /// What the package says.
        found: String,
    },
}

/// What the index says about a package.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'i> {
    pub(crate) name: &'i str,
    pub(crate) version: &'i str,
    pub(crate) architecture: &'i str,
}

/// Unpacks a package into the spool.
pub(crate) fn unpack(
    package: impl Read,
    expected: &Identity<'_>,
    filter: &Filter,
    spool: &Spool,
) -> Result<Unpacked, UnpackError> {
    let (deb, control) = Deb::open(package)?;
    let fields = deb822::paragraphs(&control.control).next().unwrap_or_default();
    let own = |name| fields.text(name).to_owned();
    let (name, version, architecture) = (own("Package"), own("Version"), own("Architecture"));
    let identity =
        |name: &str, version: &str, architecture: &str| format!("{name} {version} {architecture}");
    let found = identity(&name, &version, &architecture);
    let expected = identity(expected.name, expected.version, expected.architecture);
    if found != expected {
        return Err(UnpackError::Identity { expected, found });
    }
    let is_multiarch_same = fields.text("Multi-Arch") == "same";
    let mut pen = spool.take_pen()?;
    let mut contents = Contents { filter, pen: &mut pen, entries: Vec::new(), listed: Vec::new() };
    deb.data(|tar| contents.read(tar))?;
    let Contents { entries, listed, .. } = contents;
    spool.put_pen(pen)?;
    let is_installed = true;
    Ok(Unpacked {
        name,
        version,
        architecture,
        is_multiarch_same,
        control,
        entries,
        listed,
        is_installed,
    })
}

struct Contents<'c> {
    filter: &'c Filter,
    pen: &'c mut Pen,
    entries: Vec<Entry>,
    listed: Vec<Vec<u8>>,
}

impl Contents<'_> {
    fn read<R: Read>(&mut self, tar: &mut tar::Reader<R>) -> Result<(), UnpackError> {
        let member = "data.tar";
        let tar_error = |source: TarError| DebError::Tar { member, source };
        while let Some(header) = tar.next_entry().map_err(tar_error)? {
            let path = TreePath::clean(&header.path)?;
            if path.is_root() {
                self.listed.push(b"/.".to_vec());
                continue;
            }
            let absolute = [b"/", path.as_bytes()].concat();
            let included = self.filter.includes(&absolute);
            self.listed.push(absolute);
            let is_directory = matches!(header.kind, EntryKind::Directory { .. });
            if !included && !is_directory {
                continue;
            }
            if self.entries.len() as u64 >= limits::TAR_ENTRIES_MAX {
                return Err(UnpackError::TooMany);
            }
            let kind = match header.kind {
                EntryKind::Directory { .. } => Kind::Directory { opaque: false },
                EntryKind::File { size: 0 } => {
                    Kind::File(Content::Inline(std::sync::Arc::from([])))
                }
                EntryKind::File { size } => {
                    let kept = self.pen.keep(tar, size);
                    Kind::File(kept.map_err(|source| DebError::Stream { member, source })?)
                }
                EntryKind::Symlink(target) => Kind::Symlink(target),
                EntryKind::Hardlink(target) => Kind::Hardlink(TreePath::clean(&target)?),
                EntryKind::CharDevice { major, minor } => Kind::CharDevice { major, minor },
                EntryKind::BlockDevice { major, minor } => Kind::BlockDevice { major, minor },
                EntryKind::Fifo => Kind::Fifo,
                EntryKind::Whiteout => continue,
            };
            self.entries.push(Entry { path, meta: header.meta, kind, included });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deb::tests::deb;

    #[test]
    fn excluded_files_are_listed_but_not_unpacked() {
        let folder =
            std::env::temp_dir().join(format!("corten-unpack-{}", corten_sys::random::name()));
        corten_sys::file::create_dirs(&folder, 0o700).unwrap();
        let spool = Spool::new(&folder);
        let control = "Package: a\nVersion: 1\nArchitecture: all\nMulti-Arch: same\n";
        let package = deb(
            &[("control", 0o644, control)],
            &[
                ("usr/", 0o755, ""),
                ("usr/doc/", 0o755, ""),
                ("usr/doc/a", 0o644, "text"),
                ("usr/b", 0o644, "b"),
            ],
            5,
        );
        let filter = Filter::new(&["/usr/doc/*".into()], &[]);
        let identity = Identity { name: "a", version: "1", architecture: "all" };
        let unpacked = unpack(package.as_slice(), &identity, &filter, &spool).unwrap();
        let names: Vec<String> =
            unpacked.entries.iter().map(|entry| entry.path.to_string()).collect();
        assert_eq!(names, ["usr", "usr/b", "usr/doc"]);
        assert_eq!(unpacked.listed.len(), 4);
        assert!(unpacked.is_multiarch_same);
        let other = Identity { version: "2", ..identity };
        let error = unpack(package.as_slice(), &other, &filter, &spool).unwrap_err().to_string();
        assert_eq!(
            error,
            "the package says that it is `a 1 all`, but the index lists it as `a 2 all`"
        );
        corten_sys::file::remove_tree(&folder).unwrap();
    }
}
