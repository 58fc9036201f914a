//! From a request to a container's network, and back.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use corten_sys::netlink::route::RouteSocket;

use super::bridge::{self, Guest, inside, loopback_up};
use super::config::{Endpoint, On};
use super::lease::{Holder, Lease, Leases, Turn};
use super::names::{self, Server};
use super::pasta::{self, Helper};
use super::proxy::{self, Dial, Listener, Proxy, Published};
use super::register::{LiveContainer, LiveEndpoint, LivePort, Register, remove_interfaces};
use super::{
    ISOLATED_ADDRESS, ISOLATED_CLIENT, Network, NetworkError, NetworkRequest, Notice, ports,
};

/// A container's network while it lasts. Dropping it takes it down too, but keeps to itself what
/// fails then.
#[derive(Debug)]
#[must_use = "the network is taken down when this is dropped"]
pub struct Attachment {
    address: Option<Ipv4Addr>,
    addresses: Vec<IpAddr>,
    gateway: Option<Ipv4Addr>,
    published: Vec<Published>,
    notices: Vec<Notice>,
    proxy: Option<Proxy>,
    names: Option<Server>,
    helper: Option<Helper>,
    held: Option<Held>,
    /// Keeps the container's half of the connections alive until the proxy has drained them.
    netns: Option<OwnedFd>,
}

/// What the host has to forget when a container has ended.
#[derive(Debug)]
struct Held {
    container: String,
    leases: Leases,
    addresses: Vec<Lease>,
}

impl Held {
    /// Gives back every address that the container has now, whoever has taken it.
    fn give_back(self) -> Result<(), NetworkError> {
        let turn = self.leases.turn()?;
        let register = self.leases.register();
        let known = register.whatever(&self.container);
        let mut result = Ok(());
        if let Some(known) = &known {
            if self.leases.has_joiners(&self.container)? {
                // Its namespace lives on with them, and must not keep its addresses.
                result = remove_interfaces(known);
                self.leases.forget_joiners(&turn, &self.container)?;
            }
            for endpoint in &known.endpoints {
                let leases = leases_of(&self.leases, &endpoint.network)?;
                leases.give_back(&turn, endpoint.address)?;
            }
        } else {
            for lease in self.addresses {
                lease.release_in(&turn)?;
            }
        }
        register.remove(&turn, &self.container)?;
        result
    }
}

/// The leases of a network by its id.
pub(super) fn leases_of(leases: &Leases, network: &str) -> Result<Leases, NetworkError> {
    if network == On::Default.id() {
        return Ok(leases.clone());
    }
    Ok(leases.of_network(network)?)
}

impl Attachment {
    fn empty() -> Self {
        Self {
            address: None,
            addresses: Vec::new(),
            gateway: None,
            published: Vec::new(),
            notices: Vec::new(),
            proxy: None,
            names: None,
            helper: None,
            held: None,
            netns: None,
        }
    }

    /// Returns every address that the container has on its networks.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Returns the container's own address, if it has one.
    pub fn address(&self) -> Option<IpAddr> {
        self.address.map(IpAddr::V4)
    }

    /// Returns the address that leads out, if there is one.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway.map(IpAddr::V4)
    }

    /// Returns the ports of the host that are being listened on.
    pub fn published(&self) -> &[Published] {
        &self.published
    }

    /// Returns what people should know.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Takes the network down after the container has ended; goes on after a failure and returns
    /// all of them.
    pub fn detach(mut self) -> Vec<NetworkError> {
        self.take_down()
    }

    fn take_down(&mut self) -> Vec<NetworkError> {
        let proxy = self.proxy.take().map(Proxy::stop);
        let names = self.names.take().map(Server::stop);
        drop(self.netns.take());
        let helper = self.helper.take().map(Helper::end);
        let held = self.held.take().map(Held::give_back);
        [proxy, names, helper, held].into_iter().flatten().filter_map(Result::err).collect()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        drop(self.take_down());
    }
}

