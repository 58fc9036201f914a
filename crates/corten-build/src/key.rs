//! Cache keys.
//!
//! A step has two keys. The *definition key* is made of what the step does, of the layers below it,
//! and of the definitions of the stages that it takes files from. If it is known, those stages need
//! not be looked at. The *content key* has the content of the files that are taken in place of the
//! definitions; it is asked for when those stages had to be evaluated and may well have come to the
//! same result. Files of a context are in both by their content.
//!
//! A key never contains a path of the host, a time of a file, an order of a map, a secret, or a
//! predefined proxy argument. It begins with [`KEY_VERSION`]: what computes layers differently must
//! raise it, so that a cache is forgotten and not wrong.

use corten_oci::digest::{DiffId, Digest, Hasher};
use corten_store::CacheKey;

/// Raised whenever the same key could stand for another layer than before.
pub const KEY_VERSION: u32 = 2;

/// Hashes values one after the other; each says how long it is, so that no two lists are alike.
#[derive(Debug)]
pub(crate) struct KeyHasher {
    hasher: Hasher,
}

impl KeyHasher {
    /// Begins a key of one kind.
    pub(crate) fn new(kind: &str) -> Self {
        let mut key = Self { hasher: Hasher::new() };
        key.text("corten-build").number(u64::from(KEY_VERSION)).text(kind);
        key
    }

    /// Adds text.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
        self
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, number: u64) -> &mut Self {
        self.hasher.update(&number.to_le_bytes());
        self
    }

    /// Adds a number that may be negative.
    pub(crate) fn signed(&mut self, number: i64) -> &mut Self {
        self.hasher.update(&number.to_le_bytes());
        self
    }

    /// Adds a choice.
    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.number(u64::from(flag))
    }

    /// Adds text that may be absent.
    pub(crate) fn optional(&mut self, text: Option<&str>) -> &mut Self {
        self.flag(text.is_some()).text(text.unwrap_or_default())
    }

    /// Adds a list of texts.
    pub(crate) fn list<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a str>) -> &mut Self {
        self.number(texts.len() as u64);
        for text in texts {
            self.text(text);
        }
        self
    }

    /// Adds a digest.
    pub(crate) fn digest(&mut self, digest: &Digest) -> &mut Self {
        self.hasher.update(digest.as_bytes());
        self
    }

    /// Ends with a digest.
    pub(crate) fn finish(&self) -> Digest {
        self.hasher.finish()
    }

    /// Ends with a key of the step cache.
    pub(crate) fn into_key(self) -> CacheKey {
        CacheKey(self.hasher.finish())
    }
}

/// The identity of a stack of layers: what OCI calls a chain id, in our own spelling.
pub(crate) fn chain_id<'a>(diff_ids: impl Iterator<Item = &'a DiffId>) -> Digest {
    let mut key = KeyHasher::new("chain");
    for diff_id in diff_ids {
        key.digest(&diff_id.0);
    }
    key.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_do_not_run_into_each_other() {
        let of = |parts: &[&str]| {
            let mut key = KeyHasher::new("test");
            for part in parts {
                key.text(part);
            }
            key.finish()
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["ab"]), of(&["ab", ""]));
        assert_ne!(KeyHasher::new("a").finish(), KeyHasher::new("b").finish());
    }

    #[test]
    fn a_key_is_the_same_for_ever() {
        let mut key = KeyHasher::new("golden");
        key.text("text")
            .number(7)
            .signed(-1)
            .flag(true)
            .optional(None)
            .list(["a", "b"].into_iter());
        expect_test::expect![
            "sha256:4f0146cf74dd87cafe012552f1f20cb07d23399d7193dc6f38f73fbf2d14141b"
        ]
        .assert_eq(&key.finish().to_string());
    }

    #[test]
    fn the_order_of_layers_is_part_of_a_chain() {
        let ids = [DiffId(Digest::of(b"a")), DiffId(Digest::of(b"b"))];
        assert_ne!(chain_id(ids.iter()), chain_id(ids.iter().rev()));
        assert_ne!(chain_id(ids.iter().take(1)), chain_id(std::iter::empty()));
    }
}
