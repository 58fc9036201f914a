//! What is known during a build, and what of it each step has fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_oci::digest::Digest;
use corten_store::{Lease, Store, StoreError};

use crate::address::is_redacted;
use crate::authority::{Authority, AuthorityError};
use crate::entry::{Fetched, RequestKey};
use crate::keep;
use crate::serve;
use crate::upstream::Upstream;

/// The largest number of answers that one build records; a step that asks without end is refused.
const ANSWERS_MAX: usize = 200_000;

/// How often a step that has ended is asked whether its last transfers have, and told to give up if
/// the build was cancelled.
const WAIT: Duration = Duration::from_millis(50);

/// What may be fetched.
#[derive(Debug, Clone)]
pub enum Policy {
    /// Everything; it is recorded.
    Record,
    /// Artifacts of this list, with this content. Indices as they are now.
    Locked(Vec<Fetched>),
    /// What this list has and the store holds. Nothing leaves the machine.
    Offline(Vec<Fetched>),
    /// Everything, and nothing is recorded: packages are kept for the next build, and what was kept
    /// is not fetched again.
    Cache,
}

/// Why a recorder cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Something that a step asked for and did not get.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// An artifact that the lock does not have.
    NotLocked {
        url: String,
        name: String,
        version: Option<String>,
        /// The versions of the same package that the lock has.
        locked_versions: Vec<String>,
    },
    /// An artifact with other content than the lock has.
    Differs { url: String, expected: Digest, found: Digest },
    /// Something that the lock has and the store does not.
    NotStored { url: String },
    /// Something other than an artifact that the lock does not have, with no network to ask.
    Unknown { url: String },
}

impl Refusal {
    /// Whether the build fails for it even if the command goes on without what it asked for. An
    /// index that is missing may not matter: tools look for news of themselves.
    pub const fn is_fatal(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }
}

/// What a step has fetched, and what went wrong meanwhile.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// In the order of their keys.
    pub fetched: Vec<Fetched>,
    pub refusals: BTreeSet<Refusal>,
    /// Sentences about servers that gave no answer.
    pub failures: BTreeSet<String>,
}

/// What the answers of a build come from.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) store: Store,
    /// Protects the content of what was answered until the build has ended.
    lease: Lease,
    pub(crate) upstream: Option<Arc<dyn Upstream>>,
    pub(crate) authority: Authority,
    /// What the lock has; `None` if everything is allowed.
    locked: Option<BTreeMap<RequestKey, Fetched>>,
    is_offline: bool,
    replays_indices: bool,
    /// Whether answers are kept for other builds and not recorded for this one.
    pub(crate) is_cache: bool,
    known: Mutex<Known>,
    changed: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("is_offline", &self.is_offline).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Known {
    answers: BTreeMap<RequestKey, Fetched>,
    /// Requests that a thread is asking a server.
    busy: BTreeSet<RequestKey>,
}

/// What to do about a request.
pub(crate) enum Lookup {
    /// The answer is known.
    Known(Box<Fetched>),
    /// The caller asks, and tells by dropping this.
    Ask(Asking),
    /// There are too many answers already.
    TooMany,
}

