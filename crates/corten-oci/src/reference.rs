//! Names of images, normalised as Docker does.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{Digest, DigestError};
use crate::limits::REFERENCE_BYTES_MAX;

/// The registry of names that have none.
const DEFAULT_REGISTRY: &str = "docker.io";

/// The name under which the default registry was first known.
const LEGACY_DEFAULT_REGISTRY: &str = "index.docker.io";

/// The repository prefix of names that have one component, in the default registry.
const OFFICIAL_PREFIX: &str = "library/";

/// The tag of names that have neither tag nor digest.
const DEFAULT_TAG: &str = "latest";

/// The repository without its registry, as in the distribution specification.
const REPOSITORY_BYTES_MAX: usize = 255;

/// A tag, as in the distribution specification.
const TAG_BYTES_MAX: usize = 128;

/// The full name of an image: registry, repository, and a tag, a digest or both.
///
/// Equal names are equal values: `python`, `docker.io/python` and `docker.io/library/python:latest`
/// are the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Text that is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is no text.
    #[error("the image reference is empty")]
    Empty,
    /// The text is longer than any reference.
    #[error("the image reference is longer than {REFERENCE_BYTES_MAX} bytes")]
    TooLong,
    /// Upper-case letters in the repository, by far the most frequent mistake.
    #[error("image reference `{0}` has upper-case letters: a repository name must be lower case")]
    UpperCase(String),
    /// 64 hexadecimal digits would be confused with an image id.
    #[error("image reference `{0}` has the form of an image id")]
    LooksLikeId(String),
    /// The registry is no host name.
    #[error("image reference `{0}` has an invalid registry")]
    Registry(String),
    /// The repository has a character or an order of separators that is not allowed.
    #[error("image reference `{0}` has an invalid repository name")]
    Repository(String),
    /// The repository is too long.
    #[error(
        "image reference `{0}` has a repository name of more than {REPOSITORY_BYTES_MAX} bytes"
    )]
    RepositoryTooLong(String),
    /// The tag has a character that is not allowed, or is too long.
    #[error("image reference `{0}` has an invalid tag")]
    Tag(String),
    /// What follows `@` is no digest.
    #[error("image reference `{text}` has an invalid digest")]
    Digest {
        /// The whole reference.
        text: String,
        /// What is wrong with the digest.
        #[source]
        source: DigestError,
    },
}

impl Reference {
    /// Returns the registry's host, with the port if there is one.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the name within the registry, for example `library/python`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag; `None` only if there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest that the image must have.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Returns this name with another tag and without a digest; an invalid tag is refused.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        let with = Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() };
        if is_tag(tag) { Ok(with) } else { Err(ReferenceError::Tag(with.to_string())) }
    }

    /// Returns this name with a digest, and without its tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Returns registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// Returns the short spelling: without the default registry and its `library/`.
    pub fn familiar(&self) -> String {
        let mut text = String::new();
        if self.registry == DEFAULT_REGISTRY {
            let official = self.repository.strip_prefix(OFFICIAL_PREFIX);
            let short = official.filter(|rest| !rest.contains('/') && !is_host(rest));
            text.push_str(short.unwrap_or(&self.repository));
        } else {
            text.push_str(&self.name());
        }
        self.push_suffix(&mut text);
        text
    }

    fn push_suffix(&self, text: &mut String) {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(ReferenceError::TooLong);
        }
        let owned = || text.to_owned();
        if text.len() == 64 && Digest::from_hex(text).is_ok() {
            return Err(ReferenceError::LooksLikeId(owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest = digest.parse();
                let digest =
                    digest.map_err(|source| ReferenceError::Digest { text: owned(), source })?;
                (rest, Some(digest))
            }
        };
        let (name, tag) = split_tag(rest);
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(owned()));
        }
        let (registry, path) = split_registry(name);
        let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
            format!("{OFFICIAL_PREFIX}{path}")
        } else {
            path.to_owned()
        };
        check_name(text, registry, path, &repository)?;
        let tag = tag.or(if digest.is_none() { Some(DEFAULT_TAG) } else { None });
        let (registry, tag) = (registry.to_owned(), tag.map(ToOwned::to_owned));
        Ok(Self { registry, repository, tag, digest })
    }
}

