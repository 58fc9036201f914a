//! What differs from run to run in the files of a step, and matters to nobody, is made the same.
//!
//! - Logs and caches of package managers go: [`SCRUBBED`].
//! - Python's byte code holds the time of its source. That time becomes the epoch when the layer is
//!   sealed, so the one in the byte code follows it: it stays valid, and is the same every time.
//! - `/etc/machine-id` keeps its form, but is made from the step instead of from chance.
//! - conda's log of an environment holds times: [`conda_meta`].
//!
//! What this cannot mend is told by `build --verify`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use corten_oci::digest::Digest;
use corten_oci::tree::TreePath;
use corten_sys::beneath::{Dir, FileKind, Resolve, Root, Stat};
use corten_sys::error::{IoError, at};

use super::conda_meta;
use super::tidy::{remove, stat};
use crate::copy::CopyError;
use crate::diagnose::StepError;
use crate::files::{Files, as_path};

/// Files that a step's layer does not keep, if the step wrote them. A deletion is kept.
///
/// They hold times, process ids, or caches with inode numbers, and every program that reads them
/// makes them anew:
/// - `ldconfig`'s cache of what it has seen, with inodes and times;
/// - what `dpkg`, `update-alternatives` and `apt` did when, also told by the package database;
/// - `apt`'s binary caches, made from its lists whenever they are missing;
/// - the backup that `debconf` and `dpkg` make of a database before they write it.
pub(crate) const SCRUBBED: [&str; 14] = [
    "var/cache/ldconfig/aux-cache",
    "var/log/dpkg.log",
    "var/log/alternatives.log",
    "var/log/bootstrap.log",
    "var/log/apt/history.log",
    "var/log/apt/term.log",
    "var/log/apt/eipp.log.xz",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/debconf/config.dat-old",
    "var/cache/debconf/templates.dat-old",
    "var/lib/dpkg/status-old",
    "var/lib/dpkg/diversions-old",
    "var/lib/dpkg/statoverride-old",
];

/// Where an installation's random name is; dbus has a copy where systemd is not.
const MACHINE_IDS: [&str; 2] = ["etc/machine-id", "var/lib/dbus/machine-id"];

/// The digits of a machine id, machine-id(5).
const MACHINE_ID_DIGITS: usize = 32;

/// The directory in which Python keeps byte code, PEP 3147.
const BYTE_CODE_DIRECTORY: &[u8] = b"__pycache__";

/// Where byte code has the time of its source, in 4 bytes, PEP 552.
const SOURCE_TIME_OFFSET: u64 = 8;

/// The first magic number of byte code with flags: Python 3.7, PEP 552.
const MAGIC_WITH_FLAGS_MIN: u16 = 3390;

/// What a layer is made the same by.
pub(crate) struct Normal<'a> {
    /// Later times become this one when the layer is sealed.
    pub(crate) epoch: i64,
    /// What the step does; chance is replaced by it.
    pub(crate) operation: Digest,
    /// The files of the layers below.
    pub(crate) below: &'a dyn Files,
}

/// Makes the directory that a step wrote to the same for every run, as far as that is possible
/// without harm.
pub(crate) fn normalise(tree: &Path, normal: &Normal<'_>) -> Result<(), StepError> {
    let root = Root::open(tree).map_err(CopyError::from)?;
    for path in SCRUBBED {
        scrub(&root, &clean(path)).map_err(CopyError::from)?;
    }
    for path in MACHINE_IDS {
        replace_machine_id(&root, &clean(path), &normal.operation).map_err(CopyError::from)?;
    }
    below(root.dir(), &TreePath::root(), normal)
}

fn clean(path: &str) -> TreePath {
    TreePath::clean(path.as_bytes()).unwrap_or_else(|_| TreePath::root())
}

fn scrub(root: &Root, path: &TreePath) -> Result<(), IoError> {
    match stat(root, path)? {
        Some(stat) if stat.kind == FileKind::File => remove(root, path),
        _ => Ok(()),
    }
}

/// Replaces a random id by one of the same form; a file that holds none is left alone.
fn replace_machine_id(root: &Root, path: &TreePath, operation: &Digest) -> Result<(), IoError> {
    let Some(stat) = stat(root, path)? else { return Ok(()) };
    let lengths = MACHINE_ID_DIGITS as u64..=MACHINE_ID_DIGITS as u64 + 1;
    if stat.kind != FileKind::File || !lengths.contains(&stat.size_bytes) || stat.links > 1 {
        return Ok(());
    }
    let (directory, name) = root.parent(as_path(path), Resolve::NoLinks)?;
    let file = directory.open_file_to_change(name)?;
    let mut digits = [0; MACHINE_ID_DIGITS];
    file.read_exact_at(&mut digits, 0).map_err(at("read", as_path(path)))?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return Ok(());
    }
    let id = Digest::of(format!("machine-id {operation}").as_bytes()).hex();
    let id = id.get(..MACHINE_ID_DIGITS).unwrap_or_default();
    file.write_all_at(id.as_bytes(), 0).map_err(at("write", as_path(path)))
}

