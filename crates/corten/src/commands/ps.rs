use std::process::ExitCode;

use corten_monitor::{HealthReport, HealthStatus};
use corten_runtime::network::LiveContainer;
use corten_store::{Container, Store};
use corten_sys::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::Context;
use crate::cli::PsArgs;
use crate::error::CliError;
use crate::ui::{self, Format, print_rows};

/// Characters of a command that the table shows.
const COMMAND_WIDTH: usize = 30;
/// Characters of an ID that people are shown.
pub(super) const SHORT_ID: usize = 12;

/// Finds a container by name or by a unique prefix of its ID.
pub(super) fn find_container(store: &Store, name: &str) -> Result<Option<Container>, CliError> {
    let mut containers = store.containers()?;
    if let Some(index) = containers.iter().position(|found| found.record.name == name) {
        return Ok(Some(containers.swap_remove(index)));
    }
    let is_id = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    containers.retain(|found| is_id && found.record.id.starts_with(name));
    match containers.len() {
        0 => Ok(None),
        1 => Ok(containers.pop()),
        count => {
            Err(CliError::new(format!("`{name}` is the beginning of {count} containers' IDs"))
                .hint("write more of the ID, or the name".to_owned()))
        }
    }
}

/// `corten ps`.
pub(super) fn ps(context: &Context, arguments: &PsArgs) -> Result<ExitCode, CliError> {
    let format = Format::parse(arguments.format.as_deref(), arguments.json)?;
    let store = context.store()?;
    let mut containers = store.containers()?;
    containers.retain(|container| arguments.all || container.running);
    containers.sort_by_key(|container| std::cmp::Reverse(container.record.created));
    let now = SystemClock.now().seconds;
    let rows: Vec<Value> = containers
        .iter()
        .map(|container| {
            let health = health(&store, container)?;
            let is_paused = is_paused(&store, container)?;
            let live = super::port::shown(container);
            let state = (health.as_ref(), is_paused);
            let mut row = row(container, state, arguments.no_trunc, now);
            row["Ports"] = json!(super::port::summary(&live.ports));
            row["Networks"] = json!(networks(container, &live));
            Ok(row)
        })
        .collect::<Result<_, CliError>>()?;
    if arguments.quiet {
        for row in &rows {
            context.ui.line(&ui::plain(&row["ID"]));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let columns = [
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("CREATED", "RunningFor"),
        ("STATUS", "Status"),
        ("PORTS", "Ports"),
        ("NAMES", "Names"),
    ];
    print_rows(&context.ui, &format, "corten.ps/1", &columns, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// The names of the networks that a container is on, or is made for.
fn networks(container: &Container, live: &LiveContainer) -> String {
    let names: Vec<&str> = match &container.record.networks {
        Some(places) if !container.running => {
            places.iter().map(|place| place.name.as_str()).collect()
        }
        _ => live.endpoints.iter().map(|endpoint| endpoint.network_name.as_str()).collect(),
    };
    names.join(",")
}

/// What the checks of a running container have shown; `None` if it is not checked.
pub(super) fn health(
    store: &Store,
    container: &Container,
) -> Result<Option<HealthReport>, CliError> {
    let folder = store.container_folder(&container.record.id)?;
    Ok(if container.running { HealthReport::read(&folder) } else { None })
}

/// Whether a container runs and is paused.
pub(super) fn is_paused(store: &Store, container: &Container) -> Result<bool, CliError> {
    let folder = store.container_folder(&container.record.id)?;
    Ok(container.running && corten_monitor::is_paused(&folder))
}

fn row(
    container: &Container,
    (health, is_paused): (Option<&HealthReport>, bool),
    whole: bool,
    now: i64,
) -> Value {
    let record = &container.record;
    let (mut state, mut status) = state(container, now);
    if is_paused {
        state = "paused";
        status.push_str(" (Paused)");
    }
    if let Some(health) = health {
        let is_starting = health.status == HealthStatus::Starting;
        let before = if is_starting { "health: " } else { "" };
        status.push_str(&format!(" ({before}{})", health.status.as_str()));
    }
    let id = record.id.get(..SHORT_ID).filter(|_| !whole).unwrap_or(&record.id);
    let mut command: String = record.command.join(" ").chars().take(COMMAND_WIDTH).collect();
    if whole {
        command = record.command.join(" ");
    }
    json!({
        "ID": id,
        "Image": record.image_name,
        "ImageID": record.image.to_string(),
        "Command": command,
        "CreatedAt": corten_oci::time::rfc3339(record.created),
        "RunningFor": ui::age(record.created, now),
        "Status": status,
        "State": state,
        "ExitCode": container.state.exit_code,
        "Names": record.name,
    })
}

/// Docker's word for a container's state, and a sentence about it.
pub(super) fn state(container: &Container, now: i64) -> (&'static str, String) {
    let known = &container.state;
    let since = |time: Option<i64>| time.map(|time| ui::age(time, now));
    let code = |code: i32| {
        let oom = if known.oom_killed { ", out of memory" } else { "" };
        format!("({code}{oom})")
    };
    match (container.running, known.exit_code) {
        (true, Some(last)) => ("restarting", format!("Restarting {}", code(last))),
        (true, None) => {
            let since = since(known.started).unwrap_or_default();
            let status = since.strip_suffix(" ago").map(|time| format!("Up {time}"));
            ("running", status.unwrap_or_else(|| "Up".to_owned()))
        }
        (false, _) if known.started.is_none() && known.error.is_none() => {
            ("created", "Created".to_owned())
        }
        (false, last) => {
            let last = last.map_or_else(|| "(unknown)".to_owned(), code);
            let ago = since(known.finished).map(|ago| format!(" {ago}")).unwrap_or_default();
            ("exited", format!("Exited {last}{ago}"))
        }
    }
}
