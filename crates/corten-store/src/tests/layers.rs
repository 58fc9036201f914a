use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use corten_oci::digest::Digest;
use corten_oci::tree::Tree;
use corten_sys::beneath::{Device, Dir};
use corten_sys::clock::Timestamp;
use corten_sys::file;
use expect_test::expect;

use super::{NOW, SEAL, Scratch, commit, fill, layer_tar, list, names, stage};
use crate::walk::Marks;
use crate::{Seal, Store, StoreError};

fn set_xattr(path: &Path, key: &[u8], value: &[u8]) {
    let dir = Dir::open(path.parent().unwrap()).unwrap();
    dir.set_xattr(path.file_name().unwrap(), key, value).unwrap();
}

fn mark(store: &Store, name: &str) -> Vec<u8> {
    let opaque = Marks::new(store.in_user_namespace()).opaque();
    [opaque.strip_suffix(b"opaque").unwrap(), name.as_bytes()].concat()
}

#[test]
fn the_tar_of_a_layer_has_its_digest_and_its_size() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layer = commit(&store, &[("a/b", "1"), ("a-b", "22"), ("c", "")]);
    let tar = layer_tar(&store, &layer);
    assert_eq!(Digest::of(&tar), layer.diff_id.0);
    assert_eq!(tar.len() as u64, layer.tar_bytes);
    assert_eq!((layer.entries, layer.content_bytes), (4, 3));
    expect![[r#"
        a/ dir 755 +0
        a-b file 2 644 +0
        a/b file 1 644 +0
        c file 0 644 +0
    "#]]
    .assert_eq(&list(&tar));
    assert_eq!(store.layer(&layer.id).unwrap().unwrap(), layer);
    assert_eq!(file::read(&layer.path.join("a/b")).unwrap(), b"1");
}

#[test]
fn an_empty_layer_is_a_layer() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layer = commit(&store, &[]);
    assert_eq!(layer_tar(&store, &layer), vec![0; 1024]);
    assert!(Tree::from_tar(layer_tar(&store, &layer).as_slice()).unwrap().is_empty());
}

#[test]
fn equal_content_is_one_layer() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let one = commit(&store, &[("a", "1")]);
    let two = commit(&scratch.store(), &[("a", "1")]);
    assert_eq!(one, two);
    let staged = names(&scratch.root().join("tmp"));
    for lease in staged {
        assert!(names(&scratch.root().join("tmp").join(lease)).is_empty());
    }
    assert_eq!(names(&scratch.root().join("layers")), [one.diff_id.hex()]);
}

#[test]
fn times_are_whole_seconds_and_not_after_the_epoch_on_disk_too() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let staging = stage(&store, &[("d/new", ""), ("d/old", "")]);
    let old = Timestamp { seconds: NOW - 10, nanoseconds: 999 };
    file::set_times(&staging.tree().join("d/old"), old).unwrap();
    let layer = store.commit(staging, &SEAL).unwrap();
    expect![[r#"
        d/ dir 755 +0
        d/new file 0 644 +0
        d/old file 0 644 -10
    "#]]
    .assert_eq(&list(&layer_tar(&store, &layer)));
    for (name, seconds) in [("d", NOW), ("d/new", NOW), ("d/old", NOW - 10)] {
        let metadata = file::metadata(&layer.path.join(name)).unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (seconds, 0), "{name}");
    }
    let staging = stage(&store, &[("now", "")]);
    let layer = store.commit(staging, &Seal { epoch: None, drop: &[] }).unwrap();
    let metadata = file::metadata(&layer.path.join("now")).unwrap();
    assert!(metadata.mtime() > NOW && metadata.mtime_nsec() == 0);
}

