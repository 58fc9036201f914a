//! What has happened to containers, images, volumes and networks, for those who want to know.
//!
//! ```text
//! events/events.json      an Event a line, the newest last; whoever does something adds a line
//! events/events.json.1    the one before, once the other has become too large
//! events/lock             held alone while a file is put aside
//! ```
//!
//! There is nobody who could tell of it later: whoever acts writes it down, by one call that adds a whole
//! line at the end of the file. The journal is bounded and not synced: it serves watching, and nothing
//! else relies on it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::error::{IoError, at};
use corten_sys::file;
use corten_sys::lock::FileLock;
use corten_sys::watch::FolderWatch;
use serde::{Deserialize, Serialize};

use crate::containers::ContainerRecord;
use crate::error::StoreError;
use crate::store::Store;

/// A file that has grown to this is put aside: some 15,000 events.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// No line is longer (`PIPE_BUF`).
const LINE_BYTES_MAX: usize = 4096;

/// The beginning of every line.
const BEGIN: &str = "{\"Type\":";

/// What an event is about; Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    Container,
    Image,
    Volume,
    Network,
}

/// Something that has happened, in the form of Docker's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    #[serde(rename = "Type")]
    pub kind: EventKind,
    /// Docker's word, `start` for example.
    #[serde(rename = "Action")]
    pub action: String,
    #[serde(rename = "Actor")]
    pub actor: Actor,
    scope: String,
    /// Seconds since 1970.
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// Whom an event is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Actor {
    #[serde(rename = "ID")]
    pub id: String,
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Makes an event of now; attributes are those that Docker has for it.
    pub fn new(kind: EventKind, action: &str, id: &str, attributes: &[(&str, &str)]) -> Self {
        let now = SystemClock.now();
        let attributes =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self {
            kind,
            action: action.to_owned(),
            actor: Actor { id: id.to_owned(), attributes: attributes.collect() },
            scope: "local".to_owned(),
            time: now.seconds,
            time_nano: now
                .seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::from(now.nanoseconds)),
        }
    }

    /// An event of a container.
    pub fn of(record: &ContainerRecord, action: &str, attributes: &[(&str, &str)]) -> Self {
        let mut event = Self::new(EventKind::Container, action, &record.id, attributes);
        let known = &mut event.actor.attributes;
        known.insert("image".to_owned(), record.image_name.clone());
        known.insert("name".to_owned(), record.name.clone());
        event
    }

    /// The line of it; attributes go until it is short enough, the longest first.
    fn line(&self) -> Vec<u8> {
        let mut event = self.clone();
        loop {
            // Texts and numbers are always JSON.
            let mut line = serde_json::to_vec(&event).unwrap_or_default();
            line.push(b'\n');
            if line.len() <= LINE_BYTES_MAX {
                return line;
            }
            let attributes = &mut event.actor.attributes;
            let longest = attributes.iter().max_by_key(|(name, value)| name.len() + value.len());
            match longest.map(|(name, _)| name.clone()) {
                Some(name) => drop(attributes.remove(&name)),
                // An ID or an action so long is nobody's.
                None => return Vec::new(),
            }
        }
    }
}

/// Where events are written down.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
}

impl Store {
    /// Where events are written down.
    pub fn journal(&self) -> Journal {
        Journal::of(self.root())
    }
}

impl Journal {
    pub(crate) fn of(root: &Path) -> Self {
        Self { folder: root.join("events") }
    }

    fn file(&self) -> PathBuf {
        self.folder.join("events.json")
    }

    fn older(&self) -> PathBuf {
        self.folder.join("events.json.1")
    }

    /// Writes an event down.
    pub fn add(&self, event: &Event) -> Result<(), StoreError> {
        let path = self.file();
        let opened = match file::open_to_append(&path, 0o600) {
            Err(error) if error.is_not_found() => {
                file::create_dirs(&self.folder, 0o700)?;
                file::open_to_append(&path, 0o600)?
            }
            opened => opened?,
        };
        file::write_all(&opened, &path, &event.line())?;
        let size_bytes = opened.metadata().map_err(at("inspect", &path))?.len();
        if size_bytes > FILE_BYTES_MAX { Ok(self.put_aside()?) } else { Ok(()) }
    }

