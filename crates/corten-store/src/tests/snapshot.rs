use std::fmt::Write as _;
use std::path::Path;

use corten_sys::beneath::{Device, Dir, FileKind};
use corten_sys::file;

use super::{SEAL, Scratch, fill};
use crate::walk::Marks;
use crate::{Layer, Links, Snapshot, Store, StoreError};

/// One change in a layer.
enum Change {
    File(&'static str),
    Link(&'static str, &'static str),
    Whiteout(&'static str),
    Opaque(&'static str),
}

use Change::{File, Link, Opaque, Whiteout};

/// Makes a layer; files hold the name of the layer.
fn layer(store: &Store, name: &str, changes: &[Change]) -> Layer {
    let staging = store.stage().unwrap();
    for change in changes {
        match change {
            File(path) => fill(staging.tree(), &[(path, name)]),
            Link(path, target) => {
                let link = staging.tree().join(path);
                file::create_dirs(link.parent().unwrap(), 0o755).unwrap();
                file::symlink(Path::new(target), &link).unwrap();
            }
            Whiteout(path) => {
                let path = staging.tree().join(path);
                file::create_dirs(path.parent().unwrap(), 0o755).unwrap();
                let dir = Dir::open(path.parent().unwrap()).unwrap();
                dir.create_device(path.file_name().unwrap(), Device::Char(0, 0), 0).unwrap();
            }
            Opaque(path) => {
                let path = staging.tree().join(path);
                file::create_dirs(&path, 0o755).unwrap();
                let dir = Dir::open(&path).unwrap();
                let mark = Marks::new(store.in_user_namespace()).opaque();
                corten_sys::beneath::set_xattr(&dir, &path, &mark, b"y").unwrap();
            }
        }
    }
    store.commit(staging, &SEAL).unwrap()
}

fn read(snapshot: &Snapshot, path: &str) -> Option<String> {
    let content = snapshot.read_file(path.as_bytes(), 1000).unwrap();
    content.map(|content| String::from_utf8(content).unwrap())
}

fn list(snapshot: &Snapshot) -> String {
    let mut list = String::new();
    for entry in snapshot.walk(b"/").unwrap() {
        let kind = if entry.stat.kind == FileKind::Directory { "/" } else { "" };
        writeln!(list, "{}{kind} {}", entry.path, entry.layer).unwrap();
    }
    list
}

#[test]
fn upper_layers_replace_hide_and_merge() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layers = [
        layer(
            &store,
            "bottom",
            &[
                File("dir/a"),
                File("dir/b"),
                File("gone"),
                File("opaque/old"),
                File("was-dir/x"),
                File("was-file"),
                File("back"),
            ],
        ),
        layer(
            &store,
            "middle",
            &[
                File("dir/b"),
                Whiteout("gone"),
                Opaque("opaque"),
                File("opaque/new"),
                Whiteout("was-dir"),
                Whiteout("back"),
                Whiteout("never-was"),
            ],
        ),
        layer(&store, "top", &[File("dir/c"), File("was-dir"), File("was-file/x"), File("back")]),
    ];
    let snapshot = Snapshot::new(&layers).unwrap();
    expect_test::expect![[r#"
        back 2
        dir/ 2
        dir/a 0
        dir/b 1
        dir/c 2
        opaque/ 1
        opaque/new 1
        was-dir 2
        was-file/ 2
        was-file/x 2
    "#]]
    .assert_eq(&list(&snapshot));
    assert_eq!(read(&snapshot, "/dir/b").unwrap(), "middle");
    assert_eq!(read(&snapshot, "dir/a").unwrap(), "bottom");
    for absent in
        ["gone", "opaque/old", "was-dir/x", "never-was", "dir/a/x", "dir", &"x".repeat(300)]
    {
        if absent.len() < 256 {
            assert_eq!(read(&snapshot, absent), None, "{absent}");
        } else {
            assert!(snapshot.read_file(absent.as_bytes(), 10).is_err());
        }
    }
    assert!(snapshot.list_dir(b"dir/a").unwrap().is_none());
}

#[test]
fn links_are_resolved_within_the_stack() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layers = [
        layer(
            &store,
            "bottom",
            &[
                File("usr/lib/os-release"),
                Link("etc/os-release", "../usr/lib/os-release"),
                Link("lib", "usr/lib"),
                Link("abs", "/lib/os-release"),
                Link("host", "../../../../etc/passwd"),
                Link("loop", "loop"),
                Link("ping", "pong"),
                Link("pong", "ping"),
                Link("dangling", "/nowhere"),
            ],
        ),
        layer(&store, "top", &[File("usr/lib/extra"), File("etc/passwd")]),
    ];
    let snapshot = Snapshot::new(&layers).unwrap();
    assert_eq!(read(&snapshot, "etc/os-release").unwrap(), "bottom");
    assert_eq!(read(&snapshot, "/abs").unwrap(), "bottom");
    assert_eq!(read(&snapshot, "lib/extra").unwrap(), "top");
    assert_eq!(read(&snapshot, "host").unwrap(), "top");
    assert_eq!(read(&snapshot, "../../etc/passwd").unwrap(), "top");
    assert_eq!(read(&snapshot, "lib/../passwd"), None);
    assert_eq!(read(&snapshot, "lib/../lib/extra").unwrap(), "top");
    assert_eq!(read(&snapshot, "dangling"), None);
    for path in ["loop", "ping"] {
        let error = snapshot.resolve(path.as_bytes(), Links::Follow).unwrap_err();
        assert!(matches!(error, StoreError::Escape { .. }), "{path}");
    }
    let link = snapshot.resolve(b"/lib", Links::Keep).unwrap().unwrap();
    assert_eq!((link.stat.kind, link.layer), (FileKind::Symlink, 0));
    assert_eq!(link.read_link().unwrap(), b"usr/lib");
    let followed = snapshot.resolve(b"/lib", Links::Follow).unwrap().unwrap();
    assert_eq!((followed.path.to_string().as_str(), followed.layer), ("usr/lib", 1));
    let names: Vec<String> = snapshot
        .list_dir(b"lib")
        .unwrap()
        .unwrap()
        .iter()
        .map(|entry| String::from_utf8_lossy(entry.name()).into_owned())
        .collect();
    assert_eq!(names, ["extra", "os-release"]);
}

#[test]
fn a_snapshot_without_layers_is_empty() {
    let snapshot = Snapshot::new(&[]).unwrap();
    assert!(snapshot.resolve(b"/", Links::Follow).unwrap().is_none());
    assert!(snapshot.walk(b"/").unwrap().is_empty());
    let scratch = Scratch::new();
    let store = scratch.store();
    let snapshot = Snapshot::new(&[layer(&store, "only", &[])]).unwrap();
    assert!(snapshot.resolve(b"/", Links::Follow).unwrap().is_some());
    assert_eq!(snapshot.list_dir(b"/").unwrap().unwrap().len(), 0);
}

#[test]
fn a_file_beyond_the_limit_is_not_read() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let snapshot = Snapshot::new(&[layer(&store, "content", &[File("f")])]).unwrap();
    let refused = snapshot.read_file(b"f", 3);
    assert!(matches!(refused, Err(StoreError::TooLarge { limit_bytes: 3 })));
}

#[test]
fn a_merged_tree_has_what_all_layers_leave_and_no_marks() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let linked = store.stage().unwrap();
    fill(linked.tree(), &[("links/a", "one"), ("keep/x", "x")]);
    for name in ["b", "c"] {
        file::hard_link(&linked.tree().join("links/a"), &linked.tree().join("links").join(name))
            .unwrap();
    }
    let layers = [
        layer(
            &store,
            "1",
            &[
                File("dir/a"),
                File("dir/sub/b"),
                File("dir-x"),
                File("gone/a"),
                File("hidden/a"),
                File("tree/a"),
                Link("link", "dir"),
            ],
        ),
        store.commit(linked, &SEAL).unwrap(),
        layer(
            &store,
            "three",
            &[
                Whiteout("gone"),
                Opaque("hidden"),
                File("hidden/new"),
                File("tree"),
                File("link/now-a-directory"),
                File("links/a"),
                File("dir/a"),
            ],
        ),
    ];
    let merged = crate::Merged::new(&layers).unwrap();
    let mut tar = Vec::new();
    let size = merged.write_tar(&mut tar).unwrap();
    assert_eq!(size, tar.len() as u64);
    expect_test::expect![[r#"
        dir/ dir 755 +0
        dir-x file 1 644 +0
        dir/a file 5 644 +0
        dir/sub/ dir 755 +0
        dir/sub/b file 1 644 +0
        hidden/ dir 755 +0
        hidden/new file 5 644 +0
        keep/ dir 755 +0
        keep/x file 1 644 +0
        link/ dir 755 +0
        link/now-a-directory file 5 644 +0
        links/ dir 755 +0
        links/a file 5 644 +0
        links/b file 3 644 +0
        links/c = links/b 644 +0
        tree file 5 644 +0
    "#]]
    .assert_eq(&super::list(&tar));
    // The tar is a layer that alone makes the same tree.
    let flat = store.import_layer(&mut tar.as_slice(), None).unwrap();
    let mut again = Vec::new();
    crate::Merged::new(&[flat]).unwrap().write_tar(&mut again).unwrap();
    assert!(tar == again);
    let paths = |layers: &[Layer]| -> Vec<String> {
        let entries = Snapshot::new(layers).unwrap().walk(b"/").unwrap();
        let mut paths: Vec<String> = entries.iter().map(|entry| entry.path.to_string()).collect();
        paths.sort();
        paths
    };
    let listed: Vec<String> =
        merged.entries().map(|entry| String::from_utf8_lossy(entry.path).into_owned()).collect();
    assert_eq!(paths(&layers), listed);
}
