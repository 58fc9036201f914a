//! When conda made and changed an environment, as it writes that into `conda-meta`, becomes the epoch.
//!
//! `history` is a log whose entries begin with a line `==> 2026-11-21 16:30:29 <==`; `created_at` has
//! the seconds since 1970, with a fraction. conda reads both back, so they keep their form.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use corten_oci::time::{parse_rfc3339, rfc3339};
use corten_sys::beneath::{Dir, FileKind};
use corten_sys::error::{IoError, at};

/// The directory of an environment in which conda keeps its records.
pub(super) const DIRECTORY: &[u8] = b"conda-meta";

/// Longer logs than this are not conda's.
const HISTORY_BYTES_MAX: u64 = 16 << 20;

/// A number of seconds with a fraction is shorter.
const CREATED_BYTES_MAX: u64 = 64;

/// Makes the times of one `conda-meta` the epoch, where they are later.
pub(super) fn follow_epoch(directory: &Dir, epoch: i64) -> Result<(), IoError> {
    rewrite(directory, "history", HISTORY_BYTES_MAX, |text| history(text, epoch))?;
    rewrite(directory, "created_at", CREATED_BYTES_MAX, |text| created_at(text, epoch))
}

/// Changes a file of the step's own; one that is not text, or is absent, is left alone.
fn rewrite(
    directory: &Dir,
    name: &str,
    limit_bytes: u64,
    change: impl FnOnce(&str) -> Option<String>,
) -> Result<(), IoError> {
    let name = OsStr::new(name);
    let stat = match directory.stat(name) {
        Ok(stat) => stat,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error),
    };
    // A file with another name somewhere may be a cache's, which is not ours to change.
    if stat.kind != FileKind::File || stat.links > 1 || stat.size_bytes > limit_bytes {
        return Ok(());
    }
    let shown = directory.path().join(name);
    let file: File = directory.open_file_to_change(name)?;
    let mut bytes = vec![0; usize::try_from(stat.size_bytes).unwrap_or_default()];
    file.read_exact_at(&mut bytes, 0).map_err(at("read", &shown))?;
    let Some(text) = std::str::from_utf8(&bytes).ok().and_then(change) else { return Ok(()) };
    file.write_all_at(text.as_bytes(), 0).map_err(at("write", &shown))?;
    file.set_len(text.len() as u64).map_err(at("shorten", &shown))
}

/// The log with no time after the epoch; `None` if it has none as it is.
fn history(text: &str, epoch: i64) -> Option<String> {
    let mut is_changed = false;
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let time = line.strip_prefix("==> ").and_then(|rest| rest.strip_suffix(" <=="));
        let seconds = time.and_then(|time| parse_rfc3339(&format!("{}Z", time.replace(' ', "T"))));
        if seconds.is_some_and(|seconds| seconds > epoch) {
            let time = rfc3339(epoch).replace('T', " ");
            lines.push(format!("==> {} <==", time.trim_end_matches('Z')));
            is_changed = true;
        } else {
            lines.push(line.to_owned());
        }
    }
    is_changed.then(|| lines.join("\n"))
}

/// The epoch in the form of `created_at`; `None` if that is not later.
fn created_at(text: &str, epoch: i64) -> Option<String> {
    let number = text.trim_end();
    let (seconds, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: i64 = seconds.parse().ok().filter(|_| is_number)?;
    let rest = text.get(number.len()..).unwrap_or_default();
    (seconds >= epoch).then(|| format!("{epoch}.0{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: i64 = 1_700_000_000;

    #[test]
    fn entries_of_the_log_are_not_later_than_the_epoch() {
        let text = "==> 2020-01-02 03:04:05 <==\n+a-1-0\n==> 2026-11-21 16:30:29 <==\n# cmd: x\n";
        let expected =
            "==> 2020-01-02 03:04:05 <==\n+a-1-0\n==> 2023-11-14 22:13:20 <==\n# cmd: x\n";
        assert_eq!(history(text, EPOCH).as_deref(), Some(expected));
        assert_eq!(history(expected, EPOCH), None, "once is enough");
    }

    #[test]
    fn what_is_no_entry_stays() {
        for text in ["", "==> soon <==\n", "# ==> 2026-11-21 16:30:29 <==", "==> 2026-11-21"] {
            assert_eq!(history(text, EPOCH), None, "{text}");
        }
    }

    #[test]
    fn the_time_of_creation_keeps_its_form() {
        for (text, expected) in [
            ("1790000000.123456", Some("1700000000.0")),
            ("1790000000.1\n", Some("1700000000.0\n")),
            ("1700000000.7", Some("1700000000.0")),
            ("1600000000.5", None),
            ("soon", None),
            ("", None),
            ("1790000000.x", None),
        ] {
            assert_eq!(created_at(text, EPOCH).as_deref(), expected, "{text:?}");
        }
    }
}
