//! Gives a container its network, and takes it down.
//!
//! | Mode | Inside |
//! |---|---|
//! | none | loopback |
//! | host | the host's own network; nothing is done |
//! | default, as root | loopback and `eth0` on the bridge `corten0`, with IPv4 to the outside |
//! | default, without root | what `pasta` or `slirp4netns` makes |
//! | user | loopback and an interface for each network, each with a bridge of its own; names |
//!
//! ```text
//! attach()   ports are listened on        so that a conflict is found before anything is changed
//!            bridge, firewall, lease      under one lock of the host
//!            eth0, eth1, … into the container
//!            written down in the register
//!            threads of the proxy and of the name server start
//! connect()  one more interface for a container that runs; disconnect() takes it out
//! detach()   proxy drains and ends, helper program ends, leases are given back
//! ```
//!
//! Invariants:
//! - Nothing but bridges, firewall tables and `ip_forward` outlives a container. The interfaces
//!   vanish with its namespace, the leases of a killed process are reclaimed by the next run.
//! - No thread is started before [`attach`], which is called after the container was spawned.
//! - Containers have no IPv6 on the default bridge.

mod attach;
mod bridge;
mod change;
mod config;
mod error;
mod facts;
mod firewall;
mod holder;
mod lease;
mod names;
mod networking;
mod pasta;
mod plan;
pub mod ports;
mod proxy;
mod register;
pub mod resolv;
mod subnet;
mod wish;

use std::ffi::OsStr;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use corten_sys::error::at;
use serde::Serialize;

pub use crate::spec::Network;
pub use attach::{Attachment, attach};
pub use change::{connect, disconnect, forget, rename, serve_names, share, sweep};
pub use config::{
    BRIDGE_PREFIX, DEFAULT_NETWORK, Endpoint, Ipv4Network, Ipv6Network, Mac, MacError, On,
    UserNetwork,
};
pub use error::{NetworkError, RootlessObstacle};
pub use facts::{BridgeFacts, NetworkFacts, taken};
pub use firewall::{foreign_drop, reach_packet_filter};
pub use names::SERVER as NAME_SERVER;
pub use networking::{HostAddress, JoinedNetwork, NameOptions, Networking};
pub use pasta::{helper_nameserver, rootless_obstacles};
pub use plan::{BRIDGE, BridgePlan, BridgeStep, plan_bridge, plan_user_bridge};
pub use ports::{PortError, PortMapping, Protocol, parse_all as parse_ports};
pub use proxy::Published;
pub use register::{LiveContainer, LiveEndpoint, LivePort, Register};
pub use subnet::{AnySubnet, Subnet, Subnet6, SubnetError};
pub use wish::{NetworkWish, Taken, WishError, plan_network};

use corten_sys::netlink::route::RouteSocket;

use bridge::loopback_up;

/// Where leases and the register of the host's own network are.
const STATE: &str = "/run/corten/network";

/// The number of the first network namespace (`PROC_NET_INIT_INO`, Linux 6.18).
const FIRST_NAMESPACE: &str = "4026531833";

/// Returns where the leases and the register of this process's network are: each network namespace
/// that plays a host has its own.
pub fn state_directory() -> Result<PathBuf, NetworkError> {
    let read = |path: &str| std::fs::read_link(path).map_err(at("read", path));
    let own = read("/proc/thread-self/ns/net")?;
    // Some hosts let nobody look at their first process.
    let is_first = read("/proc/1/ns/net").is_ok_and(|first| first == own);
    let number: String = own.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    Ok(PathBuf::from(if is_first || number == FIRST_NAMESPACE {
        STATE.to_owned()
    } else {
        format!("{STATE}-{number}")
    }))
}

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
    /// What people call the container.
    pub name: &'a str,
    /// The container's first process, as this process numbers it.
    pub pid: i32,
    /// The container's network namespace.
    pub netns: BorrowedFd<'a>,
    /// What it is to get.
    pub network: Network,
    /// The places on networks that it is to have, with [`Network::User`].
    pub endpoints: &'a [Endpoint],
    /// Addresses of these networks, by the network's id, that others will ask for.
    pub reserved: &'a [(String, Ipv4Addr)],
    /// Whom its name server asks instead of the host's.
    pub nameservers: &'a [std::net::IpAddr],
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

#[cfg(test)]
mod tests;
