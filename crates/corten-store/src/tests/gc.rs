use corten_oci::digest::Digest;
use corten_oci::reference::Reference;
use corten_sys::file;
use corten_sys::lock::FileLock;
use serde_json::json;

use super::{NOW, Scratch, commit, image, names};
use crate::{CacheKey, GcPolicy, Layer, Problem, Repair, StepRecord, Store};

/// Removes everything that nothing needs.
const ALL: GcPolicy = GcPolicy {
    keep_unused_steps: false,
    keep_untagged_images: false,
    keep_younger_seconds: None,
    keep_bytes: None,
};

fn put_step(store: &Store, name: &str, layer: &Layer) -> CacheKey {
    let key = CacheKey(Digest::of(name.as_bytes()));
    let record = StepRecord { layer: Some(layer.id), payload: json!(null), blobs: Vec::new() };
    store.put_step(&key, &record).unwrap();
    key
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

/// Makes layers with a handle that is gone afterwards, so that nothing protects them.
fn unprotected(scratch: &Scratch, names: &[&str]) -> Vec<Layer> {
    let store = scratch.store();
    names.iter().map(|name| commit(&store, &[(name, name)])).collect()
}

#[test]
fn what_names_reach_stays_and_the_rest_goes() {
    let scratch = Scratch::new();
    let layers = unprotected(&scratch, &["kept", "untagged", "cached", "loose"]);
    let (kept, untagged, kept_step, lost_step) = {
        let store = scratch.store();
        let kept = image(&store, &layers[..1]);
        store.tag(&reference("app"), kept.id).unwrap();
        let untagged = image(&store, &layers[1..2]);
        store.put_blob(b"loose").unwrap();
        let kept_step = put_step(&store, "kept", &layers[0]);
        (kept, untagged, kept_step, put_step(&store, "lost", &layers[2]))
    };
    let store = scratch.store();
    let report = store.gc(&ALL).unwrap();
    assert_eq!((report.images, report.layers, report.steps), (1, 3, 1));
    // The configuration and the manifest of the image, and the loose one.
    assert_eq!(report.blobs, 3);
    assert_eq!(store.resolve("app").unwrap().unwrap(), kept);
    assert!(store.image(&untagged.id).unwrap().is_none());
    assert!(store.step(&kept_step).unwrap().is_some());
    assert!(store.step(&lost_step).unwrap().is_none());
    assert_eq!(names(&scratch.root().join("layers")), [layers[0].diff_id.hex()]);
    assert!(store.fsck(Repair::No).unwrap().problems.is_empty());
}

#[test]
fn a_policy_keeps_steps_and_images_by_kind_age_and_size() {
    let scratch = Scratch::new();
    let layers = unprotected(&scratch, &["one", "two", "three"]);
    let keys: Vec<CacheKey> = {
        let store = scratch.store();
        image(&store, &layers[..1]);
        layers.iter().map(|layer| put_step(&store, &layer.diff_id.hex(), layer)).collect()
    };
    let store = scratch.store();
    let keep_all = GcPolicy { keep_unused_steps: true, keep_untagged_images: true, ..ALL };
    assert_eq!(store.gc(&keep_all).unwrap().freed_bytes, 0);
    let young = GcPolicy { keep_younger_seconds: Some(10), ..ALL };
    assert_eq!(store.gc(&young).unwrap().layers, 0);
    // The least recently used ones go first; the layer of the image costs nothing.
    let ages = [(1, 100), (2, 50)];
    for (index, age) in ages {
        let path = store.inner.layout.step(&keys[index].0);
        let time = corten_sys::clock::Timestamp::from_seconds(NOW - age);
        file::set_times(&path, time).unwrap();
    }
    let budget = GcPolicy { keep_bytes: Some(5), ..keep_all };
    let report = store.gc(&budget).unwrap();
    assert_eq!((report.layers, report.freed_bytes), (1, 3));
    let left = names(&scratch.root().join("layers"));
    assert!(left.contains(&layers[2].diff_id.hex()) && left.contains(&layers[0].diff_id.hex()));
    let old = GcPolicy { keep_younger_seconds: Some(20), keep_untagged_images: true, ..ALL };
    assert_eq!(store.gc(&old).unwrap().layers, 1);
}

#[test]
fn leases_protect_as_long_as_they_live() {
    let scratch = Scratch::new();
    let layers = unprotected(&scratch, &["leased", "loose"]);
    let store = scratch.store();
    let (image, absent) = (image(&scratch.store(), &layers[..1]), layers[1].id);
    let lease = store.lease().unwrap();
    assert!(lease.pin_image(&image.id).unwrap());
    assert_eq!(store.gc(&ALL).unwrap().layers, 1);
    assert!(!lease.pin(&absent).unwrap());
    assert!(lease.pin(&layers[0].id).unwrap());
    assert_eq!(store.gc(&ALL).unwrap().images, 0);
    drop(lease);
    let report = store.gc(&ALL).unwrap();
    assert_eq!((report.images, report.layers), (1, 1));
}

#[test]
fn what_a_handle_made_or_used_is_protected_for_its_life() {
    let scratch = Scratch::new();
    let [cached] = unprotected(&scratch, &["cached"]).try_into().unwrap();
    let key = put_step(&scratch.store(), "x", &cached);
    let builder = scratch.store();
    let made = commit(&builder, &[("made", "")]);
    let blob = builder.put_blob(b"blob").unwrap();
    assert!(builder.step(&key).unwrap().is_some());
    let staging = builder.stage().unwrap();
    let collector = scratch.store();
    assert_eq!(collector.gc(&ALL).unwrap().layers, 0);
    assert!(builder.has_blob(&blob).unwrap() && builder.layer(&made.id).unwrap().is_some());
    assert!(file::exists(staging.tree()).unwrap());
    drop((staging, builder));
    assert_eq!(collector.gc(&ALL).unwrap().layers, 2);
}

#[test]
fn holds_protect_beyond_the_life_of_a_process() {
    let scratch = Scratch::new();
    let layers = unprotected(&scratch, &["held"]);
    let ids = [layers[0].id];
    assert!(scratch.store().hold("container-1", &ids).unwrap());
    let store = scratch.store();
    assert_eq!(store.gc(&ALL).unwrap().layers, 0);
    assert!(store.release("container-1").unwrap());
    assert!(!store.release("container-1").unwrap());
    assert_eq!(store.gc(&ALL).unwrap().layers, 1);
    assert!(!store.hold("container-2", &ids).unwrap());
    assert!(store.hold("../x", &[]).is_err());
}

#[test]
fn the_leavings_of_dead_processes_are_removed_by_the_next_writer() {
    let scratch = Scratch::new();
    let store = scratch.store();
    // A lease whose lock nobody holds, and work in progress without a lease.
    file::write(&store.inner.layout.lease("dead"), b"layer 00\n").unwrap();
    file::create_dirs(&scratch.root().join("tmp/dead/0/tree/d"), 0o755).unwrap();
    file::create_dirs(&scratch.root().join("tmp/orphan/0"), 0o755).unwrap();
    store.put_blob(b"x").unwrap();
    let leases = names(&scratch.root().join("leases"));
    assert_eq!(leases.len(), 1);
    assert_eq!(names(&scratch.root().join("tmp")), leases);
    drop(store);
    assert!(names(&scratch.root().join("tmp")).is_empty());
    assert!(names(&scratch.root().join("leases")).is_empty());
}

#[test]
fn a_writer_does_not_wait_to_clean_up_while_others_are_at_work() {
    let scratch = Scratch::new();
    let store = scratch.store();
    file::write(&store.inner.layout.lease("dead"), b"").unwrap();
    let window = FileLock::shared(&store.inner.layout.gc_lock()).unwrap();
    store.put_blob(b"x").unwrap();
    assert_eq!(names(&scratch.root().join("leases")).len(), 2);
    drop(window);
}

#[test]
fn fsck_finds_and_removes_every_kind_of_damage() {
    let scratch = Scratch::new();
    let layers = unprotected(&scratch, &["good", "bad"]);
    let store = scratch.store();
    let good = image(&store, &layers[..1]);
    let bad = image(&store, &layers[1..]);
    store.tag(&reference("good"), good.id).unwrap();
    store.tag(&reference("bad"), bad.id).unwrap();
    put_step(&store, "bad", &layers[1]);
    let blob = store.put_blob(b"blob").unwrap();
    assert!(store.fsck(Repair::No).unwrap().problems.is_empty());

    file::write(&layers[1].path.join("bad"), b"BAD").unwrap();
    file::write(&store.inner.layout.blob(&blob), b"BLOB").unwrap();
    file::write(&scratch.root().join("refs/torn.json"), b"{").unwrap();
    let report = store.fsck(Repair::No).unwrap();
    let torn = scratch.root().join("refs/torn.json");
    let expected =
        vec![Problem::Blob(blob), Problem::Layer(layers[1].diff_id), Problem::Record(torn)];
    assert_eq!(report.problems, expected);
    let report = store.fsck(Repair::Yes).unwrap();
    // With the layer away, what needed it shows too.
    assert_eq!(report.problems.len(), 6);
    assert!(store.fsck(Repair::No).unwrap().problems.is_empty());
    assert_eq!(store.resolve("good").unwrap().unwrap(), good);
    assert!(store.resolve("bad").unwrap().is_none());
}

#[test]
fn usage_tells_the_build_cache_from_the_images() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layer = commit(&store, &[("a", "12345")]);
    commit(&store, &[("b", "123")]);
    let made = image(&store, &[layer]);
    store.tag(&reference("a"), made.id).unwrap();
    let usage = store.usage().unwrap();
    assert_eq!((usage.images, usage.references, usage.layers, usage.blobs), (1, 1, 2, 2));
    assert_eq!((usage.layer_bytes, usage.unused_layer_bytes), (8, 3));
}
