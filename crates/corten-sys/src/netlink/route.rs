//! Links, addresses and routes (rtnetlink).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::message::{Attributes, Builder, Message, number, short};
use super::{ACKNOWLEDGE, CREATE, DUMP, EXCLUSIVE, NetlinkError, REQUEST, Socket};

/// Bytes of `struct ifinfomsg`.
const LINK_HEADER_BYTES: usize = 16;
/// Bytes of `struct ifaddrmsg`.
const ADDRESS_HEADER_BYTES: usize = 8;
/// Bytes of `struct rtmsg`.
const ROUTE_HEADER_BYTES: usize = 12;

/// The peer's half of a veth pair (`VETH_INFO_PEER`), in `linux/veth.h`.
const VETH_INFO_PEER: u16 = 1;

const FAMILY_ANY: u8 = byte(libc::AF_UNSPEC);
const FAMILY_IPV4: u8 = byte(libc::AF_INET);
const FAMILY_IPV6: u8 = byte(libc::AF_INET6);
const UP: u32 = bits(libc::IFF_UP);
const LOOPBACK: u32 = bits(libc::IFF_LOOPBACK);

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "address families and route types are one byte on the wire"
)]
const fn byte(value: libc::c_int) -> u8 {
    value as u8
}

#[expect(clippy::cast_sign_loss, reason = "interface flags are bits")]
const fn bits(value: libc::c_int) -> u32 {
    value as u32
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The number that the kernel gave it.
    pub index: u32,
    /// Such as `eth0`.
    pub name: String,
    /// Such as `bridge` or `veth`; physical devices have none.
    pub kind: Option<String>,
    /// The largest packet in bytes.
    pub mtu: u32,
    /// Whether it is switched on.
    pub up: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// The bridge that it is a port of.
    pub master: Option<u32>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The interface.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// The bits of the network.
    pub prefix_bits: u8,
}

/// A route of the main or of another table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The first address of the destination; `0.0.0.0` for a default route.
    pub destination: IpAddr,
    /// The bits of the destination; 0 for a default route.
    pub prefix_bits: u8,
    /// The next hop, unless the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The interface that it leads out of; `None` for a blackhole and the like.
    pub link: Option<u32>,
    /// The lower, the more preferred.
    pub metric: u32,
    /// The largest packet in bytes, when the route has a limit of its own.
    pub mtu: Option<u32>,
    /// The table; 254 is the main one and 255 the addresses of the host itself.
    pub table: u32,
}

/// A pair of joined interfaces, one of them in another network namespace.
#[derive(Debug, Clone, Copy)]
pub struct Veth<'a> {
    /// The name on this side.
    pub name: &'a str,
    /// The name on the other side.
    pub peer_name: &'a str,
    /// The hardware address of the other side.
    pub peer_address: [u8; 6],
    /// Where the other side is made.
    pub peer_namespace: BorrowedFd<'a>,
    /// The bridge that this side becomes a port of.
    pub master: Option<u32>,
    /// The largest packet in bytes, for both sides.
    pub mtu: u32,
}

/// A socket to the routing half of the kernel.
#[derive(Debug)]
pub struct RouteSocket {
    socket: Socket,
}

