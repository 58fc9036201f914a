//! The kernel's network configuration over netlink: links, addresses and routes in [`route`],
//! packet filter and address translation in [`nft`].
//!
//! Hand-written, because a container needs some ten requests: no other program is started, no
//! library is linked, and every refusal of the kernel arrives with its own words (extended
//! acknowledgement). What is asked, and when, is decided by the callers.
//!
//! A socket speaks to the network namespace that its thread was in when it was opened, for as
//! long as it lives; see [`crate::netlink::in_namespace`].

mod message;
pub mod nft;
pub mod route;

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recvfrom, send,
    socket_with,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use message::{Attributes, HEADER_BYTES, Message, Messages};

/// The largest datagram that the kernel makes for a dump is 32 KiB; an answer that was cut is
/// reported and not used.
const RECEIVE_BYTES: usize = 64 * 1024;

/// The kernel answers while the request is being sent. The limit only keeps a lost answer (no
/// memory for it) from hanging us.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A dump that changed while it was read is read again this often.
const DUMP_ATTEMPTS: u32 = 8;

const ACKNOWLEDGE: u16 = flag(libc::NLM_F_ACK);
const REQUEST: u16 = flag(libc::NLM_F_REQUEST);
const DUMP: u16 = flag(libc::NLM_F_DUMP);
const CREATE: u16 = flag(libc::NLM_F_CREATE);
const EXCLUSIVE: u16 = flag(libc::NLM_F_EXCL);

/// Attributes of an error message (`enum nlmsgerr_attrs`).
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Narrows a constant of the kernel to the two bytes that it has on the wire.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "libc declares these constants wider than the wire has them; all are below 65536"
)]
const fn flag(value: libc::c_int) -> u16 {
    value as u16
}

/// A request that the kernel refused, or that did not reach it.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No netlink socket could be opened.
    #[error("failed to open a netlink socket")]
    Open(#[source] io::Error),
    /// The request could not be sent or its answer not received.
    #[error("failed to {operation}: the netlink socket broke")]
    Transport {
        /// What was asked, as a verb.
        operation: String,
        /// What the socket said.
        #[source]
        source: io::Error,
    },
    /// The kernel said no.
    #[error("failed to {operation}{}", in_words(explanation.as_deref()))]
    Refused {
        /// What was asked, as a verb.
        operation: String,
        /// The kernel's own words, when it gave some.
        explanation: Option<String>,
        /// The error number.
        #[source]
        source: io::Error,
    },
    /// The answer was not what the protocol promises.
    #[error("failed to {operation}: the kernel's answer is malformed")]
    Malformed {
        /// What was asked, as a verb.
        operation: String,
    },
}

impl NetlinkError {
    /// Returns the error number of the refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open(source) | Self::Transport { source, .. } | Self::Refused { source, .. } => {
                source.raw_os_error()
            }
            Self::Malformed { .. } => None,
        }
    }

    /// Returns true if the kernel refused because the object exists already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Refused { .. }) && self.errno() == Some(libc::EEXIST)
    }

    /// Returns true if the kernel refused because the object does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { .. })
            && matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV))
    }

    /// Returns true if the kernel lacks the subsystem that was asked for.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.errno(), Some(libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT | libc::EOPNOTSUPP))
    }
}

fn in_words(explanation: Option<&str>) -> String {
    explanation.map(|text| format!(" (the kernel says: {text})")).unwrap_or_default()
}

/// Runs `work` on a thread of its own that has entered a network namespace.
///
/// The thread ends before this returns, so that no thread of ours keeps the namespace alive. It
/// is a thread, because a process that entered the namespace itself might not get back.
pub fn in_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new()
            .name("corten-netns".to_owned())
            .stack_size(256 * 1024)
            .spawn_scoped(scope, || {
                enter_namespace(namespace)?;
                Ok(work())
            })?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Moves the calling thread, and only it, into a network namespace.
pub fn enter_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
}

