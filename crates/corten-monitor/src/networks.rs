//! What networks a container is on, found anew with each start.
//!
//! The store has what somebody has made, and which of it a container is made for; the runtime takes what that
//! comes to. A network may have gone meanwhile, a container may have been put on another one, or renamed.

use std::net::Ipv4Addr;

use corten_runtime::network::{
    self, DEFAULT_NETWORK, Endpoint, Ipv4Network, Ipv6Network, JoinedNetwork, On, Subnet, Subnet6,
    UserNetwork,
};
use corten_runtime::{ContainerSpec, Namespace, Network};
use corten_store::{ContainerNetwork, ContainerRecord, NetworkRecord, Store};

use crate::control;
use crate::definition::Definition;
use crate::error::MonitorError;

/// Puts what a container's networks are now into its description.
pub fn settle(
    store: &Store,
    record: &ContainerRecord,
    spec: &mut ContainerSpec,
) -> Result<(), MonitorError> {
    spec.networking.name.clone_from(&record.name);
    if let Namespace::Container(other) = &spec.namespaces.network {
        // Its namespace is found with those of other kinds.
        spec.networking.joined = Some(join(store, other)?);
        return Ok(());
    }
    let Some(wanted) = &record.networks else { return Ok(()) };
    spec.network = Network::User;
    let endpoints = wanted.iter().map(|wish| endpoint_of(store, wish));
    spec.networking.endpoints = endpoints.collect::<Result<_, _>>()?;
    spec.networking.reserved = reserved(store, &record.id)?;
    Ok(())
}

/// Finds what goes with the network of a container that runs.
fn join(store: &Store, id: &str) -> Result<JoinedNetwork, MonitorError> {
    let gone = || MonitorError::PeerIsGone { id: id.to_owned() };
    let control = control::connect(&store.container_folder(id)?)?.ok_or_else(gone)?;
    let (pid, _) = control.process()?.ok_or_else(gone)?;
    Ok(JoinedNetwork::of(id, pid))
}

/// Returns what a container's wish for a place on a network comes to now.
pub fn endpoint_of(store: &Store, wish: &ContainerNetwork) -> Result<Endpoint, MonitorError> {
    let on = if wish.network == DEFAULT_NETWORK {
        On::Default
    } else {
        let gone = || MonitorError::NetworkGone { name: wish.name.clone() };
        On::User(network_of(&store.network(&wish.network)?.ok_or_else(gone)?))
    };
    let mac = wish.mac.as_ref().map(|text| text.parse()).transpose();
    Ok(Endpoint {
        on,
        ipv4: wish.ipv4,
        ipv6: wish.ipv6,
        mac: mac.map_err(MonitorError::Mac)?,
        aliases: wish.aliases.clone(),
        gateway_priority: wish.gateway_priority,
    })
}

/// Returns the addresses that other containers ask for whenever they start, with the ids of their
/// networks, so that nobody else is given them meanwhile.
pub fn reserved(store: &Store, own: &str) -> Result<Vec<(String, Ipv4Addr)>, MonitorError> {
    let containers = store.containers()?;
    let others = containers.into_iter().filter(|container| container.record.id != own);
    let wishes = others.flat_map(|container| container.record.networks.unwrap_or_default());
    Ok(wishes.filter_map(|wish| Some((wish.network, wish.ipv4?))).collect())
}

/// Returns a network as the runtime takes it.
pub fn network_of(record: &NetworkRecord) -> UserNetwork {
    let shape = &record.shape;
    let subnet = |(first, bits)| Subnet::new(first, bits);
    UserNetwork {
        id: record.id.clone(),
        name: record.name.clone(),
        bridge: shape.bridge.clone(),
        ipv4: Ipv4Network {
            subnet: subnet(shape.subnet),
            gateway: shape.gateway,
            range: shape.range.map(subnet),
        },
        ipv6: shape.ipv6.map(|(first, bits, gateway)| Ipv6Network {
            subnet: Subnet6::new(first, bits),
            gateway,
        }),
        mtu: shape.mtu,
        internal: shape.internal,
    }
}

/// Takes a network off the host that is to be no more.
pub fn forget(record: &NetworkRecord) -> Result<(), MonitorError> {
    network::forget(&network_of(record)).map_err(MonitorError::Network)
}

/// Returns which network a container has by the way in which it is run.
pub fn own_network(store: &Store, id: &str) -> Result<Network, MonitorError> {
    let spec = Definition::decode(&store.container_definition(id)?)?.spec;
    // Another container's network cannot be changed from here, and is none of its own.
    Ok(if spec.namespaces.network.is_new() { spec.network } else { Network::None })
}
