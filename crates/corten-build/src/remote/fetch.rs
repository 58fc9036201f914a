//! Everything that a graph needs from elsewhere, before its first step.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_diag::{Diagnostic, Span};
use corten_store::Staging;
use rayon::prelude::*;

use super::unpack::archive;
use super::{Fetched, Fetching, Held, RemoteError, Source, git, http, quoted};
use crate::diagnose::causes;
use crate::error::{BuildError, Diagnosed};
use crate::graph::{Graph, Input, Op};
use crate::options::{BuildOptions, NamedContext};

/// The name of a file that a further context consists of; BuildKit's.
const CONTEXT_FILE: &str = "context";

/// Fetches what the steps of a graph take.
pub(crate) fn fetch_all(
    graph: &Graph,
    options: &BuildOptions,
    fetching: &Fetching<'_>,
) -> Result<BTreeMap<Input, Fetched>, BuildError> {
    let mut wanted: BTreeMap<&Input, (&Source, Span)> = BTreeMap::new();
    for step in graph.stages.iter().flat_map(|stage| &stage.steps) {
        let whole = step.place.span;
        for input in step.op.inputs() {
            match input {
                Input::Remote(source) => {
                    let span =
                        if step.place.trigger.is_none() { word(&step.op, input) } else { None };
                    wanted.entry(input).or_insert((source, span.unwrap_or(whole)));
                }
                Input::Named(name) => {
                    if let Some(NamedContext::Remote(source)) = options.contexts.get(name) {
                        wanted.entry(input).or_insert((source, whole));
                    }
                }
                _ => {}
            }
        }
    }
    let fetch = |(input, (source, span)): (&Input, (&Source, Span))| {
        let fetched = match input {
            Input::Named(_) => as_context(fetching, source),
            _ => plain(fetching, source),
        };
        match fetched {
            Ok(fetched) => Ok((input.clone(), fetched)),
            Err(error) => Err(Box::new(diagnostic(&error, source, span))),
        }
    };
    // Waiting for servers is what takes the time.
    let results: Vec<_> = wanted.into_par_iter().map(fetch).collect();
    let (mut fetched, mut failures) = (BTreeMap::new(), Vec::new());
    for result in results {
        match result {
            Ok((input, one)) => drop(fetched.insert(input, one)),
            Err(diagnostic) => failures.push(*diagnostic),
        }
    }
    if failures.is_empty() {
        return Ok(fetched);
    }
    Err(Diagnosed::new(failures, Arc::clone(&graph.source)).into())
}

/// The word that names a source.
fn word(op: &Op, input: &Input) -> Option<Span> {
    let Op::Copy(copy) = op else { return None };
    copy.sources.iter().find(|word| word.remote.as_ref() == Some(input)).map(|word| word.span)
}

fn plain(fetching: &Fetching<'_>, source: &Source) -> Result<Fetched, RemoteError> {
    match source {
        Source::Http(source) => http::fetch(fetching, source),
        Source::Git(source) => git::fetch(fetching, source),
    }
}

/// A further context: a tar is unpacked.
pub(super) fn as_context(fetching: &Fetching<'_>, source: &Source) -> Result<Fetched, RemoteError> {
    let fetched = plain(fetching, source)?;
    if matches!(source, Source::Git(_)) {
        return Ok(fetched);
    }
    let staging = fetching.store.stage()?;
    let from = fetched.directory().join(&fetched.path);
    let mut time = fetched.time;
    if archive(&from, &quoted(source.address()), &staging)? {
        time = archive_time(&fetched, &staging)?;
    } else {
        corten_sys::file::rename(&from, &staging.tree().join(CONTEXT_FILE))?;
    }
    let (path, material) = (String::new(), fetched.material);
    Ok(Fetched { held: Held::Staging(staging), path, modified: None, time, material })
}

/// When an archive was made: as its server says, else the time of its newest file.
pub(super) fn archive_time(
    fetched: &Fetched,
    unpacked: &Staging,
) -> Result<Option<i64>, RemoteError> {
    match fetched.time {
        Some(time) => Ok(Some(time)),
        None => Ok(crate::epoch::newest(unpacked.tree())?),
    }
}

/// When something that is fetched was made, in seconds since 1970.
pub(crate) fn source_time(
    fetching: &Fetching<'_>,
    source: &Source,
    span: Span,
) -> Result<Option<i64>, Box<Diagnostic>> {
    match as_context(fetching, source) {
        Ok(fetched) => Ok(fetched.time),
        Err(error) => Err(Box::new(diagnostic(&error, source, span))),
    }
}

fn diagnostic(error: &RemoteError, source: &Source, span: Span) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(error.to_string());
    diagnostic.notes = causes(error);
    diagnostic.hint = error.hint();
    // The line with the address would show what must not be shown.
    if source.address().has_credentials() { diagnostic } else { diagnostic.at(span) }
}