/// A request that is being asked; others that want the same wait.
pub(crate) struct Asking {
    shared: Arc<Shared>,
    key: RequestKey,
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.shared.lock().busy.remove(&self.key);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a request up, and waits if somebody else is asking the same.
    pub(crate) fn look_up(self: &Arc<Self>, key: &RequestKey) -> Lookup {
        let mut known = self.lock();
        loop {
            if let Some(found) = find(&known.answers, key) {
                return Lookup::Known(Box::new(found.clone()));
            }
            if known.answers.len() >= ANSWERS_MAX {
                return Lookup::TooMany;
            }
            if known.busy.insert(key.clone()) {
                return Lookup::Ask(Asking { shared: Arc::clone(self), key: key.clone() });
            }
            known = self.changed.wait(known).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Keeps an answer for who asks next.
    pub(crate) fn learn(&self, fetched: &Fetched) -> Result<(), StoreError> {
        if fetched.size_bytes > 0 {
            self.lease.pin_blob(&fetched.sha256)?;
        }
        self.lock().answers.insert(fetched.key.clone(), fetched.clone());
        Ok(())
    }

    /// Takes answers of an earlier build over, if their content is there and none contradicts what is
    /// known already.
    fn adopt(&self, fetched: &[Fetched]) -> bool {
        let is_held = |entry: &Fetched| {
            // A store that fails here fails again where it is told.
            entry.size_bytes == 0 || self.lease.pin_blob(&entry.sha256).unwrap_or(false)
        };
        if !fetched.iter().all(is_held) {
            return false;
        }
        let mut known = self.lock();
        let agrees = |entry: &Fetched| {
            let plain = RequestKey { accept: None, ..entry.key.clone() };
            let is_asked = known.busy.iter().any(|busy| {
                busy.url == plain.url
                    && busy.method == plain.method
                    && busy.request == plain.request
            });
            let other = known.answers.get(&entry.key);
            !is_asked && other.is_none_or(|other| other.sha256 == entry.sha256)
        };
        if !fetched.iter().all(agrees) {
            return false;
        }
        for entry in fetched {
            known.answers.insert(entry.key.clone(), entry.clone());
        }
        true
    }

    /// What the lock has for a request; `Err` if there is a lock and it has nothing.
    pub(crate) fn locked(&self, key: &RequestKey) -> Result<Option<&Fetched>, ()> {
        let Some(locked) = &self.locked else { return Ok(None) };
        find(locked, key).map(Some).ok_or(())
    }

    /// The versions of a package that the lock has.
    pub(crate) fn locked_versions(&self, kind: crate::Kind, name: &str) -> Vec<String> {
        let entries = self.locked.iter().flat_map(BTreeMap::values);
        let same = entries.filter_map(Fetched::artifact).filter(|locked| {
            locked.kind.is_package() && locked.kind == kind && locked.name == name
        });
        let versions: BTreeSet<&String> =
            same.filter_map(|locked| locked.version.as_ref()).collect();
        versions.into_iter().cloned().collect()
    }
}

/// Finds an answer in the form that was asked for, else the one that all forms have.
fn find<'a>(answers: &'a BTreeMap<RequestKey, Fetched>, key: &RequestKey) -> Option<&'a Fetched> {
    if let Some(found) = answers.get(key) {
        return Some(found);
    }
    let plain = RequestKey { accept: None, ..key.clone() };
    let found = answers.get(&plain);
    if found.is_some() || key.method != "HEAD" {
        return found;
    }
    // Who knows a thing knows what its head would be.
    let whole = RequestKey { method: "GET".to_owned(), ..plain };
    answers.get(&whole)
}

impl Recorder {
    /// Prepares a build. Without `upstream` nothing is asked of any server.
    pub fn new(
        store: &Store,
        upstream: Option<Arc<dyn Upstream>>,
        policy: Policy,
    ) -> Result<Self, RecordError> {
        let lease = store.lease()?;
        let is_cache = matches!(policy, Policy::Cache);
        let (locked, is_offline) = match policy {
            Policy::Record | Policy::Cache => (None, false),
            Policy::Locked(entries) => (Some(entries), false),
            Policy::Offline(entries) => (Some(entries), true),
        };
        let (mut known, mut replays_indices) = (Known::default(), false);
        if let Some(entries) = &locked {
            let mut held = Vec::new();
            for entry in entries {
                held.push(entry.size_bytes == 0 || lease.pin_blob(&entry.sha256)?);
            }
            let of_indices =
                entries.iter().zip(&held).filter(|(entry, _)| entry.artifact().is_none());
            // Some old and some new indices do not belong together.
            replays_indices = is_offline || of_indices.clone().all(|(_, is_held)| *is_held);
            for (entry, is_held) in entries.iter().zip(&held) {
                let is_wanted = entry.artifact().is_some() || replays_indices;
                if *is_held && is_wanted && (is_offline || !leads_nowhere(entry)) {
                    known.answers.insert(entry.key.clone(), entry.clone());
                }
            }
        }
        let by_key = |entries: Vec<Fetched>| {
            entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect()
        };
        Ok(Self {
            shared: Arc::new(Shared {
                store: store.clone(),
                lease,
                upstream: upstream.filter(|_| !is_offline),
                authority: Authority::new()?,
                locked: locked.map(by_key),
                is_offline,
                replays_indices,
                is_cache,
                known: Mutex::new(known),
                changed: Condvar::new(),
            }),
        })
    }

    /// The certificate that a step must trust, as PEM.
    pub fn certificate(&self) -> &str {
        self.shared.authority.pem()
    }

    /// Whether indices are those of the lock, which may be too old for who checks.
    pub fn replays_indices(&self) -> bool {
        self.shared.locked.is_some() && self.shared.replays_indices
    }

    /// Whether no server is asked.
    pub fn is_offline(&self) -> bool {
        self.shared.is_offline
    }

    /// Whether a step that has fetched this before is as good as one that does it now.
    ///
    /// While a lock is made, that is one whose answers are those that the others get; they are learnt.
    pub fn accepts(&self, fetched: &[Fetched]) -> bool {
        if self.shared.locked.is_none() {
            return self.shared.adopt(fetched);
        }
        let accepts = |entry: &Fetched| match self.shared.locked(&entry.key) {
            Ok(None) => true,
            Ok(Some(locked)) => entry.is_as_good_as(locked),
            Err(()) => entry.artifact().is_none(),
        };
        fetched.iter().all(accepts)
    }

