//! `corten logs`: what a container in the background has written.

use std::process::ExitCode;

use corten_monitor::Definition;
use corten_monitor::log::{self, Follow, Query};
use corten_oci::time::{parse_rfc3339, rfc3339_nanos};
use corten_sys::clock::{Clock as _, SystemClock};

use super::life::existing;
use super::{Context, duration};
use crate::cli::LogsArgs;
use crate::error::CliError;

pub(super) fn logs(context: &Context, arguments: &LogsArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let container = existing(&store, &arguments.container)?;
    let id = container.record.id;
    let since = arguments.since.as_deref().map(|text| time("since", text)).transpose()?;
    let kept = Definition::decode(&store.container_definition(&id)?)?.log;
    let oldest = kept.oldest(SystemClock.now().seconds).map(|seconds| rfc3339_nanos(seconds, 0));
    let query = Query {
        since: since.max(oldest),
        until: arguments.until.as_deref().map(|text| time("until", text)).transpose()?,
        tail: tail(&arguments.tail)?,
    };
    // What cannot be found out counts as ended: the log is complete up to here all the same.
    let runs = || store.container_runs(&id).unwrap_or(false);
    let follow = if arguments.follow { Follow::While(&runs) } else { Follow::No };
    let folder = log::folder(&store.container_folder(&id)?);
    let mut take = |entry: &log::Entry| {
        let time = if arguments.timestamps { format!("{} ", entry.time) } else { String::new() };
        let text = format!("{time}{}", entry.log);
        if entry.stream == "stderr" {
            context.ui.raw_error(&text);
        } else {
            context.ui.data(&text);
        }
        true
    };
    log::read(&folder, &query, &follow, &mut take)?;
    Ok(ExitCode::SUCCESS)
}

fn tail(text: &str) -> Result<Option<usize>, CliError> {
    match text {
        "all" => Ok(None),
        // As in Docker, a negative number is all of them.
        text if text.strip_prefix('-').is_some_and(|rest| rest.parse::<u64>().is_ok()) => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            CliError::new(format!("failed to read `--tail`: `{text}` is no number of lines"))
                .hint("for example `100`, or `all`".to_owned())
        }),
    }
}

/// A time, a number of seconds since 1970, or how long ago.
fn time(flag: &str, text: &str) -> Result<String, CliError> {
    if let Some(seconds) = parse_rfc3339(text).or_else(|| text.parse().ok()) {
        return Ok(rfc3339_nanos(seconds, 0));
    }
    let hint = "for example `2026-11-21T16:30:00Z`, or `10m` for ten minutes ago";
    let ago = duration(flag, text, hint)?;
    let now = SystemClock.now();
    let seconds = now.seconds.saturating_sub(i64::try_from(ago.as_secs()).unwrap_or(i64::MAX));
    Ok(rfc3339_nanos(seconds, now.nanoseconds))
}