fn check_name(
    text: &str,
    registry: &str,
    path: &str,
    repository: &str,
) -> Result<(), ReferenceError> {
    if !is_registry(registry) {
        return Err(ReferenceError::Registry(text.to_owned()));
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase(text.to_owned()));
    }
    if repository.len() > REPOSITORY_BYTES_MAX {
        return Err(ReferenceError::RepositoryTooLong(text.to_owned()));
    }
    if !repository.split('/').all(is_path_component) {
        return Err(ReferenceError::Repository(text.to_owned()));
    }
    Ok(())
}

/// The colon of a tag comes after the last slash; one before it belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let name_start = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[name_start..].find(':') {
        Some(colon) => (&text[..name_start + colon], Some(&text[name_start + colon + 1..])),
        None => (text, None),
    }
}

/// Docker's rule: the first component is a registry only if it can be told from a user's name.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((LEGACY_DEFAULT_REGISTRY, path)) => (DEFAULT_REGISTRY, path),
        Some((host, path)) if is_host(host) => (host, path),
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_host(component: &str) -> bool {
    component == "localhost"
        || component.contains(['.', ':'])
        || component.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = if registry.starts_with('[') {
        match registry.find(']') {
            Some(end) => (&registry[..=end], registry[end + 1..].strip_prefix(':')),
            None => return false,
        }
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        }
    };
    let consumed = host.len() + port.map_or(0, |port| port.len() + 1);
    let port_is_valid =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()));
    consumed == registry.len() && port_is_valid && (is_ipv6(host) || is_host_name(host))
}

fn is_ipv6(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    inner.is_some_and(|inner| {
        !inner.is_empty() && inner.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
    })
}

