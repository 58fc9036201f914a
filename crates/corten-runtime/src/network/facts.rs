//! What the host's network looks like, gathered once so that the plan can be pure.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::netlink::route::{Address, Link, Route, RouteSocket};
use serde::Serialize;

use super::NetworkError;
use super::resolv;
use super::subnet::{Subnet, Subnet6};
use super::wish::Taken;

/// The table of the routes that people write; 255 holds the host's own addresses.
const MAIN_TABLE: u32 = 254;

/// The MTU of Ethernet, for a host that has no way out.
const MTU_WITHOUT_UPLINK: u32 = 1500;

/// The limits of what a veth pair takes as its MTU.
const MTU_MIN: u32 = 576;
const MTU_MAX: u32 = 65535;

/// Files of the kernel hold a digit; a resolver's configuration holds a few lines.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Whether IPv4 packets are passed on between interfaces.
pub(super) const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The same of IPv6; a kernel without IPv6 has no such file.
pub(super) const FORWARDING6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// The host's network as far as a plan depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkFacts {
    /// The bridge of earlier containers, if it is there.
    pub bridge: Option<BridgeFacts>,
    /// Every network that the host has or has a route to, except by our bridge.
    pub networks: Vec<Subnet>,
    /// The largest packet that the way out takes.
    pub uplink_mtu: u32,
    /// Whether packets are passed on between interfaces.
    pub forwarding: bool,
    /// The same of IPv6.
    pub ipv6_forwarding: bool,
    /// The resolver configuration of the host.
    pub resolver: resolv::HostResolver,
}

/// The interface that has the name of our bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BridgeFacts {
    /// The kernel's number of it.
    pub link: u32,
    /// What it is; anything but `bridge` is foreign.
    pub kind: String,
    /// Whether it is switched on.
    pub up: bool,
    /// Its own addresses: the subnet that was chosen before.
    pub addresses: Vec<(Ipv4Addr, u8)>,
}

impl NetworkFacts {
    /// Asks the kernel of the calling thread's network namespace, with the bridge of this name as ours.
    pub fn gather(bridge: &str) -> Result<Self, NetworkError> {
        let mut socket = RouteSocket::open()?;
        let links = socket.links()?;
        let addresses = socket.addresses()?;
        let routes = socket.routes()?;
        let resolver = resolv::HostResolver::read()?;
        let bridge = bridge_facts(bridge, &links, &addresses);
        let own = bridge.as_ref().map(|bridge| bridge.link);
        Ok(Self {
            networks: networks(own, &addresses, &routes, &resolver),
            uplink_mtu: uplink_mtu(&links, &routes),
            forwarding: read_switch(Path::new(FORWARDING))?,
            ipv6_forwarding: read_switch(Path::new(FORWARDING6)).unwrap_or_default(),
            bridge,
            resolver,
        })
    }
}

/// Finds out what a new network must not overlap.
pub fn taken() -> Result<Taken, NetworkError> {
    let mut socket = RouteSocket::open()?;
    let links = socket.links()?;
    let addresses = socket.addresses()?;
    let routes = socket.routes()?;
    let routes6 = socket.ipv6_routes()?;
    let resolver = resolv::HostResolver::read()?;
    let subnet6 = |address, bits| match address {
        IpAddr::V6(address) if !address.is_unicast_link_local() && !address.is_multicast() => {
            Some(Subnet6::new(address, bits))
        }
        _ => None,
    };
    let routed = routes6.iter().filter(|route| route.prefix_bits > 0);
    let mut subnets6: Vec<Subnet6> =
        routed.filter_map(|route| subnet6(route.destination, route.prefix_bits)).collect();
    subnets6.extend(addresses.iter().filter_map(|one| subnet6(one.address, one.prefix_bits)));
    Ok(Taken {
        subnets: networks(None, &addresses, &routes, &resolver),
        subnets6,
        interfaces: links.into_iter().map(|link| link.name).collect(),
    })
}

fn bridge_facts(name: &str, links: &[Link], addresses: &[Address]) -> Option<BridgeFacts> {
    let link = links.iter().find(|link| link.name == name)?;
    let own = addresses.iter().filter(|address| address.link == link.index);
    let addresses = own.filter_map(|one| match one.address {
        IpAddr::V4(address) => Some((address, one.prefix_bits)),
        IpAddr::V6(_) => None,
    });
    Some(BridgeFacts {
        link: link.index,
        kind: link.kind.clone().unwrap_or_else(|| "a device".to_owned()),
        up: link.up,
        addresses: addresses.collect(),
    })
}

