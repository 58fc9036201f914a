//! A store of a user who is root only within a user namespace that has a single id.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use corten_oci::tar::EntryKind;
use corten_oci::tree::Meta;
use corten_sys::file;

use super::super::Scratch;
use super::{TarBuilder, import, is_root, meta};
use crate::{Repair, Store, StoreOptions};

const PREFIX: &str = "corten-namespace:";

fn tar() -> Vec<u8> {
    let capability = vec![1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let xattrs = BTreeMap::from([(b"security.capability".to_vec(), capability)]);
    let foreign = Meta { mode: 0o2755, uid: 33, gid: 42, xattrs, ..meta() };
    TarBuilder::default()
        .dir("d")
        .entry("d/foreign", &foreign, &EntryKind::File { size: 1 }, b"1")
        .file("d/own", "2")
        .file(".wh.gone", "")
        .file("d/.wh..wh..opq", "")
        .finish()
}

/// The part that runs within the namespace; as a test of its own it does nothing.
#[test]
fn child_process() {
    let Some(root) = std::env::args().find_map(|arg| arg.strip_prefix(PREFIX).map(PathBuf::from))
    else {
        return;
    };
    let options = StoreOptions { root, in_user_namespace: true };
    let store = Store::open(&options).unwrap();
    let layer = import(&store, &tar());
    assert_eq!(layer.squashed_owners, 1);
    let metadata = file::metadata(&layer.path.join("d/foreign")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (0, 0, 0o2755));
    let staging = store.stage().unwrap();
    super::super::fill(staging.tree(), &[("a/b", "1")]);
    store.commit(staging, &super::super::SEAL).unwrap();
    assert_eq!(store.fsck(Repair::No).unwrap().problems, []);
    writeln!(std::io::stdout(), "done in the namespace").unwrap();
}

#[test]
fn a_single_id_is_enough_to_import_and_to_make_the_same_bytes_again() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let Some(output) = in_namespace(&scratch) else { return };
    assert!(output.contains("done in the namespace"), "{output}");
    // What was committed there is the same layer as it would be here.
    let options = StoreOptions { in_user_namespace: true, ..StoreOptions::new(scratch.root()) };
    let store = Store::open(&options).unwrap();
    let here = Scratch::new();
    let layer = super::super::commit(&here.store(), &[("a/b", "1")]);
    assert!(store.layer(&layer.id).unwrap().is_some());
}

#[expect(clippy::disallowed_methods, reason = "the system's own `unshare` is not under test")]
fn in_namespace(scratch: &Scratch) -> Option<String> {
    let task = format!("{PREFIX}{}", scratch.root().display());
    let name = "tests::privileged::user_namespace::child_process";
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", &task])
        .output()
        .ok()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let errors = text(&output.stderr);
    if errors.contains("unshare") {
        writeln!(std::io::stderr(), "skipped: {errors}").unwrap();
        return None;
    }
    Some(text(&output.stdout) + &errors)
}
