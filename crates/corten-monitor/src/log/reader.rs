//! Reading a log back, also while it grows.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use corten_sys::error::{IoError, at};

use super::Entry;

/// How often a log that is followed is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// More files than this are not looked for.
const FILES_MAX: u32 = 10_000;

/// Which entries are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Not before this time, in the form of [`Entry::time`].
    pub since: Option<String>,
    /// Not after this time.
    pub until: Option<String>,
    /// Only so many, the last ones.
    pub tail: Option<usize>,
}

impl Query {
    fn wants(&self, entry: &Entry) -> bool {
        self.since.as_ref().is_none_or(|since| entry.time >= *since)
            && self.until.as_ref().is_none_or(|until| entry.time <= *until)
    }
}

/// Whether a log that has been read to its end is waited for.
pub enum Follow<'a> {
    /// No.
    No,
    /// As long as this says that something may still come. It is asked before each look, so that what
    /// was written before the end is read.
    While(&'a dyn Fn() -> bool),
}

impl std::fmt::Debug for Follow<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if matches!(self, Self::No) { "No" } else { "While" })
    }
}

/// Gives the entries of a log to a function, the oldest first, until there are no more or it returns
/// false. A line that is no entry is passed over: a loss of power may cut one off.
pub fn read(
    folder: &Path,
    query: &Query,
    follow: &Follow<'_>,
    take: &mut dyn FnMut(&Entry) -> bool,
) -> Result<(), IoError> {
    let mut files = open_all(folder)?;
    let mut newest = files.pop();
    let mut last = VecDeque::new();
    let mut goes_on = true;
    for source in files.iter_mut().chain(&mut newest) {
        source.each(&mut |entry| {
            if !query.wants(&entry) {
                return true;
            }
            match query.tail {
                Some(count) => {
                    last.push_back(entry);
                    if last.len() > count {
                        last.pop_front();
                    }
                }
                None => goes_on = take(&entry),
            }
            goes_on
        })?;
        if !goes_on {
            return Ok(());
        }
    }
    if !last.iter().all(&mut *take) {
        return Ok(());
    }
    let Follow::While(may_come) = follow else { return Ok(()) };
    loop {
        let was_there = may_come();
        let mut take_wanted = |entry: Entry| {
            goes_on = !query.wants(&entry) || take(&entry);
            goes_on
        };
        if let Some(source) = &mut newest {
            source.each(&mut take_wanted)?;
        }
        if is_replaced(folder, newest.as_ref())? {
            // All files that have come since, of which there may be several.
            let seen = newest.as_ref().map(|source| source.inode);
            let found = open_all(folder)?;
            let known = found.iter().position(|source| Some(source.inode) == seen);
            for mut source in found.into_iter().skip(known.map_or(0, |at| at + 1)) {
                source.each(&mut take_wanted)?;
                newest = Some(source);
            }
        }
        if !goes_on || !was_there {
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// One file of a log and how far it was read.
struct Source {
    reader: BufReader<File>,
    inode: u64,
    shown: std::path::PathBuf,
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
}

impl Source {
    fn open(path: &Path) -> Result<Option<Self>, IoError> {
        let Some(file) = corten_sys::file::absent_is_none(corten_sys::file::open(path))? else {
            return Ok(None);
        };
        let inode = file.metadata().map_err(at("inspect", path))?.ino();
        let reader = BufReader::new(file);
        Ok(Some(Self { reader, inode, shown: path.to_owned(), begun: Vec::new() }))
    }

    /// Gives the entries to the end to a function, as long as that returns true.
    fn each(&mut self, take: &mut dyn FnMut(Entry) -> bool) -> Result<(), IoError> {
        loop {
            match self.reader.read_until(b'\n', &mut self.begun) {
                Ok(0) => return Ok(()),
                Ok(_) if !self.begun.ends_with(b"\n") => {}
                Ok(_) => {
                    let entry = serde_json::from_slice(&self.begun);
                    self.begun.clear();
                    if let Ok(entry) = entry
                        && !take(entry)
                    {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(IoError::new("read", &self.shown, error)),
            }
        }
    }
}

/// Opens all files, the oldest first. One that is renamed meanwhile is opened twice and kept once.
fn open_all(folder: &Path) -> Result<Vec<Source>, IoError> {
    let mut found: Vec<Source> = Vec::new();
    for age in 0..FILES_MAX {
        let Some(source) = Source::open(&super::file(folder, age))? else { break };
        if found.iter().all(|known| known.inode != source.inode) {
            found.push(source);
        }
    }
    found.reverse();
    Ok(found)
}

fn is_replaced(folder: &Path, newest: Option<&Source>) -> Result<bool, IoError> {
    let path = super::file(folder, 0);
    let found = corten_sys::file::absent_is_none(corten_sys::file::metadata(&path))?;
    Ok(found.is_some_and(|found| Some(found.ino()) != newest.map(|source| source.inode)))
}

#[cfg(test)]
mod tests {
    use corten_diag::Stream;
    use corten_sys::clock::Timestamp;
    use corten_sys::file;

    use super::*;
    use crate::definition::LogOptions;
    use crate::log::Writer;

    struct Scratch(std::path::PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            file::remove_tree(&self.0).unwrap();
        }
    }

    fn scratch() -> Scratch {
        Scratch(std::env::temp_dir().join(format!("corten-{}", corten_sys::random::name())))
    }

    fn texts(folder: &Path, query: &Query) -> Vec<String> {
        let mut found = Vec::new();
        let mut take = |entry: &Entry| {
            found.push(format!("{} {}", entry.stream, entry.log));
            true
        };
        read(folder, query, &Follow::No, &mut take).unwrap();
        found
    }

    fn second(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    #[test]
    fn lines_come_back_whole_however_they_were_written() {
        let scratch = scratch();
        let mut writer = Writer::open(&scratch.0, LogOptions::default()).unwrap();
        writer.write(Stream::Stdout, b"one\ntw", second(1)).unwrap();
        writer.write(Stream::Stderr, b"err\n", second(1)).unwrap();
        writer.write(Stream::Stdout, b"o\n\xff three", second(2)).unwrap();
        writer.finish(second(3)).unwrap();
        let expected = ["stdout one\n", "stderr err\n", "stdout two\n", "stdout \u{fffd} three"];
        assert_eq!(texts(&scratch.0, &Query::default()), expected);
        let line = file::read(&crate::log::file(&scratch.0, 0)).unwrap();
        let first = "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"1970-01-01T00:00:01.000000000Z\"}";
        assert_eq!(String::from_utf8_lossy(&line).lines().next(), Some(first));
    }

    #[test]
    fn a_line_without_end_is_cut_into_pieces() {
        let scratch = scratch();
        let mut writer = Writer::open(&scratch.0, LogOptions::default()).unwrap();
        writer.write(Stream::Stdout, &vec![b'x'; 40_000], second(1)).unwrap();
        writer.write(Stream::Stdout, b"\n", second(1)).unwrap();
        let lengths: Vec<usize> =
            texts(&scratch.0, &Query::default()).iter().map(|text| text.len() - 7).collect();
        assert_eq!(lengths, [16_384, 16_384, 40_001 - 2 * 16_384]);
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_goes() {
        let scratch = scratch();
        let options = LogOptions { max_size_bytes: 200, max_files: 3, ..LogOptions::default() };
        let mut writer = Writer::open(&scratch.0, options).unwrap();
        for number in 0..20 {
            let line = format!("line {number}\n");
            writer.write(Stream::Stdout, line.as_bytes(), second(number)).unwrap();
        }
        assert_eq!(file::list_dir(&scratch.0).unwrap().len(), 3);
        let found = texts(&scratch.0, &Query::default());
        assert_eq!(found.last().unwrap(), "stdout line 19\n");
        let numbers: Vec<i64> = found
            .iter()
            .map(|text| text.trim().rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
        let again = Writer::open(&scratch.0, LogOptions { max_files: 1, ..options }).unwrap();
        drop(again);
        let tail = Query { tail: Some(2), ..Query::default() };
        assert_eq!(texts(&scratch.0, &tail), ["stdout line 18\n", "stdout line 19\n"]);
    }

    #[test]
    fn what_is_too_old_goes() {
        let scratch = scratch();
        let options =
            LogOptions { max_files: 5, retention_seconds: Some(400), ..LogOptions::default() };
        let numbers = |folder: &Path| -> Vec<i64> {
            let number = |text: &String| text.trim().rsplit(' ').next().unwrap().parse().unwrap();
            texts(folder, &Query::default()).iter().map(number).collect()
        };
        for number in 0..200 {
            // Each time by another monitor: what is known is in the files.
            let mut writer = Writer::open(&scratch.0, options).unwrap();
            let line = format!("{}\n", number * 10);
            writer.write(Stream::Stdout, line.as_bytes(), second(number * 10)).unwrap();
            let kept = numbers(&scratch.0);
            let oldest = number * 10 - 400;
            assert!(kept[0] <= oldest.max(0), "all that is young is kept: {kept:?}");
            assert!(kept[0] >= oldest - 200, "little that is old is kept: {kept:?}");
        }
        let mut writer = Writer::open(&scratch.0, options).unwrap();
        writer.write(Stream::Stdout, b"5000\n", second(5000)).unwrap();
        assert_eq!(numbers(&scratch.0), [5000], "after a long silence");
    }

    #[test]
    fn times_and_numbers_choose() {
        let scratch = scratch();
        let mut writer = Writer::open(&scratch.0, LogOptions::default()).unwrap();
        for number in 0..5 {
            let line = format!("{number}\n");
            writer.write(Stream::Stdout, line.as_bytes(), second(number)).unwrap();
        }
        let time = |seconds| Some(corten_oci::time::rfc3339_nanos(seconds, 0));
        let query = Query { since: time(1), until: time(3), tail: Some(2) };
        assert_eq!(texts(&scratch.0, &query), ["stdout 2\n", "stdout 3\n"]);
        let none = Query { tail: Some(0), ..Query::default() };
        assert!(texts(&scratch.0, &none).is_empty());
    }

    #[test]
    fn an_entry_that_was_cut_off_is_passed_over() {
        let scratch = scratch();
        file::create_dirs(&scratch.0, 0o700).unwrap();
        file::write(&crate::log::file(&scratch.0, 0), b"{\"log\":\"half").unwrap();
        let mut writer = Writer::open(&scratch.0, LogOptions::default()).unwrap();
        writer.write(Stream::Stdout, b"whole\n", second(1)).unwrap();
        assert_eq!(texts(&scratch.0, &Query::default()), ["stdout whole\n"]);
    }

    #[test]
    fn a_log_is_followed_over_its_rotations_to_its_end() {
        let scratch = scratch();
        let options = LogOptions { max_size_bytes: 300, max_files: 4, ..LogOptions::default() };
        let mut writer = Writer::open(&scratch.0, options).unwrap();
        let writing = std::sync::atomic::AtomicBool::new(true);
        let mut found = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..30 {
                    let line = format!("{number}\n");
                    writer.write(Stream::Stdout, line.as_bytes(), second(number)).unwrap();
                    std::thread::sleep(LOOK_EVERY / 2);
                }
                writing.store(false, std::sync::atomic::Ordering::Release);
            });
            let may_come = || writing.load(std::sync::atomic::Ordering::Acquire);
            let follow = Follow::While(&may_come);
            read(&scratch.0, &Query::default(), &follow, &mut |entry| {
                found.push(entry.log.trim().parse::<u32>().unwrap());
                true
            })
            .unwrap();
        });
        assert_eq!(found, (0..30).collect::<Vec<_>>());
    }
}
