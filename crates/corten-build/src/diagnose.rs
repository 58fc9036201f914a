//! From a failed step to a message with a place.

use std::error::Error;

use corten_diag::{Diagnostic, Span};
use corten_oci::tree::TreePath;
use corten_record::Told;
use corten_runtime::cdi::CdiError;
use corten_store::{Store, StoreError};

use crate::copy::CopyError;
use crate::copy::select::clean;
use crate::files::{ContextFiles, Files as _, FilesError, Rule};
use crate::graph::{CopyOp, Graph, Input, Op, Place, Step};
use crate::recording;
use crate::run::step::Kept;
use crate::run::{ExecError, RunOutcome};

/// How many of the last output lines are shown with a failed command.
const OUTPUT_LINES_MAX: usize = 20;

/// How many addresses are named.
const MISSING_MAX: usize = 10;

/// How programs put it that an owner or a group cannot be had: those of coreutils, apt and dpkg, tar.
const OWNERS: [&str; 6] = [
    "setgroups",
    "setegid",
    "changing ownership of",
    "cannot change ownership",
    "setting ownership",
    "chown:",
];

/// What programs say that look for a server without a proxy in a network that has none: libc,
/// Node.js, Go, Rust.
const NO_NETWORK: [&str; 12] = [
    "temporary failure in name resolution",
    "name or service not known",
    "could not resolve",
    "couldn't resolve",
    "unable to resolve",
    "network is unreachable",
    "connection refused",
    "failed to connect",
    "couldn't connect",
    "eai_again",
    "no such host",
    "failed to lookup address",
];

/// How much output is kept for that.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Exec(#[from] ExecError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("failed to find `{path}` in {input}")]
    MountSource { path: String, input: String, near: Option<String>, span: Span },
    #[error("the secret `{id}` was not given")]
    NoSecret { id: String },
    #[error("the ssh agent `{id}` was not given")]
    NoAgent { id: String },
    #[error("failed to read the secret `{id}`")]
    ReadSecret {
        id: String,
        #[source]
        source: corten_sys::error::IoError,
    },
    #[error("the secret `{id}` is no text, so it cannot be a variable")]
    SecretText { id: String },
    #[error(transparent)]
    User(#[from] corten_runtime::user::UserError),
    #[error("the command ended with code {}", outcome.code)]
    Command {
        outcome: RunOutcome,
        output: Tail,
        memory_limit: Option<u64>,
        /// What was asked for meanwhile, if that was recorded.
        told: Option<Box<Told>>,
        /// What is left of it, where somebody wants to look at it.
        kept: Option<Box<Kept>>,
    },
    #[error("the step asked for something that it must not have")]
    Refused { told: Box<Told>, lock: String },
    #[error("{problem}")]
    Device { problem: CdiError, span: Span },
    #[error("the store lacks {} things that the lock has", missing.len())]
    Missing { missing: Vec<String> },
}

impl StepError {
    /// Gives a full disk the error of the store, which is what a step writes to.
    pub(crate) fn classify(self, store: &Store) -> Self {
        match self {
            Self::Copy(CopyError::Write(source) | CopyError::Files(FilesError::Io(source)))
            | Self::Files(FilesError::Io(source))
                if source.is_no_space() =>
            {
                let root = store.root().to_owned();
                Self::Store(StoreError::NoSpace { root, source })
            }
            other => other,
        }
    }
}

/// The last lines of an output.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * OUTPUT_BYTES_MAX {
            let cut = self.bytes.len() - OUTPUT_BYTES_MAX;
            self.bytes.drain(..cut);
        }
    }

    /// Whether programs said that they found no network, as the usual libraries put it.
    fn tells_of_no_network(&self) -> bool {
        let text = String::from_utf8_lossy(&self.bytes).to_ascii_lowercase();
        NO_NETWORK.iter().any(|sign| text.contains(sign))
    }

    /// Whether programs said that they could not take another owner or group.
    fn tells_of_owners(&self) -> bool {
        let text = String::from_utf8_lossy(&self.bytes).to_ascii_lowercase();
        OWNERS.iter().any(|sign| text.contains(sign))
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.bytes);
        let lines: Vec<&str> = text.lines().map(last_rewrite).collect();
        let lines = lines.iter().map(|line| line.trim_end().to_owned());
        let mut lines: Vec<String> = lines.collect();
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        lines.split_off(lines.len().saturating_sub(OUTPUT_LINES_MAX))
    }
}

/// Progress bars write a line again and again; only the last state is worth showing.
fn last_rewrite(line: &str) -> &str {
    line.trim_end_matches('\r').rsplit('\r').next().unwrap_or(line)
}

