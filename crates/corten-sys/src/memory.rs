//! The memory of this process.
#![expect(unsafe_code, reason = "pages are named by their address")]

use std::path::Path;

use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

use crate::error::IoError;
use crate::file;

/// A line of it is some 100 bytes, and a process has a few dozen.
const MAPS_BYTES_MAX: u64 = 1 << 20;

/// Lets go of the pages of code that starting has brought into memory.
///
/// A process that waits for days needs few of them, and those come back from the page cache when they are
/// next executed, some at a time. The kernel would keep all of them counted for it otherwise.
pub fn forget_code() -> Result<(), IoError> {
    let maps = Path::new("/proc/self/maps");
    let text = file::read_limited(maps, MAPS_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&text);
    for (start, length) in text.lines().filter_map(code) {
        // SAFETY: the mapping is private, of a file, and was not writable when its line was read, nor does
        // anything in this program change what it executes: no page of it differs from the file, which is
        // where a page that is let go of is read from again.
        let forgotten = unsafe {
            madvise(std::ptr::with_exposed_provenance_mut(start), length, Advice::LinuxDontNeed)
        };
        forgotten.map_err(|errno: Errno| IoError::new("let go of code in", maps, errno))?;
    }
    Ok(())
}

/// Returns address and length of a line's mapping, if it is of a file's code (proc(5)).
fn code(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let rights = words.next()?;
    let file = words.nth(3)?;
    if rights != "r-xp" || !file.starts_with('/') {
        return None;
    }
    let start = usize::from_str_radix(start, 16).ok()?;
    Some((start, usize::from_str_radix(end, 16).ok()?.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_let_go_of() {
        for (line, expected) in [
            ("00400000-00401000 r-xp 00001000 08:01 5 /usr/bin/corten", Some((0x40_0000, 0x1000))),
            ("00400000-00401000 r--p 00001000 08:01 5 /usr/bin/corten", None),
            ("00400000-00401000 rwxp 00001000 08:01 5 /usr/bin/corten", None),
            ("7ffd000000-7ffd001000 r-xp 00000000 00:00 0 [vdso]", None),
            ("7ffd000000-7ffd001000 r-xp 00000000 00:00 0", None),
            ("", None),
        ] {
            assert_eq!(code(line), expected, "{line}");
        }
    }

    #[test]
    fn the_process_goes_on_with_less() {
        let resident = || {
            let text = file::read_limited(Path::new("/proc/self/smaps_rollup"), 1 << 16).unwrap();
            let text = String::from_utf8(text).unwrap();
            let line = text.lines().find(|line| line.starts_with("Rss:")).unwrap();
            line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        forget_code().unwrap();
        assert!(resident() < before, "{} of {before} kB", resident());
    }
}
