//! Every write of the store is failed once, for each of its calls, and the store must stay whole.
//!
//! For every n: prepare a store, let the n-th change of the disk fail, and run the operation: once
//! with only that change failing, once with all later ones too, as if the process had been killed
//! there, and once with what was not synced lost, as if power had failed. Then a healthy handle, as
//! after a restart, must find what the operation makes absent or whole, and the same operation must succeed.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_oci::digest::{DiffId, Digest};
use corten_oci::tree::Tree;
use corten_sys::file;
use corten_testkit::fault::{Fault, FaultFs};
use serde_json::json;

use super::{SEAL, Scratch, commit, config, image, names, stage};
use crate::{
    CacheKey, Found, GcPolicy, Image, NewMember, Repair, StepRecord, Store, StoreError, TagTarget,
};

/// An operation, and a check of what it makes: true if it is there and whole, false if it is absent.
pub(super) struct Operation {
    pub(super) name: &'static str,
    pub(super) prepare: fn(&Store),
    pub(super) run: fn(&Store) -> Result<(), StoreError>,
    pub(super) is_there: fn(&Store) -> bool,
}

pub(super) fn sweep(operation: &Operation) -> u64 {
    let mut calls = 0;
    for fault in [Fault::Once, Fault::Sticky, Fault::PowerCut] {
        let mut call = 0;
        while run(operation, call, fault) {
            call += 1;
            assert!(call < 1000, "{}: the sweep does not end", operation.name);
        }
        calls = call;
    }
    calls
}

/// Returns false when there is no call with that number.
fn run(operation: &Operation, call: u64, fault: Fault) -> bool {
    let what = format!("{} with {fault:?} at call {call}", operation.name);
    let scratch = Scratch::new();
    (operation.prepare)(&scratch.store());
    let fs = Arc::new(FaultFs::new(u64::MAX, fault));
    let store = scratch.store_on(fs.clone());
    fs.arm(call);
    let outcome = (operation.run)(&store);
    let reached = fs.has_failed();
    if !reached {
        outcome.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    } else if let Err(error) = outcome {
        let full = matches!(error, StoreError::NoSpace { .. });
        assert!(full, "{what}: another error than the injected one: {error:?}");
        assert!(error.hint().is_some_and(|hint| hint.contains("prune")), "{what}");
    } else {
        // A failure may be swallowed only where it is about tidying up; what was promised is there.
        assert!((operation.is_there)(&scratch.store()), "{what}: a fault was swallowed");
    }
    drop(store);
    let store = if fault == Fault::PowerCut {
        fs.lose_unsynced().unwrap();
        scratch.store_after_boot("the boot after the power cut")
    } else {
        scratch.store()
    };
    let problems = store.fsck(Repair::No).unwrap().problems;
    assert!(problems.is_empty(), "{what}: {problems:?}");
    (operation.is_there)(&store);
    (operation.run)(&store).unwrap_or_else(|error| panic!("{what}, again: {error:?}"));
    assert!((operation.is_there)(&store), "{what}: it is not there after the second time");
    drop(store);
    for folder in ["tmp", "leases"] {
        let left = names(&scratch.root().join(folder));
        assert!(left.is_empty(), "{what}: {folder} has {left:?}");
    }
    reached
}

fn nothing(_store: &Store) {}

fn layer_is_there(store: &Store, diff_id: DiffId) -> bool {
    store.layer_by_diff_id(&diff_id).unwrap().is_some()
}

fn tar() -> Vec<u8> {
    let mut tree = Vec::new();
    let scratch = Scratch::new();
    let store = scratch.store();
    let layer = commit(&store, &[("d/a", "1"), ("b", "22")]);
    store.write_layer_tar(&layer, &mut tree).unwrap();
    // A tar that is not canonical, so that the recipe matters.
    tree.extend([0; 512]);
    tree
}

const LARGE: usize = 12;

fn large() -> Vec<(String, String)> {
    (0..LARGE).map(|number| (format!("f{number}"), "x".repeat(number))).collect()
}

fn commit_files(store: &Store, files: &[(&str, &str)]) -> Result<DiffId, StoreError> {
    let staging = store.stage()?;
    super::fill(staging.tree(), files);
    Ok(store.commit(staging, &SEAL)?.diff_id)
}

