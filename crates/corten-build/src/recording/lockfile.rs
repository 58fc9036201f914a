//! `corten.lock`: materials as TOML, one table for each thing, so that a difference is a few lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use corten_oci::digest::Digest;
use corten_record::{Artifact, Class, Fetched, Kind, RequestKey};
use serde::Deserialize;

use super::{BaseMaterial, Materials, SourceMaterial};

/// The version of the format. A newer one is refused.
pub const LOCK_VERSION: u32 = 1;

/// The largest lock file: some hundred bytes for each of a hundred thousand things.
pub const LOCK_BYTES_MAX: u64 = 64 << 20;

/// Headers that a server changes without changing the content; they are not written down. Those who
/// fetch models ask for them, so they stay where a commit of a model is named.
const PASSING: [&str; 2] = ["etag", "x-pypi-last-serial"];

const MODEL_COMMIT: &str = "x-repo-commit";

const METHOD: &str = "GET";
const STATUS: u16 = 200;

const HEAD: &str = "\
# Made by `corten lock`; read it, commit it, do not edit it.
# `corten build --locked` refuses what is not in it, `corten build --offline` needs nothing else.
";

/// Why a text is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// With the line and column.
    #[error("`{name}` is no lock file: {message}")]
    Parse { name: String, message: String },
    #[error("`{name}` has version {found}, and this program knows version {LOCK_VERSION}")]
    Version { name: String, found: u32 },
    #[error("`{name}` has `{what}` twice")]
    Twice { name: String, what: String },
}

impl LockError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Version { found, .. } if *found > LOCK_VERSION => {
                "use a newer corten, or make the file anew with `corten lock`".to_owned()
            }
            _ => "make it anew with `corten lock`, or take the last good one from version control"
                .to_owned(),
        })
    }
}

impl Materials {
    /// Writes a lock file. The same materials give the same bytes.
    pub fn to_toml(&self) -> String {
        let mut text = HEAD.to_owned();
        let mut line = |name: &str, value: String| {
            text.push_str(&format!("{name} = {value}\n"));
        };
        line("version", LOCK_VERSION.to_string());
        line("platform", quoted(&self.platform));
        for base in &self.bases {
            text.push_str("\n[[base]]\n");
            put(&mut text, "reference", &base.reference);
            put(&mut text, "platform", &base.platform);
            put(&mut text, "digest", &base.digest.to_string());
        }
        for source in &self.sources {
            text.push_str("\n[[source]]\n");
            match source {
                SourceMaterial::Http { url, sha256 } => {
                    put(&mut text, "url", url);
                    put(&mut text, "sha256", &sha256.hex());
                }
                SourceMaterial::Git { url, reference, commit } => {
                    put(&mut text, "git", url);
                    if let Some(reference) = reference {
                        put(&mut text, "reference", reference);
                    }
                    put(&mut text, "commit", commit);
                }
            }
        }
        for fetched in &self.fetched {
            entry(&mut text, fetched);
        }
        text
    }

