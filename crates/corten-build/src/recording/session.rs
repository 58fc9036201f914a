//! A recorded build while it runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use corten_diag::Diagnostic;
use corten_record::{Fetched, Policy, RecordError, Recorder, Refusal, RequestKey, Told};
use corten_runtime::Network;
use corten_store::Store;
use serde::{Deserialize, Serialize};

use super::{Lock, Materials, Recording};
use crate::graph::Op;
use crate::options::BuildOptions;

/// What a step keeps in its record beside its layer.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    fetched: Vec<Fetched>,
}

/// The recorder of a build, and what was recorded so far.
pub(crate) struct Session<'a> {
    pub(crate) recorder: Recorder,
    pub(crate) lock: Option<&'a Lock>,
    fetched: Mutex<BTreeMap<RequestKey, Fetched>>,
}

impl<'a> Session<'a> {
    /// Begins, if the build is a recorded one.
    pub(crate) fn begin(
        options: &'a BuildOptions,
        store: &Store,
    ) -> Result<Option<Self>, RecordError> {
        let entries = |lock: &Lock| lock.materials.fetched.clone();
        let policy = match &options.recording {
            Recording::Off => return Ok(None),
            Recording::Record => Policy::Record,
            Recording::Locked(lock) => Policy::Locked(entries(lock)),
            Recording::Offline(lock) => Policy::Offline(entries(lock)),
        };
        let recorder = Recorder::new(store, options.remotes.upstream.clone(), policy)?;
        let fetched = Mutex::new(BTreeMap::new());
        Ok(Some(Self { recorder, lock: options.recording.lock(), fetched }))
    }

    /// What a cached step has fetched, if that is known and allowed; `None` if the step must be done
    /// again.
    pub(crate) fn accept(&self, op: &Op, payload: &serde_json::Value) -> Option<Vec<Fetched>> {
        if !fetches(op) {
            return Some(Vec::new());
        }
        let payload: Payload = serde_json::from_value(payload.clone()).ok()?;
        self.recorder.accepts(&payload.fetched).then_some(payload.fetched)
    }

    /// Adds what a step has fetched.
    pub(crate) fn add(&self, fetched: &[Fetched]) {
        let mut all = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(fetched.iter().map(|entry| (entry.key.clone(), entry.clone())));
    }

    /// Ends with everything that steps have fetched.
    pub(crate) fn finish(self, materials: Materials) -> Materials {
        let fetched = self.fetched.into_inner().unwrap_or_else(PoisonError::into_inner);
        Materials { fetched: fetched.into_values().collect(), ..materials }.sorted()
    }
}

/// Whether a step may fetch something by itself.
fn fetches(op: &Op) -> bool {
    matches!(op, Op::Run(run) if run.network != Network::None)
}

/// What a step's record keeps of what it fetched.
pub(crate) fn payload(fetched: Option<&[Fetched]>) -> serde_json::Value {
    let Some(fetched) = fetched else { return serde_json::Value::Null };
    // Texts and numbers are always JSON.
    serde_json::to_value(Payload { fetched: fetched.to_vec() }).unwrap_or_default()
}

/// Says what a step asked for and must not have.
pub(crate) fn refused(told: &Told, lock: &str) -> Diagnostic {
    let fatal: Vec<&Refusal> = told.refusals.iter().filter(|refusal| refusal.is_fatal()).collect();
    let message = fatal.first().map_or_else(String::new, |refusal| sentence(refusal, lock));
    let mut diagnostic = Diagnostic::error(message);
    for refusal in &fatal {
        diagnostic.notes.extend(note(refusal));
    }
    diagnostic.notes.extend(fatal.iter().skip(1).map(|refusal| sentence(refusal, lock)));
    diagnostic.hint = fatal.first().map(|refusal| hint(refusal));
    diagnostic
}

/// A refusal as a sentence.
pub(crate) fn sentence(refusal: &Refusal, lock: &str) -> String {
    match refusal {
        Refusal::NotLocked { url, .. } => format!("`{url}` is not in `{lock}`"),
        Refusal::Differs { url, .. } => format!("`{url}` is not what `{lock}` has"),
        Refusal::NotStored { url } => {
            format!("`{url}` is not in the store, and the build is offline")
        }
        Refusal::Unknown { url } => format!("`{url}` was asked for, and `{lock}` does not have it"),
    }
}

fn note(refusal: &Refusal) -> Option<String> {
    match refusal {
        Refusal::NotLocked { name, version, locked_versions, .. } => {
            let version = version.as_deref()?;
            if locked_versions.is_empty() {
                return Some(format!("the lock has no version of `{name}`"));
            }
            let locked = locked_versions.join(", ");
            Some(format!("the lock has `{name}` {locked}, and the step asked for {version}"))
        }
        Refusal::Differs { expected, found, .. } => {
            Some(format!("locked: {expected}\nfetched: {found}"))
        }
        _ => None,
    }
}

fn hint(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotLocked { name, locked_versions, .. } => match locked_versions.first() {
            Some(version) => format!(
                "pin `{name}` to {version} in the Dockerfile, or accept the new version with \
                 `corten lock`"
            ),
            None => "accept it with `corten lock`, or do not fetch it".to_owned(),
        },
        Refusal::Differs { .. } => {
            "find out why it changed; if the new content is right, `corten lock` records it"
                .to_owned()
        }
        Refusal::NotStored { .. } | Refusal::Unknown { .. } => {
            "`corten build --locked` fetches it once, with the network".to_owned()
        }
    }
}
