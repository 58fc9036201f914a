//! Agents that a step, or `git`, may ask to sign with an SSH key.
//!
//! A step never talks to an agent of the host itself. It gets a socket of ours, with the owner and
//! the mode that its mount says, and what it asks there is either passed on to the host's agent or
//! answered with the keys of files that were given. Listing keys and signing is all that is passed
//! on: a step can neither add keys to the host's agent nor remove or lock them.
//!
//! A key that was given as a file is read before the build begins and stays in the memory of this
//! process. Nothing of an agent is in a layer, the history or a key.

mod key_file;
mod keys;
mod serve;

use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_store::Store;
use corten_sys::error::IoError;
use corten_sys::file;

pub(crate) use serve::{Access, Served};

use crate::run::scratch::Scratch;
use keys::Keys;

/// The largest key file: what BuildKit reads of one.
const KEY_BYTES_MAX: u64 = 100 * 1024;

/// What can sign for a step.
#[derive(Debug, Clone)]
pub struct SshAgent(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// An agent of the host.
    Socket(PathBuf),
    Keys(Arc<Keys>),
}

/// Why an agent or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    #[error("an agent needs a socket or a key file")]
    Nothing,
    #[error("failed to use `{}`: one socket can be given, or key files", path.display())]
    SocketAmongKeys { path: PathBuf },
    #[error("failed to read the key `{}`: it is protected by a passphrase", path.display())]
    Protected { path: PathBuf },
    #[error("failed to read the key `{}`: {what}", path.display())]
    Key { path: PathBuf, what: &'static str },
    #[error("failed to use the key `{}`: keys of the kind `{algorithm}` cannot sign here", path.display())]
    Algorithm { path: PathBuf, algorithm: String },
    #[error(transparent)]
    Read(#[from] IoError),
}

impl SshError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Nothing => {
                Some("start an agent, or name a key: `--ssh default=$HOME/.ssh/id_ed25519`".into())
            }
            Self::SocketAmongKeys { .. } => {
                Some("give the agents names: `--ssh default --ssh deploy=KEYFILE`".into())
            }
            Self::Protected { path } | Self::Algorithm { path, .. } => Some(format!(
                "add it to your agent with `ssh-add {}`, then give `--ssh default`",
                path.display()
            )),
            Self::Key { path, .. } => Some(format!(
                "it must be a private key in OpenSSH's format; `ssh-keygen -p -f {}` rewrites an \
                 older one",
                path.display()
            )),
            Self::Read(_) => None,
        }
    }
}

impl SshAgent {
    /// Takes the socket of an agent, or reads keys.
    pub fn open(paths: &[PathBuf]) -> Result<Self, SshError> {
        let mut keys = Vec::new();
        for path in paths {
            if file::metadata(path)?.file_type().is_socket() {
                if paths.len() > 1 {
                    return Err(SshError::SocketAmongKeys { path: path.clone() });
                }
                return Ok(Self(Kind::Socket(path.clone())));
            }
            let text = file::read_limited(path, KEY_BYTES_MAX)?;
            keys.push(key_file::read(path, &text)?);
        }
        if keys.is_empty() {
            return Err(SshError::Nothing);
        }
        Ok(Self(Kind::Keys(Arc::new(Keys::new(keys)))))
    }

    /// Makes a socket for a program of this machine that the caller starts, such as `git`.
    pub fn for_host(&self, store: &Store) -> Result<HostSocket, IoError> {
        if let Kind::Socket(path) = &self.0 {
            return Ok(HostSocket { path: path.clone(), served: None });
        }
        let scratch = Scratch::in_memory(&store.cache_mounts_dir())?;
        let access = Access { mode: 0o600, uid: 0, gid: 0 };
        let served = Served::start(self, scratch, &access)?;
        Ok(HostSocket { path: served.path().to_owned(), served: Some(served) })
    }
}

/// A socket of an agent; it answers as long as this value is there.
#[derive(Debug)]
pub struct HostSocket {
    path: PathBuf,
    #[expect(dead_code, reason = "it is held, not read")]
    served: Option<Served>,
}

impl HostSocket {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests;
