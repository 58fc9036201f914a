//! Carries out a bridge plan: makes the host ready, then joins a container to it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::path::Path;

use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::netlink::in_namespace;
use corten_sys::netlink::route::{RouteSocket, Veth};
use corten_sys::random;

use super::config::{Endpoint, Ipv6Network, Mac, On};
use super::facts::{FORWARDING, FORWARDING6, NetworkFacts};
use super::lease::{Choice, Holder, Lease, Leases, Turn};
use super::plan::{BridgePlan, BridgeStep, plan_bridge, plan_user_bridge};
use super::register::{LiveEndpoint, Register};
use super::subnet::Subnet6;
use super::{NetworkError, Notice, firewall};

/// The name of the other side is random; a clash with one that is being taken down is possible.
const NAME_ATTEMPTS: u32 = 4;

/// Addresses of IPv6 that are looked at before a network counts as full.
const SEARCH_MAX: u128 = 1 << 16;

/// A container that is to be joined to a network.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guest<'a> {
    pub(super) holder: Holder<'a>,
    pub(super) netns: BorrowedFd<'a>,
    pub(super) endpoint: &'a Endpoint,
    /// Addresses of the network that others will ask for.
    pub(super) reserved: &'a [Ipv4Addr],
    /// What programs in containers expect their interfaces to be called: `eth0`, `eth1`, ….
    pub(super) interface: &'a str,
    /// Whether the ways out of IPv4 and of IPv6 lead here.
    pub(super) ways_out: (bool, bool),
}

/// A container's place on a bridge.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) lease: Lease,
    pub(super) live: LiveEndpoint,
    pub(super) notices: Vec<Notice>,
}

/// Makes bridge, firewall table and forwarding what they should be, takes an address, and gives
/// the container its interface.
pub(super) fn join(
    leases: &Leases,
    turn: &Turn,
    guest: &Guest<'_>,
) -> Result<Joined, NetworkError> {
    let on = &guest.endpoint.on;
    let facts = NetworkFacts::gather(on.bridge())?;
    let plan = match on {
        On::Default => plan_bridge(&facts)?,
        On::User(network) => plan_user_bridge(network, &facts)?,
    };
    let ipv6 = on.user().and_then(|network| network.ipv6);
    let link = prepare_bridge(on.bridge(), &plan, ipv6)?;
    let mut notices = firewall::ensure(on, plan.subnet)?;
    if plan.turn_on_forwarding {
        write_switch(FORWARDING, true).map_err(NetworkError::Forwarding)?;
    }
    if ipv6.is_some() && !on.is_internal() && !facts.ipv6_forwarding {
        notices.push(turn_on_ipv6_forwarding()?);
    }
    let own_leases = match on {
        On::Default => leases.clone(),
        On::User(network) => leases.of_network(&network.id)?,
    };
    let choice = Choice {
        subnet: plan.subnet,
        gateway: plan.gateway,
        range: on.user().and_then(|network| network.ipv4.range),
        exact: guest.endpoint.ipv4,
        reserved: guest.reserved,
    };
    let lease = own_leases.take(turn, &choice, guest.holder)?;
    let ipv6 = address6(guest.endpoint, ipv6, lease.address(), &plan, &leases.register())?;
    let mac = guest.endpoint.mac.unwrap_or_else(|| Mac::of(lease.address()));
    // When one of these fails, the container is not started: its namespace takes the interfaces
    // with it, and the next run reclaims the lease.
    let veth = add_interface(guest, &plan, link, mac)?;
    let live = LiveEndpoint {
        network: on.id().to_owned(),
        network_name: on.name().to_owned(),
        interface: guest.interface.to_owned(),
        veth,
        address: lease.address(),
        prefix_bits: plan.subnet.bits(),
        gateway: plan.gateway,
        ipv6,
        mac,
        aliases: guest.endpoint.aliases.clone(),
        internal: on.is_internal(),
    };
    configure_inside(guest.netns, &live, guest.ways_out)?;
    notices.extend(plan.notices);
    Ok(Joined { lease, live, notices })
}

