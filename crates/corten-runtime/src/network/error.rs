//! What can go wrong with a container's network, and what to do about it.

use std::fmt;
use std::io;
use std::net::IpAddr;

use corten_sys::error::IoError;
use corten_sys::netlink::NetlinkError;
use serde::Serialize;

use super::plan::BRIDGE;
use super::ports::{PortError, Protocol};
use super::subnet::Subnet;

/// A network that could not be made or taken down.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The ports do not hold together.
    #[error(transparent)]
    Ports(#[from] PortError),
    /// The kernel refused a change or a question.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A file of ours or of the kernel could not be used.
    #[error(transparent)]
    File(#[from] IoError),
    /// The container's network namespace could not be entered.
    #[error("failed to enter the network namespace of the container")]
    Enter(#[source] io::Error),
    /// The name of our bridge belongs to something else.
    #[error("the network interface `{name}` exists and is not a bridge but `{kind}`")]
    NotABridge {
        /// Its name.
        name: String,
        /// What it is.
        kind: String,
    },
    /// Each subnet that we would take is in use.
    #[error(
        "no subnet for the bridge `{BRIDGE}` is free, the host routes all {candidates} of them"
    )]
    NoFreeSubnet {
        /// How many were tried.
        candidates: usize,
    },
    /// Each address of the bridge's subnet is taken.
    #[error("no address of {subnet} is free, {containers} containers hold them")]
    NoFreeAddress {
        /// The bridge's subnet.
        subnet: Subnet,
        /// How many leases there are.
        containers: usize,
    },
    /// The address that was asked for is another container's.
    #[error("the address {address} is taken by the container `{holder}`")]
    AddressTaken {
        /// The address.
        address: IpAddr,
        /// Its container.
        holder: String,
    },
    /// The address that was asked for cannot be a container's.
    #[error("the address {address} cannot be had: {reason}")]
    AddressRefused {
        /// The address.
        address: IpAddr,
        /// Why.
        reason: String,
    },
    /// An IPv6 address on a network without IPv6.
    #[error("the network `{network}` has no addresses of IPv6")]
    NoIpv6 {
        /// The network.
        network: String,
    },
    /// An ordinary user's containers have one network each.
    #[error("the network `{network}` needs root: an ordinary user's containers cannot be on it")]
    Rootless {
        /// The network.
        network: String,
    },
    /// The container has no network of its own that could be changed.
    #[error("the container runs with `{mode}` as its network, which has no place for another one")]
    NotConnectable {
        /// `host`, `none` or the like.
        mode: String,
    },
    /// The container is on the network already.
    #[error("the container is on the network `{network}` already")]
    AlreadyOn {
        /// The network.
        network: String,
    },
    /// The container is not on the network.
    #[error("the container is not on the network `{network}`")]
    NotOn {
        /// The network.
        network: String,
    },
    /// What a running container's network is cannot be read.
    #[error("the record of a running container's network cannot be read")]
    Record(#[source] serde_json::Error),
    /// The server of names could not be started, or ended badly.
    #[error("failed to {operation} the name server of the container")]
    Names {
        /// A verb.
        operation: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Packets are not passed on, and we may not change that.
    #[error("failed to turn on the forwarding of packets")]
    Forwarding(#[source] IoError),
    /// The interface that was just made is not in the container's namespace.
    #[error("the interface `{name}` did not appear in the container")]
    InterfaceMissing {
        /// Its name.
        name: String,
    },
    /// Someone else listens on the port.
    #[error("port {port}/{protocol} of {address} is already in use{}", by(holder.as_deref()))]
    PortInUse {
        /// The address of the host.
        address: IpAddr,
        /// The port of the host.
        port: u16,
        /// TCP or UDP.
        protocol: Protocol,
        /// The process that has it, when it can be seen.
        holder: Option<String>,
    },
    /// No port of a range is free.
    #[error("all ports from {first} to {last}/{protocol} of {address} are in use")]
    PortsInUse {
        /// The address of the host.
        address: IpAddr,
        /// The first port of the range.
        first: u16,
        /// The last port of the range.
        last: u16,
        /// TCP or UDP.
        protocol: Protocol,
    },
    /// The port could not be listened on for another reason.
    #[error("failed to listen on port {port}/{protocol} of {address}")]
    Listen {
        /// The address of the host.
        address: IpAddr,
        /// The port of the host.
        port: u16,
        /// TCP or UDP.
        protocol: Protocol,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The thread that passes connections on could not be started or ended badly.
    #[error("failed to {operation} the port proxy")]
    Proxy {
        /// A verb.
        operation: &'static str,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Without root, neither helper program can be used.
    #[error("no network for a container without root: {}", joined(obstacles, "; "))]
    RootlessUnavailable {
        /// What is in the way, all of it.
        obstacles: Vec<RootlessObstacle>,
    },
    /// The helper program could not be started.
    #[error("failed to start `{program}`")]
    HelperStart {
        /// Its path.
        program: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The helper program gave up.
    #[error("`{program}` gave up ({status}): {said}")]
    HelperFailed {
        /// Its path.
        program: String,
        /// How it ended.
        status: String,
        /// The last of what it wrote.
        said: String,
    },
    /// The helper program could not be ended.
    #[error("failed to end `{program}`")]
    HelperEnd {
        /// Its path.
        program: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The helper program said that it was ready, but gave the container no address.
    #[error("`{program}` gave the container no address")]
    HelperSilent {
        /// Its path.
        program: String,
    },
}

impl NetworkError {
    /// Returns advice on what to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Ports(error) => error.hint(),
            Self::NotABridge { name, .. } => Some(format!(
                "remove the interface with `ip link delete {name}`, or use `--network host|none`"
            )),
            Self::NoFreeSubnet { .. } => Some(format!(
                "make the bridge with a subnet of your choice: `ip link add {BRIDGE} type bridge` \
                 and `ip address add 10.1.0.1/24 dev {BRIDGE}`"
            )),
            Self::Forwarding(_) => Some(
                "run `sysctl net.ipv4.ip_forward=1` on the host, or use `--network host|none`"
                    .to_owned(),
            ),
            Self::AddressTaken { .. } => {
                Some("leave out `--ip`, and a free one is taken; or stop that container".to_owned())
            }
            Self::NoIpv6 { .. } => Some(
                "make it anew with `corten network create --ipv6`, or leave out `--ip6`".to_owned(),
            ),
            Self::Rootless { .. } => Some(
                "run it as root, or leave out `--network`: published ports reach other containers \
                 over the host"
                    .to_owned(),
            ),
            Self::PortInUse { port, protocol, holder: None, .. } => {
                Some(format!("run `{}` to see who has it", find_holder(*port, *protocol)))
            }
            Self::PortInUse { .. } | Self::PortsInUse { .. } => {
                Some("stop that program, or publish another host port".to_owned())
            }
            Self::Listen { port, source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Some(format!(
                    "without root, ports below 1024 need `sysctl \
                     net.ipv4.ip_unprivileged_port_start={port}`; or publish a higher host port"
                ))
            }
            Self::Listen { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Some("run `ip address` to see the addresses of this host".to_owned())
            }
            Self::RootlessUnavailable { obstacles } => {
                let remedies: Vec<String> =
                    obstacles.iter().map(RootlessObstacle::remedy).collect();
                Some(format!("{}; or use `--network host|none`", remedies.join("; ")))
            }
            Self::Netlink(error) => netlink_hint(error),
            _ => None,
        }
    }
}

/// What keeps an ordinary user's containers from having a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "obstacle")]
pub enum RootlessObstacle {
    /// Neither helper program is installed.
    NoProgram,
    /// There is no device to make an interface with, or no driver for it.
    NoDevice,
    /// The device is there, but the user may not open it.
    DeviceRefused {
        /// The number of the kernel's refusal.
        errno: i32,
    },
}

impl RootlessObstacle {
    /// Says what to do about it.
    pub fn remedy(&self) -> String {
        let text = match self {
            Self::NoProgram => "install it: `sudo apt-get install passt`, or your system's like",
            Self::NoDevice => "load the driver of `/dev/net/tun`: `sudo modprobe tun`",
            Self::DeviceRefused { errno: libc::EACCES } => {
                "let every user open the device, as most systems do: `sudo chmod 666 /dev/net/tun`"
            }
            Self::DeviceRefused { .. } => {
                "allow the device where this system's own container is started: \
                 `--device /dev/net/tun`"
            }
        };
        text.to_owned()
    }
}

impl fmt::Display for RootlessObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProgram => {
                f.write_str("neither `pasta` (package `passt`) nor `slirp4netns` is installed")
            }
            Self::NoDevice => f.write_str("there is no device `/dev/net/tun`"),
            Self::DeviceRefused { errno } => write!(
                f,
                "your user may not open `/dev/net/tun`: {}",
                io::Error::from_raw_os_error(*errno)
            ),
        }
    }
}

fn joined(obstacles: &[RootlessObstacle], separator: &str) -> String {
    obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

fn netlink_hint(error: &NetlinkError) -> Option<String> {
    if error.is_unsupported() {
        return Some(
            "the kernel lacks bridge, veth or nf_tables; load them with `modprobe -a bridge veth \
             nf_tables nft_masq nft_ct`, or use `--network host|none`"
                .to_owned(),
        );
    }
    (error.errno() == Some(rustix::io::Errno::PERM.raw_os_error()))
        .then(|| "this needs the capability NET_ADMIN; or use `--network host|none`".to_owned())
}

fn by(holder: Option<&str>) -> String {
    holder.map(|holder| format!(" by {holder}")).unwrap_or_default()
}

/// Returns the command that names the process behind a port.
fn find_holder(port: u16, protocol: Protocol) -> String {
    let kind = match protocol {
        Protocol::Tcp => 't',
        Protocol::Udp => 'u',
    };
    format!("ss -Hln{kind}p 'sport = :{port}'")
}
