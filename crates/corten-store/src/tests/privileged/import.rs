use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use corten_oci::digest::{DiffId, Digest};
use corten_oci::tar::EntryKind;
use corten_oci::tree::Meta;
use corten_sys::beneath::{Dir, FileKind};
use corten_sys::file;
use proptest::prelude::*;

use super::super::{NOW, Scratch};
use super::{TarBuilder, import, is_root, meta};
use crate::{Layer, Links, Repair, Snapshot, Store, StoreError, StoreOptions};

fn read(layer: &Layer, path: &str) -> String {
    String::from_utf8(file::read(&layer.path.join(path)).unwrap()).unwrap()
}

fn kind(layer: &Layer, path: &str) -> FileKind {
    let path = layer.path.join(path);
    let dir = Dir::open(path.parent().unwrap()).unwrap();
    dir.stat(path.file_name().unwrap()).unwrap().kind
}

fn xattr(layer: &Layer, path: &str, key: &str) -> Option<Vec<u8>> {
    let path = layer.path.join(path);
    let dir = Dir::open(path.parent().unwrap()).unwrap();
    dir.xattr(path.file_name().unwrap(), key.as_bytes()).unwrap()
}

#[test]
fn everything_that_a_tar_says_reaches_the_disk() {
    if !is_root() {
        return;
    }
    let capability = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let xattrs = BTreeMap::from([
        (b"security.capability".to_vec(), capability.clone()),
        (b"user.note".to_vec(), b"kept".to_vec()),
        (b"user.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"trusted.overlay.opaque".to_vec(), b"y".to_vec()),
        (b"trusted.other".to_vec(), b"x".to_vec()),
    ]);
    let odd = Meta { mode: 0o4711, uid: 33, gid: 44, mtime: -7, xattrs };
    let tar = TarBuilder::default()
        .dir("d")
        .entry("d/odd", &odd, &EntryKind::File { size: 3 }, b"odd")
        .hard_link("d/second", "d/odd")
        .symlink("d/link", "/etc/passwd")
        .entry("null", &meta(), &EntryKind::CharDevice { major: 1, minor: 3 }, b"")
        .entry("pipe", &meta(), &EntryKind::Fifo, b"")
        .finish();
    let scratch = Scratch::new();
    let layer = import(&scratch.store(), &tar);
    let metadata = file::metadata(&layer.path.join("d/odd")).unwrap();
    let found = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.mtime());
    assert_eq!(found, (0o4711, 33, 44, -7));
    assert_eq!(metadata.nlink(), 2);
    assert_eq!(xattr(&layer, "d/odd", "security.capability"), Some(capability));
    assert_eq!(xattr(&layer, "d/odd", "user.note"), Some(b"kept".to_vec()));
    for dropped in ["user.overlay.opaque", "trusted.overlay.opaque", "trusted.other"] {
        assert_eq!(xattr(&layer, "d/odd", dropped), None, "{dropped}");
    }
    assert_eq!(file::metadata(&layer.path.join("d")).unwrap().mtime(), NOW);
    assert_eq!(kind(&layer, "null"), FileKind::CharDevice);
    assert_eq!(kind(&layer, "pipe"), FileKind::Fifo);
}

#[test]
fn a_tar_without_directories_or_out_of_order_is_unpacked() {
    if !is_root() {
        return;
    }
    let directory = Meta { mode: 0o700, ..meta() };
    let tar = TarBuilder::default()
        .file("a/b/c", "deep")
        .entry("a", &directory, &EntryKind::Directory { opaque: false }, b"")
        .raw("./x/./y//z", &EntryKind::File { size: 1 }, b"1")
        .raw("/absolute", &EntryKind::File { size: 1 }, b"2")
        .raw("./", &EntryKind::Directory { opaque: false }, b"")
        .finish();
    let scratch = Scratch::new();
    let layer = import(&scratch.store(), &tar);
    assert_eq!(read(&layer, "a/b/c"), "deep");
    assert_eq!(read(&layer, "x/y/z"), "1");
    assert_eq!(read(&layer, "absolute"), "2");
    let modes = ["a", "a/b"].map(|path| file::metadata(&layer.path.join(path)).unwrap().mode());
    assert_eq!(modes.map(|mode| mode & 0o777), [0o700, 0o755]);
}

