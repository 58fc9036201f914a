//! `corten network …`: networks that containers are on, and find each other by.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use corten_runtime::network::{
    self, AnySubnet, BRIDGE, DEFAULT_NETWORK, LiveContainer, NetworkWish, Register, Subnet,
    Subnet6, UserNetwork,
};
use corten_runtime::options::{self, NetworkPlace};
use corten_store::{ContainerNetwork, NetworkRecord, NetworkShape, Store, StoreError};
use corten_sys::userns;
use serde_json::{Value, json};

use super::run::{networks, new_id};
use super::{Context, flag, life};
use crate::cli::{
    NetworkCommand, NetworkConnectArgs, NetworkCreateArgs, NetworkDisconnectArgs,
    NetworkInspectArgs, NetworkListArgs, NetworkNamesArgs,
};
use crate::error::CliError;
use crate::ui::{Format, print_rows};

/// The networks that are always there: name and driver.
const BUILT_IN: [(&str, &str); 3] =
    [(DEFAULT_NETWORK, "bridge"), ("host", "host"), ("none", "null")];

pub(super) fn network(context: &Context, command: &NetworkCommand) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    match command {
        NetworkCommand::Create(arguments) => create(context, &store, arguments),
        NetworkCommand::Ls(arguments) => list(context, &store, arguments),
        NetworkCommand::Inspect(arguments) => inspect(context, &store, arguments),
        NetworkCommand::Connect(arguments) => connect(context, &store, arguments),
        NetworkCommand::Disconnect(arguments) => disconnect(&store, arguments),
        NetworkCommand::Rm(arguments) => Ok(remove(context, &store, arguments)),
        NetworkCommand::Prune(_) => prune(context, &store),
    }
}

