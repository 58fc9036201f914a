use std::collections::BTreeMap;
use std::process::ExitCode;

use corten_oci::digest::Digest;
use corten_oci::platform::Platform;
use corten_store::{Container, Found, Image, Store, TagTarget};
use serde_json::{Value, json};

use super::Context;
use super::images::{image_of, lookup, names_of, platform, size_of};
use super::ps::find_container;
use crate::cli::InspectArgs;
use crate::error::CliError;
use crate::ui::{Format, print_rows};

/// `corten inspect NAME…`: a JSON array in Docker's form, containers before images.
pub(super) fn inspect(context: &Context, arguments: &InspectArgs) -> Result<ExitCode, CliError> {
    let format = Format::parse(arguments.format.as_deref(), false)?;
    let store = context.store()?;
    let mut values = Vec::new();
    let platform = platform(arguments.platform.as_deref())?;
    for name in &arguments.names {
        values.push(match find_container(&store, name)? {
            Some(container) => describe_container(&store, &container)?,
            None => describe_found(&store, name, platform.as_ref())?,
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

/// Of an index without a chosen platform: its own digest and images, and the rest as this machine's
/// image has it, or the first one.
fn describe_found(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
) -> Result<Value, CliError> {
    let found = lookup(store, name)?;
    let target = found.target();
    let index = match (found, platform) {
        (Found::Index(index), None) => index,
        (found, platform) => {
            let image = image_of(store, name, found, platform)?;
            return describe_image(store, &image, (target, image.manifest));
        }
    };
    let missing = || CliError::new(format!("the index `{name}` has no images"));
    let host = index.select(&Platform::host()).or(index.members.first()).ok_or_else(missing)?;
    let image = store.member_image(host)?;
    let mut value = describe_image(store, &image, (target, index.digest))?;
    value["Id"] = json!(index.digest.to_string());
    value["IndexAnnotations"] = json!(index.annotations);
    let manifests = index.members.iter().map(|member| {
        json!({
            "Id": member.image.to_string(),
            "Digest": member.descriptor.digest.to_string(),
            "Platform": member.platform().to_string(),
            "Annotations": member.descriptor.annotations,
        })
    });
    value["Manifests"] = manifests.collect();
    Ok(value)
}

fn describe_image(
    store: &Store,
    image: &Image,
    (target, digest): (TagTarget, Digest),
) -> Result<Value, CliError> {
    let names = names_of(store, target)?;
    let tags: Vec<String> = names.iter().map(corten_oci::reference::Reference::familiar).collect();
    let mut digests: Vec<String> =
        names.iter().map(|name| name.with_digest(digest).familiar()).collect();
    digests.dedup();
    let diff_ids: Vec<String> =
        image.layers.iter().map(|layer| layer.diff_id.to_string()).collect();
    Ok(json!({
        "Id": image.id.to_string(),
        "RepoTags": tags,
        "RepoDigests": digests,
        "Digest": digest.to_string(),
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

fn describe_container(store: &Store, container: &Container) -> Result<Value, CliError> {
    let health = super::ps::health(store, container)?;
    let is_paused = super::ps::is_paused(store, container)?;
    let (record, state) = (&container.record, &container.state);
    let status = if is_paused { "paused" } else { super::ps::state(container, 0).0 };
    let time = |time: Option<i64>| time.map(corten_oci::time::rfc3339);
    Ok(json!({
        "Id": record.id,
        "Name": record.name,
        "Created": corten_oci::time::rfc3339(record.created),
        "Image": record.image.to_string(),
        "ImageName": record.image_name,
        "Args": record.command,
        "State": {
            "Status": status,
            "Running": container.running,
            "Paused": is_paused,
            "Pid": state.pid,
            "ExitCode": state.exit_code,
            "OOMKilled": state.oom_killed,
            "Error": state.error,
            "StartedAt": time(state.started),
            "FinishedAt": time(state.finished),
            "Health": health,
        },
        "RestartCount": state.restarts,
        "NetworkSettings": network_settings(container)?,
    }))
}

/// Where a container is on the network, in Docker's words; what it is made for, if it does not run.
fn network_settings(container: &Container) -> Result<Value, CliError> {
    let live = super::port::live(container)?.unwrap_or_default();
    let mut ports = BTreeMap::<String, Vec<Value>>::new();
    for port in &live.ports {
        let place = ports.entry(format!("{}/{}", port.container, port.protocol)).or_default();
        let (address, number) = (port.host.ip().to_string(), port.host.port().to_string());
        place.push(json!({ "HostIp": address, "HostPort": number }));
    }
    let mut networks = BTreeMap::<&str, Value>::new();
    for wish in container.record.networks.iter().flatten() {
        networks.insert(
            &wish.name,
            json!({
                "NetworkID": wish.network,
                "Aliases": wish.aliases,
                "MacAddress": wish.mac.clone().unwrap_or_default(),
                "IPAMConfig": { "IPv4Address": wish.ipv4, "IPv6Address": wish.ipv6 },
            }),
        );
    }
    for endpoint in &live.endpoints {
        let mut dns_names = vec![live.name.as_str(), live.short_id()];
        dns_names.extend(endpoint.aliases.iter().map(String::as_str));
        let ipv6 = endpoint.ipv6;
        let value = json!({
            "NetworkID": endpoint.network,
            "Aliases": endpoint.aliases,
            "DNSNames": if live.names { json!(dns_names) } else { Value::Null },
            "MacAddress": endpoint.mac.to_string(),
            "Interface": endpoint.interface,
            "Gateway": endpoint.gateway,
            "IPAddress": endpoint.address,
            "IPPrefixLen": endpoint.prefix_bits,
            "IPv6Gateway": ipv6.map(|(_, _, gateway)| gateway.to_string()).unwrap_or_default(),
            "GlobalIPv6Address": ipv6.map(|(own, _, _)| own.to_string()).unwrap_or_default(),
            "GlobalIPv6PrefixLen": ipv6.map_or(0, |(_, bits, _)| bits),
        });
        let known = networks.entry(&endpoint.network_name).or_insert_with(|| json!({}));
        if let (Some(known), Value::Object(value)) = (known.as_object_mut(), value) {
            known.extend(value);
        }
    }
    let first = live.endpoints.first();
    Ok(json!({
        "Ports": ports,
        "Networks": networks,
        "IPAddress": first.map(|endpoint| endpoint.address.to_string()).unwrap_or_default(),
        "Gateway": first.map(|endpoint| endpoint.gateway.to_string()).unwrap_or_default(),
        "MacAddress": first.map(|endpoint| endpoint.mac.to_string()).unwrap_or_default(),
    }))
}
