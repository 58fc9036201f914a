//! `corten container prune`, and what of it `system prune` does as well.

use std::process::ExitCode;

use corten_oci::time::parse_rfc3339;
use corten_store::{Container, Store, StoreError};
use corten_sys::clock::{Clock as _, SystemClock};

use super::rm::remove;
use super::{Context, duration};
use crate::cli::ContainerPruneArgs;
use crate::error::CliError;

/// `corten container prune`.
pub(super) fn prune(
    context: &Context,
    arguments: &ContainerPruneArgs,
) -> Result<ExitCode, CliError> {
    let chosen: Vec<Chosen> =
        arguments.filters.iter().map(|text| Chosen::parse(text)).collect::<Result<_, _>>()?;
    let store = context.store()?;
    for id in remove_ended(context, &store, &|container| {
        chosen.iter().all(|chosen| chosen.matches(container))
    })? {
        context.ui.line(&id);
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes containers that do not run, and returns their ids.
pub(super) fn remove_ended(
    context: &Context,
    store: &Store,
    wanted: &dyn Fn(&Container) -> bool,
) -> Result<Vec<String>, CliError> {
    let mut removed = Vec::new();
    for container in store.containers()? {
        if container.running || !wanted(&container) {
            continue;
        }
        match remove(context, store, &container, false) {
            Ok(()) => removed.push(container.record.id),
            // Somebody has just started it.
            Err(error) if is_running(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

fn is_running(error: &CliError) -> bool {
    let error = error.error.downcast_ref::<StoreError>();
    matches!(error, Some(StoreError::ContainerRuns { .. }))
}

/// Which containers are meant.
enum Chosen {
    /// Those that were made before this, in seconds since 1970.
    Until(i64),
    Label {
        name: String,
        value: Option<String>,
    },
}

impl Chosen {
    fn parse(text: &str) -> Result<Self, CliError> {
        match text.split_once('=') {
            Some(("until", time)) => {
                if let Some(seconds) = parse_rfc3339(time).or_else(|| time.parse().ok()) {
                    return Ok(Self::Until(seconds));
                }
                let hint = "for example `until=24h`, or `until=2026-11-21T16:30:00Z`";
                let ago = duration("filter", time, hint)?.as_secs();
                let now = SystemClock.now().seconds;
                Ok(Self::Until(now.saturating_sub(i64::try_from(ago).unwrap_or(i64::MAX))))
            }
            Some(("label", label)) => {
                let (name, value) = match label.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (label, None),
                };
                Ok(Self::Label { name: name.to_owned(), value })
            }
            _ => Err(CliError::new(format!("there is no filter `{text}`"))
                .hint("write `until=24h` or `label=NAME=VALUE`".to_owned())),
        }
    }

    fn matches(&self, container: &Container) -> bool {
        match self {
            Self::Until(time) => container.record.created < *time,
            Self::Label { name, value } => {
                let config = container.record.config.as_ref();
                let known = config.and_then(|config| config.labels.get(name));
                known.is_some_and(|known| value.as_ref().is_none_or(|value| value == known))
            }
        }
    }
}