impl RouteSocket {
    /// Opens a socket to the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { socket: Socket::open(None)? })
    }

    /// Lists the interfaces.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let build = |sequence| dump(libc::RTM_GETLINK, sequence, &link_header(FAMILY_ANY, 0, 0, 0));
        self.socket.dump("list the network interfaces", &build, &parse_link)
    }

    /// Returns the interface of this name, if there is one.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let sequence = self.socket.next_sequence();
        let mut builder = Builder::new();
        builder
            .message(libc::RTM_GETLINK, REQUEST | ACKNOWLEDGE, sequence)
            .header(&link_header(FAMILY_ANY, 0, 0, 0))
            .text(libc::IFLA_IFNAME, name);
        let mut found = None;
        let result = self.socket.request(
            &format!("look up the network interface `{name}`"),
            builder.as_bytes(),
            sequence,
            &mut |message| found = parse_link(message),
        );
        match result {
            Err(error) if error.is_not_found() => Ok(None),
            result => result.map(|()| found),
        }
    }

    /// Lists the addresses of every interface.
    pub fn addresses(&mut self) -> Result<Vec<Address>, NetlinkError> {
        let build = |sequence| dump(libc::RTM_GETADDR, sequence, &[0; ADDRESS_HEADER_BYTES]);
        self.socket.dump("list the network addresses", &build, &parse_address)
    }

    /// Lists the IPv4 routes of every table.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        self.routes_of(FAMILY_IPV4)
    }

    /// Lists the IPv6 routes of every table.
    pub fn ipv6_routes(&mut self) -> Result<Vec<Route>, NetlinkError> {
        self.routes_of(FAMILY_IPV6)
    }

    fn routes_of(&mut self, family: u8) -> Result<Vec<Route>, NetlinkError> {
        let mut header = [0; ROUTE_HEADER_BYTES];
        header[0] = family;
        let build = |sequence| dump(libc::RTM_GETROUTE, sequence, &header);
        self.socket.dump("list the routes", &build, &parse_route)
    }

    /// Makes a bridge, switched on; fails if the name is taken.
    ///
    /// Without a hardware address of its own, a bridge takes that of one of its ports, and changes
    /// it as ports come and go, to the confusion of those who remember it.
    pub fn add_bridge(
        &mut self,
        name: &str,
        address: [u8; 6],
        mtu: u32,
    ) -> Result<(), NetlinkError> {
        let sequence = self.socket.next_sequence();
        let message = bridge_message(sequence, name, address, mtu);
        self.acknowledge(&format!("add the bridge `{name}`"), &message, sequence)
    }

    /// Makes a pair of interfaces with the other side in another namespace; this side is switched
    /// on.
    pub fn add_veth(&mut self, veth: &Veth<'_>) -> Result<(), NetlinkError> {
        let sequence = self.socket.next_sequence();
        let message = veth_message(sequence, veth);
        self.acknowledge(&format!("add the veth pair `{}`", veth.name), &message, sequence)
    }

    /// Switches an interface on.
    pub fn set_up(&mut self, link: u32) -> Result<(), NetlinkError> {
        let sequence = self.socket.next_sequence();
        let mut builder = Builder::new();
        builder
            .message(libc::RTM_NEWLINK, REQUEST | ACKNOWLEDGE, sequence)
            .header(&link_header(FAMILY_ANY, link, UP, UP));
        self.acknowledge(&format!("switch on the interface {link}"), &builder, sequence)
    }

    /// Removes an interface, and with it the other side of a veth pair.
    pub fn remove_link(&mut self, link: u32) -> Result<(), NetlinkError> {
        let sequence = self.socket.next_sequence();
        let mut builder = Builder::new();
        builder
            .message(libc::RTM_DELLINK, REQUEST | ACKNOWLEDGE, sequence)
            .header(&link_header(FAMILY_ANY, link, 0, 0));
        self.acknowledge(&format!("remove the interface {link}"), &builder, sequence)
    }

    /// Gives an interface an address, and with it the route to the address's network. One of IPv6 can
    /// be used at once: whoever gives it knows that nobody else has it.
    pub fn add_address(
        &mut self,
        link: u32,
        address: impl Into<IpAddr>,
        prefix_bits: u8,
    ) -> Result<(), NetlinkError> {
        let address = address.into();
        let sequence = self.socket.next_sequence();
        let message = address_message(sequence, link, address, prefix_bits);
        let operation = format!("add the address {address}/{prefix_bits}");
        self.acknowledge(&operation, &message, sequence)
    }

    /// Sends everything that no other route takes to a gateway.
    pub fn add_default_route(
        &mut self,
        link: u32,
        gateway: impl Into<IpAddr>,
    ) -> Result<(), NetlinkError> {
        let gateway = gateway.into();
        let sequence = self.socket.next_sequence();
        let message = default_route_message(sequence, link, gateway);
        self.acknowledge(&format!("add the default route via {gateway}"), &message, sequence)
    }

    fn acknowledge(
        &mut self,
        operation: &str,
        message: &Builder,
        sequence: u32,
    ) -> Result<(), NetlinkError> {
        self.socket.request(operation, message.as_bytes(), sequence, &mut |_| {})
    }
}