    /// Begins a new file, unless somebody else has just done so.
    fn put_aside(&self) -> Result<(), IoError> {
        let Some(_lock) = FileLock::try_exclusive(&self.folder.join("lock"))? else {
            return Ok(());
        };
        match file::absent_is_none(file::metadata(&self.file()))? {
            Some(found) if found.len() > FILE_BYTES_MAX => {
                file::rename(&self.file(), &self.older())
            }
            _ => Ok(()),
        }
    }

    /// Gives events to a function, the oldest first, until it returns false. Those of before `since`
    /// nanoseconds are passed over; with `until`, it ends when an event is later, or at that time; without,
    /// it waits for events for ever.
    pub fn read(
        &self,
        since: i64,
        until: Option<i64>,
        take: &mut dyn FnMut(&Event) -> bool,
    ) -> Result<(), StoreError> {
        file::create_dirs(&self.folder, 0o700)?;
        let watch = FolderWatch::new(&self.folder)?;
        let mut sources: Vec<Source> = Vec::new();
        for path in [self.older(), self.file()] {
            // One that is put aside meanwhile is opened twice and kept once.
            let source = Source::open(&path)?;
            sources.extend(source.filter(|new| sources.iter().all(|old| old.inode != new.inode)));
        }
        let mut goes_on = true;
        let mut take = |event: Event| {
            if until.is_some_and(|until| event.time_nano > until) {
                goes_on = false;
            } else if event.time_nano >= since {
                goes_on = take(&event);
            }
            goes_on
        };
        loop {
            let is_over = until.map(left).is_some_and(|left| left.is_zero());
            for source in &mut sources {
                if !source.each(&mut take)? {
                    return Ok(());
                }
            }
            if is_over {
                return Ok(());
            }
            sources = sources.split_off(sources.len().saturating_sub(1));
            if let Some(new) = Source::open(&self.file())?
                && sources.iter().all(|known| known.inode != new.inode)
            {
                // The former one may have got a line before it was put aside.
                sources.push(new);
                continue;
            }
            let timeout = until.map(left);
            watch.wait(timeout).map_err(|error| IoError::new("watch", &self.folder, error))?;
        }
    }
}

/// How long it is until a time.
fn left(until: i64) -> Duration {
    let now = SystemClock.now();
    let now = now.seconds.saturating_mul(1_000_000_000).saturating_add(now.nanoseconds.into());
    Duration::from_nanos(u64::try_from(until.saturating_sub(now)).unwrap_or(0))
}

/// A file and how far it was read.
struct Source {
    reader: BufReader<File>,
    inode: u64,
    path: PathBuf,
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
}

impl Source {
    fn open(path: &Path) -> Result<Option<Self>, IoError> {
        let Some(file) = file::absent_is_none(file::open(path))? else { return Ok(None) };
        let inode = file.metadata().map_err(at("inspect", path))?.ino();
        let path = path.to_owned();
        Ok(Some(Self { reader: BufReader::new(file), inode, path, begun: Vec::new() }))
    }

    /// Gives events to a function until there are no more, or it returns false.
    fn each(&mut self, take: &mut dyn FnMut(Event) -> bool) -> Result<bool, IoError> {
        loop {
            let read = self.reader.read_until(b'\n', &mut self.begun);
            match read.map_err(|error| IoError::new("read", &self.path, error))? {
                0 => return Ok(true),
                _ if !self.begun.ends_with(b"\n") => {}
                _ => {
                    let event = parse(&self.begun);
                    self.begun.clear();
                    if let Some(event) = event
                        && !take(event)
                    {
                        return Ok(false);
                    }
                }
            }
        }
    }
}