#[test]
fn whiteouts_hide_only_what_is_below_their_layer() {
    if !is_root() {
        return;
    }
    let lower = TarBuilder::default()
        .file("gone", "")
        .file("dir/old", "")
        .file("replaced/old", "")
        .file("own/old", "")
        .file("blank/old", "")
        .finish();
    let upper = TarBuilder::default()
        .file(".wh.gone", "")
        .file("dir/.wh..wh..opq", "")
        .file("dir/new", "")
        .file(".wh.replaced", "")
        .file("replaced/new", "")
        .file("own/new", "")
        .file(".wh.own", "")
        .file(".wh..wh.plnk", "ignored content")
        .file("blank/.wh.old", "")
        .file(".wh.file", "")
        .file("file", "own")
        .finish();
    let scratch = Scratch::new();
    let store = scratch.store();
    let layers = [import(&store, &lower), import(&store, &upper)];
    let snapshot = Snapshot::new(&layers).unwrap();
    let walked = snapshot.walk(b"/").unwrap();
    let paths: Vec<String> = walked.iter().map(|entry| entry.path.to_string()).collect();
    let expected =
        ["blank", "dir", "dir/new", "file", "own", "own/new", "replaced", "replaced/new"];
    assert_eq!(paths, expected);
    assert_eq!(kind(&layers[1], "gone"), FileKind::CharDevice);
    assert_eq!(xattr(&layers[1], "dir", "trusted.overlay.opaque"), Some(b"y".to_vec()));
}

#[test]
fn the_last_of_several_entries_wins_and_the_tar_can_still_be_made_again() {
    if !is_root() {
        return;
    }
    let tar = TarBuilder::default()
        .file("f", "first")
        .hard_link("link", "f")
        .file("f", "second, longer")
        .file("d/x", "in a directory")
        .file("d/y", "too")
        .file("d", "now a file")
        .dir("d")
        .file("d/x", "and a directory again")
        .symlink("s", "f")
        .dir("s")
        .file("s/t", "not through the link")
        .file("f", "third")
        .hard_link("f", "link")
        .hard_link("f", "f")
        .finish();
    let scratch = Scratch::new();
    let store = scratch.store();
    let layer = import(&store, &tar);
    assert_eq!(read(&layer, "f"), "first");
    assert_eq!(read(&layer, "link"), "first");
    assert_eq!(read(&layer, "d/x"), "and a directory again");
    assert!(!file::exists(&layer.path.join("d/y")).unwrap());
    assert_eq!(read(&layer, "s/t"), "not through the link");
    assert!(store.fsck(Repair::No).unwrap().problems.is_empty());
}

#[test]
fn a_directory_that_is_a_link_is_followed_within_the_layer() {
    if !is_root() {
        return;
    }
    let tar = TarBuilder::default()
        .dir("usr")
        .dir("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr")
        .symlink("up", "../../..")
        .file("lib/a", "a")
        .file("abs/b", "b")
        .file("up/c", "c")
        .file("lib/a", "a again")
        .hard_link("lib/h", "abs/b")
        .finish();
    let scratch = Scratch::new();
    let layer = import(&scratch.store(), &tar);
    for (path, content) in
        [("usr/lib/a", "a again"), ("usr/b", "b"), ("c", "c"), ("usr/lib/h", "b")]
    {
        assert_eq!(read(&layer, path), content, "{path}");
    }
}

#[test]
fn sparse_files_take_no_space_for_their_holes() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let store = scratch.store();
    let fixtures: [&[u8]; 4] = [
        include_bytes!("../../../../corten-oci/fixtures/sparse-old.tar"),
        include_bytes!("../../../../corten-oci/fixtures/sparse-0.0.tar"),
        include_bytes!("../../../../corten-oci/fixtures/sparse-0.1.tar"),
        include_bytes!("../../../../corten-oci/fixtures/sparse-1.0.tar"),
    ];
    for tar in fixtures {
        let layer = import(&store, tar);
        let content = file::read(&layer.path.join("sparse")).unwrap();
        assert!(Digest::of(&content).hex().starts_with("e17135df57b4"));
        let metadata = file::metadata(&layer.path.join("sparse")).unwrap();
        assert!(metadata.blocks() * 512 < 64 * 1024, "{} blocks", metadata.blocks());
    }
}

#[test]
fn what_follows_the_end_of_a_tar_counts_for_its_digest() {
    if !is_root() {
        return;
    }
    let mut tar = TarBuilder::default().file("a", "1").finish();
    tar.resize(10240, 0);
    let scratch = Scratch::new();
    let store = scratch.store();
    import(&store, &tar);
    tar.extend_from_slice(b"garbage after the end");
    import(&store, &tar);
}