fn is_host_name(host: &str) -> bool {
    host.split('.').all(|label| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !letter(first) || !letter(last) {
        return false;
    }
    let separators = bytes.split(|&byte| letter(byte)).filter(|separator| !separator.is_empty());
    let mut separators = separators;
    separators.all(|separator| {
        matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|&byte| byte == b'-')
    })
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first_is_word = tag.bytes().next().is_some_and(word);
    first_is_word
        && tag.len() <= TAG_BYTES_MAX
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.name();
        self.push_suffix(&mut text);
        formatter.write_str(&text)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::{Expect, expect};

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn check(texts: &[&str], expected: &Expect) {
        let mut table = String::new();
        for text in texts {
            let line = match text.parse::<Reference>() {
                Ok(reference) => format!("{reference} | {}", reference.familiar()),
                Err(error) => format!("error: {error}"),
            };
            writeln!(table, "{text} -> {}", line.replace(DIGEST, "DIGEST")).unwrap();
        }
        expected.assert_eq(&table.replace(DIGEST, "DIGEST"));
    }

    #[test]
    fn names_are_normalised_as_docker_does() {
        let pinned = format!("python:3.11-slim@{DIGEST}");
        let only_digest = format!("ghcr.io/a/b@{DIGEST}");
        let texts = [
            "python",
            "python:3.11-slim",
            "docker.io/python",
            "index.docker.io/python",
            "docker.io/library/python",
            "library/python",
            "user/app",
            "localhost/app",
            "localhost:5000/app:1",
            "ghcr.io/astral-sh/uv:0.9",
            "golden.internal/python:3.11-slim",
            "Registry/app",
            "[::1]:5000/app",
            "a__b/c-.-d",
            "a--b/c.d_e:T_a.g-1",
            "docker.io/library/a/b",
            pinned.as_str(),
            only_digest.as_str(),
        ];
        check(
            &texts,
            &expect![[r#"
                python -> docker.io/library/python:latest | python:latest
                python:3.11-slim -> docker.io/library/python:3.11-slim | python:3.11-slim
                docker.io/python -> docker.io/library/python:latest | python:latest
                index.docker.io/python -> docker.io/library/python:latest | python:latest
                docker.io/library/python -> docker.io/library/python:latest | python:latest
                library/python -> docker.io/library/python:latest | python:latest
                user/app -> docker.io/user/app:latest | user/app:latest
                localhost/app -> localhost/app:latest | localhost/app:latest
                localhost:5000/app:1 -> localhost:5000/app:1 | localhost:5000/app:1
                ghcr.io/astral-sh/uv:0.9 -> ghcr.io/astral-sh/uv:0.9 | ghcr.io/astral-sh/uv:0.9
                golden.internal/python:3.11-slim -> golden.internal/python:3.11-slim | golden.internal/python:3.11-slim
                Registry/app -> Registry/app:latest | Registry/app:latest
                [::1]:5000/app -> [::1]:5000/app:latest | [::1]:5000/app:latest
                a__b/c-.-d -> error: image reference `a__b/c-.-d` has an invalid repository name
                a--b/c.d_e:T_a.g-1 -> docker.io/a--b/c.d_e:T_a.g-1 | a--b/c.d_e:T_a.g-1
                docker.io/library/a/b -> docker.io/library/a/b:latest | library/a/b:latest
                python:3.11-slim@DIGEST -> docker.io/library/python:3.11-slim@DIGEST | python:3.11-slim@DIGEST
                ghcr.io/a/b@DIGEST -> ghcr.io/a/b@DIGEST | ghcr.io/a/b@DIGEST
            "#]],
        );
    }

    #[test]
    fn what_is_not_a_reference_is_refused_with_the_reason() {
        let id = "a".repeat(64);
        let texts = [
            "",
            "Python",
            "user/App",
            ":tag",
            "python:",
            "python:-x",
            "python@latest",
            "a//b",
            "/a",
            "a/",
            "a..b/c",
            "-a.b/c",
            "host:port/a",
            "[::1/a",
            "a b",
            "aé",
            id.as_str(),
        ];
        check(
            &texts,
            &expect![[r#"
                 -> error: the image reference is empty
                Python -> error: image reference `Python` has upper-case letters: a repository name must be lower case
                user/App -> error: image reference `user/App` has upper-case letters: a repository name must be lower case
                :tag -> error: image reference `:tag` has an invalid repository name
                python: -> error: image reference `python:` has an invalid tag
                python:-x -> error: image reference `python:-x` has an invalid tag
                python@latest -> error: image reference `python@latest` has an invalid digest
                a//b -> error: image reference `a//b` has an invalid repository name
                /a -> error: image reference `/a` has an invalid repository name
                a/ -> error: image reference `a/` has an invalid repository name
                a..b/c -> error: image reference `a..b/c` has an invalid registry
                -a.b/c -> error: image reference `-a.b/c` has an invalid registry
                host:port/a -> error: image reference `host:port/a` has an invalid registry
                [::1/a -> error: image reference `[::1/a` has an invalid registry
                a b -> error: image reference `a b` has an invalid repository name
                aé -> error: image reference `aé` has an invalid repository name
                aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa -> error: image reference `aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa` has the form of an image id
            "#]],
        );
    }

    #[test]
    fn a_tag_replaces_tag_and_digest() {
        let reference: Reference = format!("python:3@{DIGEST}").parse().unwrap();
        assert_eq!(reference.with_tag("4").unwrap().familiar(), "python:4");
        assert!(reference.with_tag("no spaces").is_err());
    }

    proptest::proptest! {
        #[test]
        fn a_reference_prints_and_parses_to_itself(text in "[a-zA-Z0-9._:/@\\-\\[\\]é]{0,40}") {
            crate::fuzz::reference(&text);
        }

        #[test]
        fn a_plausible_reference_prints_and_parses_to_itself(
            text in "([a-z]{1,3}[.:]?[0-9]{0,3}/)?(library/)?[a-zA-Z0-9]{1,4}([._-]{0,3}[a-z]{1,3}){0,2}(:[a-z0-9]{1,4})?"
        ) {
            crate::fuzz::reference(&text);
        }
    }
}
