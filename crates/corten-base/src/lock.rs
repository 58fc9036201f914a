//! The lock: everything that an image was made of, so that it can be made again and reviewed.
//!
//! It has two parts. The *pins* decide the image: the same pins give the same bits. The *evidence*
//! says how the pins were found: which signed indexes, by which keys, of which date. Indexes change
//! every day and pins do not, so the image names the digest of the pins only.

use std::collections::BTreeMap;

use corten_oci::digest::{DiffId, Digest};
use serde::{Deserialize, Serialize};

use crate::scripts::Uncovered;
use crate::sources::Mirrors;

/// The version of the format.
pub const SCHEMA: u32 = 1;

/// A lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// The version of the format.
    pub schema: u32,
    /// What decides the image.
    pub pins: Pins,
    /// How that was found.
    #[serde(default)]
    pub evidence: Evidence,
}

/// What decides the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pins {
    /// The name of the recipe.
    pub recipe: String,
    /// The digest of the recipe.
    pub recipe_digest: Digest,
    /// The architecture, as Debian names it.
    pub architecture: String,
    /// The version of the assembly: a later program makes the same bits for the same version.
    pub assembly: u32,
    /// The version of the effects.
    pub effects: u32,
    /// The newest time in the image, in seconds since 1970.
    pub epoch: i64,
    /// The mirrors that apt in the image uses.
    pub image_mirrors: Mirrors,
    /// The layer that these pins gave.
    pub layer: DiffId,
    /// The packages, ordered by name.
    pub packages: Vec<Package>,
}

/// One package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// The name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The architecture, or `all`.
    pub architecture: String,
    /// The source package.
    pub source: String,
    /// The digest of the package file.
    pub sha256: Digest,
    /// The size of the package file in bytes.
    pub size_bytes: u64,
    /// Which archive has it.
    pub archive: Archive,
    /// The path below the root of the archive.
    pub filename: String,
    /// Why it is there.
    pub why: String,
    /// True if it was not asked for but is needed by another one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub automatic: bool,
    /// The patterns of the files that are taken, if not all; then the package is not installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub part: Vec<String>,
    /// The digests of its scripts, none of which was run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scripts: BTreeMap<String, Digest>,
}

/// Which of Debian's two archives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Archive {
    /// The one with the suites and their updates.
    Main,
    /// The one with the security updates.
    Security,
}

/// How the pins were found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The signed indexes that were read.
    pub suites: Vec<Suite>,
    /// Scripts that no effect was known to cover.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncovered: Vec<Uncovered>,
}

/// One signed index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suite {
    /// The suite.
    pub suite: String,
    /// The root of the archive that it came from.
    pub uri: String,
    /// The digest of its `InRelease`.
    pub in_release: Digest,
    /// The fingerprints of the keys that signed it.
    pub signers: Vec<String>,
    /// When it was made, in RFC 3339.
    pub date: String,
    /// Until when it may be used, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    /// True if it was used although it had expired.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub expired_was_allowed: bool,
    /// The path of the index of packages.
    pub index: String,
    /// The digest of the index of packages.
    pub index_digest: Digest,
}

/// A lock that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The text is not a lock.
    #[error("failed to parse the lock")]
    Parse(#[source] serde_json::Error),
    /// The lock is for something else, or for another version of this program.
    #[error("the lock is for {what} `{found}`, but the build is for `{expected}`")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// What the lock says.
        found: String,
        /// What is being built.
        expected: String,
    },
}

impl Lock {
    /// Reads a lock.
    pub fn parse(bytes: &[u8]) -> Result<Self, LockError> {
        let lock: Self = serde_json::from_slice(bytes).map_err(LockError::Parse)?;
        if lock.schema != SCHEMA {
            return Err(LockError::Mismatch {
                what: "the schema",
                found: lock.schema.to_string(),
                expected: SCHEMA.to_string(),
            });
        }
        Ok(lock)
    }

    /// Returns the one spelling of the lock as a file: one value a line, so that a change reads well.
    pub fn to_text(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("a lock has only text as map keys");
        text.push('\n');
        text
    }
}

impl Pins {
    /// Returns the bytes whose digest the image names.
    pub fn to_bytes(&self) -> Vec<u8> {
        corten_oci::json::canonical(self)
    }

    /// Returns the digest that the image names.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use expect_test::expect;

    fn lock() -> Lock {
        let digest = Digest::of(b"");
        Lock {
            schema: SCHEMA,
            pins: Pins {
                recipe: "debian-12".into(),
                recipe_digest: digest,
                architecture: "amd64".into(),
                assembly: 1,
                effects: 1,
                epoch: 7,
                image_mirrors: Mirrors {
                    archive: vec!["http://m.test/debian".into()],
                    security: vec![],
                },
                layer: DiffId(digest),
                packages: vec![Package {
                    name: "a".into(),
                    version: "1".into(),
                    architecture: "all".into(),
                    source: "a".into(),
                    sha256: digest,
                    size_bytes: 3,
                    archive: Archive::Main,
                    filename: "pool/a.deb".into(),
                    why: "essential".into(),
                    automatic: false,
                    part: Vec::new(),
                    scripts: BTreeMap::new(),
                }],
            },
            evidence: Evidence::default(),
        }
    }

    #[test]
    fn a_lock_is_read_back_and_has_one_value_a_line() {
        let lock = lock();
        let text = lock.to_text();
        assert_eq!(Lock::parse(text.as_bytes()).unwrap(), lock);
        let packages = text.split_once("\"packages\"").unwrap().1;
        expect![[r#"
            : [
                  {
                    "name": "a",
                    "version": "1",
                    "architecture": "all",
                    "source": "a",
                    "sha256": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                    "size_bytes": 3,
                    "archive": "main",
                    "filename": "pool/a.deb",
                    "why": "essential"
                  }
                ]
              },
              "evidence": {
                "suites": []
              }
            }
        "#]]
        .assert_eq(packages);
    }

    #[test]
    fn the_evidence_does_not_change_the_pins() {
        let (mut one, two) = (lock(), lock());
        one.evidence.suites.push(Suite {
            suite: "bookworm".into(),
            uri: "http://m.test/debian".into(),
            in_release: Digest::of(b"x"),
            signers: vec![],
            date: String::new(),
            valid_until: None,
            expired_was_allowed: true,
            index: String::new(),
            index_digest: Digest::of(b"y"),
        });
        assert_ne!(one, two);
        assert_eq!(one.pins.digest(), two.pins.digest());
    }

    #[test]
    fn what_is_no_lock_is_refused() {
        assert!(matches!(Lock::parse(b"{}"), Err(LockError::Parse(_))));
        let text = lock().to_text().replacen("\"schema\": 1", "\"schema\": 9", 1);
        let error = Lock::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error, "the lock is for the schema `9`, but the build is for `1`");
    }
}