/// Returns the bridge's number.
fn prepare_bridge(
    name: &str,
    plan: &BridgePlan,
    ipv6: Option<Ipv6Network>,
) -> Result<u32, NetworkError> {
    if let BridgeStep::Keep { link } = plan.bridge {
        return Ok(link);
    }
    let mut socket = RouteSocket::open()?;
    match plan.bridge {
        BridgeStep::Keep { link } => Ok(link),
        BridgeStep::SwitchOn { link } => {
            socket.set_up(link)?;
            Ok(link)
        }
        BridgeStep::GiveAddress { link } => {
            give_addresses(&mut socket, link, plan, ipv6)?;
            Ok(link)
        }
        BridgeStep::Create => {
            socket.add_bridge(name, Mac::of(plan.gateway).0, plan.mtu)?;
            let link = socket
                .link(name)?
                .ok_or_else(|| NetworkError::InterfaceMissing { name: name.to_owned() })?;
            if ipv6.is_none() {
                disable_ipv6(name)?;
            }
            give_addresses(&mut socket, link.index, plan, ipv6)?;
            Ok(link.index)
        }
    }
}

/// The address of IPv4 comes last: a bridge that has it has everything.
fn give_addresses(
    socket: &mut RouteSocket,
    link: u32,
    plan: &BridgePlan,
    ipv6: Option<Ipv6Network>,
) -> Result<(), NetworkError> {
    socket.set_up(link)?;
    if let Some(ipv6) = ipv6 {
        match socket.add_address(link, ipv6.gateway, ipv6.subnet.bits()) {
            Err(error) if error.is_already_exists() => {}
            other => other?,
        }
    }
    socket.add_address(link, plan.gateway, plan.subnet.bits())?;
    Ok(())
}

/// Chooses the address of IPv6 that goes with one of IPv4: as far from the first of its network,
/// unless somebody has asked for that one.
fn address6(
    endpoint: &Endpoint,
    network: Option<Ipv6Network>,
    address: Ipv4Addr,
    plan: &BridgePlan,
    register: &Register,
) -> Result<Option<(Ipv6Addr, u8, Ipv6Addr)>, NetworkError> {
    let Some(Ipv6Network { subnet, gateway }) = network else {
        let network = endpoint.on.name().to_owned();
        return if endpoint.ipv6.is_some() {
            Err(NetworkError::NoIpv6 { network })
        } else {
            Ok(None)
        };
    };
    let others = register.on(endpoint.on.id())?;
    let holder = |wanted: Ipv6Addr| {
        others.iter().find(|container| {
            let endpoint = container.endpoint(endpoint.on.id());
            endpoint.and_then(|endpoint| endpoint.ipv6).is_some_and(|(known, ..)| known == wanted)
        })
    };
    let Some(wanted) = endpoint.ipv6 else {
        let offset = address.to_bits().saturating_sub(plan.subnet.first().to_bits());
        let is_free = |one: &Ipv6Addr| *one != gateway && holder(*one).is_none();
        let chosen = free_address6(subnet, u128::from(offset), is_free).ok_or({
            let (subnet, containers) = (plan.subnet, others.len());
            NetworkError::NoFreeAddress { subnet, containers }
        })?;
        return Ok(Some((chosen, subnet.bits(), gateway)));
    };
    let refused =
        |reason: String| Err(NetworkError::AddressRefused { address: wanted.into(), reason });
    if !subnet.contains(wanted) {
        return refused(format!("the network has {subnet}"));
    }
    if wanted == gateway || wanted == subnet.first() {
        return refused("it is the gateway's or the network's own".to_owned());
    }
    if let Some(holder) = holder(wanted) {
        let holder = holder.name.clone();
        return Err(NetworkError::AddressTaken { address: wanted.into(), holder });
    }
    Ok(Some((wanted, subnet.bits(), gateway)))
}

