//! Entry points for fuzzing: each takes any bytes, may refuse them, and must not panic.

use corten_oci::digest::{DiffId, Digest};
use corten_oci::image::{Descriptor, Manifest, media_type};

use crate::cache::{Cache, parse_inline};
use crate::recording::Materials;

/// Reads a lock file; what is read is written and read back equal.
pub fn lock(text: &str) {
    let Ok(materials) = Materials::from_toml("corten.lock", text) else { return };
    let written = materials.to_toml();
    let again = Materials::from_toml("corten.lock", &written).expect("our own lock can be read");
    assert_eq!(again.to_toml(), written, "a lock survives being written");
}

/// Reads the configuration of a cache, and the records that an image with two layers has of them;
/// what is read is written and read back equal.
pub fn cache(bytes: &[u8]) {
    if let Ok(cache) = Cache::parse(bytes) {
        let (config, manifest) = cache.documents();
        let again = Cache::parse(&config).expect("our own records can be read");
        assert_eq!(again.documents(), (config, manifest.clone()), "a cache survives being written");
        Manifest::parse(&manifest).expect("our own manifest can be read");
    }
    let digest = |byte| Digest::from_bytes([byte; 32]);
    let blob = |byte| Descriptor::new(media_type::LAYER_ZSTD, digest(byte), 1);
    let manifest = Manifest::new(blob(0), vec![blob(1), blob(2)]);
    let layers = [DiffId(digest(3)), DiffId(digest(4))];
    if let Ok(cache) = parse_inline(&String::from_utf8_lossy(bytes), &manifest, &layers) {
        assert!(cache.steps.values().all(|layer| layers.contains(layer)), "a layer of another");
    }
}

#[cfg(test)]
mod tests {
    use corten_testkit::mutations;

    #[test]
    fn locks_that_are_nearly_right_never_panic() {
        let hex = "0123456789abcdef".repeat(4);
        let text = format!(
            "version = 1\nplatform = \"linux/amd64\"\n[[base]]\nreference = \"a\"\nplatform = \"b\"\n\
             digest = \"sha256:{hex}\"\n[[source]]\nurl = \"a\"\nsha256 = \"{hex}\"\n\
             [[artifact]]\nname = \"a\"\nkind = \"wheel\"\ntool = \"pip\"\nurl = \"u\"\nstatus = 206\n\
             sha256 = \"{hex}\"\nsize = 9\nheaders = {{ a = \"b\" }}\n"
        );
        mutations(text.as_bytes(), |bytes| super::lock(&String::from_utf8_lossy(bytes)));
    }

    #[test]
    fn records_of_caches_that_are_nearly_right_never_panic() {
        let hex = "0123456789abcdef".repeat(4);
        let digest = format!("sha256:{hex}");
        let whole = format!(
            "{{\"version\":1,\"steps\":[{{\"key\":\"{digest}\",\"layer\":\"{digest}\"}}],\
             \"layers\":[{{\"diffId\":\"{digest}\",\"digest\":\"{digest}\",\"size\":5,\"mediaType\":\"a\"}}],\
             \"mounts\":[{{\"name\":\"{hex}-1\",\"id\":\"b\",\"pieces\":[{{\"plain\":\"{digest}\",\
             \"plainSize\":1,\"digest\":\"{digest}\",\"size\":2}}]}}]}}"
        );
        assert!(super::Cache::parse(whole.as_bytes()).is_ok(), "{whole}");
        mutations(whole.as_bytes(), super::cache);
        mutations(
            format!("{{\"version\":1,\"steps\":[[\"{digest}\",1]]}}").as_bytes(),
            super::cache,
        );
    }
}