#[test]
fn links_sockets_and_attributes_are_sealed() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let staging = stage(&store, &[("z", "linked"), ("f", "x")]);
    let tree = staging.tree().to_owned();
    file::hard_link(&tree.join("z"), &tree.join("b")).unwrap();
    file::hard_link(&tree.join("z"), &tree.join("m")).unwrap();
    file::symlink(Path::new("/etc/passwd"), &tree.join("link")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(tree.join("socket")).unwrap();
    set_xattr(&tree.join("f"), b"user.note", b"kept");
    set_xattr(&tree.join("f"), b"user.overlay.origin", b"dropped");
    let layer = store.commit(staging, &SEAL).unwrap();
    drop(socket);
    expect![[r#"
        b file 6 644 +0
        f file 1 644 +0 user.note=kept
        link -> /etc/passwd 777 +0
        m = b 644 +0
        z = b 644 +0
    "#]]
    .assert_eq(&list(&layer_tar(&store, &layer)));
    assert!(!file::exists(&layer.path.join("socket")).unwrap());
}

#[test]
fn marks_of_overlayfs_become_whiteouts_or_go_away() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let staging = stage(&store, &[("opaque/f", ""), ("merged/f", "")]);
    let tree = staging.tree().to_owned();
    let dir = Dir::open(&tree).unwrap();
    dir.create_device("gone".as_ref(), Device::Char(0, 0), 0o600).unwrap();
    set_xattr(&tree.join("opaque"), &mark(&store, "opaque"), b"y");
    set_xattr(&tree.join("merged"), &mark(&store, "opaque"), b"x");
    set_xattr(&tree.join("merged"), &mark(&store, "impure"), b"y");
    set_xattr(&tree.join("merged/f"), &mark(&store, "origin"), b"o");
    let layer = store.commit(staging, &SEAL).unwrap();
    expect![[r#"
        .wh.gone file 0 0 -1700000000
        merged/ dir 755 +0
        merged/f file 0 644 +0
        opaque/ dir 755 +0
        opaque/.wh..wh..opq file 0 0 -1700000000
        opaque/f file 0 644 +0
    "#]]
    .assert_eq(&list(&layer_tar(&store, &layer)));
    let xattrs = |name: &str| {
        let dir = Dir::open(layer.path.join(name).parent().unwrap()).unwrap();
        dir.xattr_names(Path::new(name).file_name().unwrap()).unwrap()
    };
    assert_eq!(xattrs("merged"), Vec::<Vec<u8>>::new());
    assert_eq!(xattrs("merged/f"), Vec::<Vec<u8>>::new());
    assert_eq!(xattrs("opaque"), [mark(&store, "opaque")]);
}

#[test]
fn marks_that_stand_for_missing_content_are_refused() {
    let scratch = Scratch::new();
    let store = scratch.store();
    for (name, feature) in [("d", "redirect"), ("d/f", "metacopy")] {
        let staging = stage(&store, &[("d/f", "")]);
        set_xattr(&staging.tree().join(name), &mark(&store, feature), b"/x");
        let error = store.commit(staging, &SEAL).unwrap_err();
        let expected = format!(
            "`{name}` in the layer has the overlay feature `{feature}`, which would lose content"
        );
        assert_eq!(error.to_string(), expected);
    }
    assert!(names(&scratch.root().join("layers")).is_empty());
}

#[test]
fn dropped_paths_are_not_in_the_layer_and_links_are_not_followed() {
    let scratch = Scratch::new();
    let outside = scratch.path.join("outside");
    fill(&outside, &[("precious", "")]);
    let store = scratch.store();
    let staging = stage(&store, &[("etc/resolv.conf", ""), ("tmp/deep/x", ""), ("keep", "")]);
    file::symlink(&outside, &staging.tree().join("link")).unwrap();
    let drop = ["/etc/resolv.conf", "tmp", "absent/x", "keep/x", "link/precious"];
    let layer = store.commit(staging, &Seal { epoch: Some(NOW), drop: &drop }).unwrap();
    expect![[r#"
        etc/ dir 755 +0
        keep file 0 644 +0
        link -> SCRATCH/outside 777 +0
    "#]]
    .assert_eq(
        &list(&layer_tar(&store, &layer)).replace(scratch.path.to_str().unwrap(), "SCRATCH"),
    );
    assert!(file::exists(&outside.join("precious")).unwrap());
    let staging = stage(&store, &[("a", "")]);
    let seal = Seal { epoch: None, drop: &["../outside/precious"] };
    assert!(matches!(store.commit(staging, &seal), Err(StoreError::Path(_))));
}

#[test]
fn a_large_layer_is_proven_in_another_boot_and_a_torn_one_is_absent() {
    let scratch = Scratch::new();
    let files: Vec<String> = (0..20).map(|number| format!("f{number}")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|name| (name.as_str(), "content")).collect();
    let layer = commit(&scratch.store(), &files);
    let small = commit(&scratch.store(), &[("small", "")]);
    let meta = |store: &Store| store.inner.meta(&layer.diff_id).unwrap().unwrap();
    assert!(!meta(&scratch.store()).synced);
    // The same boot trusts its page cache, another one reads everything.
    file::write(&layer.path.join("f7"), b"torn").unwrap();
    assert!(scratch.store().layer(&layer.id).unwrap().is_some());
    let rebooted = scratch.store_after_boot("next boot");
    assert!(rebooted.layer(&layer.id).unwrap().is_none());
    assert!(rebooted.layer(&small.id).unwrap().is_some());
    // Making it again replaces the ruin.
    assert_eq!(commit(&rebooted, &files), layer);
    assert_eq!(file::read(&layer.path.join("f7")).unwrap(), b"content");
    let third = scratch.store_after_boot("third boot");
    assert_eq!(third.layer(&layer.id).unwrap().unwrap(), layer);
    assert!(meta(&third).synced);
}

#[test]
fn settling_makes_layers_durable() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let files: Vec<String> = (0..20).map(|number| format!("f{number}")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|name| (name.as_str(), "content")).collect();
    let layer = commit(&store, &files);
    store.settle().unwrap();
    assert!(store.inner.meta(&layer.diff_id).unwrap().unwrap().synced);
    store.settle().unwrap();
}

#[test]
fn a_tree_that_is_too_deep_is_refused() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let staging = store.stage().unwrap();
    let deep = "d/".repeat(600);
    file::create_dirs(&staging.tree().join(&deep), 0o755).unwrap();
    let error = store.commit(staging, &SEAL).unwrap_err();
    assert_eq!(error.to_string(), "the layer is beyond a limit: the depth of directories");
}
