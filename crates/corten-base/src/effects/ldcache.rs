//! The cache of the dynamic linker, byte for byte as `ldconfig` of Debian's glibc writes it.
//!
//! Directories for kinds of processors (`glibc-hwcaps`) are not read: no package of our recipes has
//! one, and a program that could use such a library gets the one for every processor.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use corten_oci::tree::{Kind, TreePath};

use super::{Context, EffectError, elf, of};
use crate::rootfs::{Rootfs, RootfsError};
use crate::version;

const EFFECT: &str = "ldcache";

/// Includes in configuration files may not nest deeper.
const INCLUDE_DEPTH_MAX: u32 = 8;

/// One line of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    soname: String,
    path: String,
    flags: u32,
}

/// Writes `/etc/ld.so.cache`, and the links by soname that are missing.
pub(super) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    let Some(libc) = context.package("libc-bin") else { return Ok(()) };
    let generator = generator(&libc.version);
    let entries = entries(context).or_else(of(EFFECT))?;
    let cache = write(&entries, &generator);
    let rootfs = &mut *context.rootfs;
    rootfs.write("etc/ld.so.cache", cache, 0o644).or_else(of(EFFECT))
}

/// How ldconfig names itself in the cache.
fn generator(version: &str) -> String {
    let version_without_epoch = version.split_once(':').map_or(version, |(_, version)| version);
    let upstream = version::upstream(version);
    format!("ldconfig (Debian GLIBC {version_without_epoch}) stable release version {upstream}")
}

fn entries(context: &mut Context<'_, '_>) -> Result<Vec<Entry>, RootfsError> {
    let mut folders = Vec::new();
    configured(context.rootfs, "etc/ld.so.conf", 0, &mut folders)?;
    let triplet = context.triplet();
    folders.extend([
        format!("/lib/{triplet}"),
        format!("/usr/lib/{triplet}"),
        "/lib".into(),
        "/usr/lib".into(),
    ]);
    let mut entries = Vec::new();
    // Folders that are one behind links are read once, under the name that comes first.
    let mut seen = BTreeSet::new();
    for folder in &folders {
        let Some(real) = context.rootfs.resolve(folder.trim_start_matches('/')) else { continue };
        if seen.insert(real.clone()) {
            entries.extend(libraries(context.rootfs, folder, &real)?);
        }
    }
    // Stable: of equal lines the folder that came first wins.
    entries.sort_by(|left, right| {
        compare_names(&right.soname, &left.soname).then_with(|| right.flags.cmp(&left.flags))
    });
    Ok(entries)
}

fn configured(
    rootfs: &Rootfs<'_>,
    path: &str,
    depth: u32,
    folders: &mut Vec<String>,
) -> Result<(), RootfsError> {
    let Some(text) = rootfs.read_text(path)?.filter(|_| depth < INCLUDE_DEPTH_MAX) else {
        return Ok(());
    };
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim_ascii();
        if let Some(pattern) =
            line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t']))
        {
            let pattern = pattern.trim_ascii().trim_start_matches('/');
            let (folder, names) = pattern.rsplit_once('/').unwrap_or(("etc", pattern));
            for name in rootfs.list(folder) {
                if crate::filter::matches(names.as_bytes(), &name) {
                    let name = String::from_utf8_lossy(&name).into_owned();
                    configured(rootfs, &format!("{folder}/{name}"), depth + 1, folders)?;
                }
            }
        } else if line.starts_with('/') {
            folders.push(line.trim_end_matches('/').to_owned());
        }
    }
    Ok(())
}

/// The libraries of one folder, by soname. A file is preferred to a link, and of two files the one
/// with the larger version in its name.
fn libraries(
    rootfs: &mut Rootfs<'_>,
    folder: &str,
    real: &TreePath,
) -> Result<Vec<Entry>, RootfsError> {
    struct Found {
        name: String,
        is_link: bool,
        flags: u32,
    }
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    for name in rootfs.list(&real.to_string()) {
        let Ok(name) = String::from_utf8(name) else { continue };
        let candidate =
            (name.starts_with("lib") || name.starts_with("ld-")) && name.contains(".so");
        if !candidate
            || name.ends_with("-gdb.py")
            || name.ends_with(".dpkg-new")
            || name.ends_with(".dpkg-tmp")
        {
            continue;
        }
        let path = format!("{real}/{name}");
        let mut is_link = matches!(
            rootfs.tree().get(&rootfs.locate(&path)?).map(|node| &node.kind),
            Some(Kind::Symlink(_))
        );
        let Some(target) = rootfs.resolve(&path) else {
            // Links of libraries that are gone are removed.
            if is_link && name.contains(".so.") {
                rootfs.remove(&path)?;
            }
            continue;
        };
        if !rootfs.head(&target, 4)?.starts_with(b"\x7fELF") {
            continue;
        }
        let Some(bytes) = rootfs.read(&path)? else { continue };
        let Some(library) = elf::library(&bytes) else { continue };
        let mut soname = library.soname.unwrap_or_else(|| name.clone());
        if is_link {
            // A link by soname and the one for the compiler (`libz.so`) stay links, under their own
            // names; any other counts as the file.
            let is_development = name.strip_suffix(".so").is_some() && soname.starts_with(&name);
            is_link = name == soname || is_development;
        }
        if is_link {
            soname.clone_from(&name);
        }
        let new = Found { name, is_link, flags: library.flags };
        let better = found.get(&soname).is_none_or(|old| {
            (!new.is_link && old.is_link)
                || (new.is_link == old.is_link
                    && compare_names(&old.name, &new.name) == Ordering::Less)
        });
        if better {
            found.insert(soname, new);
        }
    }
    let mut entries = Vec::new();
    for (soname, Found { name, is_link, flags }) in found {
        let link = format!("{real}/{soname}");
        if !is_link && !rootfs.has_name(&link) {
            rootfs.symlink(&link, &name)?;
        }
        entries.push(Entry { path: format!("{folder}/{soname}"), soname, flags });
    }
    Ok(entries)
}