    /// Reads a lock file; `name` is for messages.
    pub fn from_toml(name: &str, text: &str) -> Result<Self, LockError> {
        let parse = |error: toml::de::Error| LockError::Parse {
            name: name.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        };
        // The version first: a newer file has fields that are not known here.
        let Version { version } = toml::from_str(text).map_err(parse)?;
        if version != LOCK_VERSION {
            return Err(LockError::Version { name: name.to_owned(), found: version });
        }
        let file: File = toml::from_str(text).map_err(parse)?;
        let mut fetched = Vec::new();
        for artifact in file.artifact {
            fetched.push(artifact.into_fetched());
        }
        for index in file.index {
            fetched.push(index.into_fetched());
        }
        let mut seen = BTreeSet::new();
        for entry in &fetched {
            if !seen.insert(&entry.key) {
                let what = entry.key.url.clone();
                return Err(LockError::Twice { name: name.to_owned(), what });
            }
        }
        let bases = file.base.into_iter().map(BaseEntry::into_material).collect();
        let sources = file.source.into_iter().map(SourceEntry::into_material).collect();
        Ok(Self { platform: file.platform, bases, sources, fetched }.sorted())
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn put(text: &mut String, name: &str, value: &str) {
    text.push_str(&format!("{name} = {}\n", quoted(value)));
}

fn entry(text: &mut String, fetched: &Fetched) {
    match &fetched.class {
        Class::Artifact(artifact) => {
            text.push_str("\n[[artifact]]\n");
            put(text, "name", &artifact.name);
            if let Some(version) = &artifact.version {
                put(text, "version", version);
            }
            put(text, "kind", artifact.kind.as_str());
            put(text, "tool", &artifact.tool);
        }
        Class::Index { tool } => {
            text.push_str("\n[[index]]\n");
            put(text, "tool", tool);
        }
    }
    let key = &fetched.key;
    put(text, "url", &key.url);
    if key.method != METHOD {
        put(text, "method", &key.method);
    }
    if let Some(request) = &key.request {
        put(text, "request", &request.hex());
    }
    if let Some(accept) = &key.accept {
        put(text, "accept", accept);
    }
    if fetched.status != STATUS {
        text.push_str(&format!("status = {}\n", fetched.status));
    }
    put(text, "sha256", &fetched.sha256.hex());
    text.push_str(&format!("size = {}\n", fetched.size_bytes));
    let is_model = fetched.headers.contains_key(MODEL_COMMIT);
    let lasting =
        fetched.headers.iter().filter(|(name, _)| is_model || !PASSING.contains(&name.as_str()));
    let mut headers = String::new();
    for (name, value) in lasting {
        let separator = if headers.is_empty() { "" } else { ", " };
        // Writing to a text cannot fail.
        write!(headers, "{separator}{name} = {}", quoted(value)).unwrap_or_default();
    }
    if !headers.is_empty() {
        text.push_str(&format!("headers = {{ {headers} }}\n"));
    }
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: u32,
    platform: String,
    #[serde(default)]
    base: Vec<BaseEntry>,
    #[serde(default)]
    source: Vec<SourceEntry>,
    #[serde(default)]
    artifact: Vec<ArtifactEntry>,
    #[serde(default)]
    index: Vec<IndexEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BaseEntry {
    reference: String,
    platform: String,
    digest: Digest,
}

impl BaseEntry {
    fn into_material(self) -> BaseMaterial {
        BaseMaterial { reference: self.reference, platform: self.platform, digest: self.digest }
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a source has `url` and `sha256`, or `git` and `commit`")]
enum SourceEntry {
    Http(HttpEntry),
    Git(GitEntry),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpEntry {
    url: String,
    sha256: Hex,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GitEntry {
    git: String,
    reference: Option<String>,
    commit: String,
}

impl SourceEntry {
    fn into_material(self) -> SourceMaterial {
        match self {
            Self::Http(HttpEntry { url, sha256 }) => SourceMaterial::Http { url, sha256: sha256.0 },
            Self::Git(GitEntry { git, reference, commit }) => {
                SourceMaterial::Git { url: git, reference, commit }
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArtifactEntry {
    name: String,
    version: Option<String>,
    kind: Kind,
    tool: String,
    url: String,
    method: Option<String>,
    request: Option<Hex>,
    accept: Option<String>,
    status: Option<u16>,
    sha256: Hex,
    size: u64,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl ArtifactEntry {
    fn into_fetched(self) -> Fetched {
        let Self { name, version, kind, tool, .. } = self;
        let Self { url, method, request, accept, status, sha256, size, headers, .. } = self;
        let class = Class::Artifact(Artifact { tool: tool.clone(), kind, name, version });
        // The rest of the table is that of an index.
        let rest = IndexEntry { tool, url, method, request, accept, status, sha256, size, headers };
        Fetched { class, ..rest.into_fetched() }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexEntry {
    tool: String,
    url: String,
    method: Option<String>,
    request: Option<Hex>,
    accept: Option<String>,
    status: Option<u16>,
    sha256: Hex,
    size: u64,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

impl IndexEntry {
    fn into_fetched(self) -> Fetched {
        Fetched {
            key: RequestKey {
                url: self.url,
                method: self.method.unwrap_or_else(|| METHOD.to_owned()),
                request: self.request.map(|hex| hex.0),
                accept: self.accept,
            },
            status: self.status.unwrap_or(STATUS),
            headers: self.headers,
            sha256: self.sha256.0,
            size_bytes: self.size,
            class: Class::Index { tool: self.tool },
        }
    }
}

/// A digest without the name of its algorithm, which the field has.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Hex(Digest);

impl TryFrom<String> for Hex {
    type Error = corten_oci::digest::DigestError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Digest::from_hex(&text).map(Self)
    }
}