/// Names the mount whose source is missing.
pub(crate) fn mount_error(graph: &Graph, op: &Op, index: usize, error: CopyError) -> StepError {
    let Op::Run(run) = op else { return error.into() };
    match (error, run.mounts.get(index)) {
        (CopyError::NotFound { path, near, .. }, Some(mount)) => {
            let input = mount.input().map_or_else(String::new, |input| graph.input_name(input));
            StepError::MountSource { path, input, near, span: mount.span }
        }
        (error, _) => error.into(),
    }
}

/// The causes of an error as notes, without those that only repeat what is above.
pub(crate) fn causes(error: &dyn Error) -> Vec<String> {
    let mut notes = Vec::new();
    let mut above = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if text != above {
            notes.push(format!("caused by: {text}"));
        }
        above = text;
        next = cause.source();
    }
    notes
}

/// Makes the message of a failed step.
pub(crate) fn diagnose(
    graph: &Graph,
    step: &Step,
    error: &StepError,
    context: Option<&ContextFiles>,
) -> Diagnostic {
    let diagnostic = match error {
        StepError::Command { outcome, output, memory_limit, told, .. } => {
            let diagnostic = command(step, *outcome, output, *memory_limit);
            match told {
                Some(told) => network_told(diagnostic, told, output),
                None => diagnostic,
            }
        }
        StepError::Refused { told, lock } => recording::refused(told, lock),
        StepError::Missing { missing } => {
            let mut diagnostic = Diagnostic::error(error.to_string());
            let shown = missing.iter().take(MISSING_MAX);
            diagnostic.notes.extend(shown.map(|url| format!("`{url}` is not in the store")));
            if missing.len() > MISSING_MAX {
                diagnostic.notes.push(format!("and {} more", missing.len() - MISSING_MAX));
            }
            diagnostic.with_hint("`corten build --locked` fetches them once, with the network")
        }
        StepError::Device { problem, span } => {
            let mut diagnostic = Diagnostic::error(problem.to_string()).at(*span);
            diagnostic.hint = problem.hint();
            diagnostic
        }
        StepError::Copy(CopyError::NotFound { word, path, near }) => {
            let missing = Missing { word: *word, path, near: near.as_deref() };
            not_found(graph, step, &missing, context)
        }
        StepError::MountSource { span, near, .. } => {
            let diagnostic = Diagnostic::error(error.to_string()).at(*span);
            match near {
                Some(near) => diagnostic.with_hint(did_you_mean(near)),
                None => diagnostic,
            }
        }
        other => {
            let mut diagnostic = Diagnostic::error(other.to_string());
            diagnostic.notes = causes(other);
            diagnostic.hint = hint(other);
            diagnostic
        }
    };
    let span = diagnostic.span.filter(|_| step.place.trigger.is_none());
    in_place(diagnostic.at(span.unwrap_or(step.place.span)), &step.place)
}

/// Names the trigger, if the step comes from one.
pub(crate) fn in_place(diagnostic: Diagnostic, place: &Place) -> Diagnostic {
    match &place.trigger {
        Some(trigger) => {
            diagnostic.with_note(format!("in the trigger `{trigger}` of the base image"))
        }
        None => diagnostic,
    }
}

fn hint(error: &StepError) -> Option<String> {
    match error {
        StepError::Copy(error) => error.hint(),
        StepError::Exec(error) => error.hint(),
        StepError::Store(error) => error.hint(),
        StepError::Files(error) => error.hint(),
        StepError::User(error) => error.hint(),
        StepError::NoSecret { id } => Some(format!("give it with `--secret id={id},src=FILE`")),
        StepError::NoAgent { id } if id == "default" => {
            Some("give your agent with `--ssh default`, or a key with `--ssh default=FILE`".into())
        }
        StepError::NoAgent { id } => Some(format!("give it with `--ssh {id}=SOCKET|KEYFILE`")),
        StepError::SecretText { .. } => Some("mount it as a file: leave out `env=`".to_owned()),
        _ => None,
    }
}

fn command(step: &Step, outcome: RunOutcome, output: &Tail, limit: Option<u64>) -> Diagnostic {
    let message = match (outcome.out_of_memory, outcome.signal) {
        (Some(_), _) => "the command was killed: out of memory".to_owned(),
        (None, Some(signal)) => format!("the command was killed by signal {signal}"),
        (None, None) => format!("the command ended with code {}", outcome.code),
    };
    let mut diagnostic = Diagnostic::error(message);
    if let Op::Run(run) = &step.op
        && let Some(program) = run.args.first()
        && run.args.len() == 1
    {
        diagnostic.notes.push(format!("the command is `{program}`"));
    }
    let lines = output.lines();
    if !lines.is_empty() {
        diagnostic.notes.push(format!("its last output:\n{}", lines.join("\n")));
    }
    diagnostic.hint = match (outcome.out_of_memory, outcome.code) {
        (Some(memory), _) => {
            let peak = memory.peak_bytes.map(|peak| format!("it used {}", mebibytes(peak)));
            let limit = memory
                .limit_bytes
                .or(limit)
                .map(|limit| format!("the limit is {}", mebibytes(limit)));
            let facts: Vec<String> = peak.into_iter().chain(limit).collect();
            if !facts.is_empty() {
                diagnostic.notes.push(facts.join(", "));
            }
            Some("allow more with `--memory`, or let the step do less at once".to_owned())
        }
        (None, 127) => {
            Some("127 means that a program was not found: install it in a step before".to_owned())
        }
        (None, 126) => Some(
            "126 means that a file is not executable: give it the mode with `COPY --chmod=755`"
                .to_owned(),
        ),
        (None, _) if output.tells_of_owners() && has_one_id() => Some(
            "only one user id is there, and the step needs others: give your user a range of them, \
             `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\"`"
                .to_owned(),
        ),
        (None, _) => None,
    };
    diagnostic
}