/// The order of names in the cache: numbers by value, and digits after all else.
fn compare_names(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    loop {
        match (left, right) {
            ([], []) => return Ordering::Equal,
            ([], _) => return Ordering::Less,
            (_, []) => return Ordering::Greater,
            ([a, rest_left @ ..], [b, rest_right @ ..]) => {
                match (a.is_ascii_digit(), b.is_ascii_digit()) {
                    (true, true) => {
                        let (number_left, after_left) = number(left);
                        let (number_right, after_right) = number(right);
                        if number_left != number_right {
                            return number_left.cmp(&number_right);
                        }
                        (left, right) = (after_left, after_right);
                    }
                    (true, false) => return Ordering::Greater,
                    (false, true) => return Ordering::Less,
                    (false, false) if a != b => return a.cmp(b),
                    (false, false) => (left, right) = (rest_left, rest_right),
                }
            }
        }
    }
}

fn number(text: &[u8]) -> (u64, &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).unwrap_or((text, &[]));
    let value = digits.iter().fold(0_u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    (value, rest)
}

/// Strings with common ends are stored once: the order is by reversed text from the last to the first,
/// the longer first.
fn string_table(strings: BTreeSet<&str>) -> (Vec<u8>, BTreeMap<&str, u32>) {
    let mut ordered: Vec<&str> = strings.into_iter().collect();
    ordered.sort_by(|left, right| {
        let different = left
            .bytes()
            .rev()
            .zip(right.bytes().rev())
            .map(|(a, b)| b.cmp(&a))
            .find(|order| order.is_ne());
        different.unwrap_or_else(|| right.len().cmp(&left.len()))
    });
    let (mut table, mut offsets) = (Vec::new(), BTreeMap::new());
    let mut previous: Option<(&str, usize)> = None;
    for string in ordered {
        let offset = match previous {
            Some((longer, at)) if longer.ends_with(string) => at + longer.len() - string.len(),
            _ => {
                let at = table.len();
                table.extend_from_slice(string.as_bytes());
                table.push(0);
                at
            }
        };
        previous = Some((string, offset));
        offsets.insert(string, u32::try_from(offset).unwrap_or(u32::MAX));
    }
    (table, offsets)
}

fn write(entries: &[Entry], generator: &str) -> Vec<u8> {
    const MAGIC: &[u8; 20] = b"glibc-ld.so.cache1.1";
    const LITTLE_ENDIAN: u32 = 2;
    const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
    const GENERATOR: u32 = 0;
    let strings =
        entries.iter().flat_map(|entry| [entry.soname.as_str(), entry.path.as_str()]).collect();
    let (table, offsets) = string_table(strings);
    let length = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let strings_at = length(48 + 24 * entries.len());
    let strings_end = strings_at + length(table.len());
    let extension_at = strings_end.next_multiple_of(4);
    let mut out = MAGIC.to_vec();
    let mut put = |values: &[u32]| {
        for value in values {
            out.extend_from_slice(&value.to_le_bytes());
        }
    };
    put(&[length(entries.len()), length(table.len()), LITTLE_ENDIAN, extension_at, 0, 0, 0]);
    for entry in entries {
        let at = |text: &str| strings_at + offsets.get(text).copied().unwrap_or_default();
        put(&[entry.flags, at(&entry.soname), at(&entry.path), 0, 0, 0]);
    }
    out.extend_from_slice(&table);
    out.resize(extension_at as usize, 0);
    // Header and one section: 8 and 16 bytes.
    for value in [EXTENSION_MAGIC, 1, GENERATOR, 0, extension_at + 24, length(generator.len())] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(generator.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_with_numbers_by_value() {
        let mut names = vec![
            "libc.so.6",
            "libz.so.1",
            "libcap.so.10",
            "libcap.so.2",
            "libcap",
            "libcap-ng.so.0",
        ];
        names.sort_by(|left, right| compare_names(left, right));
        assert_eq!(
            names,
            ["libc.so.6", "libcap", "libcap-ng.so.0", "libcap.so.2", "libcap.so.10", "libz.so.1"]
        );
        assert_eq!(compare_names("a1", "ab"), Ordering::Greater);
    }

    #[test]
    fn strings_share_their_ends() {
        let (table, offsets) =
            string_table(BTreeSet::from(["/lib/libz.so.1", "libz.so.1", "liba.so"]));
        assert_eq!(offsets["libz.so.1"], offsets["/lib/libz.so.1"] + 5);
        assert_eq!(table.len(), "/lib/libz.so.1".len() + 1 + "liba.so".len() + 1);
    }

    #[test]
    fn the_generator_names_the_version_of_the_package() {
        assert_eq!(
            generator("2.36-9+deb12u14"),
            "ldconfig (Debian GLIBC 2.36-9+deb12u14) stable release version 2.36"
        );
    }
}
