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
    Ok(choose(&store.containers()?, name)?.cloned())
}

/// Finds a container among others by name or by a unique prefix of its ID.
pub(super) fn choose<'a>(
    containers: &'a [Container],
    name: &str,
) -> Result<Option<&'a Container>, CliError> {
    if let Some(found) = containers.iter().find(|found| found.record.name == name) {
        return Ok(Some(found));
    }
    let is_id = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let found: Vec<&Container> =
        containers.iter().filter(|found| is_id && found.record.id.starts_with(name)).collect();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        several => {
            let count = several.len();
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
    let filters: Vec<Filter> =
        arguments.filters.iter().map(|text| Filter::parse(text)).collect::<Result<_, _>>()?;
    let last = arguments.last.or(arguments.latest.then_some(1));
    // As in Docker, a wanted state may be that of ended ones.
    let all = arguments.all || last.is_some() || filters.iter().any(Filter::is_of_state);
    containers.retain(|container| all || container.running);
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
            row["Health"] = json!(health.as_ref().map(|health| health.status.as_str()));
            Ok(row)
        })
        .collect::<Result<_, CliError>>()?;
    let rows: Vec<Value> = rows
        .into_iter()
        .zip(&containers)
        .filter(|(row, container)| wanted(&filters, container, row))
        .map(|(row, _)| row)
        .take(last.unwrap_or(usize::MAX))
        .collect();
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
    let labels = record.config.iter().flat_map(|config| &config.labels);
    let labels: Vec<String> = labels.map(|(name, value)| format!("{name}={value}")).collect();
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
        "Labels": labels.join(","),
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

/// Which containers are wanted.
struct Filter {
    name: String,
    value: String,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, CliError> {
        const NAMES: [&str; 9] =
            ["id", "name", "status", "exited", "label", "ancestor", "volume", "network", "health"];
        let hint = || format!("write `NAME=VALUE` with one of {}", NAMES.join(", "));
        let (name, value) = text.split_once('=').ok_or_else(|| {
            CliError::new(format!("the filter `{text}` has no value")).hint(hint())
        })?;
        if !NAMES.contains(&name) {
            return Err(CliError::new(format!("there is no filter `{name}`")).hint(hint()));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }

    fn is_of_state(&self) -> bool {
        self.name == "status" || self.name == "exited"
    }

    fn matches(&self, container: &Container, row: &Value) -> bool {
        let (record, value) = (&container.record, self.value.as_str());
        let listed = |field: &str| ui::plain(&row[field]).split(',').any(|one| one == value);
        match self.name.as_str() {
            "id" => record.id.starts_with(value),
            "name" => record.name.contains(value.trim_start_matches('/')),
            "status" => row["State"] == value,
            "exited" => !container.running && ui::plain(&row["ExitCode"]) == value,
            "ancestor" => {
                let image = record.image.to_string();
                record.image_name == value
                    || record.image_name.strip_suffix(":latest") == Some(value)
                    || value.strip_suffix(":latest") == Some(record.image_name.as_str())
                    || image == value
                    || image.trim_start_matches("sha256:").starts_with(value) && value.len() >= 4
            }
            "volume" => record.has_volume(value),
            "network" => listed("Networks"),
            "health" => {
                let health = row["Health"].as_str().filter(|_| container.running);
                health.unwrap_or("none") == value
            }
            _ => {
                let labels = record.config.as_ref().map(|config| &config.labels);
                let (name, wanted) = match value.split_once('=') {
                    Some((name, wanted)) => (name, Some(wanted)),
                    None => (value, None),
                };
                let known = labels.and_then(|labels| labels.get(name));
                known.is_some_and(|known| wanted.is_none_or(|wanted| wanted == known))
            }
        }
    }
}

/// As in Docker, one of those of the same name must fit, of each name; labels must all fit.
fn wanted(filters: &[Filter], container: &Container, row: &Value) -> bool {
    filters.iter().all(|filter| {
        let is_alternative = |other: &&Filter| {
            if filter.name == "label" {
                other.value == filter.value && other.name == filter.name
            } else {
                other.name == filter.name
            }
        };
        filters.iter().filter(is_alternative).any(|other| other.matches(container, row))
    })
}
