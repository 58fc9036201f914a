//! Datagrams with the address that they were sent to.
//!
//! A socket that listens on every address of a host has to answer from the one that was asked, or
//! the asker takes the answer for a stranger's. The kernel tells the address, and takes the one to
//! answer from, in a control message (`IP_PKTINFO`), which rustix does not know.
#![expect(unsafe_code, reason = "control messages of datagrams have no safe wrapper")]

use std::io;
use std::mem::{MaybeUninit, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::ptr;

/// A datagram that was received into a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Its bytes in the buffer.
    pub length: usize,
    /// Who sent it.
    pub sender: SocketAddr,
    /// Which of our addresses it was sent to, if the kernel said so.
    pub destination: Option<IpAddr>,
}

/// Room for one control message of either kind, aligned as the kernel wants it.
#[repr(C)]
union Control {
    _header: libc::cmsghdr,
    bytes: [u8; CONTROL_BYTES as usize],
}

/// The larger kind needs 40 bytes.
const CONTROL_BYTES: u32 = 64;

/// Asks the kernel to tell with each datagram which address it was sent to.
pub fn tell_destinations(socket: BorrowedFd<'_>, ipv6: Ipv6) -> io::Result<()> {
    let (level, option) = match ipv6 {
        Ipv6::No => (libc::IPPROTO_IP, libc::IP_PKTINFO),
        Ipv6::Yes => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    };
    let on: libc::c_int = 1;
    let length = socket_length(size_of::<libc::c_int>());
    // SAFETY: the descriptor is open while it is borrowed; the kernel reads `length` bytes of the
    // local `on`, which is that long, and keeps nothing.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a socket is of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipv6 {
    /// It is of IPv4.
    No,
    /// It is of IPv6.
    Yes,
}

/// Receives a datagram; what does not fit into the buffer is lost.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut name = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = Control { bytes: [0; CONTROL_BYTES as usize] };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = message_header(&mut part, &mut control);
    message.msg_name = name.as_mut_ptr().cast();
    message.msg_namelen = socket_length(size_of::<libc::sockaddr_storage>());
    // SAFETY: every pointer of the header is to a local or to the borrowed buffer, with the length
    // that stands beside it, and all of them outlive the call, which keeps none.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: it was zeroed, and all-zero bytes are a valid `sockaddr_storage`; the kernel wrote a
    // prefix of it.
    let sender = unsafe { name.assume_init_ref() };
    let sender = read_address(sender).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Datagram { length, sender, destination: read_destination(&message) })
}

/// Sends a datagram from one of our addresses, or from the one that the kernel chooses.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    to: SocketAddr,
    from: Option<IpAddr>,
) -> io::Result<()> {
    let (mut name, name_length) = write_address(to);
    let mut control = Control { bytes: [0; CONTROL_BYTES as usize] };
    // The kernel does not write to what it sends; the header only has no constant form.
    let base = bytes.as_ptr().cast_mut().cast();
    let mut part = libc::iovec { iov_base: base, iov_len: bytes.len() };
    let mut message = message_header(&mut part, &mut control);
    message.msg_name = (&raw mut name).cast();
    message.msg_namelen = name_length;
    match from {
        Some(IpAddr::V4(from)) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: from.to_bits().to_be() },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            write_control(&mut message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        Some(IpAddr::V6(from)) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr { s6_addr: from.octets() },
                ipi6_ifindex: 0,
            };
            write_control(&mut message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        None => message.msg_controllen = 0,
    }
    // SAFETY: as in `receive`; the bytes are only read.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn message_header(part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid `msghdr`: null pointers with lengths of zero.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = part;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(control).cast();
    message.msg_controllen = length_of_control(CONTROL_BYTES);
    message
}

/// Writes the one control message of a header whose control buffer is a [`Control`].
fn write_control<T>(message: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) {
    let bytes = u32::try_from(size_of::<T>()).unwrap_or_default();
    // SAFETY: it only computes; the largest value here has 20 bytes.
    let space = unsafe { libc::CMSG_SPACE(bytes) };
    debug_assert!(space <= CONTROL_BYTES, "room for either kind");
    message.msg_controllen = length_of_control(space);
    // SAFETY: the control buffer is a live `Control` of at least `space` bytes, so that the first
    // header is inside of it.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: it only computes.
    let length = unsafe { libc::CMSG_LEN(bytes) };
    // SAFETY: all-zero bytes are a valid `cmsghdr`, which has padding in some C libraries.
    let mut filled: libc::cmsghdr = unsafe { zeroed() };
    filled.cmsg_len = length_of_control(length);
    filled.cmsg_level = level;
    filled.cmsg_type = kind;
    // SAFETY: the header is inside the control buffer, see above, which is aligned for it.
    unsafe { header.write(filled) };
    // SAFETY: the data follows the header inside the same buffer.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: `space` leaves room for a `T` behind the header; the write needs no alignment.
    unsafe { data.cast::<T>().write_unaligned(value) };
}

