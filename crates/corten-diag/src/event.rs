//! What happens while an engine works.
//!
//! Engines report a closed set of events to a [`Reporter`] and never print. The program decides
//! what of it reaches the terminal.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Diagnostic;

/// The number of a step within one run of an engine, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u32);

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where output of a step was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// Its result was already there.
    Cached,
    /// It failed; the error itself is returned, not reported.
    Failed,
}

/// What a progress counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Items,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    StepStarted {
        step: StepId,
        total: u32,
        title: String,
    },
    StepOutput {
        step: StepId,
        stream: Stream,
        bytes: Vec<u8>,
    },
    StepFinished {
        step: StepId,
        outcome: Outcome,
        elapsed: Duration,
    },
    /// How far a task has come; a task that has no known end has no total.
    Progress {
        task: String,
        done: u64,
        total: Option<u64>,
        unit: Unit,
    },
    Notice(String),
    Warning(String),
    Diagnostic(Diagnostic),
}

/// Takes events; engines call it from several threads.
pub trait Reporter: Sync {
    fn report(&self, event: Event);
}

/// A reporter that drops everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _event: Event) {}
}

/// A reporter that keeps everything, for tests.
#[derive(Debug, Default)]
pub struct Collect {
    events: Mutex<Vec<Event>>,
}

impl Collect {
    /// Takes out what was reported so far, in order.
    pub fn take(&self) -> Vec<Event> {
        // A poisoned lock still guards a whole list: a push either happened or did not.
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reporter for Collect {
    fn report(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl<R: Reporter + ?Sized> Reporter for &R {
    fn report(&self, event: Event) {
        (**self).report(event);
    }
}