/// Whether this user has no id but their own. What cannot be found out is no reason for a hint.
fn has_one_id() -> bool {
    let map = corten_sys::userns::own_map("uid_map").unwrap_or_default();
    map.iter().map(|range| u64::from(range.count)).sum::<u64>() == 1
}

/// Tells of servers that gave no answer, and of programs that do not know a proxy.
fn network_told(mut diagnostic: Diagnostic, told: &Told, output: &Tail) -> Diagnostic {
    let unknown = told.refusals.iter().map(|refusal| recording::sentence(refusal, "the lock"));
    let sentences: Vec<String> = told.failures.iter().cloned().chain(unknown).collect();
    diagnostic.notes.extend(sentences.iter().take(MISSING_MAX).cloned());
    if diagnostic.hint.is_none() && sentences.is_empty() && output.tells_of_no_network() {
        diagnostic.hint = Some(
            "a recorded step reaches servers only through the proxy that `HTTP_PROXY` and \
             `HTTPS_PROXY` name: tell the program to use it, or fetch with one that does"
                .to_owned(),
        );
    }
    diagnostic
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// A source that does not exist.
struct Missing<'a> {
    /// Which source of the instruction.
    word: usize,
    path: &'a str,
    near: Option<&'a str>,
}

fn not_found(
    graph: &Graph,
    step: &Step,
    missing: &Missing<'_>,
    context: Option<&ContextFiles>,
) -> Diagnostic {
    let Op::Copy(op) = &step.op else {
        return Diagnostic::error(format!("failed to find `{}`", missing.path));
    };
    let from = graph.input_name(&op.input);
    let diagnostic = Diagnostic::error(format!("failed to find `{}` in {from}", missing.path));
    let diagnostic = match op.sources.get(missing.word) {
        Some(source) => diagnostic.at(source.span),
        None => diagnostic,
    };
    let hidden = context.and_then(|context| hidden(context, missing.path));
    let hidden = hidden.or_else(|| dangling(context?, missing.path));
    let hint = match (hidden, missing.near, &op.input) {
        (Some(hidden), _, _) => hidden,
        (None, Some(near), _) => did_you_mean(near),
        (None, None, Input::Context) if leads_up(op, missing.word) => "files outside of the build \
             context cannot be copied: build with a directory above as context"
            .to_owned(),
        (None, None, Input::Context | Input::Named(_)) => {
            "paths count from the top of the context: \
             name the file as it is called there, or build with another directory"
                .to_owned()
        }
        (None, None, Input::Stage(_)) => {
            format!("nothing in {from} has this path: look at what makes it there")
        }
        (None, None, Input::Remote(_)) => "paths count from the top of what was fetched".to_owned(),
        (None, None, Input::Empty) => "copy from a stage or an image that has it".to_owned(),
    };
    diagnostic.with_hint(hint)
}

fn did_you_mean(near: &str) -> String {
    format!("did you mean `{near}`?")
}

/// Tells which line hides a path that is there.
fn hidden(context: &ContextFiles, path: &str) -> Option<String> {
    let path = TreePath::clean(&clean(path)).ok()?;
    let Rule { file, line, pattern } = context.hidden_by(&path)?;
    Some(format!(
        "`{path}` is there, but `{pattern}` in line {line} of `{file}` hides it: add `!{path}` below"
    ))
}

/// Tells of a link that is there and leads to nothing.
fn dangling(context: &ContextFiles, path: &str) -> Option<String> {
    let found = context.find(&TreePath::clean(&clean(path)).ok()?).ok()??;
    let target = found.read_link().ok()?;
    let target = String::from_utf8_lossy(&target);
    Some(format!("`{path}` is a link to `{target}`, and the context has no such file"))
}

fn leads_up(op: &CopyOp, word: usize) -> bool {
    op.sources.get(word).is_some_and(|source| source.text.split('/').any(|part| part == ".."))
}