/// Collects what our subnet must not overlap: routes of every table, addresses, next hops and
/// name servers.
fn networks(
    own: Option<u32>,
    addresses: &[Address],
    routes: &[Route],
    resolver: &resolv::HostResolver,
) -> Vec<Subnet> {
    let foreign = |link: Option<u32>| own.is_none() || link != own;
    let subnet = |address, bits| match address {
        IpAddr::V4(address) => Some(Subnet::new(address, bits)),
        IpAddr::V6(_) => None,
    };
    let mut networks: Vec<Subnet> = Vec::new();
    for route in routes.iter().filter(|route| foreign(route.link)) {
        // A default route leads everywhere, so it says nothing about who is where.
        if route.prefix_bits > 0 {
            networks.extend(subnet(route.destination, route.prefix_bits));
        }
        networks.extend(route.gateway.and_then(|gateway| subnet(gateway, 32)));
    }
    for address in addresses.iter().filter(|address| foreign(Some(address.link))) {
        networks.extend(subnet(address.address, address.prefix_bits));
    }
    networks.extend(resolver.nameservers().into_iter().filter_map(|one| subnet(one, 32)));
    networks.sort_unstable();
    networks.dedup();
    networks
}

fn uplink_mtu(links: &[Link], routes: &[Route]) -> u32 {
    let default = routes
        .iter()
        .filter(|route| route.prefix_bits == 0 && route.table == MAIN_TABLE)
        .filter(|route| route.link.is_some())
        .min_by_key(|route| route.metric);
    let link = default.and_then(|route| links.iter().find(|link| Some(link.index) == route.link));
    let mtu = default.and_then(|route| route.mtu).filter(|mtu| *mtu != 0);
    mtu.or(link.map(|link| link.mtu)).unwrap_or(MTU_WITHOUT_UPLINK).clamp(MTU_MIN, MTU_MAX)
}

fn read_switch(path: &Path) -> Result<bool, IoError> {
    let bytes = file::read_limited(path, FILE_BYTES_MAX)?;
    Ok(bytes.first().is_some_and(|digit| *digit != b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, mtu: u32) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: (name == "corten0").then(|| "bridge".to_owned()),
            mtu,
            up: true,
            loopback: false,
            master: None,
        }
    }

    fn route(destination: [u8; 4], prefix_bits: u8, link: u32) -> Route {
        Route {
            destination: IpAddr::from(destination),
            prefix_bits,
            gateway: None,
            link: Some(link),
            metric: 0,
            mtu: None,
            table: MAIN_TABLE,
        }
    }

    #[test]
    fn the_mtu_is_that_of_the_preferred_way_out() {
        let links = [link(2, "eth0", 1400), link(3, "wlan0", 1500)];
        let mut slow = route([0, 0, 0, 0], 0, 3);
        slow.metric = 600;
        let mut quick = route([0, 0, 0, 0], 0, 2);
        quick.metric = 100;
        assert_eq!(uplink_mtu(&links, &[slow, quick]), 1400);
        assert_eq!(uplink_mtu(&links, &[slow]), 1500);
    }

    #[test]
    fn a_route_with_an_mtu_of_its_own_wins() {
        let mut route = route([0, 0, 0, 0], 0, 2);
        route.mtu = Some(1280);
        assert_eq!(uplink_mtu(&[link(2, "eth0", 1500)], &[route]), 1280);
    }

    #[test]
    fn without_a_way_out_the_mtu_is_that_of_ethernet() {
        assert_eq!(uplink_mtu(&[link(2, "eth0", 9000)], &[route([10, 0, 0, 0], 8, 2)]), 1500);
    }

    #[test]
    fn an_mtu_that_no_veth_takes_is_clamped() {
        let default = route([0, 0, 0, 0], 0, 2);
        assert_eq!(uplink_mtu(&[link(2, "tun0", 65536)], &[default]), 65535);
    }

    #[test]
    fn our_own_bridge_does_not_block_its_own_subnet() {
        let routes = [route([10, 213, 0, 0], 22, 7), route([192, 0, 2, 0], 24, 2)];
        let resolver = resolv::HostResolver::default();
        let subnet = |text: [u8; 4], bits| Subnet::new(Ipv4Addr::from(text), bits);
        assert_eq!(
            networks(Some(7), &[], &routes, &resolver),
            [subnet([192, 0, 2, 0], 24)],
            "with the bridge known"
        );
        assert_eq!(
            networks(None, &[], &routes, &resolver),
            [subnet([10, 213, 0, 0], 22), subnet([192, 0, 2, 0], 24)],
            "with a foreign bridge"
        );
    }

    #[test]
    fn gateways_and_name_servers_count_as_networks() {
        let mut default = route([0, 0, 0, 0], 0, 2);
        default.gateway = Some(IpAddr::from([10, 213, 0, 254]));
        let resolver = resolv::HostResolver {
            resolv_conf: Some("nameserver 10.214.1.1\n".to_owned()),
            ..resolv::HostResolver::default()
        };
        let texts: Vec<_> =
            networks(None, &[], &[default], &resolver).iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.213.0.254/32", "10.214.1.1/32"]);
    }

    #[test]
    fn the_facts_of_this_host_can_be_gathered() {
        let facts = NetworkFacts::gather("corten0").unwrap();
        assert!(facts.uplink_mtu >= MTU_MIN);
    }
}
