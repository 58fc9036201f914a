//! What changes on a running container's network, and on networks themselves. Any command may do it:
//! the container's own process need not be asked.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use corten_sys::netlink::route::RouteSocket;
use corten_sys::process::PidFd;
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::attach::{leases_of, reserved_on};
use super::bridge::{self, Guest};
use super::config::{DEFAULT_NETWORK, Endpoint, UserNetwork};
use super::lease::{Holder, Leases, Turn};
use super::names::{self, Server};
use super::networking::NameOptions;
use super::register::{LiveContainer, LiveEndpoint};
use super::resolv::{self, HostResolver};
use super::{Network, NetworkError, Notice, firewall, state_directory};

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

/// Serves names to a container that was started on no network with names and is on one now. Its own
/// process does that: the server ends with the container, or with this process.
pub fn serve_names(container: &str, wanted: &NameOptions) -> Result<(), NetworkError> {
    let Some(Opened { leases, turn, live, netns }) = open(container)? else { return Ok(()) };
    let is_named = |endpoint: &LiveEndpoint| endpoint.network != DEFAULT_NETWORK;
    if live.names || !live.endpoints.iter().any(is_named) {
        return Ok(());
    }
    let failed = |source| NetworkError::Names { operation: "start", source };
    let (pid, _) = live.process;
    let process = PidFd::open(u32::try_from(pid).unwrap_or_default()).map_err(failed)?;
    let settings = names::Settings {
        container: container.to_owned(),
        register: leases.register(),
        nameservers: wanted.servers.clone(),
    };
    Server::start_beside(netns.as_fd(), settings, process)?;
    let host = HostResolver::read()?;
    let text = resolv::plan_resolv_conf(Network::User, &host, None, wanted).text;
    rewrite(pid, Path::new("etc/resolv.conf"), &text).map_err(failed)?;
    leases.register().publish(&turn, &LiveContainer { names: true, ..live })
}

/// The number of a file system in memory (`TMPFS_MAGIC`).
const TMPFS_MAGIC: u64 = 0x0102_1994;

/// Writes one of the small files anew that a container has in memory. Its programs run: a path with links
/// in it, or one that leads to a file of somebody else's, is left alone.
fn rewrite(pid: i32, path: &Path, text: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(format!("/proc/{pid}/root"), flags, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)?;
    if u64::try_from(rustix::fs::fstatfs(&file)?.f_type) != Ok(TMPFS_MAGIC) {
        return Err(io::Error::from_raw_os_error(libc::EXDEV));
    }
    rustix::fs::ftruncate(&file, 0)?;
    let mut bytes = text.as_bytes();
    while !bytes.is_empty() {
        let written = rustix::io::write(&file, bytes)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
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
