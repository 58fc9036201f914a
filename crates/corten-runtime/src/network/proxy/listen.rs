//! Opens the listening sockets of published ports, and says who has a port that is taken.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};

use corten_sys::datagram::{Ipv6, tell_destinations};
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, listen as start_listening,
    socket_with,
};

use super::super::NetworkError;
use super::super::holder::holder_of;
use super::super::ports::{HostPort, PortMapping, Protocol};
use super::Published;

/// As many connections wait to be accepted as with other servers; the kernel cuts it to
/// `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// A port that is free on IPv4 may be taken on IPv6; then another is asked for.
const ANY_PORT_ATTEMPTS: u32 = 32;

/// A socket that listens, and what it was opened for.
#[derive(Debug)]
pub(in super::super) struct Listener {
    pub(super) socket: OwnedFd,
    pub(in super::super) published: Published,
}

/// Opens the sockets of all mappings, or none.
pub(in super::super) fn listen(mappings: &[PortMapping]) -> Result<Vec<Listener>, NetworkError> {
    let mut listeners = Vec::new();
    for mapping in mappings {
        listeners.extend(listen_one(mapping)?);
    }
    Ok(listeners)
}

fn listen_one(mapping: &PortMapping) -> Result<Vec<Listener>, NetworkError> {
    match mapping.host_port {
        HostPort::Exactly(port) => open_at(mapping, port).map_err(Failed::into_error),
        HostPort::FirstFree(first, last) => {
            for port in first..=last {
                match open_at(mapping, port) {
                    Err(failed) if failed.errno == Errno::ADDRINUSE => {}
                    result => return result.map_err(Failed::into_error),
                }
            }
            Err(NetworkError::PortsInUse {
                address: mapping.host_address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                first,
                last,
                protocol: mapping.protocol,
            })
        }
        HostPort::Any => {
            let mut attempt = 1;
            loop {
                match open_at(mapping, 0) {
                    Err(failed)
                        if failed.errno == Errno::ADDRINUSE && attempt < ANY_PORT_ATTEMPTS =>
                    {
                        attempt += 1;
                    }
                    result => return result.map_err(Failed::into_error),
                }
            }
        }
    }
}

/// A port that could not be opened.
#[derive(Debug, Clone, Copy)]
struct Failed {
    address: SocketAddr,
    protocol: Protocol,
    errno: Errno,
}

impl Failed {
    fn into_error(self) -> NetworkError {
        let (address, port, protocol) = (self.address.ip(), self.address.port(), self.protocol);
        if self.errno == Errno::ADDRINUSE {
            let holder = holder_of(port, protocol);
            return NetworkError::PortInUse { address, port, protocol, holder };
        }
        NetworkError::Listen { address, port, protocol, source: io::Error::from(self.errno) }
    }
}

/// Opens a port on the address of the mapping; without one, on all of IPv4 and of IPv6.
fn open_at(mapping: &PortMapping, port: u16) -> Result<Vec<Listener>, Failed> {
    let protocol = mapping.protocol;
    let listener = |address: SocketAddr| {
        let socket =
            open(address, protocol).map_err(|errno| Failed { address, protocol, errno })?;
        let bound = getsockname(&socket).ok().and_then(|any| SocketAddr::try_from(any).ok());
        let published = Published {
            host: bound.unwrap_or(address),
            container_port: mapping.container_port,
            protocol,
        };
        Ok(Listener { socket, published })
    };
    if let Some(address) = mapping.host_address {
        return Ok(vec![listener(SocketAddr::new(address, port))?]);
    }
    let first = listener(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    let same_port = first.published.host.port();
    match listener(SocketAddr::from((Ipv6Addr::UNSPECIFIED, same_port))) {
        Ok(second) => Ok(vec![first, second]),
        // A host without IPv6 is served by IPv4 alone.
        Err(failed) if matches!(failed.errno, Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
            Ok(vec![first])
        }
        Err(failed) => Err(failed),
    }
}

fn open(address: SocketAddr, protocol: Protocol) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None)?;
    let ipv6 = if address.is_ipv6() { Ipv6::Yes } else { Ipv6::No };
    if address.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of an earlier container that linger must not keep the port from this one.
        set_socket_reuseaddr(&socket, true)?;
    }
    if protocol == Protocol::Udp {
        tell_destinations(socket.as_fd(), ipv6)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    }
    bind(&socket, &address)?;
    if protocol == Protocol::Tcp {
        start_listening(&socket, BACKLOG)?;
    }
    Ok(socket)
}
