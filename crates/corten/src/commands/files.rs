//! What a container has made of its image's files: listed, as a tar, as an image; and a tar as an image.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use corten_build::change_config;
use corten_oci::digest::ImageId;
use corten_oci::image::{ContainerConfig, History, ImageConfig};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_oci::time::rfc3339;
use corten_store::archive::import_layer;
use corten_store::{Change, Container, HeldFiles, Image, Layer, Seal, Store};
use corten_sys::clock::{Clock as _, SystemClock};
use serde_json::json;

use super::Context;
use super::archive::Partial;
use super::life::existing;
use crate::cli::{CommitArgs, DiffArgs, ExportArgs, ImportArgs};
use crate::error::CliError;

/// The time that files and configurations get, in seconds since 1970, if it is chosen.
const EPOCH_VARIABLE: &str = "SOURCE_DATE_EPOCH";

/// A container with its image. One that does not run is not started meanwhile.
struct Source {
    container: Container,
    image: Image,
    _held: Option<HeldFiles>,
}

impl Source {
    fn find(store: &Store, name: &str) -> Result<Self, CliError> {
        let container = existing(store, name)?;
        if let Some((held, image)) = store.hold_files(&container.record.id)? {
            return Ok(Self { container, image, _held: Some(held) });
        }
        let id = container.record.image;
        let image = store.image(&id)?.ok_or(corten_store::StoreError::ImageMissing(id))?;
        Ok(Self { container, image, _held: None })
    }
}

/// `corten diff CONTAINER`.
pub(super) fn diff(context: &Context, arguments: &DiffArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let Source { container, image, _held } = Source::find(&store, &arguments.container)?;
    let changes = store.container_changes(&container.record.id, &image)?;
    let path = |change: &Change| format!("/{}", String::from_utf8_lossy(&change.path));
    if arguments.json {
        let changes: Vec<_> = changes
            .iter()
            .map(|change| json!({ "kind": change.kind.letter(), "path": path(change) }))
            .collect();
        let document = json!({ "schema": "corten.diff/1", "changes": changes });
        context.ui.line(&format!("{document:#}"));
        return Ok(ExitCode::SUCCESS);
    }
    for change in &changes {
        let path = crate::ui::printable_line(&path(change));
        context.ui.line(&format!("{} {path}", change.kind.letter()));
    }
    Ok(ExitCode::SUCCESS)
}

