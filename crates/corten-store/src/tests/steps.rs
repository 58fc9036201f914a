use corten_oci::digest::Digest;
use corten_sys::file;
use serde_json::json;

use super::{Scratch, commit};
use crate::{CacheKey, StepRecord};

fn key(text: &str) -> CacheKey {
    CacheKey(Digest::of(text.as_bytes()))
}

#[test]
fn a_step_is_found_by_its_key() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layer = commit(&store, &[("a", "1")]);
    let record = StepRecord {
        layer: Some(layer.id),
        payload: json!({"z": [1], "a": "b"}),
        blobs: Vec::new(),
    };
    assert_eq!(store.step(&key("x")).unwrap(), None);
    store.put_step(&key("x"), &record).unwrap();
    assert_eq!(store.step(&key("x")).unwrap(), Some(record.clone()));
    let bare = StepRecord { layer: None, payload: json!(null), blobs: Vec::new() };
    store.put_step(&key("x"), &bare).unwrap();
    assert_eq!(store.step(&key("x")).unwrap(), Some(bare));
}

#[test]
fn a_step_whose_layer_is_gone_is_a_miss() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let layer = commit(&store, &[("a", "1")]);
    let record = StepRecord { layer: Some(layer.id), payload: json!(1), blobs: Vec::new() };
    store.put_step(&key("x"), &record).unwrap();
    file::remove_tree(&store.inner.layout.layer(&layer.diff_id)).unwrap();
    assert_eq!(store.step(&key("x")).unwrap(), None);
}

#[test]
fn a_damaged_or_later_record_is_a_miss() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let record = StepRecord { layer: None, payload: json!(1), blobs: Vec::new() };
    store.put_step(&key("x"), &record).unwrap();
    let path = store.inner.layout.step(&key("x").0);
    let text = String::from_utf8(file::read(&path).unwrap()).unwrap();
    for damaged in ["", "{", &text.replace("\"version\":1", "\"version\":9")] {
        file::write(&path, damaged.as_bytes()).unwrap();
        assert_eq!(store.step(&key("x")).unwrap(), None, "{damaged}");
    }
    store.put_step(&key("x"), &record).unwrap();
    assert_eq!(store.step(&key("x")).unwrap(), Some(record));
}