/// Returns the first free address that is at least so far from the first one, else any.
fn free_address6(
    subnet: Subnet6,
    offset: u128,
    is_free: impl Fn(&Ipv6Addr) -> bool,
) -> Option<Ipv6Addr> {
    let after = (offset.max(1)..offset + SEARCH_MAX).map_while(|offset| subnet.nth(offset));
    let before = (1..offset.min(SEARCH_MAX)).map_while(|offset| subnet.nth(offset));
    after.chain(before).find(is_free)
}

/// Makes the pair of interfaces: one a port of the bridge, the other in the container. Returns the
/// name of the former.
fn add_interface(
    guest: &Guest<'_>,
    plan: &BridgePlan,
    bridge: u32,
    mac: Mac,
) -> Result<String, NetworkError> {
    let mut socket = RouteSocket::open()?;
    let mut attempt = 1;
    loop {
        let name = veth_name(&random::name());
        let veth = Veth {
            name: &name,
            peer_name: guest.interface,
            peer_address: mac.0,
            peer_namespace: guest.netns,
            master: Some(bridge),
            mtu: plan.mtu,
        };
        match socket.add_veth(&veth) {
            Err(error) if error.is_already_exists() && attempt < NAME_ATTEMPTS => attempt += 1,
            result => return Ok(result.map(|()| name)?),
        }
    }
}

/// Names of interfaces have at most 15 bytes.
fn veth_name(random: &str) -> String {
    format!("veth{}", random.get(..10).unwrap_or(random))
}

fn configure_inside(
    netns: BorrowedFd<'_>,
    live: &LiveEndpoint,
    (leads_out, leads_out6): (bool, bool),
) -> Result<(), NetworkError> {
    inside(netns, || {
        let mut socket = RouteSocket::open()?;
        loopback_up(&mut socket)?;
        let link = interface(&mut socket, &live.interface)?;
        if live.ipv6.is_none() {
            // An address that leads nowhere only makes programs wait.
            disable_ipv6(&live.interface)?;
        }
        socket.add_address(link, live.address, live.prefix_bits)?;
        if let Some((address, bits, _)) = live.ipv6 {
            socket.add_address(link, address, bits)?;
        }
        socket.set_up(link)?;
        if leads_out {
            socket.add_default_route(link, live.gateway)?;
        }
        if let Some((_, _, gateway)) = live.ipv6.filter(|_| leads_out6) {
            socket.add_default_route(link, gateway)?;
        }
        Ok(())
    })
}

/// Makes one of the endpoints that are left the way out, where there is none.
pub(super) fn restore_ways_out(
    netns: BorrowedFd<'_>,
    endpoints: &[LiveEndpoint],
) -> Result<(), NetworkError> {
    let outward = endpoints.iter().filter(|endpoint| !endpoint.internal);
    let (mut first, mut first6) = (None, None);
    for endpoint in outward {
        first = first.or(Some((endpoint.interface.as_str(), endpoint.gateway)));
        first6 = first6.or(endpoint.ipv6.map(|(_, _, via)| (endpoint.interface.as_str(), via)));
    }
    inside(netns, || {
        let mut socket = RouteSocket::open()?;
        let leads_out = |routes: Vec<corten_sys::netlink::route::Route>| {
            routes.iter().any(|route| route.prefix_bits == 0 && route.gateway.is_some())
        };
        if let Some((name, gateway)) = first
            && !leads_out(socket.routes()?)
        {
            let link = interface(&mut socket, name)?;
            socket.add_default_route(link, gateway)?;
        }
        if let Some((name, gateway)) = first6
            && !leads_out(socket.ipv6_routes()?)
        {
            let link = interface(&mut socket, name)?;
            socket.add_default_route(link, gateway)?;
        }
        Ok(())
    })
}