fn dump(kind: u16, sequence: u32, header: &[u8]) -> Builder {
    let mut builder = Builder::new();
    builder.message(kind, REQUEST | DUMP, sequence).header(header);
    builder
}

/// Writes `struct ifinfomsg`: which interface, and which flags are to change to what.
fn link_header(family: u8, link: u32, flags: u32, change: u32) -> [u8; LINK_HEADER_BYTES] {
    let mut header = [0; LINK_HEADER_BYTES];
    header[0] = family;
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn bridge_message(sequence: u32, name: &str, address: [u8; 6], mtu: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .message(libc::RTM_NEWLINK, REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE, sequence)
        .header(&link_header(FAMILY_ANY, 0, UP, UP))
        .text(libc::IFLA_IFNAME, name)
        .attribute(libc::IFLA_ADDRESS, &address)
        .number(libc::IFLA_MTU, mtu)
        .nested(libc::IFLA_LINKINFO, |info| {
            info.text(libc::IFLA_INFO_KIND, "bridge");
        });
    builder
}

/// One request makes both sides, names them, puts each where it belongs and switches ours on.
fn veth_message(sequence: u32, veth: &Veth<'_>) -> Builder {
    let mut builder = Builder::new();
    builder
        .message(libc::RTM_NEWLINK, REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE, sequence)
        .header(&link_header(FAMILY_ANY, 0, UP, UP))
        .text(libc::IFLA_IFNAME, veth.name)
        .number(libc::IFLA_MTU, veth.mtu);
    if let Some(master) = veth.master {
        builder.number(libc::IFLA_MASTER, master);
    }
    builder.nested(libc::IFLA_LINKINFO, |info| {
        info.text(libc::IFLA_INFO_KIND, "veth").nested(libc::IFLA_INFO_DATA, |data| {
            data.nested(VETH_INFO_PEER, |peer| {
                peer.raw(&link_header(FAMILY_ANY, 0, 0, 0))
                    .text(libc::IFLA_IFNAME, veth.peer_name)
                    .number(libc::IFLA_MTU, veth.mtu)
                    .attribute(libc::IFLA_ADDRESS, &veth.peer_address)
                    .attribute(
                        libc::IFLA_NET_NS_FD,
                        &veth.peer_namespace.as_raw_fd().to_ne_bytes(),
                    );
            });
        });
    });
    builder
}

fn address_message(sequence: u32, link: u32, address: IpAddr, prefix_bits: u8) -> Builder {
    let mut header = [0; ADDRESS_HEADER_BYTES];
    header[0] = family_of(address);
    header[1] = prefix_bits;
    if address.is_ipv6() {
        header[2] = WITHOUT_DETECTION;
    }
    header[4..8].copy_from_slice(&link.to_ne_bytes());
    let octets = Octets::of(address);
    let mut builder = Builder::new();
    builder
        .message(libc::RTM_NEWADDR, REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE, sequence)
        .header(&header)
        .attribute(libc::IFA_LOCAL, octets.as_slice())
        .attribute(libc::IFA_ADDRESS, octets.as_slice());
    if let IpAddr::V4(address) = address
        // Networks of one or two addresses have no broadcast address.
        && prefix_bits < 31
    {
        let host_bits = u32::MAX.checked_shr(u32::from(prefix_bits)).unwrap_or_default();
        let broadcast = Ipv4Addr::from_bits(address.to_bits() | host_bits);
        builder.attribute(libc::IFA_BROADCAST, &broadcast.octets());
    }
    builder
}

/// No search for others who have the address (`IFA_F_NODAD`), during which it could not be used.
const WITHOUT_DETECTION: u8 = 2;

/// An address as it is on the wire.
enum Octets {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Octets {
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6(address.octets()),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

const fn family_of(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => FAMILY_IPV4,
        IpAddr::V6(_) => FAMILY_IPV6,
    }
}

fn default_route_message(sequence: u32, link: u32, gateway: IpAddr) -> Builder {
    let header = [
        family_of(gateway),
        0,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    let mut builder = Builder::new();
    builder
        .message(libc::RTM_NEWROUTE, REQUEST | ACKNOWLEDGE | CREATE | EXCLUSIVE, sequence)
        .header(&header)
        .attribute(libc::RTA_GATEWAY, Octets::of(gateway).as_slice())
        .number(libc::RTA_OIF, link);
    builder
}

fn parse_link(message: Message<'_>) -> Option<Link> {
    if message.kind != libc::RTM_NEWLINK {
        return None;
    }
    let (header, attributes) = message.split(LINK_HEADER_BYTES)?;
    let flags = number(header, 8)?;
    Some(Link {
        index: number(header, 4)?,
        name: attributes.text(libc::IFLA_IFNAME)?,
        kind: attributes.inside(libc::IFLA_LINKINFO).text(libc::IFLA_INFO_KIND),
        mtu: attributes.number(libc::IFLA_MTU)?,
        up: flags & UP != 0,
        loopback: flags & LOOPBACK != 0,
        master: attributes.number(libc::IFLA_MASTER),
    })
}

fn parse_address(message: Message<'_>) -> Option<Address> {
    if message.kind != libc::RTM_NEWADDR {
        return None;
    }
    let (header, attributes) = message.split(ADDRESS_HEADER_BYTES)?;
    let family = *header.first()?;
    // On a point-to-point link `IFA_ADDRESS` is the other end and `IFA_LOCAL` ours.
    let value = attributes.find(libc::IFA_LOCAL).or_else(|| attributes.find(libc::IFA_ADDRESS))?;
    Some(Address {
        link: number(header, 4)?,
        address: ip_address(family, value)?,
        prefix_bits: *header.get(1)?,
    })
}

fn parse_route(message: Message<'_>) -> Option<Route> {
    if message.kind != libc::RTM_NEWROUTE {
        return None;
    }
    let (header, attributes) = message.split(ROUTE_HEADER_BYTES)?;
    let family = *header.first()?;
    let any = if family == FAMILY_IPV6 {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED)
    } else {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    };
    let address = |kind| attributes.find(kind).and_then(|value| ip_address(family, value));
    let (hop_link, hop_gateway) = first_hop(family, attributes);
    Some(Route {
        destination: address(libc::RTA_DST).unwrap_or(any),
        prefix_bits: *header.get(1)?,
        gateway: address(libc::RTA_GATEWAY).or(hop_gateway),
        link: attributes.number(libc::RTA_OIF).or(hop_link),
        metric: attributes.number(libc::RTA_PRIORITY).unwrap_or_default(),
        mtu: attributes.inside(libc::RTA_METRICS).number(RTAX_MTU),
        table: attributes.number(libc::RTA_TABLE).unwrap_or(u32::from(*header.get(4)?)),
    })
}

/// The MTU among the metrics of a route (`RTAX_MTU`).
const RTAX_MTU: u16 = 2;

/// Reads the first hop of a route over several links (`struct rtnexthop` in `RTA_MULTIPATH`).
fn first_hop(family: u8, attributes: Attributes<'_>) -> (Option<u32>, Option<IpAddr>) {
    const HOP_BYTES: usize = 8;
    let Some(hop) = attributes.find(libc::RTA_MULTIPATH) else { return (None, None) };
    let inside = short(hop, 0)
        .and_then(|length| hop.get(HOP_BYTES..usize::from(length)))
        .map(Attributes)
        .and_then(|attributes| attributes.find(libc::RTA_GATEWAY));
    (number(hop, 4), inside.and_then(|value| ip_address(family, value)))
}

fn ip_address(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        FAMILY_IPV4 => value.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        FAMILY_IPV6 => value.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}

/// Tries every reader on a message.
#[cfg(test)]
pub(super) fn parse_anything(message: Message<'_>) {
    drop((parse_link(message), parse_address(message), parse_route(message)));
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;

    use super::super::message::Messages;
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn a_bridge_is_asked_for_byte_for_byte() {
        assert_eq!(
            bridge_message(1, "corten0", [2, 0xc0, 10, 213, 0, 1], 1400).words(),
            "50000000 10000506 01000000 00000000 \
             00000000 00000000 01000000 01000000 \
             0c000300 636f7274 656e3000 \
             0a000100 02c00ad5 00010000 \
             08000400 78050000 \
             10001280 0b000100 62726964 67650000"
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn an_address_is_asked_for_byte_for_byte() {
        let address = IpAddr::from([10, 213, 0, 1]);
        assert_eq!(
            address_message(2, 5, address, 22).words(),
            "30000000 14000506 02000000 00000000 \
             02160000 05000000 \
             08000200 0ad50001 \
             08000100 0ad50001 \
             08000400 0ad503ff"
        );
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn an_address_of_ipv6_is_used_at_once() {
        let address = IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(
            address_message(2, 5, address, 64).words(),
            "40000000 14000506 02000000 00000000 \
             0a400200 05000000 \
             14000200 fd000000 00000000 00000000 00000001 \
             14000100 fd000000 00000000 00000000 00000001"
        );
    }

    #[test]
    fn an_address_without_a_network_has_no_broadcast() {
        let builder = address_message(1, 1, IpAddr::from([169, 254, 7, 7]), 32);
        let message = Messages(builder.as_bytes()).next().unwrap();
        let (_, attributes) = message.split(ADDRESS_HEADER_BYTES).unwrap();
        assert_eq!(attributes.find(libc::IFA_BROADCAST), None);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_default_route_is_asked_for_byte_for_byte() {
        assert_eq!(
            default_route_message(3, 2, IpAddr::from([10, 213, 0, 1])).words(),
            "2c000000 18000506 03000000 00000000 \
             02000000 fe040001 00000000 \
             08000500 0ad50001 \
             08000400 02000000"
        );
    }

    #[test]
    fn a_veth_pair_is_one_request_with_the_peer_inside() {
        let here = File::open("/proc/self/ns/net").unwrap();
        let veth = Veth {
            name: "veth1",
            peer_name: "eth0",
            peer_address: [2, 0, 10, 213, 0, 2],
            peer_namespace: here.as_fd(),
            master: Some(9),
            mtu: 1400,
        };
        let builder = veth_message(4, &veth);
        let message = Messages(builder.as_bytes()).next().unwrap();
        let (header, attributes) = message.split(LINK_HEADER_BYTES).unwrap();
        assert_eq!(header, link_header(0, 0, 1, 1));
        assert_eq!(attributes.text(libc::IFLA_IFNAME).as_deref(), Some("veth1"));
        assert_eq!(attributes.number(libc::IFLA_MASTER), Some(9));
        let info = attributes.inside(libc::IFLA_LINKINFO);
        assert_eq!(info.text(libc::IFLA_INFO_KIND).as_deref(), Some("veth"));
        let peer = info.inside(libc::IFLA_INFO_DATA).find(VETH_INFO_PEER).unwrap();
        let inside = Attributes(&peer[LINK_HEADER_BYTES..]);
        assert_eq!(inside.text(libc::IFLA_IFNAME).as_deref(), Some("eth0"));
        assert_eq!(inside.find(libc::IFLA_ADDRESS), Some(&[2, 0, 10, 213, 0, 2][..]));
        assert_eq!(
            inside.number(libc::IFLA_NET_NS_FD),
            Some(u32::try_from(here.as_raw_fd()).unwrap())
        );
    }

    fn route_message(fill: impl FnOnce(&mut Builder)) -> Option<Route> {
        let mut builder = Builder::new();
        let header = [FAMILY_IPV4, 0, 0, 0, libc::RT_TABLE_MAIN, 4, 0, 1, 0, 0, 0, 0];
        builder.message(libc::RTM_NEWROUTE, 0, 1).header(&header);
        fill(&mut builder);
        parse_route(Messages(builder.as_bytes()).next().unwrap())
    }

    #[test]
    fn a_default_route_is_read() {
        let route = route_message(|builder| {
            builder
                .attribute(libc::RTA_GATEWAY, &[192, 0, 2, 1])
                .number(libc::RTA_OIF, 4)
                .number(libc::RTA_PRIORITY, 100)
                .nested(libc::RTA_METRICS, |metrics| {
                    metrics.number(RTAX_MTU, 1280);
                });
        });
        let expected = Route {
            destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            prefix_bits: 0,
            gateway: Some(IpAddr::from([192, 0, 2, 1])),
            link: Some(4),
            metric: 100,
            mtu: Some(1280),
            table: 254,
        };
        assert_eq!(route, Some(expected));
    }

    #[test]
    fn a_route_over_several_links_counts_as_its_first() {
        let route = route_message(|builder| {
            let mut hop = Vec::new();
            hop.extend_from_slice(&16_u16.to_ne_bytes());
            hop.extend_from_slice(&[0, 0]);
            hop.extend_from_slice(&7_u32.to_ne_bytes());
            hop.extend_from_slice(&8_u16.to_ne_bytes());
            hop.extend_from_slice(&libc::RTA_GATEWAY.to_ne_bytes());
            hop.extend_from_slice(&[192, 0, 2, 9]);
            builder.attribute(libc::RTA_MULTIPATH, &hop);
        })
        .unwrap();
        assert_eq!(route.link, Some(7));
        assert_eq!(route.gateway, Some(IpAddr::from([192, 0, 2, 9])));
    }

    #[test]
    fn a_cut_route_over_several_links_has_none() {
        let route = route_message(|builder| {
            builder.attribute(libc::RTA_MULTIPATH, &[200, 0, 0]);
        })
        .unwrap();
        assert_eq!((route.link, route.gateway), (None, None));
    }

    #[test]
    fn cut_answers_are_passed_over() {
        let mut builder = Builder::new();
        builder.message(libc::RTM_NEWLINK, 0, 1).header(&[0; 8]);
        builder.message(libc::RTM_NEWADDR, 0, 1).header(&[0; 4]);
        builder.message(libc::RTM_NEWROUTE, 0, 1).header(&[0; 4]);
        for message in Messages(builder.as_bytes()) {
            assert_eq!(parse_link(message), None);
            assert_eq!(parse_address(message), None);
            assert_eq!(parse_route(message), None);
        }
    }

    #[test]
    fn the_loopback_interface_is_listed() {
        let mut socket = RouteSocket::open().unwrap();
        let links = socket.links().unwrap();
        let loopback = links.iter().find(|link| link.loopback).unwrap();
        assert_eq!(loopback.name, "lo");
        assert_eq!(socket.link("lo").unwrap().as_ref(), Some(loopback));
    }

    #[test]
    fn an_interface_that_is_not_there_is_none() {
        let mut socket = RouteSocket::open().unwrap();
        assert_eq!(socket.link("nosuchdevice0").unwrap(), None);
    }

    #[test]
    fn addresses_and_routes_can_be_listed() {
        let mut socket = RouteSocket::open().unwrap();
        socket.addresses().unwrap();
        socket.routes().unwrap();
    }
}
