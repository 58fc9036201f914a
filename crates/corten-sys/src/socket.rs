//! Pairs of sockets that carry whole messages and descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

/// The kernel takes no more in one message (`SCM_MAX_FD`).
pub const DESCRIPTORS_MAX: usize = 253;

/// Makes a pair of connected sockets that keep messages apart.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Sends a message and copies of descriptors with it. The message must not be empty.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    loop {
        let slice = [IoSlice::new(bytes)];
        match rustix::net::sendmsg(socket, &slice, &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Sends a message of two parts if there is room for it now; false if there is none. The message must
/// not be empty.
pub fn try_send(socket: BorrowedFd<'_>, head: &[u8], bytes: &[u8]) -> io::Result<bool> {
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    loop {
        let slices = [IoSlice::new(head), IoSlice::new(bytes)];
        let mut control = SendAncillaryBuffer::new(&mut []);
        match rustix::net::sendmsg(socket, &slices, &mut control, flags) {
            Ok(_) => return Ok(true),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A message that was received.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer it fills; 0 is the end: the other side is closed.
    pub length: usize,
    pub fds: Vec<OwnedFd>,
}

/// Waits for a message; one that is longer than the buffer is an error.
pub fn receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Received> {
    receive_with(socket, bytes, RecvFlags::empty())
}

/// Takes a message that is there; `None` if there is none yet.
pub fn try_receive(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<Option<Received>> {
    match receive_with(socket, bytes, RecvFlags::DONTWAIT) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

fn receive_with(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let message = loop {
        let mut slice = [IoSliceMut::new(bytes)];
        let flags = flags | RecvFlags::CMSG_CLOEXEC;
        match rustix::net::recvmsg(socket, &mut slice, &mut control, flags) {
            Ok(message) => break message,
            // The other side was closed with something unread. That is told once, before what it has sent
            // itself, which may say why.
            Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            fds.extend(received);
        }
    }
    if message.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok(Received { length: message.bytes, fds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn messages_stay_apart_and_carry_descriptors() {
        let (left, right) = pair().expect("a pair");
        let (reader, writer) = crate::command::pipe().expect("a pipe");
        send(left.as_fd(), b"one", &[writer.as_fd()]).expect("sent");
        send(left.as_fd(), b"three", &[]).expect("sent");
        let mut buffer = [0; 16];
        let first = receive(right.as_fd(), &mut buffer).expect("received");
        assert_eq!((&buffer[..first.length], first.fds.len()), (&b"one"[..], 1));
        rustix::io::write(&first.fds[0], b"x").expect("the descriptor works");
        let second = receive(right.as_fd(), &mut buffer).expect("received");
        assert_eq!(&buffer[..second.length], b"three");
        assert!(try_receive(right.as_fd(), &mut buffer).expect("no error").is_none());
        drop(left);
        assert_eq!(receive(right.as_fd(), &mut buffer).expect("the end").length, 0);
        drop(reader);
    }

    #[test]
    fn a_message_for_which_there_is_no_room_is_not_sent() {
        let (left, right) = pair().expect("a pair");
        let chunk = vec![7; 60_000];
        let mut sent = 0;
        while try_send(left.as_fd(), b"o", &chunk).expect("no error") {
            sent += 1;
        }
        assert!(sent > 0, "there was room for some");
        let mut buffer = vec![0; 70_000];
        for _ in 0..sent {
            assert_eq!(receive(right.as_fd(), &mut buffer).expect("received").length, 60_001);
        }
        assert!(try_send(left.as_fd(), b"o", &chunk).expect("no error"));
        drop(right);
        assert!(try_send(left.as_fd(), b"o", &chunk).is_err());
    }

    #[test]
    fn last_words_are_heard_although_something_was_unread() {
        let (left, right) = pair().expect("a pair");
        send(left.as_fd(), b"unread", &[]).expect("sent");
        send(right.as_fd(), b"last words", &[]).expect("sent");
        drop(right);
        let mut buffer = [0; 16];
        let received = receive(left.as_fd(), &mut buffer).expect("received");
        assert_eq!(&buffer[..received.length], b"last words");
        assert_eq!(receive(left.as_fd(), &mut buffer).expect("the end").length, 0);
    }

    #[test]
    fn a_message_that_does_not_fit_is_an_error() {
        let (left, right) = pair().expect("a pair");
        send(left.as_fd(), &[7; 64], &[]).expect("sent");
        assert!(receive(right.as_fd(), &mut [0; 8]).is_err());
    }
}
