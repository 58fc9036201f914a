use corten_oci::tar::EntryKind;
use corten_sys::file;

use super::super::{Scratch, names};
use super::{TarBuilder, is_root, refuse};
use crate::StoreError;

const FILE: EntryKind = EntryKind::File { size: 4 };

#[test]
fn paths_that_lead_out_are_refused() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    for name in ["../evil", "a/../../evil", "/../evil", "a/b/../c", ".."] {
        let tar = TarBuilder::default().raw(name, &FILE, b"evil").finish();
        let error = refuse(&scratch, &tar);
        assert!(matches!(error, StoreError::Path(_)), "{name}: {error:?}");
    }
    assert_eq!(names(&scratch.path), ["store"]);
}

#[test]
fn links_cannot_be_used_to_write_outside() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let outside = scratch.path.join("outside");
    file::create_dir(&outside, 0o755).unwrap();
    file::write(&outside.join("victim"), b"untouched").unwrap();
    let outside_text = outside.to_str().unwrap();
    let up = "../".repeat(30);
    let attempts = [
        // A link to a directory outside, then a file through it.
        TarBuilder::default().symlink("l", outside_text).file("l/victim", "evil"),
        TarBuilder::default().symlink("l", &format!("{up}{outside_text}")).file("l/new", "evil"),
        // A link to the file itself, then a file of that name.
        TarBuilder::default().symlink("v", &format!("{outside_text}/victim")).file("v", "evil"),
        // A chain of links.
        TarBuilder::default().symlink("a", "b").symlink("b", outside_text).file("a/new", "evil"),
        // A directory that is replaced by a link after it was used.
        TarBuilder::default()
            .dir("d")
            .file("d/x", "1")
            .symlink("d", outside_text)
            .file("d/victim", "evil"),
        // A whiteout and an opaque mark through a link.
        TarBuilder::default().symlink("l", outside_text).file("l/.wh.victim", ""),
        TarBuilder::default().symlink("l", outside_text).file("l/.wh..wh..opq", ""),
    ];
    for (number, attempt) in attempts.into_iter().enumerate() {
        let store = scratch.store();
        // What the link points at does not exist within the layer, so most are refused; none writes.
        let outcome = store.import_layer(&mut attempt.finish().as_slice(), None);
        assert_eq!(file::read(&outside.join("victim")).unwrap(), b"untouched", "{number}");
        assert_eq!(names(&outside), ["victim"], "{number}: {outcome:?}");
    }
}

#[test]
fn hard_links_to_outside_or_to_nothing_are_refused() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let outside = scratch.path.join("secret");
    file::write(&outside, b"secret").unwrap();
    let path = outside.to_str().unwrap();
    let up = format!("{}{path}", "../".repeat(30));
    for target in [path, "nothing", "d"] {
        let error =
            refuse(&scratch, &TarBuilder::default().dir("d").hard_link("h", target).finish());
        assert!(matches!(error, StoreError::LinkTarget { .. }), "{target}: {error:?}");
    }
    let error = refuse(&scratch, &TarBuilder::default().hard_link("h", &up).finish());
    assert!(matches!(error, StoreError::Path(_)));
    // Through a link, the target is looked for within the layer.
    let through = TarBuilder::default()
        .symlink("l", scratch.path.to_str().unwrap())
        .hard_link("h", "l/secret");
    assert!(matches!(refuse(&scratch, &through.finish()), StoreError::LinkTarget { .. }));
    // A hard link to a link is one to the link itself.
    let store = scratch.store();
    let tar = TarBuilder::default().symlink("l", path).hard_link("h", "l").finish();
    let layer = super::import(&store, &tar);
    assert!(file::symlink_metadata(&layer.path.join("h")).unwrap().is_symlink());
}

#[test]
fn loops_and_depths_are_refused() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let looped = TarBuilder::default().symlink("a", "b").symlink("b", "a").file("a/x", "1");
    let error = refuse(&scratch, &looped.finish());
    assert!(matches!(error, StoreError::Escape { .. }), "{error:?}");
    let deep = "d/".repeat(300) + "f";
    let error = refuse(&scratch, &TarBuilder::default().file(&deep, "1").finish());
    assert!(matches!(error, StoreError::LayerLimit { .. }), "{error:?}");
    let below = TarBuilder::default().file("f", "1").file("f/x", "1").finish();
    assert!(matches!(refuse(&scratch, &below), StoreError::NotInDirectory { .. }));
    let mut often = TarBuilder::default();
    for _ in 0..5000 {
        often = often.file("f", "1");
    }
    assert!(matches!(refuse(&scratch, &often.finish()), StoreError::LayerLimit { .. }));
}

#[test]
fn a_tar_that_ends_too_early_or_lies_about_sizes_is_refused() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let tar = TarBuilder::default().file("a", &"x".repeat(5000)).finish();
    for length in [100, 511, 513, 3000] {
        let error = refuse(&scratch, &tar[..length]);
        assert!(matches!(error, StoreError::Tar(_)), "{length}: {error:?}");
    }
    let error = refuse(&scratch, b"this is no tar, but a text");
    assert!(matches!(error, StoreError::Tar(_)), "{error:?}");
    // A size of a pebibyte in base 256.
    let tar = TarBuilder::default().raw("f", &EntryKind::File { size: 0 }, b"");
    let mut bytes = tar.finish();
    bytes[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]);
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|&byte| u32::from(byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(matches!(refuse(&scratch, &bytes), StoreError::LayerLimit { .. }));
}
