//! Caches as lower directories: what steps change in them, put aside and merged.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use corten_oci::digest::Digest;
use corten_oci::tree::TreePath;
use corten_sys::beneath::{Device, Dir, FileKind};
use corten_sys::clock::Timestamp;
use corten_sys::file;
use corten_testkit::{Need, require};
use expect_test::expect;

use crate::tests::sweep::{Operation, sweep};
use crate::tests::{NOW, Scratch, fill};
use crate::{LinkedCache, Staging, Store, StoreError};

const OPAQUE: &[u8] = b"trusted.overlay.opaque";

const TARGET: &str = "root/.cache/uv";

fn target() -> TreePath {
    TreePath::new(TARGET.as_bytes()).unwrap()
}

fn name() -> String {
    Digest::of(b"uv").hex()
}

fn plain(store: &Store) -> PathBuf {
    store.cache_mounts_dir().join(name())
}

fn make(store: &Store, files: &[(&str, &str)]) {
    file::create_dirs(&plain(store), 0o755).unwrap();
    fill(&plain(store), files);
}

fn link(store: &Store, epoch: i64) -> LinkedCache {
    assert!(store.link_cache_mount(&name(), &target(), epoch).unwrap());
    store.linked_cache_mount(&name()).unwrap().unwrap()
}

/// Replaces what a step sees by nothing, as overlayfs writes it.
fn whiteout(tree: &Path, path: &str) {
    let path = tree.join(path);
    file::create_dirs(path.parent().unwrap(), 0o755).unwrap();
    let parent = Dir::open(path.parent().unwrap()).unwrap();
    parent.create_device(path.file_name().unwrap(), Device::Char(0, 0), 0).unwrap();
}

fn opaque(tree: &Path, path: &str) {
    file::create_dirs(&tree.join(path), 0o755).unwrap();
    Dir::open(tree).unwrap().set_xattr(OsStr::new(path), OPAQUE, b"y").unwrap();
}

/// What is in a directory: a line per file.
fn content(directory: &Path) -> String {
    fn walk(directory: &Path, prefix: &str, text: &mut String) {
        let dir = Dir::open(directory).unwrap();
        for entry in dir.list().unwrap() {
            let name = entry.name.to_string_lossy().into_owned();
            let stat = dir.stat(&entry.name).unwrap();
            let path = directory.join(&entry.name);
            let marked = dir.xattr(&entry.name, OPAQUE).unwrap().map_or("", |_| " opaque");
            match stat.kind {
                FileKind::Directory => {
                    writeln!(text, "{prefix}{name}/{marked}").unwrap();
                    walk(&path, &format!("{prefix}{name}/"), text);
                }
                FileKind::File => {
                    let content = String::from_utf8(file::read(&path).unwrap()).unwrap();
                    writeln!(text, "{prefix}{name} = {content}").unwrap();
                }
                kind => writeln!(text, "{prefix}{name} {kind:?}").unwrap(),
            }
        }
    }
    let mut text = String::new();
    walk(directory, "", &mut text);
    text
}

fn settled(store: &Store) -> String {
    store.settle_cache_mount(&name()).unwrap();
    content(&plain(store))
}

fn in_cache(staging: &Staging) -> PathBuf {
    staging.tree().join(TARGET)
}

#[test]
fn a_cache_moves_to_its_path_and_back() {
    require!(Need::Root);
    let scratch = Scratch::new();
    let store = scratch.store();
    make(&store, &[("a/b", "1"), ("c", "2")]);
    let cache = link(&store, 0);
    assert_eq!(cache.lower.join(TARGET), cache.directory);
    assert_eq!(
        content(&cache.lower.join("root/.cache")),
        "uv/ opaque\nuv/a/\nuv/a/b = 1\nuv/c = 2\n"
    );
    assert_eq!(store.cache_mounts().unwrap().count, 1);
    assert!(store.cache_mounts().unwrap().bytes >= 2);
    assert_eq!(link(&store, 0), cache, "once more is no change");
    let other = TreePath::new(b"home/x").unwrap();
    assert!(store.link_cache_mount(&name(), &other, 0).unwrap());
    assert_eq!(store.linked_cache_mount(&name()).unwrap().unwrap().target, other);
    assert_eq!(settled(&store), "a/\na/b = 1\nc = 2\n");
    let folder = Dir::open(&store.cache_mounts_dir()).unwrap();
    assert_eq!(folder.xattr(OsStr::new(&name()), OPAQUE).unwrap(), None);
    assert!(store.linked_cache_mount(&name()).unwrap().is_none());
    assert!(!store.link_cache_mount(&Digest::of(b"absent").hex(), &other, 0).unwrap());
}

