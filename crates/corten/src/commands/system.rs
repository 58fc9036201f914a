use std::process::ExitCode;

use corten_runtime::options;
use corten_store::{CacheMounts, GcPolicy, Repair};
use corten_sys::clock::{Clock as _, SystemClock};
use serde_json::json;

use super::{Context, duration, flag};
use crate::cli::{FsckArgs, PruneArgs, SystemCommand};
use crate::error::CliError;
use crate::ui;

/// `corten system …`.
pub(super) fn system(context: &Context, command: &SystemCommand) -> Result<ExitCode, CliError> {
    match command {
        SystemCommand::Df { json } => df(context, *json),
        SystemCommand::Prune(arguments) => prune(context, arguments),
        SystemCommand::Emulation(arguments) => super::emulation::emulation(context, arguments),
        SystemCommand::Service(arguments) => super::boot::service(context, arguments),
        SystemCommand::StartContainers(arguments) => super::boot::start(context, arguments),
        SystemCommand::StopContainers(arguments) => super::boot::stop(context, arguments),
        SystemCommand::Fsck(arguments) => fsck(context, arguments),
    }
}

fn df(context: &Context, json: bool) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let (usage, caches) = (store.usage()?, store.cache_mounts()?);
    if json {
        let document = json!({
            "schema": "corten.system-df/1",
            "images": usage.images,
            "indexes": usage.indexes,
            "names": usage.references,
            "layers": { "count": usage.layers, "bytes": usage.layer_bytes },
            "blobs": { "count": usage.blobs, "bytes": usage.blob_bytes },
            "cache": { "count": usage.steps, "bytes": usage.unused_layer_bytes },
            "cache_mounts": { "count": caches.count, "bytes": caches.bytes },
            "downloads": { "count": usage.downloads.count, "bytes": usage.downloads.bytes },
        });
        context.ui.line(&format!("{document:#}"));
        return Ok(ExitCode::SUCCESS);
    }
    let line = |name: &str, count: u64, bytes: u64| {
        context.ui.line(&format!("{name:<28}{count:>6}  {:>8}", ui::bytes(bytes)));
    };
    line("layers of images", usage.images, usage.layer_bytes - usage.unused_layer_bytes);
    line("build cache", usage.steps, usage.unused_layer_bytes);
    line("cache mounts", caches.count, caches.bytes);
    line("downloads", usage.downloads.count, usage.downloads.bytes);
    line("blobs", usage.blobs, usage.blob_bytes);
    if usage.unused_layer_bytes + caches.bytes + usage.downloads.bytes > 0 {
        context.ui.hint(
            "`corten system prune --all` removes the build cache, the cache mounts and the downloads",
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(context: &Context, arguments: &PruneArgs) -> Result<ExitCode, CliError> {
    let keep_bytes = arguments.keep_storage.as_deref().map(keep_storage).transpose()?;
    let policy = GcPolicy {
        // A budget is a budget for the cache; without one, `--all` leaves nothing of it.
        keep_unused_steps: !arguments.all || keep_bytes.is_some(),
        keep_untagged_images: false,
        keep_younger_seconds: arguments.keep_younger.as_deref().map(keep_younger).transpose()?,
        keep_bytes,
    };
    let store = context.store()?;
    let before = policy
        .keep_younger_seconds
        .map(|seconds| SystemClock.now().seconds.saturating_sub(seconds));
    let containers = super::container::remove_ended(context, &store, &|container| {
        before.is_none_or(|before| container.record.created < before)
    })?;
    let networks = super::network::remove_unused(&store)?;
    let volumes = if arguments.volumes {
        super::volume::remove_unused(context, &store, false)?
    } else {
        Vec::new()
    };
    let report = store.gc(&policy)?;
    let is_whole = policy.keep_bytes.is_none() && policy.keep_younger_seconds.is_none();
    let caches = if arguments.all && is_whole {
        store.remove_cache_mounts()?
    } else {
        CacheMounts::default()
    };
    let freed_bytes = report.freed_bytes + caches.bytes;
    if arguments.json {
        let document = json!({
            "schema": "corten.system-prune/1",
            "containers": containers.len(),
            "networks": networks.len(),
            "volumes": volumes.len(),
            "layers": report.layers,
            "images": report.images,
            "indexes": report.indexes,
            "blobs": report.blobs,
            "cache_mounts": caches.count,
            "freed_bytes": freed_bytes,
        });
        context.ui.line(&format!("{document:#}"));
    } else {
        for (removed, what) in
            [(&containers, "containers"), (&networks, "networks"), (&volumes, "volumes")]
        {
            if !removed.is_empty() {
                context.ui.line(&format!("removed {} {what}", removed.len()));
            }
        }
        context.ui.line(&format!(
            "removed {} layers, {} images and {} blobs: {}",
            report.layers,
            report.images,
            report.blobs,
            ui::bytes(freed_bytes)
        ));
        if caches.in_use > 0 {
            context.ui.note(&format!("{} cache mounts are in use and stay", caches.in_use));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn keep_storage(text: &str) -> Result<u64, CliError> {
    flag("keep-storage", options::parse_bytes(text))
}

fn keep_younger(text: &str) -> Result<i64, CliError> {
    let time = duration("keep-younger", text, "for example `24h` or `90m`")?;
    Ok(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Exit 1 when something is damaged and was not repaired.
fn fsck(context: &Context, arguments: &FsckArgs) -> Result<ExitCode, CliError> {
    let report = context.store()?.fsck(if arguments.repair { Repair::Yes } else { Repair::No })?;
    let checked = report.layers + report.blobs + report.images + report.indexes;
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