/// Takes an interface out of a container; one that is not there is taken out already.
pub(super) fn remove_interface(netns: BorrowedFd<'_>, name: &str) -> Result<(), NetworkError> {
    inside(netns, || {
        let mut socket = RouteSocket::open()?;
        match socket.link(name)? {
            Some(link) => Ok(socket.remove_link(link.index)?),
            None => Ok(()),
        }
    })
}

/// Returns the first name of an interface that a container does not have.
pub(super) fn free_interface(netns: BorrowedFd<'_>) -> Result<String, NetworkError> {
    let links = inside(netns, || Ok(RouteSocket::open()?.links()?))?;
    let name = (0..=links.len())
        .map(|number| format!("eth{number}"))
        .find(|name| links.iter().all(|link| link.name != *name));
    Ok(name.unwrap_or_else(|| "eth0".to_owned()))
}

fn interface(socket: &mut RouteSocket, name: &str) -> Result<u32, NetworkError> {
    let link = socket.link(name)?;
    let missing = || NetworkError::InterfaceMissing { name: name.to_owned() };
    Ok(link.ok_or_else(missing)?.index)
}

/// Lets packets of IPv6 pass. A host that passes packets on does not listen to routers any more, unless
/// it is told to: those of its interfaces that do so now go on.
fn turn_on_ipv6_forwarding() -> Result<Notice, NetworkError> {
    let folder = Path::new("/proc/sys/net/ipv6/conf");
    for name in file::list_dir(folder)? {
        let path = folder.join(name).join("accept_ra");
        let found = file::read_limited(&path, 16)?;
        if found.first() == Some(&b'1') {
            file::write(&path, b"2")?;
        }
    }
    write_switch(FORWARDING6, true).map_err(NetworkError::Forwarding)?;
    Ok(Notice::note(
        "turned on `net.ipv6.conf.all.forwarding`, without which no packet leaves the bridge",
    ))
}

/// Runs work in the container's namespace and flattens the two kinds of failure.
pub(super) fn inside<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, NetworkError> + Send,
) -> Result<T, NetworkError> {
    in_namespace(netns, work).map_err(NetworkError::Enter)?
}

/// Switches on the loopback interface of the calling thread's namespace and returns its number.
pub(super) fn loopback_up(socket: &mut RouteSocket) -> Result<u32, NetworkError> {
    let missing = || NetworkError::InterfaceMissing { name: "lo".to_owned() };
    let link = socket.link("lo")?.ok_or_else(missing)?;
    if !link.up {
        socket.set_up(link.index)?;
    }
    Ok(link.index)
}

/// Turns IPv6 off for one interface; a kernel without IPv6 has no such file.
fn disable_ipv6(interface: &str) -> Result<(), IoError> {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    if file::exists(Path::new(&path))? { write_switch(&path, true) } else { Ok(()) }
}

/// Writes a setting of the calling thread's network namespace.
fn write_switch(path: &str, on: bool) -> Result<(), IoError> {
    file::write(Path::new(path), if on { b"1" } else { b"0" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_interface_fits() {
        assert_eq!(veth_name("0123456789abcdef"), "veth0123456789");
        assert!(veth_name("0123456789abcdef").len() <= 15);
        assert_eq!(veth_name("ab"), "vethab");
    }

    #[test]
    fn an_address_of_ipv6_goes_with_that_of_ipv4_unless_somebody_has_it() {
        let subnet: Subnet6 = "fd00::/64".parse().unwrap();
        let taken: Vec<Ipv6Addr> = vec!["fd00::5".parse().unwrap()];
        let free = |one: &Ipv6Addr| !taken.contains(one);
        let found = |offset| free_address6(subnet, offset, free).unwrap().to_string();
        assert_eq!(found(2), "fd00::2");
        assert_eq!(found(5), "fd00::6");
        let small: Subnet6 = "fd00::/126".parse().unwrap();
        let found = free_address6(small, 77, |_| true).unwrap();
        assert_eq!(
            found.to_string(),
            "fd00::1",
            "a smaller network is searched from its beginning"
        );
        assert_eq!(free_address6(small, 1, |_| false), None);
    }
}