fn diff_id_of(files: &[(&str, &str)]) -> DiffId {
    let scratch = Scratch::new();
    commit_files(&scratch.store(), files).unwrap()
}

fn check(operation: &Operation, expected: &expect_test::Expect) {
    expected.assert_eq(&sweep(operation).to_string());
}

#[test]
fn opening_a_new_store() {
    for fault in [Fault::Once, Fault::Sticky] {
        let mut call = 0;
        loop {
            let scratch = Scratch::new();
            let fs = Arc::new(FaultFs::new(call, fault));
            let opened = Store::open_on(&scratch.options(), super::host(fs.clone()));
            assert_eq!(opened.is_err(), fs.has_failed(), "{fault:?} at call {call}");
            drop(opened);
            scratch.store().put_blob(b"x").unwrap();
            if !fs.has_failed() {
                break;
            }
            call += 1;
        }
        assert_eq!(call, 18);
    }
}

#[test]
fn a_blob() {
    let operation = Operation {
        name: "put_blob",
        prepare: nothing,
        run: |store| store.put_blob(b"content").map(drop),
        is_there: |store| store.read_blob(&Digest::of(b"content"), 100).unwrap().is_some(),
    };
    check(&operation, &expect_test::expect!["10"]);
}

#[test]
fn a_small_layer() {
    const FILES: &[(&str, &str)] = &[("d/a", "1"), ("b", "22")];
    let operation = Operation {
        name: "commit",
        prepare: nothing,
        run: |store| commit_files(store, FILES).map(drop),
        is_there: |store| layer_is_there(store, diff_id_of(FILES)),
    };
    check(&operation, &expect_test::expect!["15"]);
}

#[test]
fn a_large_layer() {
    fn files() -> Vec<(String, String)> {
        large()
    }
    fn run(store: &Store) -> Result<DiffId, StoreError> {
        let files = files();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        commit_files(store, &files)
    }
    let operation = Operation {
        name: "commit of a large layer",
        prepare: nothing,
        run: |store| run(store).map(drop),
        is_there: |store| {
            let scratch = Scratch::new();
            layer_is_there(store, run(&scratch.store()).unwrap())
        },
    };
    check(&operation, &expect_test::expect!["24"]);
}

#[test]
fn a_layer_that_another_process_made_first() {
    const FILES: &[(&str, &str)] = &[("a", "1")];
    let operation = Operation {
        name: "commit of what is there",
        prepare: |store| commit_files(store, FILES).map(drop).unwrap(),
        run: |store| commit_files(store, FILES).map(drop),
        is_there: |store| layer_is_there(store, diff_id_of(FILES)),
    };
    check(&operation, &expect_test::expect!["9"]);
}

#[test]
fn settling() {
    let operation = Operation {
        name: "settle",
        prepare: |store| {
            let files = large();
            let files: Vec<(&str, &str)> =
                files.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
            commit_files(store, &files).map(drop).unwrap();
        },
        run: Store::settle,
        is_there: |store| store.inner.layer_names().unwrap().len() == 1,
    };
    check(&operation, &expect_test::expect!["8"]);
}

#[test]
fn an_imported_layer() {
    if file::effective_user_id() != 0 {
        // Owners can only be given by root; the privileged tests cover imports.
        return;
    }
    let operation = Operation {
        name: "import_layer",
        prepare: nothing,
        run: |store| store.import_layer(&mut tar().as_slice(), None).map(drop),
        is_there: |store| {
            let diff_id = DiffId(Digest::of(&tar()));
            let Some(layer) = store.layer_by_diff_id(&diff_id).unwrap() else { return false };
            let mut again = Vec::new();
            store.write_layer_tar(&layer, &mut again).unwrap();
            assert!(again == tar());
            assert_eq!(Tree::from_tar(again.as_slice()).unwrap().len(), 3);
            true
        },
    };
    check(&operation, &expect_test::expect!["22"]);
}

