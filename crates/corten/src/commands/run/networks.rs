//! From flags to what a container's network shall be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use corten_runtime::network::{self, DEFAULT_NETWORK, HostAddress, PortMapping};
use corten_runtime::options::{self, NetworkOption, NetworkPlace};
use corten_runtime::{ContainerSpec, Namespace, Network};
use corten_store::{ContainerNetwork, Image, Store};

use crate::cli::ContainerArgs;
use crate::commands::{flag, life};
use crate::error::CliError;

/// Sets the network of a spec, and returns the places that are kept with the container, if it is to have
/// others than the usual one.
pub(super) fn apply(
    arguments: &ContainerArgs,
    image: &Image,
    store: &Store,
    spec: &mut ContainerSpec,
) -> Result<Option<Vec<ContainerNetwork>>, CliError> {
    let flags = &arguments.net;
    let mut places = Vec::new();
    let mut mode = None;
    for text in &flags.networks {
        match flag("network", options::parse_network(text))? {
            NetworkOption::Place(place) => places.push(place),
            other => mode = Some((text, other)),
        }
    }
    if let Some((text, _)) = &mode
        && flags.networks.len() > 1
    {
        return Err(CliError::new(format!(
            "`--network {text}` cannot be combined with another network"
        )));
    }
    spec.ports = ports(arguments, image)?;
    names(arguments, spec)?;
    match mode {
        None => {}
        Some((_, NetworkOption::Container(name))) => {
            share(arguments, store, spec, &name)?;
            return Ok(None);
        }
        Some((text, option)) => {
            spec.network =
                if option == NetworkOption::Host { Network::Host } else { Network::None };
            refuse_wishes(arguments, &format!("`--network {text}`"))?;
            let is_gateway = |(_, to): &(_, HostAddress)| *to == HostAddress::Gateway;
            if spec.network == Network::None && spec.networking.hosts.iter().any(is_gateway) {
                return Err(CliError::new("`host-gateway` has no meaning with `--network none`")
                    .hint("no way leads to the host; choose another network".to_owned()));
            }
            return Ok(None);
        }
    }
    spec.network = Network::Default;
    wishes(arguments, &mut places)?;
    let has_wishes = |place: &NetworkPlace| {
        *place != NetworkPlace { name: place.name.clone(), ..NetworkPlace::default() }
    };
    let is_default = |place: &NetworkPlace| place.name == DEFAULT_NETWORK;
    if places.iter().all(|place| is_default(place) && !has_wishes(place)) {
        return Ok(None);
    }
    spec.network = Network::User;
    places.into_iter().map(|place| wish(store, place)).collect::<Result<_, _>>().map(Some)
}

/// Puts what is said of the one network, or of the first of several, to its place.
fn wishes(arguments: &ContainerArgs, places: &mut Vec<NetworkPlace>) -> Result<(), CliError> {
    let flags = &arguments.net;
    let ipv4 = address::<Ipv4Addr>("ip", flags.ip.as_deref())?;
    let ipv6 = address::<Ipv6Addr>("ip6", flags.ip6.as_deref())?;
    let mac =
        flags.mac_address.as_deref().map(|text| flag("mac-address", options::parse_mac(text)));
    let mac = mac.transpose()?;
    if places.is_empty() {
        places.push(NetworkPlace { name: DEFAULT_NETWORK.to_owned(), ..NetworkPlace::default() });
    }
    let Some(first) = places.first_mut() else { return Ok(()) };
    for alias in &flags.aliases {
        first.aliases.push(flag("network-alias", options::parse_alias(alias))?);
    }
    first.ipv4 = ipv4.or(first.ipv4);
    first.ipv6 = ipv6.or(first.ipv6);
    first.mac = mac.or(first.mac);
    Ok(())
}

pub(in crate::commands) fn address<T: std::str::FromStr>(
    name: &str,
    text: Option<&str>,
) -> Result<Option<T>, CliError> {
    let Some(text) = text else { return Ok(None) };
    let address = text.parse().map_err(|_| {
        CliError::new(format!("failed to read `--{name}`: `{text}` is no such address"))
    })?;
    Ok(Some(address))
}