/// Gives a container its network.
///
/// When it fails, the caller ends the container; nothing else is left to be done.
pub fn attach(request: &NetworkRequest<'_>) -> Result<Attachment, NetworkError> {
    ports::check(request.ports)?;
    match request.network {
        Network::Host => {
            let mut attachment = Attachment::empty();
            if !request.ports.is_empty() {
                attachment.notices.push(Notice::note(
                    "no port is published, since the container listens on the host's own addresses",
                ));
            }
            return Ok(attachment);
        }
        Network::None | Network::Default | Network::User => {}
    }
    if let (true, Network::User, Some(first)) =
        (request.rootless, request.network, request.endpoints.first())
    {
        return Err(NetworkError::Rootless { network: first.on.name().to_owned() });
    }
    let leases = if request.rootless {
        pasta::open_records(request.state_dir)?
    } else {
        Leases::open(request.state_dir)?
    };
    let (listeners, unpublished) = listen(request, &leases.register())?;
    let live = LiveContainer::new(request.container_id, request.name, request.pid);
    let live = LiveContainer { ports: listeners.iter().map(live_port).collect(), ..live };
    let mut attachment = match request.network {
        Network::Default if request.rootless => attach_helper(request, leases, &live)?,
        Network::User if request.endpoints.is_empty() => {
            // One that is put on a network later is found by what is written down.
            let held = hold(leases.clone(), &live)?;
            let mut attachment = attach_loopback(request, leases, &live)?;
            attachment.held = Some(held);
            attachment
        }
        Network::Default | Network::User => attach_bridges(request, &leases, live)?,
        _ => attach_loopback(request, leases, &live)?,
    };
    attachment.notices.extend(unpublished);
    start_proxy(request, listeners, &mut attachment)?;
    Ok(attachment)
}

/// Listens on the host for the container; nothing comes in to one that is on internal networks only.
fn listen(
    request: &NetworkRequest<'_>,
    register: &Register,
) -> Result<(Vec<Listener>, Option<Notice>), NetworkError> {
    let internal = request.endpoints.iter().find(|endpoint| endpoint.on.is_internal());
    if request.network == Network::User
        && request.endpoints.iter().all(|endpoint| endpoint.on.is_internal())
        && let Some(internal) = internal
        && !request.ports.is_empty()
    {
        let name = internal.on.name();
        let text = format!("no port is published, since the network `{name}` is internal");
        return Ok((Vec::new(), Some(Notice::warning(text))));
    }
    match proxy::listen(request.ports) {
        Err(NetworkError::PortInUse { address, port, protocol, holder }) => {
            let ours = register.publisher(port, protocol);
            let holder = ours.map(|name| format!("the container `{name}`")).or(holder);
            Err(NetworkError::PortInUse { address, port, protocol, holder })
        }
        listeners => Ok((listeners?, None)),
    }
}

fn live_port(listener: &Listener) -> LivePort {
    let Published { host, container_port, protocol } = listener.published;
    LivePort { host, container: container_port, protocol }
}

fn attach_loopback(
    request: &NetworkRequest<'_>,
    leases: Leases,
    live: &LiveContainer,
) -> Result<Attachment, NetworkError> {
    let published = !live.ports.is_empty();
    inside(request.netns, || {
        let mut socket = RouteSocket::open()?;
        let loopback = loopback_up(&mut socket)?;
        if published {
            socket.add_address(loopback, ISOLATED_ADDRESS, 32)?;
            socket.add_address(loopback, ISOLATED_CLIENT, 32)?;
        }
        Ok(())
    })?;
    let mut attachment = Attachment::empty();
    attachment.address = published.then_some(ISOLATED_ADDRESS);
    if published {
        attachment.held = Some(hold(leases, live)?);
    }
    Ok(attachment)
}

fn attach_helper(
    request: &NetworkRequest<'_>,
    leases: Leases,
    live: &LiveContainer,
) -> Result<Attachment, NetworkError> {
    let (helper, address) = pasta::start(request, &leases)?;
    let mut attachment = Attachment::empty();
    attachment.address = Some(address);
    attachment.helper = Some(helper);
    attachment.held = Some(hold(leases, live)?);
    Ok(attachment)
}

/// Writes a container down that has no address of ours.
fn hold(leases: Leases, live: &LiveContainer) -> Result<Held, NetworkError> {
    let turn = leases.turn()?;
    leases.register().publish(&turn, live)?;
    drop(turn);
    Ok(Held { container: live.id.clone(), leases, addresses: Vec::new() })
}

fn attach_bridges(
    request: &NetworkRequest<'_>,
    leases: &Leases,
    mut live: LiveContainer,
) -> Result<Attachment, NetworkError> {
    let default = [Endpoint::on(On::Default)];
    let endpoints = match request.network {
        Network::Default => default.as_slice(),
        _ => request.endpoints,
    };
    let mut attachment = Attachment::empty();
    let mut held = Held {
        container: request.container_id.to_owned(),
        leases: leases.clone(),
        addresses: Vec::new(),
    };
    let turn = leases.turn()?;
    join_all(request, endpoints, (leases, &turn), (&mut live, &mut held, &mut attachment))?;
    live.names = endpoints.iter().any(|endpoint| endpoint.on.user().is_some());
    leases.register().publish(&turn, &live)?;
    drop(turn);
    attachment.held = Some(held);
    if live.names {
        let settings = names::Settings {
            container: live.id.clone(),
            register: leases.register(),
            nameservers: request.nameservers.to_vec(),
        };
        attachment.names = Some(Server::start(request.netns, settings)?);
    }
    let outward = live.endpoints.iter().find(|endpoint| !endpoint.internal);
    let first = outward.or(live.endpoints.first());
    attachment.address = first.map(|endpoint| endpoint.address);
    attachment.gateway = first.map(|endpoint| endpoint.gateway);
    attachment.addresses = live.endpoints.iter().flat_map(LiveEndpoint::addresses).collect();
    Ok(attachment)
}

