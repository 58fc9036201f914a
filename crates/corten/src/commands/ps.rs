use std::process::ExitCode;

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
    let rows: Vec<Value> =
        containers.iter().map(|container| row(container, arguments.no_trunc, now)).collect();
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
        ("NAMES", "Names"),
    ];
    print_rows(&context.ui, &format, "corten.ps/1", &columns, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn row(container: &Container, whole: bool, now: i64) -> Value {
    let record = &container.record;
    let status = match (container.running, record.exit_code) {
        (true, _) => "Up".to_owned(),
        (false, Some(code)) if record.oom_killed => format!("Exited ({code}, out of memory)"),
        (false, Some(code)) => format!("Exited ({code})"),
        (false, None) => "Exited (unknown)".to_owned(),
    };
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
        "State": if container.running { "running" } else { "exited" },
        "ExitCode": record.exit_code,
        "Names": record.name,
    })
}
