//! What a build takes from elsewhere: files over HTTP, git repositories, streams.
//!
//! Everything that is fetched becomes a directory first: a downloaded file lies alone in one, a
//! repository is checked out into one, a tar is unpacked into one. From there on it is a context as
//! any other: read without leaving it, and known by its content.
//!
//! Invariants:
//! - Credentials of an address reach the server that it names and nothing else.
//! - What was protected on its way is not continued unprotected: `https` never redirects to `http`.
//! - A repository runs nothing here: no hooks, no filters, no configuration but our own.

mod address;
mod context;
mod credentials;
mod fetch;
mod git;
mod http;
pub(crate) mod unpack;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_diag::{Event, Reporter};
use corten_oci::digest::Digest;
use corten_record::Upstream;
use corten_store::{Layer, Staging, Store, StoreError};
use corten_sys::error::IoError;

use crate::options::Secret;
use crate::recording::{Lock, SourceMaterial};

pub use address::{Address, AddressError, GitSource, is_http, without_credentials};
pub(crate) use context::read_within;
pub use context::{MainContext, OpenedContext};
pub(crate) use fetch::{fetch_all, source_time};
pub use git::GitOptions;
pub use http::{FetchError, FetchRequest, FetchResponse, Fetcher};

/// Something that is fetched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    Http(HttpSource),
    Git(GitSource),
}

/// A file that is fetched over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HttpSource {
    pub address: Address,
    /// What its content must be.
    pub checksum: Option<Digest>,
}

impl Source {
    /// Reads an address; `None` when the text is a path.
    pub fn parse(text: &str) -> Result<Option<Self>, AddressError> {
        if let Some(git) = GitSource::parse(text)? {
            return Ok(Some(Self::Git(git)));
        }
        if !is_http(text) {
            return Ok(None);
        }
        let address = Address::parse(text)?;
        Ok(Some(Self::Http(HttpSource { address, checksum: None })))
    }

    /// Where it comes from.
    pub fn address(&self) -> &Address {
        match self {
            Self::Http(http) => &http.address,
            Self::Git(git) => &git.address,
        }
    }
}

/// How things are fetched; the program fills it.
#[derive(Clone, Default)]
pub struct Remotes {
    /// Speaks HTTP; without one, nothing is fetched over HTTP.
    pub fetcher: Option<Arc<dyn Fetcher>>,
    pub git: GitOptions,
    /// Asks servers for steps whose requests are recorded; without one, such steps get nothing that
    /// the store does not have.
    pub upstream: Option<Arc<dyn Upstream>>,
    /// Asks servers for package managers whose downloads are kept; it must not reach what a step
    /// itself could not. Without one, nothing is kept.
    pub downloads: Option<Arc<dyn Upstream>>,
    /// Secrets of the build by id; those named for a server authorize to it.
    pub secrets: BTreeMap<String, Secret>,
}

impl fmt::Debug for Remotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remotes").field("git", &self.git).finish_non_exhaustive()
    }
}

/// What fetching works with.
#[derive(Clone, Copy)]
pub(crate) struct Fetching<'a> {
    pub(crate) remotes: &'a Remotes,
    pub(crate) store: &'a Store,
    pub(crate) reporter: &'a dyn Reporter,
    /// What must come, if there is a lock.
    pub(crate) lock: Option<&'a Lock>,
    /// Whether no server may be asked.
    pub(crate) is_offline: bool,
}

impl Fetching<'_> {
    fn say(&self, text: String) {
        self.reporter.report(Event::Notice(text));
    }
}

/// What was fetched, as a directory. It is there as long as this value.
#[derive(Debug)]
pub(crate) struct Fetched {
    held: Held,
    /// What of the directory was asked for; empty for all.
    pub(crate) path: String,
    /// When it was last changed, in seconds since 1970, if the server says so.
    pub(crate) modified: Option<i64>,
    /// When it was made, in seconds since 1970, if that is known: of a repository the time of the
    /// commit, of a file over HTTP when it was last changed.
    pub(crate) time: Option<i64>,
    /// What it is, for the record; absent for what was not fetched.
    pub(crate) material: Option<Box<SourceMaterial>>,
}

/// What keeps a directory.
#[derive(Debug)]
enum Held {
    Staging(Staging),
    Layer(Layer),
}

impl Fetched {
    /// The directory.
    pub(crate) fn directory(&self) -> &Path {
        match &self.held {
            Held::Staging(staging) => staging.tree(),
            Held::Layer(layer) => &layer.path,
        }
    }

    /// Whether the directory will be there for the next build.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.held, Held::Layer(_))
    }
}