/// Finds the network of a place, and refuses what it cannot give.
pub(in crate::commands) fn wish(
    store: &Store,
    place: NetworkPlace,
) -> Result<ContainerNetwork, CliError> {
    let (network, name) = if place.name == DEFAULT_NETWORK {
        // Its subnet is another one on another day, and Docker's has no names either.
        if place.ipv4.is_some() || place.ipv6.is_some() || !place.aliases.is_empty() {
            return Err(CliError::new(
                "addresses and aliases can only be chosen on a network that you have made",
            )
            .hint("make one: `corten network create web`, and use `--network web`".to_owned()));
        }
        (DEFAULT_NETWORK.to_owned(), DEFAULT_NETWORK.to_owned())
    } else {
        let found = store.network(&place.name)?.ok_or_else(|| missing(&place.name))?;
        (found.id, found.name)
    };
    Ok(ContainerNetwork {
        network,
        name,
        ipv4: place.ipv4,
        ipv6: place.ipv6,
        mac: place.mac.map(|mac| mac.to_string()),
        aliases: place.aliases,
        gateway_priority: place.gateway_priority,
    })
}

pub(in crate::commands) fn missing(name: &str) -> CliError {
    CliError::new(format!("no network `{name}`"))
        .hint(format!("`corten network ls` lists them; make it: `corten network create {name}`"))
}

/// The flags that only a place on a network has a meaning for.
fn refuse_wishes(arguments: &ContainerArgs, with: &str) -> Result<(), CliError> {
    let flags = &arguments.net;
    let given = [
        ("--network-alias", !flags.aliases.is_empty()),
        ("--ip", flags.ip.is_some()),
        ("--ip6", flags.ip6.is_some()),
        ("--mac-address", flags.mac_address.is_some()),
    ];
    refuse(&given, with)
}

fn refuse(given: &[(&str, bool)], with: &str) -> Result<(), CliError> {
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(CliError::new(format!("`{name}` has no meaning with {with}"))
            .hint(format!("leave out `{name}`, or choose another network"))),
        None => Ok(()),
    }
}

/// The network of another container: what goes with the network is that container's to say.
fn share(
    arguments: &ContainerArgs,
    store: &Store,
    spec: &mut ContainerSpec,
    name: &str,
) -> Result<(), CliError> {
    let flags = &arguments.net;
    let with = format!("`--network container:{name}`, whose own they are");
    refuse_wishes(arguments, &with)?;
    let given = [
        ("--publish", !flags.publish.is_empty()),
        ("--publish-all", flags.publish_all),
        ("--expose", !flags.expose.is_empty()),
        ("--hostname", arguments.hostname.is_some()),
        ("--dns", !flags.dns.is_empty()),
        ("--dns-search", !flags.dns_search.is_empty()),
        ("--dns-option", !flags.dns_options.is_empty()),
        ("--add-host", !flags.hosts.is_empty()),
    ];
    refuse(&given, &with)?;
    let other = life::existing(store, name)?;
    if !other.running {
        return Err(CliError::new(format!(
            "container `{name}`, whose network is to be shared, does not run"
        ))
        .hint(format!("start it first: `corten start {name}`")));
    }
    spec.network = Network::None;
    spec.namespaces.network = Namespace::Container(other.record.id);
    Ok(())
}

/// What is published: as the flags say, and with `--publish-all` every port that image or flags expose.
fn ports(arguments: &ContainerArgs, image: &Image) -> Result<Vec<PortMapping>, CliError> {
    let flags = &arguments.net;
    let mut mappings = network::parse_ports(&flags.publish)?;
    let mut exposed = Vec::new();
    for text in &flags.expose {
        exposed.extend(flag("expose", options::parse_expose(text))?);
    }
    if !flags.publish_all {
        return Ok(mappings);
    }
    for text in &image.config.config.exposed_ports {
        // What an image says is read as far as it can be understood.
        exposed.extend(options::parse_expose(text).unwrap_or_default());
    }
    for one in exposed {
        let is_known = mappings.iter().any(|known| {
            (known.container_port, known.protocol) == (one.container_port, one.protocol)
        });
        if !is_known {
            mappings.push(one);
        }
    }
    network::ports::check(&mappings)?;
    Ok(mappings)
}

fn names(arguments: &ContainerArgs, spec: &mut ContainerSpec) -> Result<(), CliError> {
    let flags = &arguments.net;
    let names = &mut spec.networking.names;
    for text in &flags.dns {
        names.servers.push(flag::<IpAddr>("dns", options::parse_dns(text))?);
    }
    for text in &flags.dns_search {
        names.search.push(flag("dns-search", options::parse_dns_word(text))?);
    }
    for text in &flags.dns_options {
        names.options.push(flag("dns-option", options::parse_dns_word(text))?);
    }
    for text in &flags.hosts {
        spec.networking.hosts.push(flag("add-host", options::parse_host(text))?);
    }
    Ok(())
}
