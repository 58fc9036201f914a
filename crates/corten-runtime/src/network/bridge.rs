//! Carries out a bridge plan: makes the host ready, then joins a container to it.

use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::netlink::in_namespace;
use corten_sys::netlink::route::{RouteSocket, Veth};
use corten_sys::random;

use super::facts::{FORWARDING, NetworkFacts};
use super::firewall;
use super::lease::{Holder, Lease, Leases};
use super::plan::{BRIDGE, BridgePlan, BridgeStep, plan_bridge};
use super::{NetworkError, NetworkRequest, Notice};

/// What programs in containers expect their interface to be called.
const CONTAINER_INTERFACE: &str = "eth0";

/// The name of the other side is random; a clash with one that is being taken down is possible.
const NAME_ATTEMPTS: u32 = 4;

/// A container's place on the bridge.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) lease: Lease,
    pub(super) gateway: Ipv4Addr,
    pub(super) notices: Vec<Notice>,
}

/// Makes bridge, firewall table and forwarding what they should be, takes an address, and gives
/// the container its interface.
pub(super) fn join(request: &NetworkRequest<'_>) -> Result<Joined, NetworkError> {
    let leases = Leases::open(request.state_dir)?;
    let holder = Holder { container_id: request.container_id, pid: request.pid };
    let (plan, link, lease, firewall_notices) = {
        let turn = leases.turn()?;
        let plan = plan_bridge(&NetworkFacts::gather()?)?;
        let link = prepare_bridge(&plan)?;
        let notices = firewall::ensure(plan.subnet)?;
        if plan.turn_on_forwarding {
            write_switch(FORWARDING, true).map_err(NetworkError::Forwarding)?;
        }
        let lease = leases.take(&turn, plan.subnet, plan.gateway, holder)?;
        (plan, link, lease, notices)
    };
    // When one of these fails, the container is not started: its namespace takes the interfaces
    // with it, and the next run reclaims the lease.
    add_interface(request.netns, &plan, link, lease.address())?;
    configure_inside(request.netns, &plan, lease.address())?;
    let mut notices = plan.notices;
    notices.extend(firewall_notices);
    Ok(Joined { lease, gateway: plan.gateway, notices })
}

/// Returns the bridge's number.
fn prepare_bridge(plan: &BridgePlan) -> Result<u32, NetworkError> {
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
            give_address(&mut socket, link, plan)?;
            Ok(link)
        }
        BridgeStep::Create => {
            socket.add_bridge(BRIDGE, hardware_address(plan.gateway), plan.mtu)?;
            let link =
                socket.link(BRIDGE)?.ok_or(NetworkError::InterfaceMissing { name: BRIDGE })?;
            disable_ipv6(BRIDGE)?;
            give_address(&mut socket, link.index, plan)?;
            Ok(link.index)
        }
    }
}

fn give_address(
    socket: &mut RouteSocket,
    link: u32,
    plan: &BridgePlan,
) -> Result<(), NetworkError> {
    socket.add_address(link, plan.gateway, plan.subnet.bits())?;
    socket.set_up(link)?;
    Ok(())
}

/// Makes the pair of interfaces: one a port of the bridge, the other in the container.
fn add_interface(
    netns: BorrowedFd<'_>,
    plan: &BridgePlan,
    bridge: u32,
    address: Ipv4Addr,
) -> Result<(), NetworkError> {
    let mut socket = RouteSocket::open()?;
    let mut attempt = 1;
    loop {
        let name = veth_name(&random::name());
        let veth = Veth {
            name: &name,
            peer_name: CONTAINER_INTERFACE,
            peer_address: hardware_address(address),
            peer_namespace: netns,
            master: Some(bridge),
            mtu: plan.mtu,
        };
        match socket.add_veth(&veth) {
            Err(error) if error.is_already_exists() && attempt < NAME_ATTEMPTS => attempt += 1,
            result => return result.map_err(NetworkError::from),
        }
    }
}

/// Names of interfaces have at most 15 bytes.
fn veth_name(random: &str) -> String {
    format!("veth{}", random.get(..10).unwrap_or(random))
}

/// The hardware address follows from the IPv4 address, so that neighbours who remember it from
/// the last holder of the address are right. The first byte says "administered locally".
fn hardware_address(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0xc0, a, b, c, d]
}

fn configure_inside(
    netns: BorrowedFd<'_>,
    plan: &BridgePlan,
    address: Ipv4Addr,
) -> Result<(), NetworkError> {
    inside(netns, || {
        let mut socket = RouteSocket::open()?;
        loopback_up(&mut socket)?;
        let link = socket
            .link(CONTAINER_INTERFACE)?
            .ok_or(NetworkError::InterfaceMissing { name: CONTAINER_INTERFACE })?
            .index;
        // The bridge has no IPv6; an address that leads nowhere only makes programs wait.
        disable_ipv6(CONTAINER_INTERFACE)?;
        socket.add_address(link, address, plan.subnet.bits())?;
        socket.set_up(link)?;
        socket.add_default_route(link, plan.gateway)?;
        Ok(())
    })
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
    let link = socket.link("lo")?.ok_or(NetworkError::InterfaceMissing { name: "lo" })?;
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
    fn a_hardware_address_is_one_hosts_and_local() {
        let address = hardware_address(Ipv4Addr::new(10, 213, 0, 2));
        assert_eq!(address, [0x02, 0xc0, 10, 213, 0, 2]);
        assert_eq!(address[0] & 1, 0, "not a group");
        assert_eq!(address[0] & 2, 2, "administered locally");
    }
}