/// `corten export CONTAINER`.
pub(super) fn export(context: &Context, arguments: &ExportArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    if arguments.output.is_none() && context.ui.data_is_terminal() {
        return Err(CliError::new("a tar is not for a terminal")
            .hint("write it to a file: `corten export -o FILE …`, or into a pipe".to_owned()));
    }
    let Source { container, image, _held } = Source::find(&store, &arguments.container)?;
    let tree = store.container_tree(&container.record.id, &image)?;
    if let Some(path) = &arguments.output {
        let mut file = Partial::create(path)?;
        tree.write_tar(&mut file.file)?;
        file.keep()?;
        context.ui.status(&format!("wrote {}", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    let mut stdout = context.ui.data_stream();
    tree.write_tar(&mut stdout)?;
    stdout.flush().map_err(CliError::new)?;
    Ok(ExitCode::SUCCESS)
}

/// `corten commit CONTAINER [NAME]`.
pub(super) fn commit(context: &Context, arguments: &CommitArgs) -> Result<ExitCode, CliError> {
    let name = arguments.name.as_deref().map(new_name).transpose()?;
    let epoch = epoch(context)?;
    let store = context.store()?;
    let Source { container, image, _held } = Source::find(&store, &arguments.container)?;
    let record = &container.record;
    let mut config = image.config.clone();
    config.config = match &record.config {
        Some(config) => config.clone(),
        None => ContainerConfig { cmd: Some(record.command.clone()), ..config.config },
    };
    let mut config = change_config(&config, &arguments.changes)?;
    let mut layers = image.layers.clone();
    let paused = arguments.pause && pause(context, &store, &container)?;
    let staged = store.stage_container(&record.id, &image);
    if paused && let Some(control) = super::life::control(&store, &container)? {
        control.unpause()?;
    }
    let layer = match staged? {
        Some(staging) => Some(store.commit(staging, &Seal { epoch, drop: &[] })?),
        None => None,
    };
    if let Some(layer) = &layer {
        config.rootfs.diff_ids.push(layer.diff_id);
        layers.push(layer.clone());
    }
    corten_build::complete_history(&mut config, image.layers.len());
    let created = rfc3339(epoch.unwrap_or_else(|| SystemClock.now().seconds));
    config.history.push(History {
        created: Some(created.clone()),
        created_by: Some(record.command.join(" ")),
        author: arguments.author.clone(),
        comment: arguments.message.clone(),
        empty_layer: layer.is_none(),
        ..History::default()
    });
    config.created = Some(created);
    if arguments.author.is_some() {
        config.author.clone_from(&arguments.author);
    }
    let id = put(&store, &config, &layers, name.as_ref())?;
    context.ui.line(&id.to_string());
    Ok(ExitCode::SUCCESS)
}

/// Stops the processes of a container that runs; false where there is nothing to stop or to let go on again.
fn pause(context: &Context, store: &Store, container: &Container) -> Result<bool, CliError> {
    let Some(control) = super::life::control(store, container)? else { return Ok(false) };
    match control.pause() {
        Ok(()) => Ok(true),
        Err(error) => {
            // It may be paused by hand, and the files are a moment's then as well.
            if context.verbose {
                context.ui.note(&format!("its processes were not paused: {error}"));
            }
            Ok(false)
        }
    }
}

/// `corten import FILE|- [NAME]`.
pub(super) fn import(context: &Context, arguments: &ImportArgs) -> Result<ExitCode, CliError> {
    let name = arguments.name.as_deref().map(new_name).transpose()?;
    let epoch = epoch(context)?;
    let platform = super::images::platform(arguments.platform.as_deref())?;
    let platform = platform.unwrap_or_else(Platform::host);
    let store = context.store()?;
    let layer = if arguments.file == "-" {
        let stdin = std::io::stdin();
        if stdin.is_terminal() {
            return Err(CliError::new("there is no tar on standard input")
                .hint("name the file: `corten import FILE`".to_owned()));
        }
        import_layer(&store, &mut stdin.lock(), None)?
    } else {
        let path = std::path::Path::new(&arguments.file);
        let mut file = corten_sys::file::open(path)?;
        let size = corten_sys::file::metadata(path)?.len();
        import_layer(&store, &mut file, Some(size))?
    };
    let created = rfc3339(epoch.unwrap_or_else(|| SystemClock.now().seconds));
    let from = format!("Imported from {}", arguments.file);
    let mut config = ImageConfig {
        created: Some(created.clone()),
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        ..ImageConfig::default()
    };
    config.rootfs.diff_ids.push(layer.diff_id);
    config.history.push(History {
        created: Some(created),
        comment: Some(arguments.message.clone().unwrap_or(from)),
        ..History::default()
    });
    let config = change_config(&config, &arguments.changes)?;
    let id = put(&store, &config, &[layer], name.as_ref())?;
    context.ui.line(&id.to_string());
    Ok(ExitCode::SUCCESS)
}

/// Stores an image that cannot be made again, and so is on the disk before that is told.
fn put(
    store: &Store,
    config: &ImageConfig,
    layers: &[Layer],
    name: Option<&Reference>,
) -> Result<ImageId, CliError> {
    let image = store.put_image(config, layers, &BTreeMap::new())?;
    store.settle()?;
    if let Some(name) = name {
        store.tag(name, image.id)?;
    }
    Ok(image.id)
}

fn new_name(text: &str) -> Result<Reference, CliError> {
    let name: Reference = text.parse()?;
    if name.digest().is_some() {
        return Err(CliError::new(format!(
            "the name `{text}` has a digest, which nobody can choose"
        ))
        .hint("leave out the part from `@` on".to_owned()));
    }
    Ok(name)
}

fn epoch(context: &Context) -> Result<Option<i64>, CliError> {
    let Some(text) = context.settings.environment.get(EPOCH_VARIABLE) else { return Ok(None) };
    let wrong = || {
        CliError::new(format!("`{EPOCH_VARIABLE}` is `{text}`, which is no number of seconds"))
            .hint("for example `SOURCE_DATE_EPOCH=1700000000`".to_owned())
    };
    text.trim().parse().map(Some).map_err(|_| wrong())
}
