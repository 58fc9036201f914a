use corten_oci::digest::Digest;
use corten_sys::file;

use super::{Scratch, names};
use crate::{Expect, StoreError};

#[test]
fn a_blob_is_found_by_its_digest() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let digest = store.put_blob(b"content").unwrap();
    assert_eq!(digest, Digest::of(b"content"));
    assert!(store.has_blob(&digest).unwrap());
    assert_eq!(store.read_blob(&digest, 100).unwrap().unwrap(), b"content");
    assert_eq!(store.put_blob(b"content").unwrap(), digest);
    let other = Digest::of(b"other");
    assert!(!store.has_blob(&other).unwrap());
    assert_eq!(store.read_blob(&other, 100).unwrap(), None);
    assert!(store.open_blob(&other).unwrap().is_none());
}

#[test]
fn content_beyond_its_limit_or_with_another_digest_is_not_stored() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let expect = Expect { digest: None, limit_bytes: 3 };
    let refused = store.write_blob(&mut b"four".as_slice(), &expect);
    assert!(matches!(refused, Err(StoreError::TooLarge { limit_bytes: 3 })));
    let expect = Expect { digest: Some(Digest::of(b"x")), limit_bytes: 100 };
    let refused = store.write_blob(&mut b"four".as_slice(), &expect);
    assert!(matches!(refused, Err(StoreError::DigestMismatch { .. })));
    assert!(names(&scratch.root().join("blobs/sha256")).is_empty());
    let lease = names(&scratch.root().join("tmp"));
    assert!(names(&scratch.root().join("tmp").join(&lease[0])).is_empty());
}

#[test]
fn a_damaged_blob_is_not_returned() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let digest = store.put_blob(b"content").unwrap();
    file::write(&store.inner.layout.blob(&digest), b"contenT").unwrap();
    let error = store.read_blob(&digest, 100).unwrap_err();
    assert!(matches!(error, StoreError::BlobDamaged { .. }));
    assert!(error.hint().unwrap().contains("corten system fsck"));
}

#[test]
fn a_cache_that_was_torn_is_absent() {
    let scratch = Scratch::new();
    let store = scratch.store();
    assert_eq!(store.aux("stat", "/a").unwrap(), None);
    store.put_aux("stat", "/a", b"cached").unwrap();
    assert_eq!(store.aux("stat", "/a").unwrap().unwrap(), b"cached");
    let path = scratch.root().join("aux/stat").join(Digest::of(b"/a").hex());
    for length in [0, 10, 65, 70] {
        let whole = file::read(&path).unwrap();
        file::write(&path, &whole[..length]).unwrap();
        assert_eq!(store.aux("stat", "/a").unwrap(), None, "{length}");
        store.put_aux("stat", "/a", b"cached").unwrap();
    }
    assert!(matches!(store.aux("../etc", "/a"), Err(StoreError::Name(_))));
}