#[test]
fn an_image_and_its_name() {
    let operation = Operation {
        name: "put_image and tag",
        prepare: |store| {
            commit(store, &[("a", "1")]);
        },
        run: |store| {
            let layer = store.layer_by_diff_id(&diff_id_of(&[("a", "1")]))?;
            let layers: Vec<_> = layer.into_iter().collect();
            let image = store.put_image(&config(&layers), &layers, &BTreeMap::new())?;
            store.tag(&"app".parse().unwrap(), image.id).map(drop)
        },
        is_there: |store| {
            store.resolve("app").unwrap().is_some_and(|image| image.layers.len() == 1)
        },
    };
    check(&operation, &expect_test::expect!["29"]);
}

#[test]
fn an_index_and_its_name() {
    let operation = Operation {
        name: "put_index and tag",
        prepare: |store| {
            image(store, &[commit(store, &[("a", "1")])]);
            image(store, &[commit(store, &[("a", "2")])]);
        },
        run: |store| {
            let images = store.images()?;
            let member = |image: Image| NewMember { image, annotations: BTreeMap::new() };
            let members: Vec<NewMember> = images.into_iter().map(member).collect();
            let index = store.put_index(&members, &BTreeMap::new())?;
            store.tag(&"app".parse().unwrap(), TagTarget::Index(index.digest)).map(drop)
        },
        is_there: |store| match store.find("app").unwrap() {
            Some(Found::Index(index)) => index.members.len() == 2,
            _ => false,
        },
    };
    check(&operation, &expect_test::expect!["25"]);
}

#[test]
fn moving_and_removing_a_name() {
    let move_name = Operation {
        name: "tag",
        prepare: |store| {
            let one = image(store, &[commit(store, &[("a", "1")])]);
            image(store, &[commit(store, &[("a", "2")])]);
            store.tag(&"app".parse().unwrap(), one.id).unwrap();
        },
        run: |store| {
            let wanted = diff_id_of(&[("a", "2")]);
            let images = store.images()?;
            let image = images.iter().find(|image| image.layers[0].diff_id == wanted).unwrap();
            store.tag(&"app".parse().unwrap(), image.id).map(drop)
        },
        is_there: |store| {
            // The old image or the new one, but never none.
            let image = store.resolve("app").unwrap().unwrap();
            image.layers[0].diff_id == diff_id_of(&[("a", "2")])
        },
    };
    check(&move_name, &expect_test::expect!["7"]);
}

#[test]
fn a_step_and_a_cache() {
    let operation = Operation {
        name: "put_step",
        prepare: nothing,
        run: |store| {
            let key = CacheKey(Digest::of(b"key"));
            store.put_step(
                &key,
                &StepRecord { layer: None, payload: json!(1), blobs: Vec::new() },
            )?;
            store.put_aux("kind", "key", b"value")
        },
        is_there: |store| {
            let key = CacheKey(Digest::of(b"key"));
            let cached = store.aux("kind", "key").unwrap();
            assert!(cached.as_deref().is_none_or(|cached| cached == b"value"));
            store.step(&key).unwrap().is_some() && cached.is_some()
        },
    };
    check(&operation, &expect_test::expect!["11"]);
}

#[test]
fn a_hold() {
    let operation = Operation {
        name: "hold",
        prepare: |store| {
            commit(store, &[("a", "1")]);
        },
        run: |store| store.hold("container", &[diff_id_of(&[("a", "1")]).into()]).map(drop),
        is_there: |store| file::exists(&store.root().join("holds/container.json")).unwrap(),
    };
    check(&operation, &expect_test::expect!["7"]);
}

#[test]
fn a_collection() {
    let operation = Operation {
        name: "gc",
        prepare: |store| {
            let kept = image(store, &[commit(store, &[("a", "1")])]);
            store.tag(&"app".parse().unwrap(), kept.id).unwrap();
            image(store, &[commit(store, &[("b", "2")])]);
            drop(stage(store, &[]));
        },
        run: |store| {
            let policy = GcPolicy {
                keep_unused_steps: false,
                keep_untagged_images: false,
                keep_younger_seconds: None,
                keep_bytes: None,
            };
            store.gc(&policy).map(drop)
        },
        is_there: |store| {
            assert!(store.resolve("app").unwrap().is_some());
            store.images().unwrap().len() == 1 && store.inner.layer_names().unwrap().len() == 1
        },
    };
    check(&operation, &expect_test::expect!["8"]);
}