    /// What the lock has and the store does not, by address.
    pub fn missing(&self) -> Result<Vec<String>, StoreError> {
        let mut missing = Vec::new();
        for entry in self.shared.locked.iter().flat_map(BTreeMap::values) {
            if entry.size_bytes > 0 && !self.shared.store.has_blob(&entry.sha256)? {
                missing.push(entry.key.url.clone());
            }
        }
        Ok(missing)
    }

    /// Prepares what one step speaks to.
    pub fn step(&self) -> StepRecorder {
        StepRecorder {
            state: Arc::new(StepState {
                shared: Arc::clone(&self.shared),
                told: Mutex::new(Told::default()),
                fetched: Mutex::new(BTreeMap::new()),
                active: Mutex::new(0),
                idle: Condvar::new(),
                stopped: AtomicBool::new(false),
                kept: AtomicBool::new(false),
                served: AtomicBool::new(false),
                listeners: Mutex::new(Vec::new()),
            }),
        }
    }
}

/// Whether an entry is a redirection to an address that was not recorded whole.
fn leads_nowhere(entry: &Fetched) -> bool {
    entry.headers.get("location").is_some_and(|location| is_redacted(location))
}

/// What one step speaks to.
#[derive(Debug, Clone)]
pub struct StepRecorder {
    state: Arc<StepState>,
}

pub(crate) struct StepState {
    pub(crate) shared: Arc<Shared>,
    told: Mutex<Told>,
    fetched: Mutex<BTreeMap<RequestKey, Fetched>>,
    /// How many requests are being answered.
    active: Mutex<u32>,
    idle: Condvar,
    stopped: AtomicBool,
    /// Whether something was kept for other builds.
    kept: AtomicBool,
    /// Whether something was handed out without asking its server.
    served: AtomicBool,
    listeners: Mutex<Vec<TcpListener>>,
}

impl std::fmt::Debug for StepState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepState").finish_non_exhaustive()
    }
}

/// A request that is being answered.
pub(crate) struct Active<'a>(&'a StepState);

impl Drop for Active<'_> {
    fn drop(&mut self) {
        *self.0.active.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.idle.notify_all();
    }
}

impl StepState {
    pub(crate) fn begin(&self) -> Active<'_> {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Active(self)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Notes that something was kept for other builds.
    pub(crate) fn kept(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Notes that something was handed out without asking its server.
    pub(crate) fn served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    /// Notes that the step got an answer.
    pub(crate) fn took(&self, fetched: &Fetched) {
        let mut all = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(fetched.key.clone(), fetched.clone());
    }

    pub(crate) fn refuse(&self, refusal: Refusal) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.refusals.insert(refusal);
    }

    pub(crate) fn failed(&self, sentence: String) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.failures.insert(sentence);
    }
}

impl StepRecorder {
    /// Answers what connects to a socket, until [`StepRecorder::finish`].
    pub fn serve(&self, listener: TcpListener) -> std::io::Result<()> {
        let stopper = listener.try_clone()?;
        serve::start(listener, Arc::clone(&self.state))?;
        self.state.listeners.lock().unwrap_or_else(PoisonError::into_inner).push(stopper);
        Ok(())
    }

    /// Whether the step got something that was kept, without a question to its server.
    pub fn has_served(&self) -> bool {
        self.state.served.load(Ordering::Relaxed)
    }

    /// Ends after the step has: what is still on its way is recorded first, since the step may have
    /// seen a part of it. `is_cancelled` gives up on that.
    pub fn finish(&self, is_cancelled: &AtomicBool) -> Told {
        let mut listeners = self.state.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        for listener in listeners.drain(..) {
            serve::stop(&listener);
        }
        drop(listeners);
        if self.state.shared.is_cache {
            // What the step did not wait for is of no use to it.
            self.state.stopped.store(true, Ordering::Relaxed);
        }
        let mut active = self.state.active.lock().unwrap_or_else(PoisonError::into_inner);
        while *active > 0 && !self.state.is_stopped() && !is_cancelled.load(Ordering::Relaxed) {
            let waited = self.state.idle.wait_timeout(active, WAIT);
            active = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(active);
        self.state.stopped.store(true, Ordering::Relaxed);
        if self.state.kept.load(Ordering::Relaxed) {
            // What cannot be removed now is found again by the next build.
            drop(self.state.shared.store.trim_downloads(keep::TOTAL_BYTES_MAX));
        }
        let told = self.state.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut told = told.clone();
        let fetched = self.state.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        told.fetched = fetched.values().cloned().collect();
        told
    }
}
