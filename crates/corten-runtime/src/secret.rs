//! Secrets of a container: read anew at each start, kept nowhere.
//!
//! A value lives in the memory of who starts the container, in that of its helper, and in a tmpfs or the
//! environment of the container. It is in no description that is written down or printed.

use std::fmt;
use std::path::{Path, PathBuf};

use corten_sys::error::IoError;
use corten_sys::file;
use serde::{Deserialize, Serialize};

/// Docker's limit.
const BYTES_MAX: u64 = 500 * 1024;

/// The directory of secrets whose target is a name.
pub(crate) const DIRECTORY: &str = "/run/secrets";

/// A secret of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    pub id: String,
    pub source: SecretSource,
    pub target: SecretTarget,
    /// What it was when the container was started; written down nowhere.
    #[serde(skip)]
    pub value: SecretValue,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretSource {
    /// A file of the host, absolute.
    File(PathBuf),
    /// A variable of whoever starts it, which is there only once.
    Variable(String),
}

/// What a secret becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretTarget {
    /// A file in memory; absolute.
    File { path: PathBuf, mode: u32, uid: u32, gid: u32 },
    /// A variable of the container.
    Variable(String),
}

/// Bytes that are not shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretValue(Option<Vec<u8>>);

impl SecretValue {
    /// Takes what was read.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Some(bytes))
    }

    /// Returns the bytes, once they were read.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.0.as_deref()
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "read" } else { "not read" })
    }
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("failed to read secret `{id}`")]
    Read {
        id: String,
        #[source]
        source: IoError,
    },
    #[error("secret `{id}` has the value of a variable, which is not there any more")]
    Gone { id: String },
    #[error("secret `{id}` is no text without NUL bytes, as a variable has to be")]
    NoText { id: String },
}

impl SecretError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Gone { id } => {
                Some(format!("put it into a file and name that: `--secret id={id},src=FILE`"))
            }
            Self::Read { .. } => {
                Some("the file is read at each start, by whoever starts the container".to_owned())
            }
            Self::NoText { id } => Some(format!("give it as a file: `--secret id={id},type=file`")),
        }
    }
}

/// Reads those that come from files.
pub(crate) fn read_all(secrets: &mut [Secret]) -> Result<(), SecretError> {
    for secret in secrets {
        match &secret.source {
            SecretSource::File(path) => secret.value = SecretValue::new(read(&secret.id, path)?),
            SecretSource::Variable(_) if secret.value.bytes().is_none() => {
                return Err(SecretError::Gone { id: secret.id.clone() });
            }
            SecretSource::Variable(_) => {}
        }
        if let (SecretTarget::Variable(_), Some(bytes)) = (&secret.target, secret.value.bytes())
            && (std::str::from_utf8(bytes).is_err() || bytes.contains(&0))
        {
            return Err(SecretError::NoText { id: secret.id.clone() });
        }
    }
    Ok(())
}

fn read(id: &str, path: &Path) -> Result<Vec<u8>, SecretError> {
    let failed = |source| SecretError::Read { id: id.to_owned(), source };
    file::read_limited(path, BYTES_MAX).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_neither_shown_nor_written_down() {
        let secret = Secret {
            id: "key".to_owned(),
            source: SecretSource::File("/k".into()),
            target: SecretTarget::Variable("KEY".to_owned()),
            value: SecretValue::new(b"hunter2".to_vec()),
        };
        let text = format!("{secret:?} {}", serde_json::to_string(&secret).unwrap());
        assert!(!text.contains("hunter2") && !text.contains("104"), "{text}");
        let back: Secret = serde_json::from_str(&serde_json::to_string(&secret).unwrap()).unwrap();
        assert_eq!(back.value, SecretValue::default());
    }

    #[test]
    fn what_cannot_be_had_is_said_by_its_name() {
        let of = |source, target| Secret {
            id: "key".to_owned(),
            source,
            target,
            value: SecretValue::default(),
        };
        let file =
            || SecretTarget::File { path: "/run/secrets/key".into(), mode: 0o400, uid: 0, gid: 0 };
        let told = |secret: Secret| {
            let error = read_all(&mut [secret]).expect_err("it cannot be had");
            format!("{error}; {}", error.hint().unwrap_or_default())
        };
        let gone = told(of(SecretSource::Variable("KEY".to_owned()), file()));
        assert!(gone.contains("`key`") && gone.contains("src=FILE"), "{gone}");
        let missing = told(of(SecretSource::File("/no/such/file".into()), file()));
        assert!(missing.starts_with("failed to read secret `key`"), "{missing}");
        let binary =
            of(SecretSource::File("/proc/self/cmdline".into()), SecretTarget::Variable("K".into()));
        assert!(told(binary).contains("NUL bytes"));
    }
}
