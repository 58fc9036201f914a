//! What changes on a running container's network, and on networks themselves. Any command may do it:
//! the container's own process need not be asked.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use corten_sys::netlink::route::RouteSocket;

use super::attach::{leases_of, reserved_on};
use super::bridge::{self, Guest};
use super::config::{Endpoint, UserNetwork};
use super::lease::{Holder, Leases, Turn};
use super::register::LiveContainer;
use super::{NetworkError, Notice, firewall, state_directory};

/// What is known of a container that runs, and its network namespace.
struct Opened {
    leases: Leases,
    turn: Turn,
    live: LiveContainer,
    netns: File,
}

/// Opens what a running container has; `None` if it does not run, or has no network of its own.
fn open(container: &str) -> Result<Option<Opened>, NetworkError> {
    let leases = Leases::open(&state_directory()?)?;
    let turn = leases.turn()?;
    let Some(live) = leases.register().read(container) else { return Ok(None) };
    let path = PathBuf::from(format!("/proc/{}/ns/net", live.process.0));
    let netns = corten_sys::file::open(&path)?;
    // The number may have gone to another process before it was opened.
    if !live.is_alive() {
        return Ok(None);
    }
    Ok(Some(Opened { leases, turn, live, netns }))
}

/// Gives a running container a place on one more network; `None` if it does not run.
pub fn connect(
    container: &str,
    endpoint: &Endpoint,
    reserved: &[(String, Ipv4Addr)],
) -> Result<Option<Vec<Notice>>, NetworkError> {
    let Some(Opened { leases, turn, mut live, netns }) = open(container)? else { return Ok(None) };
    if live.endpoint(endpoint.on.id()).is_some() {
        return Err(NetworkError::AlreadyOn { network: endpoint.on.name().to_owned() });
    }
    let interface = bridge::free_interface(netns.as_fd())?;
    let guest = Guest {
        holder: Holder { container_id: container, pid: live.process.0 },
        netns: netns.as_fd(),
        endpoint,
        reserved: &reserved_on(reserved, &endpoint.on),
        interface: &interface,
        ways_out: (false, false),
    };
    let joined = bridge::join(&leases, &turn, &guest)?;
    live.endpoints.push(joined.live);
    leases.register().publish(&turn, &live)?;
    joined.lease.leave();
    bridge::restore_ways_out(netns.as_fd(), &live.endpoints)?;
    Ok(Some(joined.notices))
}

/// Takes a running container's place on a network away; false if it does not run.
pub fn disconnect(container: &str, network: &str) -> Result<bool, NetworkError> {
    let Some(Opened { leases, turn, mut live, netns }) = open(container)? else {
        return Ok(false);
    };
    let Some(index) = live.endpoints.iter().position(|one| one.network == network) else {
        return Err(NetworkError::NotOn { network: network.to_owned() });
    };
    let endpoint = live.endpoints.remove(index);
    bridge::remove_interface(netns.as_fd(), &endpoint.interface)?;
    leases_of(&leases, network)?.give_back(&turn, endpoint.address)?;
    leases.register().publish(&turn, &live)?;
    bridge::restore_ways_out(netns.as_fd(), &live.endpoints)?;
    Ok(true)
}

/// Gives a running container another name on its networks.
pub fn rename(container: &str, name: &str) -> Result<(), NetworkError> {
    let register = super::Register::here()?;
    if register.read(container).is_none() {
        return Ok(());
    }
    let leases = Leases::open(register.directory())?;
    let turn = leases.turn()?;
    let Some(live) = register.read(container) else { return Ok(()) };
    register.publish(&turn, &LiveContainer { name: name.to_owned(), ..live })
}

/// Notes that another container has the network of this one, so that its addresses are taken away when
/// it ends, although its namespace stays.
pub fn share(container: &str) -> Result<(), NetworkError> {
    let leases = Leases::open(&state_directory()?)?;
    let turn = leases.turn()?;
    Ok(leases.note_joiner(&turn, container)?)
}

/// Takes away what the containers whose processes were killed have left.
pub fn sweep() -> Result<(), NetworkError> {
    let leases = Leases::open(&state_directory()?)?;
    let turn = leases.turn()?;
    leases.register().sweep_all(&turn)
}

/// Takes a network off the host: its bridge, its firewall tables and its leases.
pub fn forget(network: &UserNetwork) -> Result<(), NetworkError> {
    let leases = Leases::open(&state_directory()?)?;
    let turn = leases.turn()?;
    let mut socket = RouteSocket::open()?;
    if let Some(link) = socket.link(&network.bridge)?
        && link.kind.as_deref() == Some("bridge")
    {
        socket.remove_link(link.index)?;
        // The tables are made after the bridge, and go only after it.
        firewall::remove(network)?;
    }
    Ok(leases.forget_network(&turn, &network.id)?)
}
