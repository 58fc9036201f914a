use std::process::ExitCode;

use corten_store::{GcPolicy, Repair};
use serde_json::json;

use super::Context;
use crate::cli::{FsckArgs, PruneArgs, SystemCommand};
use crate::error::CliError;
use crate::ui;

/// `corten system …`.
pub(super) fn system(context: &Context, command: &SystemCommand) -> Result<ExitCode, CliError> {
    match command {
        SystemCommand::Df { json } => df(context, *json),
        SystemCommand::Prune(arguments) => prune(context, arguments),
        SystemCommand::Fsck(arguments) => fsck(context, arguments),
    }
}

fn df(context: &Context, json: bool) -> Result<ExitCode, CliError> {
    let usage = context.store()?.usage()?;
    if json {
        let document = json!({
            "schema": "corten.system-df/1",
            "images": usage.images,
            "names": usage.references,
            "layers": { "count": usage.layers, "bytes": usage.layer_bytes },
            "blobs": { "count": usage.blobs, "bytes": usage.blob_bytes },
            "cache": { "count": usage.steps, "bytes": usage.unused_layer_bytes },
        });
        context.ui.line(&format!("{document:#}"));
        return Ok(ExitCode::SUCCESS);
    }
    let line = |name: &str, count: u64, bytes: u64| {
        context.ui.line(&format!("{name:<28}{count:>6}  {:>8}", ui::bytes(bytes)));
    };
    line("layers of images", usage.images, usage.layer_bytes - usage.unused_layer_bytes);
    line("build cache", usage.steps, usage.unused_layer_bytes);
    line("blobs", usage.blobs, usage.blob_bytes);
    if usage.unused_layer_bytes > 0 {
        context.ui.hint("`corten system prune --all` removes the build cache");
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(context: &Context, arguments: &PruneArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let policy = GcPolicy {
        keep_unused_steps: !arguments.all,
        keep_untagged_images: false,
        keep_younger_seconds: None,
        keep_bytes: None,
    };
    let report = store.gc(&policy)?;
    if arguments.json {
        let document = json!({
            "schema": "corten.system-prune/1",
            "layers": report.layers,
            "images": report.images,
            "blobs": report.blobs,
            "freed_bytes": report.freed_bytes,
        });
        context.ui.line(&format!("{document:#}"));
    } else {
        context.ui.line(&format!(
            "removed {} layers, {} images and {} blobs: {}",
            report.layers,
            report.images,
            report.blobs,
            ui::bytes(report.freed_bytes)
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Exit 1 when something is damaged and was not repaired.
fn fsck(context: &Context, arguments: &FsckArgs) -> Result<ExitCode, CliError> {
    let report = context.store()?.fsck(if arguments.repair { Repair::Yes } else { Repair::No })?;
    let checked = report.layers + report.blobs + report.images;
    if arguments.json {
        let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        let document = json!({
            "schema": "corten.system-fsck/1",
            "checked": checked,
            "problems": problems,
            "lost": report.lost,
            "repaired": arguments.repair,
        });
        context.ui.line(&format!("{document:#}"));
    } else {
        for problem in &report.problems {
            context.ui.line(&problem.to_string());
        }
        if report.lost > 0 {
            context.ui.note(&format!(
                "{} layers did not survive a loss of power; they are made again when needed",
                report.lost
            ));
        }
        let verdict = match (report.problems.len(), arguments.repair) {
            (0, _) => "the store is whole".to_owned(),
            (count, true) => format!("{count} damaged objects removed"),
            (count, false) => format!("{count} damaged objects"),
        };
        context.ui.line(&format!("{checked} objects checked: {verdict}"));
    }
    if report.problems.is_empty() || arguments.repair {
        return Ok(ExitCode::SUCCESS);
    }
    context.ui.hint("`corten system fsck --repair` removes them, so that they are made again");
    Ok(ExitCode::from(1))
}