/// Reads our own address from the control message of a header that was received.
fn read_destination(message: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the control buffer is live, and the kernel has set its length to what it wrote.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // SAFETY: it is null, or it is to a whole header inside the buffer, which is aligned for it.
    let found = unsafe { header.as_ref() }?;
    // SAFETY: it only computes where the data would be; it is not read yet.
    let data = unsafe { libc::CMSG_DATA(header) };
    let holds = |size: usize| {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        // SAFETY: it only computes.
        let needed = unsafe { libc::CMSG_LEN(size) };
        found.cmsg_len >= length_of_control(needed)
    };
    match (found.cmsg_level, found.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) if holds(size_of::<libc::in_pktinfo>()) => {
            // SAFETY: `cmsg_len` says that the data holds one; any bytes are a valid value.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            Some(IpAddr::V4(Ipv4Addr::from_bits(u32::from_be(info.ipi_spec_dst.s_addr))))
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if holds(size_of::<libc::in6_pktinfo>()) => {
            // SAFETY: as above.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)))
        }
        _ => None,
    }
}

fn read_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: a `sockaddr_storage` is as large and as aligned as each kind of address, and
            // the family says that it is this kind.
            let address = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from_bits(u32::from_be(address.sin_addr.s_addr));
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(address.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let address = unsafe { &*ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
            let port = u16::from_be(address.sin6_port);
            Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, address.sin6_scope_id)))
        }
        _ => None,
    }
}

fn write_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero bytes are a valid `sockaddr_storage`.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let place = &raw mut storage;
    let length = match address {
        SocketAddr::V4(address) => {
            // SAFETY: all-zero bytes are a valid `sockaddr_in`.
            let mut filled: libc::sockaddr_in = unsafe { zeroed() };
            filled.sin_family = family(libc::AF_INET);
            filled.sin_port = address.port().to_be();
            filled.sin_addr.s_addr = address.ip().to_bits().to_be();
            // SAFETY: a `sockaddr_storage` is as large and as aligned as each kind of address.
            unsafe { place.cast::<libc::sockaddr_in>().write(filled) };
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(address) => {
            // SAFETY: all-zero bytes are a valid `sockaddr_in6`.
            let mut filled: libc::sockaddr_in6 = unsafe { zeroed() };
            filled.sin6_family = family(libc::AF_INET6);
            filled.sin6_port = address.port().to_be();
            filled.sin6_addr.s6_addr = address.ip().octets();
            filled.sin6_scope_id = address.scope_id();
            // SAFETY: as above.
            unsafe { place.cast::<libc::sockaddr_in6>().write(filled) };
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, socket_length(length))
}

/// The C libraries disagree about the type of these lengths.
fn length_of_control<T: TryFrom<u32, Error: std::fmt::Debug>>(length: u32) -> T {
    T::try_from(length).expect("a control message has less than 64 bytes")
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).expect("the families of IP are 2 and 10")
}

fn socket_length(length: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(length).expect("an address has at most 128 bytes")
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd as _;

    use super::*;

    fn check(listen: IpAddr, ask: IpAddr, ipv6: Ipv6) {
        let Ok(socket) = UdpSocket::bind((listen, 0)) else {
            assert_eq!(ipv6, Ipv6::Yes, "only IPv6 may be missing");
            return;
        };
        tell_destinations(socket.as_fd(), ipv6).unwrap();
        let port = socket.local_addr().unwrap().port();
        let client = UdpSocket::bind((ask, 0)).unwrap();
        client.connect((ask, port)).unwrap();
        client.send(b"who").unwrap();
        let mut buffer = [0; 16];
        let datagram = receive(socket.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..datagram.length], b"who");
        assert_eq!(datagram.sender, client.local_addr().unwrap());
        assert_eq!(datagram.destination, Some(ask));
        // A connected socket takes an answer from no other address.
        send(socket.as_fd(), b"me", datagram.sender, datagram.destination).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 2);
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        check(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(127, 0, 0, 5).into(), Ipv6::No);
        check(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::LOCALHOST.into(), Ipv6::Yes);
    }

    #[test]
    fn without_a_source_the_kernel_chooses() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        send(client.as_fd(), b"x", server.local_addr().unwrap(), None).unwrap();
        let datagram = receive(server.as_fd(), &mut [0; 4]).unwrap();
        assert_eq!(datagram.destination, None, "nobody asked to be told");
        assert_eq!(datagram.sender, client.local_addr().unwrap());
    }

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in ["192.0.2.7:53", "[2001:db8::7]:65535", "[fe80::1%3]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(read_address(&write_address(address).0), Some(address));
        }
    }

    #[test]
    fn an_empty_socket_would_block() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let error = receive(socket.as_fd(), &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }
}