/// Why something could not be fetched or read.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    #[error("failed to read {name}")]
    Read {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{name} has more than {limit_bytes} bytes")]
    TooLarge { name: String, limit_bytes: u64 },
    #[error("failed to unpack {name}")]
    Unpack {
        name: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{name} is empty")]
    Empty { name: String },
    #[error("{name} is a Dockerfile, so `--file` cannot name another one")]
    TwoDockerfiles { name: String },
    #[error("{name} is larger than a Dockerfile may be, and no tar")]
    NoContext { name: String },
    #[error("there is no `{path}` in {name}")]
    NoDockerfile { name: String, path: String },
    #[error("there is no directory `{path}` in `{address}`")]
    NoDirectory { address: String, path: String },
    #[error("`{address}` cannot be fetched: HTTP is not available here")]
    NoFetcher { address: String },
    #[error("`{address}` was answered with status {status}")]
    Status { address: String, status: u16 },
    #[error("the secret `{id}` cannot be the value of a header: it must be one line of plain text")]
    Credential { id: String },
    #[error("`{address}` redirects more than {limit} times")]
    Redirects { address: String, limit: u32 },
    #[error("`{from}` redirects to `{to}`, which is not protected")]
    Downgrade { from: String, to: String },
    #[error("`{address}` redirects to an address that cannot be used")]
    Redirect {
        address: String,
        #[source]
        source: AddressError,
    },
    #[error("`{address}` broke off after {got_bytes} of {wanted_bytes} bytes")]
    Truncated { address: String, got_bytes: u64, wanted_bytes: u64 },
    #[error("`{address}` has the digest `{found}`, expected `{expected}`")]
    Checksum { address: String, expected: Digest, found: Digest },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("`git` was not found, which is needed for `{address}`")]
    NoGit { address: String },
    #[error("failed to start `git`")]
    StartGit(#[source] std::io::Error),
    #[error("failed to fetch `{address}`: {told}")]
    Git { address: String, told: String },
    #[error("`{address}` has no branch, tag or commit `{reference}`")]
    NoReference { address: String, reference: String },
    #[error("`{address}` is at the commit `{found}`, expected `{expected}`")]
    Commit { address: String, expected: String, found: String },
    #[error("`{address}` is not in `{lock}`")]
    NotLocked { address: String, lock: String },
    #[error("`{address}` is not what `{lock}` has: `{found}`, expected `{expected}`")]
    Differs { address: String, lock: String, expected: String, found: String },
    #[error("`{address}` is not in the store, and the build is offline")]
    Offline { address: String },
    #[error("failed to use `{text}`")]
    Address {
        text: String,
        #[source]
        source: AddressError,
    },
    #[error("failed to keep what was fetched")]
    Store(#[from] StoreError),
    #[error(transparent)]
    Io(IoError),
}

impl RemoteError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoGit { .. } => Some(
                "install the package `git`, or clone the repository and give the directory"
                    .to_owned(),
            ),
            Self::Status { status: 401 | 403, .. } => Some(
                "it needs credentials, or refuses these: give a token with `--secret \
                     id=HTTP_AUTH_TOKEN_HOST,src=FILE`"
                    .to_owned(),
            ),
            Self::Status { status: 404 | 410, .. } => Some("look for a misspelling".to_owned()),
            Self::Checksum { found, .. } => Some(format!(
                "if the new content is right, write `--checksum={found}`; else do not use it"
            )),
            Self::NotLocked { .. } => {
                Some("`corten lock` records it, if it is meant to be there".to_owned())
            }
            Self::Differs { .. } => Some(
                "if the new content is right, `corten lock` records it; else do not use it"
                    .to_owned(),
            ),
            Self::Offline { .. } => Some(
                "`corten build --locked` fetches it once, with the network; then it is there"
                    .to_owned(),
            ),
            Self::NoDockerfile { .. } => {
                Some("name it with `--file`, as a path in the context".to_owned())
            }
            Self::TwoDockerfiles { .. } => Some("give a tar, or leave out `--file`".to_owned()),
            Self::Git { told, .. } if told.contains("Host key verification failed") => {
                Some("connect to it once with `ssh`, so that its key is known".to_owned())
            }
            Self::Git { told, .. } if told.contains("could not read Username") => Some(
                "it does not exist, or needs credentials: give a token with `--secret \
                 id=GIT_AUTH_TOKEN,src=FILE`, or use ssh and an agent"
                    .to_owned(),
            ),
            Self::Store(error) => error.hint(),
            Self::Fetch(error) => error.hint.clone(),
            _ => None,
        }
    }
}

/// An address in messages, with quotes.
fn quoted(address: &Address) -> String {
    format!("`{address}`")
}

/// The path of something in a directory of ours.
fn below(directory: &Path, name: &str) -> PathBuf {
    directory.join(name)
}
