//! Statements about an image, stored beside it as BuildKit and its readers expect them.
//!
//! An index has, after the manifest of an image, one more manifest for the platform
//! `unknown/unknown` whose layers are in-toto statements. Annotations of its entry say which image it
//! is about: <https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md>.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::image::{Descriptor, Manifest, media_type};
use crate::platform::Platform;
use crate::reference::Reference;

/// The media type of an in-toto statement.
pub const STATEMENT: &str = "application/vnd.in-toto+json";

/// The annotation of a statement's layer that says what it states.
pub const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";

/// The annotation that says that an entry of an index is no image.
pub const REFERENCE_TYPE: &str = "vnd.docker.reference.type";

/// Its value.
pub const ATTESTATION_MANIFEST: &str = "attestation-manifest";

/// The annotation with the digest of the image's manifest.
pub const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";

/// The type of a statement, in-toto Statement v1.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// What is stated of an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Attestation {
    /// The type of the predicate, a URL.
    pub predicate_type: String,
    /// What is stated.
    pub predicate: Value,
}

/// Statements about one image, ready to be stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Attested {
    /// The configuration and the statements.
    pub blobs: Vec<(Digest, Vec<u8>)>,
    /// The manifest that names them.
    pub manifest: Vec<u8>,
    /// Its entry in the index.
    pub descriptor: Descriptor,
}

#[derive(Serialize)]
struct Statement<'a> {
    #[serde(rename = "_type")]
    kind: &'static str,
    subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: &'a str,
    predicate: &'a Value,
}

#[derive(Serialize)]
struct Subject {
    name: String,
    digest: BTreeMap<&'static str, String>,
}

/// Makes the statements about an image, whose manifest has this descriptor, and the manifest for them.
/// The same statements give the same bytes.
pub fn attest(
    image: &Descriptor,
    platform: &Platform,
    names: &[Reference],
    attestations: &[Attestation],
) -> Attested {
    let mut blobs = Vec::new();
    let mut layers = Vec::new();
    for attestation in attestations {
        let statement = Statement {
            kind: STATEMENT_TYPE,
            subject: subjects(image, platform, names),
            predicate_type: &attestation.predicate_type,
            predicate: &attestation.predicate,
        };
        let statement = crate::json::canonical(&statement);
        let digest = Digest::of(&statement);
        let mut layer = Descriptor::new(STATEMENT, digest, statement.len() as u64);
        layer.annotations.insert(PREDICATE_TYPE.to_owned(), attestation.predicate_type.clone());
        layers.push(layer);
        blobs.push((digest, statement));
    }
    let diff_ids: Vec<String> = blobs.iter().map(|(digest, _)| digest.to_string()).collect();
    let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
    let config = json!({
        "architecture": "unknown", "os": "unknown", "config": {}, "rootfs": rootfs,
    });
    let config = crate::json::canonical(&config);
    let config_digest = Digest::of(&config);
    let config_entry = Descriptor::new(media_type::CONFIG, config_digest, config.len() as u64);
    blobs.push((config_digest, config));
    let manifest = crate::json::canonical(&Manifest::new(config_entry, layers));
    let annotations = [
        (REFERENCE_DIGEST.to_owned(), image.digest.to_string()),
        (REFERENCE_TYPE.to_owned(), ATTESTATION_MANIFEST.to_owned()),
    ];
    let digest = Digest::of(&manifest);
    let descriptor = Descriptor {
        annotations: BTreeMap::from(annotations),
        platform: Some(Platform::new("unknown", "unknown", None)),
        ..Descriptor::new(media_type::MANIFEST, digest, manifest.len() as u64)
    };
    Attested { blobs, manifest, descriptor }
}

/// The image under each of its names; one without a name is `_`, as in BuildKit.
fn subjects(image: &Descriptor, platform: &Platform, names: &[Reference]) -> Vec<Subject> {
    let subject =
        |name: String| Subject { name, digest: BTreeMap::from([("sha256", image.digest.hex())]) };
    if names.is_empty() {
        return vec![subject("_".to_owned())];
    }
    names.iter().map(|name| subject(package_url(name, platform))).collect()
}

/// The package URL of an image: `pkg:docker/team/app@1?repository_url=registry.test&platform=linux%2Famd64`,
/// <https://github.com/package-url/purl-spec>.
pub fn package_url(reference: &Reference, platform: &Platform) -> String {
    const HUB: &str = "docker.io";
    let repository = reference.repository();
    let repository = match reference.registry() {
        HUB => repository.strip_prefix("library/").unwrap_or(repository),
        _ => repository,
    };
    let mut url = format!("pkg:docker/{repository}");
    if let Some(tag) = reference.tag() {
        url.push_str(&format!("@{}", escaped(tag)));
    }
    let mut qualifiers = Vec::new();
    if let Some(digest) = reference.digest() {
        qualifiers.push(format!("digest={digest}"));
    }
    qualifiers.push(format!("platform={}", escaped(&platform.to_string())));
    if reference.registry() != HUB {
        qualifiers.push(format!("repository_url={}", escaped(reference.registry())));
    }
    format!("{url}?{}", qualifiers.join("&"))
}

/// Percent-encodes what a package URL does not take as it is.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amd64() -> Platform {
        Platform::new("linux", "amd64", None)
    }

    #[test]
    fn an_image_has_a_package_url() {
        let url = |name: &str| package_url(&name.parse().unwrap(), &amd64());
        assert_eq!(url("python:3.11-slim"), "pkg:docker/python@3.11-slim?platform=linux%2Famd64");
        assert_eq!(
            url("registry.test:5000/team/app:1"),
            "pkg:docker/team/app@1?platform=linux%2Famd64&repository_url=registry.test:5000"
        );
    }

    #[test]
    fn statements_name_the_image_and_are_found_from_the_index() {
        let image = Descriptor::new(media_type::MANIFEST, Digest::of(b"image"), 5);
        let attestation = Attestation {
            predicate_type: "https://example.test/says".to_owned(),
            predicate: json!({ "b": 1, "a": [true] }),
        };
        let made = attest(&image, &amd64(), &["app:1".parse().unwrap()], &[attestation]);
        let statement: Value = serde_json::from_slice(&made.blobs[0].1).unwrap();
        assert_eq!(statement["_type"], STATEMENT_TYPE);
        assert_eq!(statement["subject"][0]["digest"]["sha256"], image.digest.hex());
        assert_eq!(statement["predicate"]["a"][0], true);
        let manifest: Manifest = serde_json::from_slice(&made.manifest).unwrap();
        assert_eq!(manifest.layers[0].digest, made.blobs[0].0);
        assert_eq!(manifest.config.digest, made.blobs[1].0);
        assert_eq!(made.descriptor.annotations[REFERENCE_DIGEST], image.digest.to_string());
        assert_eq!(made.descriptor.digest, Digest::of(&made.manifest));
        let without_name = attest(&image, &amd64(), &[], &[]);
        assert_eq!(without_name.blobs.len(), 1, "the configuration alone");
    }
}