fn join_all(
    request: &NetworkRequest<'_>,
    endpoints: &[Endpoint],
    (leases, turn): (&Leases, &Turn),
    (live, held, attachment): (&mut LiveContainer, &mut Held, &mut Attachment),
) -> Result<(), NetworkError> {
    let ways_out = (way_out(endpoints, |_| true), way_out(endpoints, has_ipv6));
    for (index, endpoint) in endpoints.iter().enumerate() {
        let reserved = reserved_on(request.reserved, &endpoint.on);
        let guest = Guest {
            holder: Holder { container_id: request.container_id, pid: request.pid },
            netns: request.netns,
            endpoint,
            reserved: &reserved,
            interface: &format!("eth{index}"),
            ways_out: (ways_out.0 == Some(index), ways_out.1 == Some(index)),
        };
        let joined = bridge::join(leases, turn, &guest)?;
        live.endpoints.push(joined.live);
        held.addresses.push(joined.lease);
        attachment.notices.extend(joined.notices);
    }
    Ok(())
}

fn has_ipv6(on: &On) -> bool {
    on.user().is_some_and(|network| network.ipv6.is_some())
}

pub(super) fn reserved_on(reserved: &[(String, Ipv4Addr)], on: &On) -> Vec<Ipv4Addr> {
    reserved.iter().filter(|(id, _)| id == on.id()).map(|(_, address)| *address).collect()
}

/// Returns which of the networks leads out: of those that are not internal that with the highest
/// priority, and then the first.
fn way_out(endpoints: &[Endpoint], is_of_kind: impl Fn(&On) -> bool) -> Option<usize> {
    let mut best: Option<(usize, i32)> = None;
    for (index, endpoint) in endpoints.iter().enumerate() {
        let priority = endpoint.gateway_priority;
        let is_better = best.is_none_or(|(_, known)| priority > known);
        if !endpoint.on.is_internal() && is_of_kind(&endpoint.on) && is_better {
            best = Some((index, priority));
        }
    }
    best.map(|(index, _)| index)
}

fn start_proxy(
    request: &NetworkRequest<'_>,
    listeners: Vec<Listener>,
    attachment: &mut Attachment,
) -> Result<(), NetworkError> {
    let Some(target) = attachment.address.filter(|_| !listeners.is_empty()) else { return Ok(()) };
    let duplicate = || {
        request
            .netns
            .try_clone_to_owned()
            .map_err(|source| NetworkError::Proxy { operation: "start", source })
    };
    let on_bridge = attachment.gateway.is_some();
    let source = (request.network == Network::None).then_some(ISOLATED_CLIENT);
    let namespace = if on_bridge { None } else { Some(duplicate()?) };
    attachment.netns = Some(duplicate()?);
    attachment.published = listeners.iter().map(|listener| listener.published).collect();
    attachment.proxy = Some(Proxy::start(listeners, Dial { target, source }, namespace)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::{Ipv4Network, UserNetwork};
    use super::*;

    fn endpoint(internal: bool, gateway_priority: i32) -> Endpoint {
        let network = UserNetwork {
            id: "ab".to_owned(),
            name: "web".to_owned(),
            bridge: "ctn-ab".to_owned(),
            ipv4: Ipv4Network {
                subnet: "10.216.0.0/24".parse().unwrap(),
                gateway: Ipv4Addr::new(10, 216, 0, 1),
                range: None,
            },
            ipv6: None,
            mtu: None,
            internal,
        };
        Endpoint { gateway_priority, ..Endpoint::on(On::User(network)) }
    }

    #[test]
    fn the_way_out_is_the_first_network_that_has_one_unless_another_goes_before() {
        let ways = |endpoints: &[Endpoint]| way_out(endpoints, |_| true);
        assert_eq!(ways(&[]), None);
        assert_eq!(ways(&[endpoint(true, 9)]), None);
        assert_eq!(ways(&[endpoint(true, 0), endpoint(false, 0), endpoint(false, 0)]), Some(1));
        assert_eq!(ways(&[endpoint(false, 0), endpoint(false, 2), endpoint(false, 2)]), Some(1));
        assert_eq!(way_out(&[Endpoint::on(On::Default)], has_ipv6), None);
    }
}