#[test]
fn a_tar_with_another_digest_than_expected_leaves_nothing() {
    if !is_root() {
        return;
    }
    let tar = TarBuilder::default().file("a", "1").finish();
    let scratch = Scratch::new();
    let store = scratch.store();
    let wrong = DiffId(Digest::of(b"other"));
    let refused = store.import_layer(&mut tar.as_slice(), Some(wrong));
    assert!(matches!(refused, Err(StoreError::DigestMismatch { .. })));
    assert!(super::super::names(&scratch.root().join("layers")).is_empty());
}

#[test]
fn a_layer_that_was_committed_and_one_that_was_imported_are_the_same() {
    if !is_root() {
        return;
    }
    let (one, two) = (Scratch::new(), Scratch::new());
    let (store, other) = (one.store(), two.store());
    let committed = super::super::commit(&store, &[("a/b", "1"), ("c", "2")]);
    let tar = super::super::layer_tar(&store, &committed);
    let imported = import(&other, &tar);
    assert_eq!(imported.diff_id, committed.diff_id);
    assert_eq!(import(&store, &tar), committed);
    let snapshot = Snapshot::new(&[imported]).unwrap();
    assert!(snapshot.resolve(b"a/b", Links::Keep).unwrap().is_some());
}

#[test]
fn a_user_namespace_store_marks_by_user_attributes_and_makes_no_devices() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let options = StoreOptions { in_user_namespace: true, ..StoreOptions::new(scratch.root()) };
    let store = Store::open(&options).unwrap();
    let device = EntryKind::BlockDevice { major: 8, minor: 0 };
    let tar = TarBuilder::default()
        .file("d/.wh..wh..opq", "")
        .file(".wh.gone", "")
        .entry("dev/sda", &meta(), &device, b"")
        .finish();
    let layer = import(&store, &tar);
    assert_eq!(xattr(&layer, "d", "user.overlay.opaque"), Some(b"y".to_vec()));
    assert_eq!(kind(&layer, "gone"), FileKind::CharDevice);
    assert!(!file::exists(&layer.path.join("dev/sda")).unwrap());
    let tar = TarBuilder::default().entry("srv/sda", &meta(), &device, b"").finish();
    let error = store.import_layer(&mut tar.as_slice(), None).unwrap_err();
    assert!(error.to_string().contains("the device node `srv/sda`"), "{error}");
    assert_eq!(error.hint().unwrap(), "run as root to use this image");
}

#[derive(Debug, Clone)]
enum Step {
    File(String, String),
    Directory(String),
    Symlink(String, String),
    HardLink(String, String),
    Whiteout(String),
    Opaque(String),
}

fn step() -> impl Strategy<Value = Step> {
    let path = "[ab](/[ab]){0,2}";
    prop_oneof![
        4 => (path, "[xyz]{0,3}").prop_map(|(path, content)| Step::File(path, content)),
        2 => path.prop_map(Step::Directory),
        1 => (path, "(/|\\.\\./)?[ab](/[ab])?").prop_map(|(path, target)| Step::Symlink(path, target)),
        2 => (path, path).prop_map(|(path, target)| Step::HardLink(path, target)),
        1 => path.prop_map(Step::Whiteout),
        1 => path.prop_map(Step::Opaque),
    ]
}

fn whiteout(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/.wh.{name}"),
        None => format!(".wh.{path}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever order and nonsense a tar has: it is refused, or it comes out as it went in and
    /// nothing was written outside.
    #[test]
    fn any_tar_is_refused_or_made_again(steps in proptest::collection::vec(step(), 0..14)) {
        if is_root() {
            let mut builder = TarBuilder::default();
            for step in steps {
                builder = match step {
                    Step::File(path, content) => builder.file(&path, &content),
                    Step::Directory(path) => builder.dir(&path),
                    Step::Symlink(path, target) => builder.symlink(&path, &target),
                    Step::HardLink(path, target) => builder.hard_link(&path, &target),
                    Step::Whiteout(path) => builder.file(&whiteout(&path), ""),
                    Step::Opaque(path) => builder.file(&format!("{path}/.wh..wh..opq"), ""),
                };
            }
            let tar = builder.finish();
            let scratch = Scratch::new();
            let store = scratch.store();
            if let Ok(layer) = store.import_layer(&mut tar.as_slice(), None) {
                prop_assert!(super::super::layer_tar(&store, &layer) == tar);
                Snapshot::new(&[layer]).unwrap().walk(b"/").unwrap();
            }
            let outside = super::super::names(Path::new(&scratch.path));
            prop_assert_eq!(outside, ["store"]);
        }
    }
}