/// A netlink socket and the number of the last request.
#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket of one netlink protocol; none is routing, whose number is zero.
    fn open(protocol: Option<Protocol>) -> Result<Self, NetlinkError> {
        let fd =
            socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
                .map_err(|errno| NetlinkError::Open(errno.into()))?;
        bind(&fd, &SocketAddrNetlink::new(0, 0))
            .map_err(|errno| NetlinkError::Open(errno.into()))?;
        set_socket_timeout(&fd, Timeout::Recv, Some(ANSWER_TIMEOUT))
            .map_err(|errno| NetlinkError::Open(errno.into()))?;
        // Both only make refusals clearer: the text, and no copy of our own request. A kernel
        // before 4.12 knows neither, and works without them.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            match set_netlink_option(&fd, option) {
                Err(error) if error.raw_os_error() != Some(libc::ENOPROTOOPT) => {
                    return Err(NetlinkError::Open(error));
                }
                _ => {}
            }
        }
        Ok(Self { fd, sequence: 0, buffer: Vec::new() })
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, operation: &str, bytes: &[u8]) -> Result<(), NetlinkError> {
        let broken = |source| NetlinkError::Transport { operation: operation.to_owned(), source };
        let sent = send(&self.fd, bytes, SendFlags::empty()).map_err(|e| broken(e.into()))?;
        if sent == bytes.len() { Ok(()) } else { Err(broken(io::ErrorKind::WriteZero.into())) }
    }

    /// Receives one datagram of the kernel into the buffer.
    fn receive(&mut self, operation: &str) -> Result<&[u8], NetlinkError> {
        let broken = |source| NetlinkError::Transport { operation: operation.to_owned(), source };
        self.buffer.resize(RECEIVE_BYTES, 0);
        loop {
            match recvfrom(&self.fd, self.buffer.as_mut_slice(), RecvFlags::TRUNC) {
                Ok((_, length, sender)) => {
                    // Other processes can write to the socket too; the kernel's port is 0.
                    let sender = sender.and_then(|any| SocketAddrNetlink::try_from(any).ok());
                    if sender.is_none_or(|address| address.pid() != 0) {
                        continue;
                    }
                    if length > RECEIVE_BYTES {
                        return Err(broken(io::Error::from_raw_os_error(libc::EMSGSIZE)));
                    }
                    return Ok(self.buffer.get(..length).unwrap_or_default());
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(broken(errno.into())),
            }
        }
    }

    /// Sends a message and waits for its acknowledgement; messages that come before it go to
    /// `on_message`.
    fn request(
        &mut self,
        operation: &str,
        bytes: &[u8],
        last_sequence: u32,
        on_message: &mut dyn FnMut(Message<'_>),
    ) -> Result<(), NetlinkError> {
        self.send(operation, bytes)?;
        loop {
            let datagram = self.receive(operation)?;
            for message in Messages(datagram) {
                if i32::from(message.kind) != libc::NLMSG_ERROR {
                    on_message(message);
                    continue;
                }
                acknowledged(operation, message)?;
                if message.sequence == last_sequence {
                    return Ok(());
                }
            }
        }
    }

    /// Sends a dump request and passes each answer to `on_message`; `reset` is called before the
    /// dump is read again because it had changed meanwhile.
    fn dump<T>(
        &mut self,
        operation: &str,
        build: &dyn Fn(u32) -> message::Builder,
        parse: &dyn Fn(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, NetlinkError> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.next_sequence();
            self.send(operation, build(sequence).as_bytes())?;
            let mut found = Vec::new();
            if self.read_dump(operation, sequence, parse, &mut found)? {
                return Ok(found);
            }
        }
        Err(NetlinkError::Transport {
            operation: operation.to_owned(),
            source: io::Error::from_raw_os_error(libc::EINTR),
        })
    }

    /// Reads one dump to its end and returns false if it changed while it was being read.
    fn read_dump<T>(
        &mut self,
        operation: &str,
        sequence: u32,
        parse: &dyn Fn(Message<'_>) -> Option<T>,
        found: &mut Vec<T>,
    ) -> Result<bool, NetlinkError> {
        let mut whole = true;
        loop {
            let datagram = self.receive(operation)?;
            for message in Messages(datagram).filter(|message| message.sequence == sequence) {
                whole &= message.flags & flag(libc::NLM_F_DUMP_INTR) == 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok(whole),
                    libc::NLMSG_ERROR => acknowledged(operation, message)?,
                    _ => found.extend(parse(message)),
                }
            }
        }
    }
}

/// Reads an acknowledgement (`struct nlmsgerr`): an error number, the header of the request, and
/// with `NETLINK_EXT_ACK` attributes.
fn acknowledged(operation: &str, message: Message<'_>) -> Result<(), NetlinkError> {
    let Some(error) = message.payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) else {
        return Err(NetlinkError::Malformed { operation: operation.to_owned() });
    };
    if error == 0 {
        return Ok(());
    }
    let rest = message.payload.get(4 + HEADER_BYTES..).unwrap_or_default();
    // A kernel without `NETLINK_CAP_ACK` repeats the whole request before the attributes; then
    // there is no text to be found.
    let explained = message.flags & flag(libc::NLM_F_ACK_TLVS) != 0;
    let explanation = explained.then(|| Attributes(rest).text(NLMSGERR_ATTR_MSG)).flatten();
    Err(NetlinkError::Refused {
        operation: operation.to_owned(),
        explanation,
        source: io::Error::from_raw_os_error(error.wrapping_neg()),
    })
}

