//! Manifests, indexes and configurations, in the spelling of OCI and Docker.
//!
//! Fields that we do not know are kept and written back. What is `null` or empty in a configuration
//! is read as absent, since Docker writes both; so the bytes of a foreign configuration, whose digest
//! is the image's identity, must be kept beside the value when they are needed again.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::digest::{DiffId, Digest};
use crate::platform::Platform;

/// The media types that images are made of.
pub mod media_type {
    /// An OCI manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An OCI configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// An uncompressed layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// A layer compressed by gzip.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A layer compressed by zstd.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// The empty JSON object, as configuration of artifacts.
    pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
    /// Docker's manifest, version 2, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker's manifest list, the index of old.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker's configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker's layer, compressed by gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker's layer, uncompressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

    /// Returns true for an OCI or Docker manifest of one platform.
    pub fn is_manifest(media_type: &str) -> bool {
        matches!(media_type, MANIFEST | DOCKER_MANIFEST)
    }

    /// Returns true for an OCI index or a Docker manifest list.
    pub fn is_index(media_type: &str) -> bool {
        matches!(media_type, INDEX | DOCKER_INDEX)
    }
}

/// Fields that this version does not know.
pub type Unknown = BTreeMap<String, Value>;

/// A document that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// The bytes are not JSON of this form.
    #[error("failed to parse the image {kind}")]
    Json {
        /// What was parsed: `manifest`, `index` or `configuration`.
        kind: &'static str,
        /// The place and the reason.
        #[source]
        source: serde_json::Error,
    },
    /// The document is of another version.
    #[error("the image {kind} has schema version {version}, only 2 is supported")]
    SchemaVersion {
        /// What was parsed.
        kind: &'static str,
        /// The version that it has.
        version: u32,
    },
    /// A manifest was found where an index belongs, or the other way round.
    #[error("the image {kind} has media type `{media_type}`")]
    MediaType {
        /// What was expected.
        kind: &'static str,
        /// What it says it is.
        media_type: String,
    },
}

/// A reference to content by digest and size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// The type of the content.
    pub media_type: String,
    /// The digest of the content.
    pub digest: Digest,
    /// The size of the content in bytes.
    pub size: u64,
    /// Where else the content can be fetched.
    #[serde(default, deserialize_with = "absent_if_null", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Notes.
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What kind of artifact a manifest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Descriptor {
    /// Describes content.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            artifact_type: None,
            unknown: Unknown::new(),
        }
    }
}

/// An image of one platform: its configuration and its layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// The type of this document; OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact this is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the bottom first.
    #[serde(deserialize_with = "absent_if_null")]
    pub layers: Vec<Descriptor>,
    /// The manifest that this one is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes.
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Manifest {
    /// Builds an OCI manifest.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
            unknown: Unknown::new(),
        }
    }

    /// Parses an OCI or Docker manifest; the caller has limited the size.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let kind = "manifest";
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|source| ParseError::Json { kind, source })?;
        let media_type = manifest.media_type.as_deref();
        check(kind, manifest.schema_version, media_type, media_type::is_manifest)?;
        Ok(manifest)
    }
}

/// A list of manifests, usually one per platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// The type of this document; OCI allows it to be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What kind of artifact this is, if it is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The manifests.
    #[serde(deserialize_with = "absent_if_null")]
    pub manifests: Vec<Descriptor>,
    /// The manifest that this index is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Notes.
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Index {
    /// Builds an OCI index.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::INDEX.to_owned()),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
            unknown: Unknown::new(),
        }
    }

    /// Parses an OCI index or a Docker manifest list; the caller has limited the size.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let kind = "index";
        let index: Self =
            serde_json::from_slice(bytes).map_err(|source| ParseError::Json { kind, source })?;
        check(kind, index.schema_version, index.media_type.as_deref(), media_type::is_index)?;
        Ok(index)
    }

    /// Returns the manifest for a platform: the exact one, else the first that runs there.
    pub fn select(&self, platform: &Platform) -> Option<&Descriptor> {
        let candidates = || self.manifests.iter().filter_map(|d| Some((d, d.platform.as_ref()?)));
        let wanted = platform.normalised();
        let exact = candidates().find(|(_, has)| has.normalised() == wanted);
        exact.or_else(|| candidates().find(|(_, has)| wanted.accepts(has))).map(|(d, _)| d)
    }
}

