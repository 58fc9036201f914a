use corten_sys::clock::Timestamp;
use corten_sys::file;
use serde_json::json;

use super::{NOW, Scratch};
use crate::{Download, GcPolicy, Store};

const KEEP: GcPolicy = GcPolicy {
    keep_unused_steps: true,
    keep_untagged_images: false,
    keep_younger_seconds: None,
    keep_bytes: None,
};

/// Keeps something with a handle that is gone afterwards, so that nothing else protects it.
fn put(scratch: &Scratch, address: &str, content: &str, age: i64) {
    let store = scratch.store();
    let digest = store.put_blob(content.as_bytes()).unwrap();
    let size_bytes = content.len() as u64;
    let download = Download { digest, size_bytes, payload: json!({ "of": address }) };
    store.put_download(address, &download).unwrap();
    file::set_times(&path(&store, address), Timestamp::from_seconds(NOW - age)).unwrap();
}

fn path(store: &Store, address: &str) -> std::path::PathBuf {
    let name = corten_oci::digest::Digest::of(address.as_bytes()).hex();
    store.root().join("aux/downloads").join(name)
}

fn kept(store: &Store) -> (u64, u64) {
    let downloads = store.usage().unwrap().downloads;
    (downloads.count, downloads.bytes)
}

#[test]
fn a_download_is_found_by_its_address_as_long_as_its_content_is_there() {
    let scratch = Scratch::new();
    put(&scratch, "https://a.test/x", "content", 0);
    let store = scratch.store();
    let found = store.download("https://a.test/x").unwrap().unwrap();
    assert_eq!((found.size_bytes, &found.payload), (7, &json!({ "of": "https://a.test/x" })));
    assert_eq!(store.download("https://a.test/y").unwrap(), None);
    assert_eq!(kept(&store), (1, 7));
    file::remove_file(&store.inner.layout.blob(&found.digest)).unwrap();
    assert_eq!(store.download("https://a.test/x").unwrap(), None);
}

#[test]
fn collection_keeps_downloads_as_it_keeps_steps() {
    let scratch = Scratch::new();
    put(&scratch, "old", "12345", 100);
    put(&scratch, "new", "123456", 10);
    let store = scratch.store();
    assert_eq!(store.gc(&KEEP).unwrap().blobs, 0);
    let aged = GcPolicy { keep_younger_seconds: Some(50), ..KEEP };
    assert_eq!(store.gc(&aged).unwrap().blobs, 0);
    let budget = GcPolicy { keep_bytes: Some(8), ..KEEP };
    let report = store.gc(&budget).unwrap();
    assert_eq!((report.blobs, report.caches, kept(&store)), (1, 1, (1, 6)));
    put(&scratch, "old", "12345", 100);
    let young = GcPolicy { keep_unused_steps: false, ..aged };
    assert_eq!((store.gc(&young).unwrap().blobs, kept(&store)), (1, (1, 6)));
    let nothing = GcPolicy { keep_unused_steps: false, ..KEEP };
    let report = store.gc(&nothing).unwrap();
    assert_eq!((report.blobs, report.freed_bytes, kept(&store)), (1, 6, (0, 0)));
}

#[test]
fn the_oldest_downloads_are_forgotten_first() {
    let scratch = Scratch::new();
    put(&scratch, "old", "12345", 100);
    put(&scratch, "new", "123456", 10);
    let store = scratch.store();
    store.trim_downloads(8).unwrap();
    assert_eq!(kept(&store), (1, 6));
    assert!(store.download("new").unwrap().is_some());
    assert_eq!(store.gc(&KEEP).unwrap().blobs, 1);
}
