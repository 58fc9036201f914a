use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use corten_oci::digest::Digest;
use corten_oci::tree::TreePath;
use corten_sys::clock::{Clock, Timestamp};
use corten_sys::file;
use corten_testkit::TempDir;
use proptest::prelude::*;

use super::stat_cache::{StatCache, is_settled};
use super::{Content, ContextFiles, Files, FilesError, Found, resolve};

/// A clock that is far ahead, so that files just written count as settled.
#[derive(Debug)]
struct Later(i64);

impl Clock for Later {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(corten_sys::clock::SystemClock.now().seconds + self.0)
    }
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

struct World {
    temp: TempDir,
    saved: Mutex<Option<Vec<u8>>>,
}

impl World {
    fn new() -> Self {
        Self { temp: TempDir::new(), saved: Mutex::new(None) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        file::write(&self.path(name), content.as_bytes()).unwrap();
    }

    /// Opens the context with what earlier uses have saved; `after` seconds from now.
    fn open(&self, after: i64) -> ContextFiles {
        let load = |_: &str| {
            let saved = self.saved.lock().unwrap().clone();
            saved.map(|bytes| StatCache::from_bytes(&bytes)).unwrap_or_default()
        };
        ContextFiles::open(self.temp.path(), None, Arc::new(Later(after)), load).unwrap()
    }

    /// The content of a file by way of the cache; true if the cache knew it.
    fn digest(&self, name: &str, after: i64) -> (Digest, bool) {
        let context = self.open(after);
        let found = find(&context, name).unwrap();
        let content = context.digests(&[&found]).unwrap()[0];
        let saved = context.cache_to_save();
        let known = saved.is_none();
        if let Some((_, bytes)) = saved {
            *self.saved.lock().unwrap() = Some(bytes);
        }
        (content.digest, known)
    }
}

fn find(files: &dyn Files, name: &str) -> Option<Found> {
    files.find(&TreePath::new(name.as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_file_that_was_left_alone_is_hashed_once() {
    let world = World::new();
    world.write("a", "1");
    assert_eq!(world.digest("a", 10), (Digest::of(b"1"), false));
    assert_eq!(world.digest("a", 10), (Digest::of(b"1"), true));
}

#[test]
fn a_file_that_was_just_written_is_not_trusted() {
    let world = World::new();
    world.write("a", "1");
    let (_, _) = world.digest("a", 0);
    // Nothing was saved, since a second change within the tick could not be seen.
    assert!(world.saved.lock().unwrap().is_none());
}

#[test]
fn a_changed_file_is_seen_even_if_its_times_and_size_are_set_back() {
    let world = World::new();
    world.write("a", "1");
    file::set_times(&world.path("a"), Timestamp::from_seconds(1000)).unwrap();
    assert_eq!(world.digest("a", 10).0, Digest::of(b"1"));
    world.write("a", "2");
    file::set_times(&world.path("a"), Timestamp::from_seconds(1000)).unwrap();
    assert_eq!(world.digest("a", 10), (Digest::of(b"2"), false));
}

#[test]
fn a_file_that_takes_the_place_of_another_is_seen() {
    let world = World::new();
    world.write("a", "1");
    world.write("b", "2");
    world.digest("a", 10);
    file::rename(&world.path("b"), &world.path("a")).unwrap();
    assert_eq!(world.digest("a", 10).0, Digest::of(b"2"));
}

#[test]
fn a_damaged_cache_is_an_empty_one() {
    let world = World::new();
    world.write("a", "1");
    world.digest("a", 10);
    let good = world.saved.lock().unwrap().clone().unwrap();
    for bad in
        [Vec::new(), b"ctnstat1x".to_vec(), b"otherfmt".to_vec(), good[..good.len() - 1].to_vec()]
    {
        *world.saved.lock().unwrap() = Some(bad);
        assert_eq!(world.digest("a", 10).0, Digest::of(b"1"));
    }
}

#[test]
fn an_entry_of_the_future_is_not_settled() {
    let world = World::new();
    world.write("a", "1");
    let stat = find(&world.open(0), "a").unwrap().stat;
    let at = |seconds: i64| Timestamp { seconds: stat.changed.seconds + seconds, ..stat.changed };
    assert!(is_settled(&stat, at(10)));
    assert!(!is_settled(&stat, at(0)));
    assert!(!is_settled(&stat, at(-10)));
    // Whole seconds come from a clock that knows no others.
    let coarse = corten_sys::beneath::Stat {
        changed: Timestamp::from_seconds(100),
        modified: Timestamp::from_seconds(100),
        ..stat
    };
    assert!(!is_settled(&coarse, Timestamp::from_seconds(102)));
    assert!(is_settled(&coarse, Timestamp::from_seconds(103)));
}

#[test]
fn a_listing_is_remembered_so_that_a_build_sees_one_state() {
    let world = World::new();
    world.write("a", "1");
    let context = world.open(10);
    let root = find(&context, "").unwrap();
    assert_eq!(context.list(&root).unwrap().len(), 1);
    world.write("b", "2");
    assert_eq!(context.list(&root).unwrap().len(), 1);
    assert!(find(&context, "b").is_none());
}

#[test]
fn a_file_that_changes_after_it_was_hashed_is_not_copied() {
    let world = World::new();
    let target = TempDir::new();
    for (size, second) in [(10, "y"), (200_000, "y"), (200_000, "yy")] {
        world.write("a", &"x".repeat(size));
        let context = world.open(10);
        let found = find(&context, "a").unwrap();
        let content = context.digests(&[&found]).unwrap()[0];
        world.write("a", &second.repeat(size));
        let to = target.path().join(corten_sys::random::name());
        let error = found.copy_content(&content, &file::create_new(&to, 0o600).unwrap(), &to);
        assert!(matches!(error, Err(FilesError::Changed { .. })), "{error:?}");
    }
}

#[test]
fn an_unsettled_file_is_checked_by_content_when_it_is_copied() {
    let world = World::new();
    world.write("a", "x");
    let context = world.open(0);
    let found = find(&context, "a").unwrap();
    let content = context.digests(&[&found]).unwrap()[0];
    assert!(!content.settled);
    let lie = Content { digest: Digest::of(b"other"), ..content };
    let to = world.path("to");
    let file = file::create_new(&to, 0o600).unwrap();
    assert!(matches!(found.copy_content(&lie, &file, &to), Err(FilesError::Changed { .. })));
}

#[test]
fn many_bytes_are_hashed_by_several_threads_to_the_same_digests() {
    let world = World::new();
    let contents: Vec<String> = (0..40).map(|n| n.to_string().repeat(60_000 + n)).collect();
    for (index, content) in contents.iter().enumerate() {
        world.write(&format!("f{index:02}"), content);
    }
    let context = world.open(10);
    let found = context.list(&find(&context, "").unwrap()).unwrap();
    let digests = context.digests(&found.iter().collect::<Vec<_>>()).unwrap();
    for (content, digest) in contents.iter().zip(digests) {
        assert_eq!(digest.digest, Digest::of(content.as_bytes()));
    }
}

#[test]
fn the_cache_keeps_entries_of_other_files() {
    let world = World::new();
    world.write("a", "1");
    world.write("b", "2");
    world.digest("a", 10);
    world.digest("b", 10);
    assert!(world.digest("a", 10).1);
    assert!(world.digest("b", 10).1);
}

#[test]
fn a_name_near_a_missing_one_is_found() {
    let world = World::new();
    file::create_dirs(&world.path("src"), 0o755).unwrap();
    world.write("src/requirements.txt", "");
    let near = |path: &str| super::near(&world.open(0), path.as_bytes());
    assert_eq!(near("src/requirement.txt"), Some("src/requirements.txt".to_owned()));
    assert_eq!(near("scr"), Some("src".to_owned()));
    assert_eq!(near("other/x"), None);
}

#[test]
fn a_directory_that_is_no_directory_is_an_error() {
    let world = World::new();
    world.write("file", "");
    let open =
        |path: &Path| ContextFiles::open(path, None, Arc::new(Later(0)), |_| StatCache::default());
    assert!(open(&world.path("file")).is_err());
    assert!(open(&world.path("missing")).is_err());
}

#[test]
fn names_that_are_no_text_can_be_copied() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::new();
    let name = std::ffi::OsStr::from_bytes(b"a\xff\n b");
    file::write(&world.temp.path().join(name), b"1").unwrap();
    let context = world.open(10);
    let found = context.list(&find(&context, "").unwrap()).unwrap();
    assert_eq!(found[0].path.name(), name.as_bytes());
    assert_eq!(context.digests(&[&found[0]]).unwrap()[0].digest, Digest::of(b"1"));
}

#[test]
fn nothing_is_found_below_a_link() {
    let world = World::new();
    file::create_dirs(&world.path("d"), 0o755).unwrap();
    world.write("d/a", "1");
    file::symlink(Path::new("d"), &world.path("l")).unwrap();
    let context = world.open(0);
    assert!(find(&context, "l/a").is_none());
    assert!(find(&context, "d/a/b").is_none());
    let found = resolve(&context, b"l/a", true).unwrap().unwrap();
    assert_eq!(found.path.to_string(), "d/a");
}

proptest! {
    /// Whatever a path says, what is found lies in the context.
    #[test]
    fn resolving_never_leaves_the_root(parts in proptest::collection::vec(
        prop_oneof![Just("a"), Just("l"), Just("up"), Just(".."), Just("."), Just(""), Just("abs")],
        0..8,
    )) {
        let world = World::new();
        file::create_dirs(&world.path("a/a"), 0o755).unwrap();
        for (link, target) in [("l", "a"), ("up", "../../.."), ("abs", "/etc"), ("a/l", "../l"), ("a/up", "..")] {
            file::symlink(Path::new(target), &world.path(link)).unwrap();
        }
        let context = world.open(0);
        let path = parts.join("/");
        if let Some(found) = resolve(&context, path.as_bytes(), true).unwrap() {
            let real = std::fs::canonicalize(found.host_path()).unwrap();
            prop_assert!(real.starts_with(world.temp.path()), "{path} led to {}", real.display());
        }
    }
}