fn check(
    kind: &'static str,
    version: u32,
    media_type: Option<&str>,
    good: fn(&str) -> bool,
) -> Result<(), ParseError> {
    if version != 2 {
        return Err(ParseError::SchemaVersion { kind, version });
    }
    match media_type {
        Some(other) if !good(other) => {
            let media_type = other.chars().take(100).collect();
            Err(ParseError::MediaType { kind, media_type })
        }
        _ => Ok(()),
    }
}

/// What an image says about itself; its digest is the image's identity.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, in RFC 3339.
    #[serde(
        default,
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub created: Option<String>,
    /// Who made it.
    #[serde(
        default,
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub author: Option<String>,
    /// The processor, in the spelling of Go.
    #[serde(default)]
    pub architecture: String,
    /// The operating system, in the spelling of Go.
    #[serde(default)]
    pub os: String,
    /// The variant of the processor.
    #[serde(
        default,
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub variant: Option<String>,
    /// How a container of this image is started.
    #[serde(default, deserialize_with = "absent_if_null")]
    pub config: ContainerConfig,
    /// The layers.
    #[serde(default, deserialize_with = "absent_if_null")]
    pub rootfs: RootFs,
    /// How the image came to be, the oldest first.
    #[serde(default, deserialize_with = "absent_if_null", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl ImageConfig {
    /// Parses a configuration; the caller has limited the size.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        serde_json::from_slice(bytes)
            .map_err(|source| ParseError::Json { kind: "configuration", source })
    }

    /// Returns the platform that the image is for.
    pub fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// How a container of this image is started.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// The user, as `name`, `uid`, `name:group` or `uid:gid`.
    #[serde(
        default,
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub user: Option<String>,
    /// The ports that the program listens on, as `80/tcp`.
    #[serde(default, with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// The environment, as `NAME=value`.
    #[serde(default, deserialize_with = "absent_if_null", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program that always runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The default arguments, or the program if there is no entry point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// How to see whether the program works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// Whether the command is already escaped; only for Windows, but written by Docker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args_escaped: Option<bool>,
    /// The directories that hold data.
    #[serde(default, with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// The directory that the program starts in.
    #[serde(
        default,
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub working_dir: Option<String>,
    /// Instructions for images that are built from this one.
    #[serde(default, deserialize_with = "absent_if_null", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// Labels.
    #[serde(
        default,
        deserialize_with = "absent_if_null",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops the program.
    #[serde(
        default,
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub stop_signal: Option<String>,
    /// How long to wait after the signal, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    /// The shell of the shell form.
    #[serde(default, deserialize_with = "absent_if_null", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How to see whether a program works; times are in nanoseconds, 0 means the default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", command]`; empty means inherited.
    #[serde(default, deserialize_with = "absent_if_null", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// The time between two checks.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// The time that one check may take.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// The time at the start in which failures do not count.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// The time between two checks in the start period.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// How many failures in a row make the container unhealthy.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// The layers of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The digests of the uncompressed layers, the bottom first.
    #[serde(default, deserialize_with = "absent_if_null")]
    pub diff_ids: Vec<DiffId>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".to_owned(), diff_ids: Vec::new() }
    }
}

/// One step by which an image came to be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// When, in RFC 3339.
    #[serde(
        default,
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub created: Option<String>,
    /// The instruction.
    #[serde(
        default,
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub created_by: Option<String>,
    /// Who.
    #[serde(
        default,
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub author: Option<String>,
    /// A comment.
    #[serde(
        default,
        deserialize_with = "absent_if_empty",
        skip_serializing_if = "Option::is_none"
    )]
    pub comment: Option<String>,
    /// True if the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
    /// Fields that this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go writes `null` for an empty list or map.
fn absent_if_null<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Docker writes `""` for text that is not set.
fn absent_if_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// A set is written as a map to empty objects: `{"80/tcp":{}}`.
mod set {
    use super::{BTreeMap, BTreeSet, Deserialize, Deserializer, Serialize, Serializer, Value};

    #[derive(Serialize)]
    struct Empty {}