#[test]
fn changes_are_merged_by_the_rules_of_overlays() {
    require!(Need::Root);
    let scratch = Scratch::new();
    let store = scratch.store();
    make(
        &store,
        &[
            ("gone", "1"),
            ("tree/x", "1"),
            ("old/x", "1"),
            ("old/y", "1"),
            ("kept/x", "1"),
            ("kind", "1"),
            ("kind2/x", "1"),
        ],
    );
    let cache = link(&store, 0);
    let staging = store.stage().unwrap();
    let tree = in_cache(&staging);
    whiteout(&tree, "gone");
    whiteout(&tree, "tree");
    whiteout(&tree, "never");
    fill(&tree, &[("old/x", "2"), ("new/deep/x", "2"), ("kind/x", "2"), ("kind3", "2")]);
    file::create_dirs(&tree.join("kept"), 0o755).unwrap();
    opaque(&tree, "kind2");
    fill(&tree, &[("kind2/z", "2")]);
    store.put_cache_aside(&cache, &staging, 0).unwrap();
    assert_eq!(
        content(staging.tree()),
        "root/\nroot/.cache/\n",
        "nothing of it is left for the layer"
    );
    assert!(content(&cache.directory).contains("gone = 1"), "nothing changes before it is merged");
    expect![[r#"
        kept/
        kept/x = 1
        kind/
        kind/x = 2
        kind2/
        kind2/z = 2
        kind3 = 2
        new/
        new/deep/
        new/deep/x = 2
        old/
        old/x = 2
        old/y = 1
    "#]]
    .assert_eq(&settled(&store));
}

#[test]
fn no_file_is_of_a_cache_and_of_a_layer() {
    require!(Need::Root);
    let scratch = Scratch::new();
    let store = scratch.store();
    make(&store, &[("known", "1")]);
    file::set_times(&plain(&store).join("known"), Timestamp::from_seconds(NOW + 5)).unwrap();
    let cache = link(&store, NOW);
    assert_eq!(cache.floor, NOW + 5);
    let staging = store.stage().unwrap();
    let tree = in_cache(&staging);
    // The kernel copies what is linked from below.
    fill(&tree, &[("known", "1"), ("new/x", "22"), ("own", "3")]);
    let layer = staging.tree().join("venv");
    file::create_dirs(&layer, 0o755).unwrap();
    for (from, to) in [("known", "k"), ("new/x", "x"), ("new/x", "y"), ("new/x", "z")] {
        file::hard_link(&tree.join(from), &layer.join(to)).unwrap();
    }
    let old = Timestamp::from_seconds(NOW - 10);
    file::set_times(&tree.join("new/x"), old).unwrap();
    file::set_times(&tree.join("own"), old).unwrap();
    file::set_mode(&tree.join("new/x"), 0o640).unwrap();
    store.put_cache_aside(&cache, &staging, NOW).unwrap();
    assert_eq!(content(&layer), "k = 1\nx = 22\ny = 22\nz = 22\n");
    let dir = Dir::open(&layer).unwrap();
    for file in ["x", "y", "z"] {
        let stat = dir.stat(OsStr::new(file)).unwrap();
        assert_eq!((stat.links, stat.mode, stat.modified), (1, 0o640, old), "{file}");
    }
    assert_eq!(dir.stat(OsStr::new("k")).unwrap().links, 1);
    assert_eq!(settled(&store), "known = 1\nnew/\nnew/x = 22\nown = 3\n");
    let dir = Dir::open(&plain(&store)).unwrap();
    let stat = |path: &str| dir.stat(OsStr::new(path)).unwrap();
    assert_eq!((stat("known").links, stat("known").modified.seconds), (1, NOW + 5));
    assert_eq!(stat("own").modified.seconds, NOW, "no file is older than the epoch");
    let new = Dir::open(&plain(&store).join("new")).unwrap().stat(OsStr::new("x")).unwrap();
    assert_eq!((new.links, new.mode, new.modified.seconds), (1, 0o640, NOW));
}

#[test]
fn files_older_than_the_epoch_become_new() {
    require!(Need::Root);
    let scratch = Scratch::new();
    let store = scratch.store();
    make(&store, &[("a", "1"), ("d/b", "1")]);
    let time = |seconds| Timestamp::from_seconds(seconds);
    file::set_times(&plain(&store).join("a"), time(NOW - 100)).unwrap();
    file::set_times(&plain(&store).join("d/b"), time(NOW - 50)).unwrap();
    assert_eq!(link(&store, NOW - 200).floor, NOW - 100);
    let cache = link(&store, NOW - 70);
    assert_eq!(cache.floor, NOW - 50, "the other one has the time of now");
    // What is put aside and is older counts from then on.
    let staging = store.stage().unwrap();
    fill(&in_cache(&staging), &[("c", "1")]);
    file::set_times(&in_cache(&staging).join("c"), time(NOW - 60)).unwrap();
    store.put_cache_aside(&cache, &staging, NOW - 70).unwrap();
    assert_eq!(link(&store, NOW - 70).floor, NOW - 60);
    assert_eq!(link(&store, NOW - 55).floor, NOW - 50);
}

#[test]
fn a_part_of_what_another_step_removed_does_not_come_back() {
    require!(Need::Root);
    let scratch = Scratch::new();
    let store = scratch.store();
    make(&store, &[("archive/x", "1"), ("archive/y", "1"), ("stays", "1")]);
    let cache = link(&store, 0);
    let first = store.stage().unwrap();
    whiteout(&in_cache(&first), "archive");
    store.put_cache_aside(&cache, &first, 0).unwrap();
    let second = store.stage().unwrap();
    fill(&in_cache(&second), &[("archive/x", "2"), ("new/x", "2")]);
    store.put_cache_aside(&cache, &second, 0).unwrap();
    assert_eq!(settled(&store), "new/\nnew/x = 2\nstays = 1\n");
}

#[test]
fn what_steps_make_at_the_same_time_comes_together() {
    require!(Need::Root);
    let scratch = Scratch::new();
    let store = scratch.store();
    make(&store, &[("stays", "1")]);
    let cache = link(&store, 0);
    let steps: Vec<Staging> = ["a", "b"]
        .iter()
        .map(|name| {
            let staging = store.stage().unwrap();
            fill(&in_cache(&staging).join("archive").join(name), &[("x", name)]);
            fill(&in_cache(&staging).join("archive"), &[("last", name)]);
            staging
        })
        .collect();
    for staging in &steps {
        store.put_cache_aside(&cache, staging, 0).unwrap();
    }
    let expected = "archive/\narchive/a/\narchive/a/x = a\narchive/b/\narchive/b/x = b\narchive/last = b\nstays = 1\n";
    assert_eq!(settled(&store), expected);
}

#[test]
fn a_cache_that_a_step_removed_is_empty() {
    require!(Need::Root);
    for removed in [TARGET, "root/.cache", "root"] {
        let scratch = Scratch::new();
        let store = scratch.store();
        make(&store, &[("a", "1")]);
        file::set_mode(&plain(&store), 0o700).unwrap();
        let cache = link(&store, 0);
        let staging = store.stage().unwrap();
        whiteout(staging.tree(), removed);
        store.put_cache_aside(&cache, &staging, 0).unwrap();
        let left = if removed == TARGET { "root/\nroot/.cache/\n" } else { removed };
        assert!(content(staging.tree()).contains(left), "{removed}");
        assert_eq!(settled(&store), "", "{removed}");
        let dir = Dir::open(&plain(&store)).unwrap();
        assert_eq!(dir.stat_self().unwrap().mode, 0o700);
    }
    // Removed and made again.
    let scratch = Scratch::new();
    let store = scratch.store();
    make(&store, &[("a", "1"), ("d/x", "1")]);
    let cache = link(&store, 0);
    let staging = store.stage().unwrap();
    fill(&in_cache(&staging), &[("b", "2"), ("d/y", "2")]);
    opaque(staging.tree(), "root");
    store.put_cache_aside(&cache, &staging, 0).unwrap();
    assert_eq!(settled(&store), "b = 2\nd/\nd/y = 2\n");
}

#[test]
fn a_step_that_changes_nothing_puts_nothing_aside() {
    require!(Need::Root);
    let scratch = Scratch::new();
    let store = scratch.store();
    make(&store, &[("a/x", "1")]);
    let cache = link(&store, 0);
    for touched in ["", TARGET, "root/.cache/uv/a"] {
        let staging = store.stage().unwrap();
        file::create_dirs(&staging.tree().join(touched), 0o755).unwrap();
        store.put_cache_aside(&cache, &staging, 0).unwrap();
        assert_eq!(file::list_dir(&cache.aside).unwrap(), Vec::<std::ffi::OsString>::new());
    }
}

/// What one step of the sweep does.
fn change(store: &Store) -> Result<(), StoreError> {
    if !file::exists(&plain(store)).unwrap() && store.linked_cache_mount(&name())?.is_none() {
        store.settle_cache_mount(&name())?;
        make(store, &[("a/x", "1"), ("b", "1"), ("e/x", "1")]);
    }
    if !store.link_cache_mount(&name(), &target(), NOW)? {
        return Ok(());
    }
    let Some(cache) = store.linked_cache_mount(&name())? else { return Ok(()) };
    let staging = store.stage()?;
    let tree = in_cache(&staging);
    fill(&tree, &[("new/x", "2"), ("a/y", "2"), ("c", "2")]);
    whiteout(&tree, "b");
    opaque(&tree, "e");
    fill(&tree, &[("e/y", "2")]);
    file::hard_link(&tree.join("new/x"), &staging.tree().join("x")).unwrap();
    file::hard_link(&tree.join("new/x"), &staging.tree().join("y")).unwrap();
    store.put_cache_aside(&cache, &staging, NOW)?;
    drop(staging);
    store.settle_cache_mount(&name())
}

/// Whatever happened, each directory is as it was or as it became.
fn is_changed(store: &Store) -> bool {
    store.settle_cache_mount(&name()).unwrap();
    if !file::exists(&plain(store)).unwrap() {
        return false;
    }
    let text = content(&plain(store));
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        found.entry(line.split('/').next().unwrap()).or_default().push(line);
    }
    assert!(!text.contains("opaque") && !text.contains("CharDevice"), "{text}");
    if let Some(new) = found.get("new") {
        assert_eq!(new, &["new/", "new/x = 2"]);
    }
    if let Some(replaced) = found.get("e") {
        assert!(replaced.len() <= 3, "{text}");
    }
    text == "a/\na/x = 1\na/y = 2\nc = 2\ne/\ne/y = 2\nnew/\nnew/x = 2\n"
}

#[test]
fn a_cache_is_whole_wherever_a_change_of_it_ends() {
    require!(Need::Root);
    let calls = sweep(&Operation {
        name: "link, put aside and settle",
        prepare: |store| make(store, &[("a/x", "1"), ("b", "1"), ("e/x", "1")]),
        run: change,
        is_there: is_changed,
    });
    assert!(calls > 30, "{calls}");
}