/// Reads a line. A loss of power may have cut one off, before which the next one stands; what is no event,
/// or of a newer version, is passed over.
fn parse(line: &[u8]) -> Option<Event> {
    let text = std::str::from_utf8(line).ok()?;
    serde_json::from_str(text).ok().or_else(|| {
        let at = text.rfind(BEGIN)?;
        serde_json::from_str(text.get(at..)?).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(Journal);

    impl Drop for Scratch {
        fn drop(&mut self) {
            file::remove_tree(&self.0.folder).unwrap();
        }
    }

    fn journal() -> Scratch {
        let name = format!("corten-{}", corten_sys::random::name());
        Scratch(Journal { folder: std::env::temp_dir().join(name) })
    }

    fn event(action: &str, time_nano: i64) -> Event {
        let event = Event::new(EventKind::Image, action, "id", &[("name", "x")]);
        Event { time: time_nano / 1_000_000_000, time_nano, ..event }
    }

    fn actions(journal: &Journal, since: i64, until: i64) -> Vec<String> {
        let mut found = Vec::new();
        let mut take = |event: &Event| {
            found.push(event.action.clone());
            true
        };
        journal.read(since, Some(until), &mut take).unwrap();
        found
    }

    #[test]
    fn events_come_back_by_time() {
        let scratch = journal();
        for time in 1..=4 {
            scratch.0.add(&event(&format!("a{time}"), time)).unwrap();
        }
        assert_eq!(actions(&scratch.0, 2, 3), ["a2", "a3"]);
        assert_eq!(actions(&scratch.0, 9, 10), Vec::<String>::new());
    }

    #[test]
    fn a_line_has_dockers_fields() {
        let line = event("tag", 1_000_000_001).line();
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"Type\":\"image\",\"Action\":\"tag\",\"Actor\":{\"ID\":\"id\",\"Attributes\":{\"name\":\"x\"}},\
             \"scope\":\"local\",\"time\":1,\"timeNano\":1000000001}\n"
        );
    }

    #[test]
    fn a_line_is_never_too_long_for_one_write() {
        let long = "x".repeat(5000);
        let event =
            Event::new(EventKind::Volume, "create", "v", &[("a", &long), ("driver", "local")]);
        let read = parse(&event.line()).unwrap();
        assert_eq!(read.actor.attributes.keys().collect::<Vec<_>>(), ["driver"]);
    }

    #[test]
    fn a_line_that_was_cut_off_costs_no_other() {
        let scratch = journal();
        scratch.0.add(&event("whole", 1)).unwrap();
        let file = file::open_to_append(&scratch.0.file(), 0o600).unwrap();
        file::write_all(&file, &scratch.0.file(), b"{\"Type\":\"ima").unwrap();
        scratch.0.add(&event("next", 2)).unwrap();
        assert_eq!(actions(&scratch.0, 0, 5), ["whole", "next"]);
    }

    #[test]
    fn the_journal_is_bounded_and_followed_over_its_rotations() {
        let scratch = journal();
        let filler = "x".repeat(3900);
        std::thread::scope(|scope| {
            let journal = &scratch.0;
            let reading = scope.spawn(move || {
                let mut count = 0;
                let mut take = |event: &Event| {
                    count += usize::from(event.action == "counted");
                    event.action != "last"
                };
                journal.read(0, None, &mut take).unwrap();
                count
            });
            let mut written = 0;
            for round in 0..1500 {
                let attributes = [("filler", filler.as_str())];
                let action = if round % 100 == 0 { "counted" } else { "other" };
                written += usize::from(action == "counted");
                journal.add(&Event::new(EventKind::Network, action, "n", &attributes)).unwrap();
                if round % 500 == 0 {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            journal.add(&event("last", i64::MAX)).unwrap();
            assert_eq!(reading.join().unwrap(), written);
        });
        let size = |path: &Path| file::metadata(path).unwrap().len();
        assert!(size(&scratch.0.file()) < FILE_BYTES_MAX + 10_000);
        assert!(size(&scratch.0.older()) < FILE_BYTES_MAX + 10_000);
    }
}
