use std::process::ExitCode;

use corten_oci::time::parse_rfc3339;
use corten_store::Image;
use corten_sys::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::Context;
use super::images::{find, platform};
use crate::cli::HistoryArgs;
use crate::error::CliError;
use crate::ui::{self, Format, print_rows};

/// Characters of a command that the table shows.
const COMMAND_WIDTH: usize = 45;

/// `corten history IMAGE`: the newest step first.
pub(super) fn history(context: &Context, arguments: &HistoryArgs) -> Result<ExitCode, CliError> {
    let format = Format::parse(arguments.format.as_deref(), arguments.json)?;
    let store = context.store()?;
    let platform = platform(arguments.platform.as_deref())?;
    let image = find(&store, &arguments.image, platform.as_ref())?;
    let rows = rows(&image, arguments.no_trunc);
    if arguments.quiet {
        for row in &rows {
            context.ui.line(&ui::plain(&row["ID"]));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let columns = [
        ("IMAGE", "ID"),
        ("CREATED", "CreatedSince"),
        ("CREATED BY", "CreatedBy"),
        ("SIZE", "Size"),
        ("COMMENT", "Comment"),
    ];
    print_rows(&context.ui, &format, "corten.history/1", &columns, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn rows(image: &Image, whole: bool) -> Vec<Value> {
    let now = SystemClock.now().seconds;
    let mut layers = image.layers.iter();
    let mut rows = Vec::new();
    for entry in &image.config.history {
        let empty = entry.empty_layer;
        let size = if empty { 0 } else { layers.next().map_or(0, |layer| layer.tar_bytes) };
        let command = entry.created_by.clone().unwrap_or_default();
        let created = entry.created.clone().unwrap_or_default();
        let since = parse_rfc3339(&created).map(|then| ui::age(then, now)).unwrap_or_default();
        rows.push(json!({
            "ID": "<missing>",
            "CreatedAt": created,
            "CreatedSince": since,
            "CreatedBy": if whole { command } else { shorten(&command) },
            "Size": ui::bytes(size),
            "SizeBytes": size,
            "Comment": entry.comment.clone().unwrap_or_default(),
        }));
    }
    if let Some(last) = rows.last_mut() {
        last["ID"] = Value::String(image.id.0.short());
    }
    rows.reverse();
    rows
}

/// One line of at most `COMMAND_WIDTH` characters.
fn shorten(command: &str) -> String {
    let flat: String = command.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= COMMAND_WIDTH {
        return flat;
    }
    let mut short: String = flat.chars().take(COMMAND_WIDTH - 1).collect();
    short.push('…');
    short
}