    pub(super) fn serialize<S: Serializer>(
        set: &BTreeSet<String>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(set.iter().map(|key| (key, Empty {})))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::canonical;

    fn round(text: &str) -> String {
        let config = ImageConfig::parse(text.as_bytes()).unwrap();
        String::from_utf8(canonical(&config)).unwrap()
    }

    #[test]
    fn a_configuration_keeps_every_field_known_or_not() {
        let text = concat!(
            r#"{"created":"2024-01-01T00:00:00Z","author":"a","architecture":"arm64","os":"linux","#,
            r#""variant":"v8","config":{"User":"app","ExposedPorts":{"80/tcp":{}},"Env":["A=b"],"#,
            r#""Entrypoint":["/e"],"Cmd":["c"],"Healthcheck":{"Test":["CMD","x"],"Interval":1},"#,
            r#""ArgsEscaped":true,"Volumes":{"/v":{}},"WorkingDir":"/w","OnBuild":["RUN x"],"#,
            r#""Labels":{"l":"m"},"StopSignal":"SIGINT","StopTimeout":3,"Shell":["sh"],"Later":[1]},"#,
            r#""rootfs":{"type":"layers","diff_ids":[]},"#,
            r#""history":[{"created_by":"RUN x","empty_layer":true,"z":1}],"moby.x":{"y":null}}"#,
        );
        assert_eq!(round(text), text);
    }

    #[test]
    fn null_and_empty_are_absent() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"User":"","Env":null,"Cmd":null,
            "Volumes":null,"Labels":null,"OnBuild":null,"ExposedPorts":null},
            "rootfs":{"type":"layers","diff_ids":null},"history":null,"created":""}"#;
        let expected = concat!(
            r#"{"architecture":"amd64","os":"linux","config":{},"#,
            r#""rootfs":{"type":"layers","diff_ids":[]}}"#
        );
        assert_eq!(round(text), expected);
        assert_eq!(ImageConfig::parse(b"{}").unwrap().rootfs, RootFs::default());
    }

    #[test]
    fn an_empty_entry_point_is_not_an_absent_one() {
        let config = ImageConfig::parse(br#"{"config":{"Entrypoint":[]}}"#).unwrap();
        assert_eq!(config.config.entrypoint, Some(Vec::new()));
        assert_eq!(config.config.cmd, None);
    }

    #[test]
    fn a_manifest_of_another_version_or_kind_is_refused() {
        let parse = |text: &str| Manifest::parse(text.as_bytes()).unwrap_err().to_string();
        let config = r#""config":{"mediaType":"x","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":2}"#;
        let with = |rest: &str| parse(&format!("{{{rest},{config},\"layers\":[]}}"));
        assert!(with(r#""schemaVersion":1"#).contains("schema version 1"));
        let index = format!(r#""schemaVersion":2,"mediaType":"{}""#, media_type::INDEX);
        assert!(with(&index).contains("image manifest has media type"));
        assert_eq!(parse("[]"), "failed to parse the image manifest");
    }

    #[test]
    fn an_index_selects_the_exact_platform_before_a_compatible_one() {
        let entry = |platform: &str, byte: u8| Descriptor {
            platform: Some(platform.parse().unwrap()),
            ..Descriptor::new(media_type::MANIFEST, Digest::from_bytes([byte; 32]), 1)
        };
        let index = Index::new(vec![
            Descriptor::new(media_type::MANIFEST, Digest::from_bytes([9; 32]), 1),
            entry("linux/amd64", 1),
            entry("linux/amd64/v3", 2),
            entry("linux/arm64", 3),
        ]);
        let select = |text: &str| {
            index.select(&text.parse().unwrap()).map(|descriptor| descriptor.digest.as_bytes()[0])
        };
        assert_eq!(select("linux/amd64"), Some(1));
        assert_eq!(select("linux/amd64/v3"), Some(2));
        assert_eq!(select("linux/amd64/v2"), Some(1));
        assert_eq!(select("linux/arm64/v8"), Some(3));
        assert_eq!(select("linux/s390x"), None);
    }

    proptest::proptest! {
        #[test]
        fn mutated_documents_never_panic(at in 0_usize..400, byte: u8) {
            let config = ImageConfig { architecture: "amd64".into(), ..ImageConfig::default() };
            let descriptor = Descriptor::new(media_type::LAYER, Digest::of(b"x"), 1);
            let manifest = Manifest::new(descriptor.clone(), vec![descriptor.clone()]);
            let index = Index::new(vec![descriptor]);
            for mut bytes in [canonical(&config), canonical(&manifest), canonical(&index)] {
                crate::fuzz::manifest(&bytes);
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
                crate::fuzz::manifest(&bytes);
            }
        }
    }
}
