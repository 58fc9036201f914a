use std::process::ExitCode;

use corten_store::{Container, Image, Store};
use serde_json::{Value, json};

use super::Context;
use super::images::{find, names_of, size_of};
use super::ps::find_container;
use crate::cli::InspectArgs;
use crate::error::CliError;
use crate::ui::{Format, print_rows};

/// `corten inspect NAME…`: a JSON array in Docker's form, containers before images.
pub(super) fn inspect(context: &Context, arguments: &InspectArgs) -> Result<ExitCode, CliError> {
    let format = Format::parse(arguments.format.as_deref(), false)?;
    let store = context.store()?;
    let mut values = Vec::new();
    for name in &arguments.names {
        values.push(match find_container(&store, name)? {
            Some(container) => describe_container(&container),
            None => describe_image(&store, &find(&store, name)?)?,
        });
    }
    match format {
        Format::Default => {
            let document = Value::Array(values);
            context.ui.line(&format!("{document:#}"));
        }
        format => print_rows(&context.ui, &format, "corten.inspect/1", &[], &values)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn describe_image(store: &Store, image: &Image) -> Result<Value, CliError> {
    let names = names_of(store, image)?;
    let tags: Vec<String> = names.iter().map(corten_oci::reference::Reference::familiar).collect();
    let mut digests: Vec<String> =
        names.iter().map(|name| name.with_digest(image.manifest).familiar()).collect();
    digests.dedup();
    let diff_ids: Vec<String> =
        image.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    Ok(json!({
        "Id": image.id.to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Digest": image.manifest.to_string(),
        "Created": image.config.created,
        "Author": image.config.author.clone().unwrap_or_default(),
        "Architecture": image.config.architecture,
        "Variant": image.config.variant,
        "Os": image.config.os,
        "Size": size_of(image),
        "Config": image.config.config,
        "Annotations": image.annotations,
        "History": image.config.history,
        "RootFS": { "Type": "layers", "Layers": diff_ids },
    }))
}

fn describe_container(container: &Container) -> Value {
    let record = &container.record;
    json!({
        "Id": record.id,
        "Name": record.name,
        "Created": corten_oci::time::rfc3339(record.created),
        "Image": record.image.to_string(),
        "ImageName": record.image_name,
        "Args": record.command,
        "State": {
            "Running": container.running,
            "Pid": record.pid,
            "ExitCode": record.exit_code,
            "OOMKilled": record.oom_killed,
        },
    })
}
