//! Fetching into the store: from several mirrors, several files at once, again when it may help.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use corten_diag::{Event, Reporter, Unit};
use corten_oci::digest::Digest;
use corten_store::{Expect, Store, StoreError};

use crate::sources::without_credentials;
use crate::transport::{Transport, TransportError};

/// Files at once. Packages are small, so that waiting dominates; mirrors ask for not more than this.
pub(crate) const PARALLEL: usize = 8;

/// Tries of one file at one mirror.
const TRIES: u32 = 4;

/// The wait before the second try; it doubles each time.
const BACKOFF: Duration = Duration::from_millis(400);

/// Something to fetch whose digest is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// What people call it.
    pub(crate) name: String,
    /// Where it is, the best place first.
    pub(crate) urls: Vec<String>,
    /// What it must be.
    pub(crate) sha256: Digest,
    /// How large it must be.
    pub(crate) size_bytes: u64,
}

/// Something that could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no network to be used and the store does not have it.
    #[error("{name} is not in the store, and the network must not be used")]
    Offline {
        /// What was wanted.
        name: String,
    },
    /// No mirror could be asked.
    #[error("there is no mirror to fetch {name} from")]
    NoMirror {
        /// What was wanted.
        name: String,
    },
    /// All mirrors failed; the failure of one of them is the source.
    #[error("failed to fetch {name}")]
    Transport {
        /// What was wanted.
        name: String,
        /// Why.
        #[source]
        source: TransportError,
    },
    /// The mirror has something else under this name.
    #[error("`{url}` is not what the signed index lists")]
    Content {
        /// The address.
        url: String,
        /// The difference.
        #[source]
        source: Box<StoreError>,
    },
    /// A file is larger than anything that is expected.
    #[error("`{url}` is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The address.
        url: String,
        /// The maximum.
        limit_bytes: u64,
    },
    /// The store could not take it.
    #[error("failed to store {name}")]
    Store {
        /// What was fetched.
        name: String,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
}

/// Fetches through one transport into one store.
#[derive(Clone, Copy)]
pub(crate) struct Fetcher<'f> {
    pub(crate) transport: &'f dyn Transport,
    pub(crate) store: &'f Store,
    pub(crate) reporter: &'f dyn Reporter,
    pub(crate) offline: bool,
}

impl Fetcher<'_> {
    /// Returns the content of a small file whose digest is not known beforehand.
    pub(crate) fn read(
        &self,
        name: &str,
        url: &str,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, FetchError> {
        if self.offline {
            return Err(FetchError::Offline { name: name.to_owned() });
        }
        attempts(|| {
            let body = self.transport.open(url).map_err(|source| transport_error(name, source))?;
            let mut bytes = Vec::new();
            body.reader.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(|source| {
                let url = without_credentials(url);
                transport_error(name, TransportError::Failed { url, source: Box::new(source) })
            })?;
            if bytes.len() as u64 > limit_bytes {
                return Err(FetchError::TooLarge { url: without_credentials(url), limit_bytes });
            }
            Ok(bytes)
        })
    }

    /// Puts everything into the store that is not there yet.
    pub(crate) fn ensure(&self, task: &str, wanted: &[Wanted]) -> Result<(), FetchError> {
        let mut missing = BTreeMap::new();
        for wanted in wanted {
            let has = self
                .store
                .has_blob(&wanted.sha256)
                .map_err(|source| store_error(&wanted.name, source))?;
            if !has {
                missing.insert(wanted.sha256, wanted);
            }
        }
        let mut missing: Vec<&Wanted> = missing.into_values().collect();
        if let Some(first) = missing.first().filter(|_| self.offline) {
            return Err(FetchError::Offline { name: first.name.clone() });
        }
        // The largest first, so that no thread is left with one at the end.
        missing.sort_by_key(|wanted| std::cmp::Reverse(wanted.size_bytes));
        if missing.is_empty() { Ok(()) } else { self.fetch_all(task, &missing) }
    }

    fn fetch_all(&self, task: &str, wanted: &[&Wanted]) -> Result<(), FetchError> {
        let total: u64 = wanted.iter().map(|wanted| wanted.size_bytes).sum();
        let done = AtomicU64::new(0);
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let first_error = Mutex::new(None);
        let work = || {
            while !failed.load(Ordering::Relaxed) {
                let Some(wanted) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                match self.fetch(wanted) {
                    Ok(()) => {
                        let done = done.fetch_add(wanted.size_bytes, Ordering::Relaxed)
                            + wanted.size_bytes;
                        self.reporter.report(Event::Progress {
                            task: task.to_owned(),
                            done,
                            total: Some(total),
                            unit: Unit::Bytes,
                        });
                    }
                    Err(error) => {
                        failed.store(true, Ordering::Relaxed);
                        first_error
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..PARALLEL.min(wanted.len()) {
                scope.spawn(work);
            }
            work();
        });
        match first_error.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Tries one mirror after the other.
    fn fetch(&self, wanted: &Wanted) -> Result<(), FetchError> {
        let mut failure = FetchError::NoMirror { name: wanted.name.clone() };
        for url in &wanted.urls {
            match attempts(|| self.fetch_once(wanted, url)) {
                Ok(()) => return Ok(()),
                Err(error @ FetchError::Store { .. }) => return Err(error),
                // That a mirror has something wrong says more than that another has nothing.
                Err(error) if !matches!(failure, FetchError::Content { .. }) => failure = error,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    fn fetch_once(&self, wanted: &Wanted, url: &str) -> Result<(), FetchError> {
        let name = &wanted.name;
        let mut body = self.transport.open(url).map_err(|source| transport_error(name, source))?;
        let expect = Expect { digest: Some(wanted.sha256), limit_bytes: wanted.size_bytes };
        match self.store.write_blob(&mut body.reader, &expect) {
            Ok(_) => Ok(()),
            Err(StoreError::Source(source)) => {
                let url = without_credentials(url);
                Err(transport_error(name, TransportError::Failed { url, source: Box::new(source) }))
            }
            Err(source @ (StoreError::DigestMismatch { .. } | StoreError::TooLarge { .. })) => {
                Err(FetchError::Content { url: without_credentials(url), source: Box::new(source) })
            }
            Err(source) => Err(store_error(name, source)),
        }
    }
}

/// Tries again as long as that may help.
fn attempts<T>(attempt: impl Fn() -> Result<T, FetchError>) -> Result<T, FetchError> {
    let mut wait = BACKOFF;
    for _ in 1..TRIES {
        match attempt() {
            Err(FetchError::Transport { source, .. }) if source.is_temporary() => {
                std::thread::sleep(wait);
                wait *= 2;
            }
            // A cache on the way may have cut a file short: once more is worth it.
            Err(FetchError::Content { .. }) if wait == BACKOFF => wait *= 2,
            done => return done,
        }
    }
    attempt()
}

fn transport_error(name: &str, source: TransportError) -> FetchError {
    FetchError::Transport { name: name.to_owned(), source }
}

fn store_error(name: &str, source: StoreError) -> FetchError {
    FetchError::Store { name: name.to_owned(), source: Box::new(source) }
}