/// Finds what is told by its directory, wherever that is.
fn below(directory: &Dir, path: &TreePath, normal: &Normal<'_>) -> Result<(), StepError> {
    for entry in directory.list().map_err(CopyError::from)? {
        let is_directory = match entry.kind {
            Some(kind) => kind == FileKind::Directory,
            None => is_directory(directory, &entry.name).map_err(CopyError::from)?,
        };
        let Ok(inner_path) = path.join(entry.name.as_bytes()) else { continue };
        if !is_directory {
            continue;
        }
        let inner = directory.open_dir(&entry.name).map_err(CopyError::from)?;
        if entry.name.as_bytes() == BYTE_CODE_DIRECTORY {
            for file in inner.list().map_err(CopyError::from)? {
                follow_source(directory, path, &inner, &file.name, normal)?;
            }
        } else {
            if entry.name.as_bytes() == conda_meta::DIRECTORY {
                conda_meta::follow_epoch(&inner, normal.epoch).map_err(CopyError::from)?;
            }
            below(&inner, &inner_path, normal)?;
        }
    }
    Ok(())
}

fn is_directory(directory: &Dir, name: &OsStr) -> Result<bool, IoError> {
    Ok(directory.stat(name)?.kind == FileKind::Directory)
}

/// Gives byte code the time that its source will have, if it has the one that the source has now.
fn follow_source(
    sources: &Dir,
    path: &TreePath,
    directory: &Dir,
    name: &OsStr,
    normal: &Normal<'_>,
) -> Result<(), StepError> {
    let Some(source) = source_name(name.as_bytes()) else { return Ok(()) };
    let stat = directory.stat(name).map_err(CopyError::from)?;
    // A file with another name somewhere may be a cache's, which is not ours to change.
    if stat.kind != FileKind::File || stat.links > 1 || !(16..=1 << 30).contains(&stat.size_bytes) {
        return Ok(());
    }
    let Some(modified) = source_time(sources, path, &source, normal)? else { return Ok(()) };
    let clamped = modified.min(normal.epoch);
    if clamped == modified {
        return Ok(());
    }
    let shown = directory.path().join(name);
    let file = directory.open_file_to_change(name).map_err(CopyError::from)?;
    let mut header = [0; 12];
    file.read_exact_at(&mut header, 0).map_err(at("read", &shown)).map_err(CopyError::from)?;
    if time_in(&header) != Some(low_bits(modified)) {
        return Ok(());
    }
    file.write_all_at(&low_bits(clamped).to_le_bytes(), SOURCE_TIME_OFFSET)
        .map_err(at("write", &shown))
        .map_err(CopyError::from)?;
    Ok(())
}

/// `name.cpython-311.opt-1.pyc` is of `name.py`.
fn source_name(name: &[u8]) -> Option<Vec<u8>> {
    let name = name.strip_suffix(b".pyc")?;
    let tag = name.windows(9).rposition(|window| window == b".cpython-")?;
    let mut source = name.get(..tag)?.to_vec();
    source.extend(b".py");
    Some(source)
}

/// When a source was changed, in seconds since 1970.
fn source_time(
    sources: &Dir,
    path: &TreePath,
    name: &[u8],
    normal: &Normal<'_>,
) -> Result<Option<i64>, StepError> {
    let is_file = |stat: &Stat| stat.kind == FileKind::File;
    match sources.stat(OsStr::from_bytes(name)) {
        Ok(stat) => return Ok(is_file(&stat).then_some(stat.modified.seconds)),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(CopyError::from(error).into()),
    }
    let Ok(path) = path.join(name) else { return Ok(None) };
    let found = normal.below.find(&path)?;
    Ok(found.filter(|found| is_file(&found.stat)).map(|found| found.stat.modified.seconds))
}

/// The time in the header of byte code: magic, flags, time, size. Byte code that is checked by the
/// hash of its source has none.
fn time_in(header: &[u8; 12]) -> Option<u32> {
    let [low, high, b'\r', b'\n', flags @ .., a, b, c, d] = header else { return None };
    let has_flags = u16::from_le_bytes([*low, *high]) >= MAGIC_WITH_FLAGS_MIN;
    (has_flags && *flags == [0; 4]).then(|| u32::from_le_bytes([*a, *b, *c, *d]))
}

/// As Python writes a time: its low 32 bits.
fn low_bits(seconds: i64) -> u32 {
    let [a, b, c, d, ..] = seconds.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_code_names_its_source() {
        let name = |text: &str| {
            source_name(text.as_bytes()).map(|name| String::from_utf8_lossy(&name).into_owned())
        };
        assert_eq!(name("a.cpython-311.pyc").as_deref(), Some("a.py"));
        assert_eq!(name("a.b.cpython-313.opt-2.pyc").as_deref(), Some("a.b.py"));
        assert_eq!(name("a.pyc"), None);
        assert_eq!(name("a.cpython-311.so"), None);
    }

    #[test]
    fn only_byte_code_that_is_checked_by_time_has_one() {
        // The magic number of Python 3.11 is 3495.
        let header = |magic: u16, flags: u32| {
            let [low, high] = magic.to_le_bytes();
            let mut header = [low, high, b'\r', b'\n', 0, 0, 0, 0, 1, 2, 0, 0];
            header[4..8].copy_from_slice(&flags.to_le_bytes());
            header
        };
        assert_eq!(time_in(&header(3495, 0)), Some(0x201));
        assert_eq!(time_in(&header(3495, 0b11)), None);
        assert_eq!(time_in(&header(3379, 0)), None);
        assert_eq!(time_in(b"#!/bin/sh -e"), None);
    }
}
