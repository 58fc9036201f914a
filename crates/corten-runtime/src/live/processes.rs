//! Which processes are a container's, where no control group says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use corten_sys::error::IoError;
use corten_sys::file;

/// A line of numbers.
const STAT_BYTES_MAX: u64 = 8 * 1024;

/// Finds the descendants of a container's first process, and with them, where its numbers are its own,
/// all others of its process namespace: further programs are children of helpers outside.
pub(super) fn find(first: u32, own_numbers: bool) -> Result<Vec<u32>, IoError> {
    let namespace = namespace(first).filter(|_| own_numbers);
    let mut found = BTreeSet::from([first]);
    let mut others = Vec::new();
    for name in file::list_dir(Path::new("/proc"))? {
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if namespace.is_some() && self::namespace(pid) == namespace {
            found.insert(pid);
        } else if let Some(parent) = parent(pid) {
            others.push((pid, parent));
        }
    }
    // Until nobody's parent is among them any more: those of namespaces within.
    loop {
        let before = found.len();
        others.retain(|(pid, parent)| {
            let is_ours = found.contains(parent);
            if is_ours {
                found.insert(*pid);
            }
            !is_ours
        });
        if found.len() == before {
            break;
        }
    }
    found.remove(&first);
    Ok(std::iter::once(first).chain(found).collect())
}

/// A process that has just ended, or is not ours to look at, has none.
fn namespace(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()
}

fn parent(pid: u32) -> Option<u32> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let bytes = file::read_limited(&path, STAT_BYTES_MAX).ok()?;
    fields(&String::from_utf8_lossy(&bytes)).get(1)?.parse().ok()
}

/// The fields of `/proc/PID/stat` from the third one on; the second, the name, may have anything in it.
pub(super) fn fields(stat: &str) -> Vec<&str> {
    stat.rsplit_once(')').map_or_else(Vec::new, |(_, rest)| rest.split_whitespace().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_a_bracket_does_not_shift_the_fields() {
        assert_eq!(fields("7 (a) b (c)) S 3 9\n"), ["S", "3", "9"]);
        assert!(fields("").is_empty());
    }

    #[test]
    fn a_process_is_found_with_its_own_number() {
        let own = std::process::id();
        let found = find(own, false).expect("there is `/proc`");
        assert_eq!(found.first(), Some(&own));
    }
}