fn create(
    context: &Context,
    store: &Store,
    arguments: &NetworkCreateArgs,
) -> Result<ExitCode, CliError> {
    if arguments.driver != "bridge" {
        return Err(CliError::new(format!(
            "there is no network driver `{}`, only `bridge`",
            arguments.driver
        ))
        .hint("leave out `--driver`".to_owned()));
    }
    if !userns::is_whole_system(&userns::own_map("uid_map")?) {
        let network = arguments.name.clone();
        return Err(network::NetworkError::Rootless { network }.into());
    }
    let wish = wish(arguments)?;
    let pairs = |texts: &[String]| -> BTreeMap<String, String> {
        let pairs = texts.iter().map(|text| text.split_once('=').unwrap_or((text, "")));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let made = store.create_network(&arguments.name, |others| {
        let mut taken = network::taken()?;
        for other in others.iter().map(corten_monitor::network_of) {
            taken.subnets.push(other.ipv4.subnet);
            taken.subnets6.extend(other.ipv6.map(|ipv6| ipv6.subnet));
            taken.interfaces.push(other.bridge);
        }
        let planned = network::plan_network(&wish, &new_id(), &taken).map_err(|error| {
            let hint = error.hint();
            CliError::new(error).hint(hint)
        })?;
        Ok::<_, CliError>(NetworkRecord {
            version: 1,
            id: planned.id.clone(),
            name: arguments.name.clone(),
            created: 0,
            labels: pairs(&arguments.labels),
            options: pairs(&arguments.options),
            shape: shape(&planned),
        })
    })?;
    match made {
        Some(network) => {
            context.ui.line(&network.id);
            Ok(ExitCode::SUCCESS)
        }
        None => Err(CliError::new(format!("there is a network `{}` already", arguments.name))
            .hint("`corten network ls` lists them".to_owned())),
    }
}

fn wish(arguments: &NetworkCreateArgs) -> Result<NetworkWish, CliError> {
    let subnets = |name: &str, texts: &[String]| -> Result<Vec<AnySubnet>, CliError> {
        let read = |text: &String| {
            text.parse().map_err(|error| {
                CliError::new(format!("failed to read `--{name}`: {error}"))
                    .hint("for example `10.1.2.0/24` or `fd00:1::/64`".to_owned())
            })
        };
        texts.iter().map(read).collect()
    };
    let gateways = arguments.gateways.iter();
    let gateways = gateways.map(|text| networks::address::<IpAddr>("gateway", Some(text)));
    let gateways: Vec<Option<IpAddr>> = gateways.collect::<Result<_, _>>()?;
    let option = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    Ok(NetworkWish {
        name: arguments.name.clone(),
        subnets: subnets("subnet", &arguments.subnets)?,
        gateways: gateways.into_iter().flatten().collect(),
        ranges: subnets("ip-range", &arguments.ranges)?,
        ipv6: arguments.ipv6,
        internal: arguments.internal,
        options: arguments.options.iter().map(option).collect(),
    })
}

fn shape(network: &UserNetwork) -> NetworkShape {
    let parts = |subnet: Subnet| (subnet.first(), subnet.bits());
    NetworkShape {
        bridge: network.bridge.clone(),
        subnet: parts(network.ipv4.subnet),
        gateway: network.ipv4.gateway,
        range: network.ipv4.range.map(parts),
        ipv6: network.ipv6.map(|one| (one.subnet.first(), one.subnet.bits(), one.gateway)),
        mtu: network.mtu,
        internal: network.internal,
    }
}

fn list(
    context: &Context,
    store: &Store,
    arguments: &NetworkListArgs,
) -> Result<ExitCode, CliError> {
    let format = Format::parse(arguments.format.as_deref(), arguments.json)?;
    let filters = filters(arguments)?;
    let mut rows: Vec<Value> = Vec::new();
    for (name, driver) in BUILT_IN {
        rows.push(json!({
            "ID": name,
            "Name": name,
            "Driver": driver,
            "Scope": "local",
            "IPv6": false,
            "Internal": false,
            "Labels": {},
            "CreatedAt": null,
        }));
    }
    for network in store.networks()? {
        let id = network.id.get(..super::ps::SHORT_ID).filter(|_| !arguments.no_trunc);
        rows.push(json!({
            "ID": id.unwrap_or(&network.id),
            "Name": network.name,
            "Driver": "bridge",
            "Scope": "local",
            "IPv6": network.shape.ipv6.is_some(),
            "Internal": network.shape.internal,
            "Labels": network.labels,
            "CreatedAt": corten_oci::time::rfc3339(network.created),
        }));
    }
    rows.retain(|row| filters.iter().all(|(name, value)| holds(row, name, value)));
    if arguments.quiet {
        for row in &rows {
            context.ui.line(&crate::ui::plain(&row["ID"]));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let columns =
        [("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("SCOPE", "Scope")];
    print_rows(&context.ui, &format, "corten.network-ls/1", &columns, &rows)?;
    Ok(ExitCode::SUCCESS)
}

fn filters(arguments: &NetworkListArgs) -> Result<Vec<(String, String)>, CliError> {
    let read = |text: &String| {
        let known = ["name", "id", "label", "driver", "type"];
        let found = text.split_once('=').filter(|(name, _)| known.contains(name));
        let (name, value) = found.ok_or_else(|| {
            CliError::new(format!("failed to read `--filter`: `{text}` is none"))
                .hint(format!("of the form `NAME=VALUE`, with {}", known.join(", ")))
        })?;
        Ok((name.to_owned(), value.to_owned()))
    };
    arguments.filters.iter().map(read).collect()
}

fn holds(row: &Value, name: &str, value: &str) -> bool {
    let text = |field: &str| row[field].as_str().unwrap_or_default();
    match name {
        "name" => text("Name").contains(value),
        "id" => text("ID").starts_with(value) || value.starts_with(text("ID")),
        "driver" => text("Driver") == value,
        "type" => {
            let is_built_in = BUILT_IN.iter().any(|(name, _)| *name == text("Name"));
            is_built_in == (value == "builtin")
        }
        _ => {
            let (name, wanted) = value.split_once('=').unwrap_or((value, ""));
            let found = row["Labels"][name].as_str();
            found.is_some_and(|found| !value.contains('=') || found == wanted)
        }
    }
}

fn inspect(
    context: &Context,
    store: &Store,
    arguments: &NetworkInspectArgs,
) -> Result<ExitCode, CliError> {
    let format = Format::parse(arguments.format.as_deref(), false)?;
    let register = Register::here()?;
    let mut found = Vec::new();
    for name in &arguments.names {
        let is_built_in = |(known, _): &&(&str, &str)| {
            known == name || (*known == DEFAULT_NETWORK && name == "default")
        };
        found.push(match (store.network(name)?, BUILT_IN.iter().find(is_built_in)) {
            (Some(network), _) => describe(&network, &register.on(&network.id)?),
            (None, Some((name, driver))) => describe_built_in(name, driver, &register.on(name)?),
            (None, None) => return Err(networks::missing(name)),
        });
    }
    match format {
        Format::Default => context.ui.line(&format!("{:#}", Value::Array(found))),
        format => print_rows(&context.ui, &format, "corten.network-inspect/1", &[], &found)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(network: &NetworkRecord, containers: &[LiveContainer]) -> Value {
    let shape = &network.shape;
    let subnet = |(first, bits)| Subnet::new(first, bits).to_string();
    let mut config = json!({ "Subnet": subnet(shape.subnet), "Gateway": shape.gateway });
    if let Some(range) = shape.range {
        config["IPRange"] = json!(subnet(range));
    }
    let mut configs = vec![config];
    if let Some((first, bits, gateway)) = shape.ipv6 {
        let subnet = Subnet6::new(first, bits).to_string();
        configs.push(json!({ "Subnet": subnet, "Gateway": gateway }));
    }
    json!({
        "Name": network.name,
        "Id": network.id,
        "Created": corten_oci::time::rfc3339(network.created),
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv4": true,
        "EnableIPv6": shape.ipv6.is_some(),
        "IPAM": { "Driver": "default", "Config": configs },
        "Internal": shape.internal,
        "Attachable": true,
        "Bridge": shape.bridge,
        "Containers": members(&network.id, containers),
        "Options": network.options,
        "Labels": network.labels,
    })
}

fn describe_built_in(name: &str, driver: &str, containers: &[LiveContainer]) -> Value {
    // Its subnet is chosen when the first container comes.
    let config = containers.iter().find_map(|container| container.endpoint(name)).map(|one| {
        json!({
            "Subnet": Subnet::new(one.address, one.prefix_bits).to_string(),
            "Gateway": one.gateway,
        })
    });
    json!({
        "Name": name,
        "Id": name,
        "Scope": "local",
        "Driver": driver,
        "EnableIPv4": true,
        "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Config": config.into_iter().collect::<Vec<_>>() },
        "Internal": false,
        "Bridge": if driver == "bridge" { json!(BRIDGE) } else { Value::Null },
        "Containers": members(name, containers),
        "Options": {},
        "Labels": {},
    })
}

/// Who is on a network now, by id, in Docker's words.
fn members(network: &str, containers: &[LiveContainer]) -> BTreeMap<String, Value> {
    let member = |container: &LiveContainer| {
        let endpoint = container.endpoint(network)?;
        let ipv6 = endpoint.ipv6.map(|(address, bits, _)| format!("{address}/{bits}"));
        let member = json!({
            "Name": container.name,
            "MacAddress": endpoint.mac.to_string(),
            "IPv4Address": format!("{}/{}", endpoint.address, endpoint.prefix_bits),
            "IPv6Address": ipv6.unwrap_or_default(),
        });
        Some((container.id.clone(), member))
    };
    containers.iter().filter_map(member).collect()
}

/// A network by its name, with the default one under both of its names.
fn place_of(store: &Store, name: &str) -> Result<ContainerNetwork, CliError> {
    let name = if name == "default" { DEFAULT_NETWORK } else { name };
    networks::wish(store, NetworkPlace { name: name.to_owned(), ..NetworkPlace::default() })
}

fn connect(
    context: &Context,
    store: &Store,
    arguments: &NetworkConnectArgs,
) -> Result<ExitCode, CliError> {
    let aliases = arguments.aliases.iter();
    let aliases = aliases.map(|alias| flag("alias", options::parse_alias(alias)));
    let place = NetworkPlace {
        name: match arguments.network.as_str() {
            "default" => DEFAULT_NETWORK.to_owned(),
            name => name.to_owned(),
        },
        aliases: aliases.collect::<Result<_, _>>()?,
        ipv4: networks::address::<Ipv4Addr>("ip", arguments.ip.as_deref())?,
        ipv6: networks::address::<Ipv6Addr>("ip6", arguments.ip6.as_deref())?,
        ..NetworkPlace::default()
    };
    let wish = networks::wish(store, place)?;
    let container = life::existing(store, &arguments.container)?;
    let id = &container.record.id;
    let places = places(store, &container.record)?;
    if places.iter().any(|known| known.network == wish.network) {
        return Err(CliError::new(format!(
            "container `{}` is on the network `{}` already",
            container.record.name, wish.name
        )));
    }
    let endpoint = corten_monitor::endpoint_of(store, &wish)?;
    let reserved = corten_monitor::reserved(store, id)?;
    if container.running {
        let notices = network::connect(id, &endpoint, &reserved)?;
        for notice in notices.iter().flatten() {
            if notice.severity == network::Severity::Warning {
                context.ui.warning(&notice.text);
            }
        }
        if let Some(control) = life::control(store, &container)? {
            control.serve_names()?;
        }
    }
    store.change_networks(id, |networks| {
        networks.get_or_insert(places).push(wish);
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The places that a container has, written down or by its definition.
fn places(
    store: &Store,
    record: &corten_store::ContainerRecord,
) -> Result<Vec<ContainerNetwork>, CliError> {
    if let Some(networks) = &record.networks {
        return Ok(networks.clone());
    }
    match corten_monitor::own_network(store, &record.id)? {
        corten_runtime::Network::Default => Ok(vec![place_of(store, DEFAULT_NETWORK)?]),
        mode => Err(CliError::new(format!(
            "container `{}` has {} network, and can be on no other one",
            record.name,
            match mode {
                corten_runtime::Network::Host => "the host's",
                _ => "no",
            }
        ))
        .hint("make it anew with `--network NAME`".to_owned())),
    }
}

fn disconnect(store: &Store, arguments: &NetworkDisconnectArgs) -> Result<ExitCode, CliError> {
    let place = place_of(store, &arguments.network)?;
    let container = life::existing(store, &arguments.container)?;
    let places = places(store, &container.record)?;
    if !places.iter().any(|known| known.network == place.network) {
        if arguments.force {
            return Ok(ExitCode::SUCCESS);
        }
        return Err(CliError::new(format!(
            "container `{}` is not on the network `{}`",
            container.record.name, place.name
        )));
    }
    if container.running {
        match network::disconnect(&container.record.id, &place.network) {
            Err(network::NetworkError::NotOn { .. }) => {}
            other => drop(other?),
        }
    }
    store.change_networks(&container.record.id, |networks| {
        networks.get_or_insert(places).retain(|known| known.network != place.network);
    })?;
    Ok(ExitCode::SUCCESS)
}

fn remove(context: &Context, store: &Store, arguments: &NetworkNamesArgs) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for name in &arguments.names {
        match remove_one(store, name) {
            Ok(true) => context.ui.line(name),
            Ok(false) if arguments.force => {}
            Ok(false) => code = networks::missing(name).print(&context.ui),
            Err(error) => code = error.print(&context.ui),
        }
    }
    code
}

fn remove_one(store: &Store, name: &str) -> Result<bool, CliError> {
    if BUILT_IN.iter().any(|(known, _)| *known == name) {
        return Err(CliError::new(format!("the network `{name}` is always there")));
    }
    store
        .remove_network(name, |network| Ok::<_, CliError>(corten_monitor::forget_network(network)?))
}

fn prune(context: &Context, store: &Store) -> Result<ExitCode, CliError> {
    for name in remove_unused(store)? {
        context.ui.line(&name);
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the networks that no container is on, and returns their names.
pub(super) fn remove_unused(store: &Store) -> Result<Vec<String>, CliError> {
    let mut removed = Vec::new();
    for network in store.networks()? {
        match store.remove_network(&network.name, |network| {
            Ok::<_, PruneError>(corten_monitor::forget_network(network).map_err(CliError::from)?)
        }) {
            Ok(true) => removed.push(network.name),
            Ok(false) | Err(PruneError::Store(StoreError::NetworkInUse { .. })) => {}
            Err(PruneError::Store(error)) => return Err(error.into()),
            Err(PruneError::Cli(error)) => return Err(error),
        }
    }
    Ok(removed)
}

/// Keeps apart what is no failure of `prune`.
enum PruneError {
    Store(StoreError),
    Cli(CliError),
}

impl From<StoreError> for PruneError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CliError> for PruneError {
    fn from(error: CliError) -> Self {
        Self::Cli(error)
    }
}
