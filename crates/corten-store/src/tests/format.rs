use corten_sys::file;

use super::Scratch;
use crate::{Store, StoreError};

fn open(scratch: &Scratch) -> Result<Store, StoreError> {
    Store::open(&scratch.options())
}

#[test]
fn a_store_is_made_where_there_is_none() {
    let scratch = Scratch::new();
    let store = open(&scratch).unwrap();
    let format = file::read(&store.root().join("FORMAT")).unwrap();
    expect_test::expect![[
        r#"{"version":1,"features":{"compatible":[],"read_only_compatible":[],"incompatible":[]}}"#
    ]]
    .assert_eq(&String::from_utf8(format).unwrap());
    open(&scratch).unwrap();
}

#[test]
fn a_directory_with_other_things_is_left_alone() {
    let scratch = Scratch::new();
    file::create_dir(&scratch.root(), 0o700).unwrap();
    file::write(&scratch.root().join("thesis.tex"), b"").unwrap();
    let error = open(&scratch).unwrap_err();
    assert!(matches!(&error, StoreError::NotAStore { found, .. } if found == "thesis.tex"));
    assert_eq!(file::list_dir(&scratch.root()).unwrap().len(), 1);
}

#[test]
fn a_store_whose_making_was_interrupted_is_completed() {
    let scratch = Scratch::new();
    file::create_dirs(&scratch.root().join("blobs"), 0o700).unwrap();
    file::write(&scratch.root().join(".corten-0123"), b"{").unwrap();
    open(&scratch).unwrap().put_blob(b"x").unwrap();
}

#[test]
fn a_store_of_a_later_version_is_refused_or_only_read() {
    let scratch = Scratch::new();
    let store = open(&scratch).unwrap();
    let digest = store.put_blob(b"content").unwrap();
    let path = scratch.root().join("FORMAT");
    file::write(&path, br#"{"version":2,"features":{}}"#).unwrap();
    let error = open(&scratch).unwrap_err();
    assert!(error.to_string().contains("format version 2, which this version does not know"));
    file::write(&path, br#"{"version":1,"features":{"incompatible":["verity"]}}"#).unwrap();
    assert!(open(&scratch).unwrap_err().to_string().contains("the feature `verity`"));
    file::write(&path, br#"{"version":1,"features":{"read_only_compatible":["x"]}}"#).unwrap();
    let store = open(&scratch).unwrap();
    assert_eq!(store.read_blob(&digest, 100).unwrap().unwrap(), b"content");
    assert!(matches!(store.put_blob(b"more"), Err(StoreError::ReadOnly { .. })));
    assert!(matches!(store.stage(), Err(StoreError::ReadOnly { .. })));
    file::write(&path, br#"{"version":1,"features":{"compatible":["y"]}}"#).unwrap();
    open(&scratch).unwrap().put_blob(b"more").unwrap();
}
