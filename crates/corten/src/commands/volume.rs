//! `corten volume …`: directories that outlive containers.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use corten_store::{Event, EventKind, Store, Volume};
use serde_json::{Value, json};

use super::run::new_id;
use super::{Context, tell};
use crate::cli::{
    VolumeCommand, VolumeCreateArgs, VolumeListArgs, VolumeNamesArgs, VolumePruneArgs,
};
use crate::error::CliError;
use crate::ui::{Format, print_rows};

pub(super) fn volume(context: &Context, command: &VolumeCommand) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    match command {
        VolumeCommand::Create(arguments) => create(context, &store, arguments),
        VolumeCommand::Ls(arguments) => list(context, &store, arguments),
        VolumeCommand::Inspect(arguments) => inspect(context, &store, arguments),
        VolumeCommand::Rm(arguments) => Ok(remove(context, &store, arguments)),
        VolumeCommand::Prune(arguments) => prune(context, &store, arguments),
    }
}

/// As in Docker, a volume that is there already is what was asked for.
fn create(
    context: &Context,
    store: &Store,
    arguments: &VolumeCreateArgs,
) -> Result<ExitCode, CliError> {
    let name = arguments.name.clone().unwrap_or_else(new_id);
    let labels: BTreeMap<String, String> = arguments
        .labels
        .iter()
        .map(|label| label.split_once('=').unwrap_or((label, "")))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    store.create_volume(&name, &labels)?;
    told(context, store, "create", &name);
    context.ui.line(&name);
    Ok(ExitCode::SUCCESS)
}

fn list(
    context: &Context,
    store: &Store,
    arguments: &VolumeListArgs,
) -> Result<ExitCode, CliError> {
    let format = Format::parse(arguments.format.as_deref(), arguments.json)?;
    let volumes = store.volumes()?;
    if arguments.quiet {
        for volume in &volumes {
            context.ui.line(&volume.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Value> =
        volumes.iter().map(|volume| describe(store, volume)).collect::<Result<_, _>>()?;
    let columns = [("DRIVER", "Driver"), ("VOLUME NAME", "Name")];
    print_rows(&context.ui, &format, "corten.volume-ls/1", &columns, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn inspect(
    context: &Context,
    store: &Store,
    arguments: &VolumeNamesArgs,
) -> Result<ExitCode, CliError> {
    let mut found = Vec::new();
    for name in &arguments.names {
        let volume = store.volume(name)?.ok_or_else(|| missing(name))?;
        found.push(describe(store, &volume)?);
    }
    context.ui.line(&format!("{:#}", Value::Array(found)));
    Ok(ExitCode::SUCCESS)
}

fn describe(store: &Store, volume: &Volume) -> Result<Value, CliError> {
    Ok(json!({
        "Name": volume.name,
        "Driver": "local",
        "Scope": "local",
        "Mountpoint": store.volume_data(&volume.name)?,
        "CreatedAt": corten_oci::time::rfc3339(volume.created),
        "Labels": volume.labels,
        "Anonymous": volume.anonymous,
    }))
}

fn remove(context: &Context, store: &Store, arguments: &VolumeNamesArgs) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for name in &arguments.names {
        let removed = store.remove_volume(name).map_err(CliError::from);
        match removed.and_then(|removed| if removed { Ok(()) } else { Err(missing(name)) }) {
            Ok(()) => {
                told(context, store, "destroy", name);
                context.ui.line(name);
            }
            Err(error) => code = error.print(&context.ui),
        }
    }
    code
}

fn prune(
    context: &Context,
    store: &Store,
    arguments: &VolumePruneArgs,
) -> Result<ExitCode, CliError> {
    for name in remove_unused(context, store, arguments.all)? {
        context.ui.line(&name);
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the volumes that no container has, those with a name only where that is asked for, and
/// returns their names.
pub(super) fn remove_unused(
    context: &Context,
    store: &Store,
    also_named: bool,
) -> Result<Vec<String>, CliError> {
    let containers = store.containers()?;
    let used: BTreeSet<&String> = containers
        .iter()
        .flat_map(|container| {
            container.record.volumes.iter().chain(&container.record.anonymous_volumes)
        })
        .collect();
    let mut removed = Vec::new();
    for volume in store.volumes()? {
        let is_meant = also_named || volume.anonymous;
        if is_meant && !used.contains(&volume.name) && store.remove_volume(&volume.name)? {
            told(context, store, "destroy", &volume.name);
            removed.push(volume.name);
        }
    }
    Ok(removed)
}

fn told(context: &Context, store: &Store, action: &str, name: &str) {
    tell(context, store, &Event::new(EventKind::Volume, action, name, &[("driver", "local")]));
}

fn missing(name: &str) -> CliError {
    CliError::new(format!("no volume `{name}`")).hint("`corten volume ls` lists them".to_owned())
}