/// Turns on a yes-or-no option of netlink sockets, which rustix does not know.
#[expect(unsafe_code, reason = "rustix has no socket options of the netlink level")]
fn set_netlink_option(fd: &OwnedFd, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).unwrap_or_default();
    // SAFETY: `fd` is an open socket for as long as the borrow lasts; the value pointer is to
    // `on`, a live local of `length` bytes that the kernel only reads; the call keeps neither.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledgement(error: i32, flags: u16, attributes: &[u8]) -> Vec<u8> {
        let mut builder = message::Builder::new();
        builder.message(flag(libc::NLMSG_ERROR), flags, 3);
        builder.header(&error.to_ne_bytes()).raw(&[0; HEADER_BYTES]).header(attributes);
        builder.as_bytes().to_vec()
    }

    fn check(bytes: &[u8]) -> Result<(), NetlinkError> {
        acknowledged("add the link `x`", Messages(bytes).next().unwrap())
    }

    #[test]
    fn an_acknowledgement_of_zero_is_success() {
        check(&acknowledgement(0, 0, &[])).unwrap();
    }

    #[test]
    fn a_refusal_carries_the_number_and_the_operation() {
        let error = check(&acknowledgement(-libc::EEXIST, 0, &[])).unwrap_err();
        assert_eq!(error.to_string(), "failed to add the link `x`");
        assert!(error.is_already_exists());
        assert!(!error.is_not_found());
    }

    #[test]
    fn a_refusal_carries_the_words_of_the_kernel() {
        let mut words = message::Builder::new();
        words.message(0, 0, 0).text(NLMSGERR_ATTR_MSG, "Nexthop has invalid gateway");
        let tlvs = &words.as_bytes()[HEADER_BYTES..];
        let flags = flag(libc::NLM_F_ACK_TLVS | libc::NLM_F_CAPPED);
        let error = check(&acknowledgement(-libc::ENETUNREACH, flags, tlvs)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to add the link `x` (the kernel says: Nexthop has invalid gateway)"
        );
    }

    #[test]
    fn a_cut_acknowledgement_is_malformed() {
        let mut builder = message::Builder::new();
        builder.message(flag(libc::NLMSG_ERROR), 0, 3).header(&[]);
        let error = check(builder.as_bytes()).unwrap_err();
        assert!(matches!(error, NetlinkError::Malformed { .. }));
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_the_readers_panic(bytes in proptest::collection::vec(0_u8.., 0..256)) {
            for message in Messages(&bytes) {
                route::parse_anything(message);
                nft::parse_anything(message);
                drop(acknowledged("test", message));
            }
            // Random lengths rarely fit, so the payload is also tried as it is.
            for kind in 0..64_u16 {
                for kind in [kind, kind | 0x0a00] {
                    let message = Message { kind, flags: u16::MAX, sequence: 0, payload: &bytes };
                    route::parse_anything(message);
                    nft::parse_anything(message);
                    drop(acknowledged("test", message));
                }
            }
        }
    }
}
