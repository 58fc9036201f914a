//! Gives a container its network, and takes it down.
//!
//! | Mode | Inside |
//! |---|---|
//! | none | loopback |
//! | host | the host's own network; nothing is done |
//! | default, as root | loopback and `eth0` on the bridge `corten0`, with IPv4 to the outside |
//! | default, without root | what `pasta` or `slirp4netns` makes |
//!
//! ```text
//! attach()  ports are listened on        so that a conflict is found before anything is changed
//!           bridge, firewall, lease      under one lock of the host
//!           eth0 into the container
//!           proxy thread starts
//! detach()  proxy drains and ends, helper program ends, lease is given back
//! ```
//!
//! Invariants:
//! - Nothing but the bridge, the firewall table and `ip_forward` outlives a container. The
//!   interfaces vanish with its namespace, the lease of a killed process is reclaimed by the next
//!   run.
//! - No thread is started before [`attach`], which is called after the container was spawned.
//! - Containers have no IPv6 on the bridge.

mod bridge;
mod error;
mod facts;
mod firewall;
mod holder;
mod lease;
mod pasta;
mod plan;
pub mod ports;
mod proxy;
pub mod resolv;

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use serde::Serialize;

pub use crate::spec::Network;
pub use error::{NetworkError, RootlessObstacle};
pub use facts::{BridgeFacts, NetworkFacts};
pub use pasta::{helper_nameserver, rootless_obstacles};
pub use plan::{BRIDGE, BridgePlan, BridgeStep, Subnet, plan_bridge};
pub use ports::{PortError, PortMapping, Protocol, parse_all as parse_ports};
pub use proxy::Published;

use corten_sys::netlink::route::RouteSocket;

use bridge::{inside, loopback_up};
use lease::Lease;
use pasta::Helper;
use proxy::{Dial, Listener, Proxy};

/// On a network without a way out, the address of the container's published services and the one
/// that clients seem to come from. Both are on the loopback interface but not of 127.0.0.0/8, so
/// that no service takes a client for one of its own.
const ISOLATED_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 2);
const ISOLATED_CLIENT: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 1);

/// Something that people should know, although nothing failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// How much it matters.
    pub severity: Severity,
    /// One sentence without a period.
    pub text: String,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    Note,
    /// May be the reason when something does not work.
    Warning,
}

impl Notice {
    fn note(text: impl Into<String>) -> Self {
        Self { severity: Severity::Note, text: text.into() }
    }

    fn warning(text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, text: text.into() }
    }
}

/// A container whose namespaces exist and whose program was not started yet.
#[derive(Debug, Clone, Copy)]
pub struct NetworkRequest<'a> {
    /// Whose lease it will be.
    pub container_id: &'a str,
    /// The container's first process, as this process numbers it.
    pub pid: i32,
    /// The container's network namespace.
    pub netns: BorrowedFd<'a>,
    /// What it is to get.
    pub network: Network,
    /// What is to be reachable from the host.
    pub ports: &'a [PortMapping],
    /// Whether this process has no rights over the host's network.
    pub rootless: bool,
    /// Where addresses are leased, such as `/run/corten/network`; one per host network. Without
    /// root and the right to write there, a place of the user's own is taken.
    pub state_dir: &'a Path,
    /// Where programs are looked for: the value of `PATH`.
    pub search_path: &'a OsStr,
}

/// A container's network while it lasts. Dropping it takes it down too, but keeps to itself what
/// fails then.
#[derive(Debug)]
#[must_use = "the network is taken down when this is dropped"]
pub struct Attachment {
    address: Option<Ipv4Addr>,
    gateway: Option<Ipv4Addr>,
    published: Vec<Published>,
    notices: Vec<Notice>,
    proxy: Option<Proxy>,
    helper: Option<Helper>,
    lease: Option<Lease>,
    /// Keeps the container's half of the connections alive until the proxy has drained them.
    netns: Option<OwnedFd>,
}

impl Attachment {
    fn empty() -> Self {
        Self {
            address: None,
            gateway: None,
            published: Vec::new(),
            notices: Vec::new(),
            proxy: None,
            helper: None,
            lease: None,
            netns: None,
        }
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
        drop(self.netns.take());
        let helper = self.helper.take().map(Helper::end);
        let lease = self.lease.take().map(|lease| lease.release().map_err(NetworkError::from));
        [proxy, helper, lease].into_iter().flatten().filter_map(Result::err).collect()
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
    if request.network == Network::Host {
        let mut attachment = Attachment::empty();
        if !request.ports.is_empty() {
            attachment.notices.push(Notice::note(
                "no port is published, since the container listens on the host's own addresses",
            ));
        }
        return Ok(attachment);
    }
    let listeners = proxy::listen(request.ports)?;
    let mut attachment = match request.network {
        Network::Default if request.rootless => attach_helper(request)?,
        Network::Default => attach_bridge(request)?,
        Network::None | Network::Host => attach_loopback(request)?,
    };
    start_proxy(request, listeners, &mut attachment)?;
    Ok(attachment)
}

fn attach_loopback(request: &NetworkRequest<'_>) -> Result<Attachment, NetworkError> {
    let published = !request.ports.is_empty();
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
    Ok(attachment)
}

/// Switches on the loopback interface of the namespace that we are in.
pub(crate) fn switch_on_loopback() -> io::Result<()> {
    let switch_on = || -> Result<(), NetworkError> {
        let mut socket = RouteSocket::open()?;
        loopback_up(&mut socket)?;
        Ok(())
    };
    switch_on().map_err(|error| {
        let errno = match error {
            NetworkError::Netlink(error) => error.errno(),
            NetworkError::InterfaceMissing { .. } => Some(libc::ENODEV),
            _ => None,
        };
        io::Error::from_raw_os_error(errno.unwrap_or(libc::EIO))
    })
}

fn attach_bridge(request: &NetworkRequest<'_>) -> Result<Attachment, NetworkError> {
    let joined = bridge::join(request)?;
    let mut attachment = Attachment::empty();
    attachment.address = Some(joined.lease.address());
    attachment.gateway = Some(joined.gateway);
    attachment.notices = joined.notices;
    attachment.lease = Some(joined.lease);
    Ok(attachment)
}

fn attach_helper(request: &NetworkRequest<'_>) -> Result<Attachment, NetworkError> {
    let (helper, address) = pasta::start(request)?;
    let mut attachment = Attachment::empty();
    attachment.address = Some(address);
    attachment.helper = Some(helper);
    Ok(attachment)
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
    let on_bridge = attachment.lease.is_some();
    let source = (request.network == Network::None).then_some(ISOLATED_CLIENT);
    let namespace = if on_bridge { None } else { Some(duplicate()?) };
    attachment.netns = Some(duplicate()?);
    attachment.published = listeners.iter().map(|listener| listener.published).collect();
    attachment.proxy = Some(Proxy::start(listeners, Dial { target, source }, namespace)?);
    Ok(())
}

#[cfg(test)]
mod tests;
