//! One connection: a client of the host, the container, and the bytes between them.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::sockopt::{
    set_socket_keepalive, set_socket_linger, set_tcp_nodelay, socket_error,
};
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};

use super::passed_over;

/// How often one event may fill the scratch buffer before other connections get their turn.
const ROUNDS_PER_EVENT: usize = 16;

/// What has become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// More may come.
    Open,
    /// Both sides have said all.
    Done,
    /// One side is gone, and the other is to learn of it.
    Broken,
}

/// A connection and how far it has got.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: OwnedFd,
    pub(super) upstream: OwnedFd,
    /// What `epoll` was asked for, for client and upstream.
    pub(super) asked: (EventFlags, EventFlags),
    connecting: bool,
    to_upstream: Flow,
    to_client: Flow,
}

/// One direction. A side that has said all (end of stream) is passed on as such, while the other
/// direction goes on.
#[derive(Debug, Default)]
struct Flow {
    /// What was read and not yet written.
    pending: Vec<u8>,
    written: usize,
    /// The reader has come to the end.
    ended: bool,
    /// The end was passed on.
    closed: bool,
}

/// Which side failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    Read,
    Write,
}

impl Connection {
    pub(super) fn new(client: OwnedFd, upstream: OwnedFd) -> Self {
        for socket in [&client, &upstream] {
            // Delaying small packets a second time would only add to the latency, and a client
            // that is gone without a word must not stay for ever. A socket that refuses these is
            // broken, which the first read will tell.
            passed_over(&set_tcp_nodelay(socket, true));
            passed_over(&set_socket_keepalive(socket, true));
        }
        Self {
            client,
            upstream,
            asked: (EventFlags::empty(), EventFlags::empty()),
            connecting: true,
            to_upstream: Flow::default(),
            to_client: Flow::default(),
        }
    }

    /// Moves what can be moved. `draining` says that the container has ended, so that nobody
    /// listens to the client any more.
    pub(super) fn advance(&mut self, scratch: &mut [u8], draining: bool) -> State {
        if self.connecting {
            match self.try_connect() {
                Ok(true) => self.connecting = false,
                Ok(false) if draining => return State::Broken,
                Ok(false) => return State::Open,
                Err(_) => return State::Broken,
            }
        }
        if self.to_client.pump(&self.upstream, &self.client, scratch).is_err() {
            return State::Broken;
        }
        match self.to_upstream.pump(&self.client, &self.upstream, scratch) {
            Ok(()) => {}
            Err(Failure::Read) => return State::Broken,
            // A service may answer and hang up before it has read all; its answer still counts.
            Err(Failure::Write) => self.to_upstream.abandon(),
        }
        if self.to_client.closed && (draining || self.to_upstream.closed) {
            return State::Done;
        }
        State::Open
    }

    /// Returns the events to wait for, for client and upstream.
    pub(super) fn wanted(&self) -> (EventFlags, EventFlags) {
        if self.connecting {
            return (EventFlags::empty(), EventFlags::OUT);
        }
        (
            self.to_upstream.wanted_of_reader() | self.to_client.wanted_of_writer(),
            self.to_client.wanted_of_reader() | self.to_upstream.wanted_of_writer(),
        )
    }

    /// Returns true once the upstream connection stands.
    fn try_connect(&self) -> Result<bool, Errno> {
        socket_error(&self.upstream)??;
        match rustix::net::getpeername(&self.upstream) {
            Ok(peer) => Ok(peer.is_some()),
            Err(Errno::NOTCONN) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

impl Flow {
    fn wanted_of_reader(&self) -> EventFlags {
        if self.ended || !self.pending.is_empty() { EventFlags::empty() } else { EventFlags::IN }
    }

    fn wanted_of_writer(&self) -> EventFlags {
        if self.pending.is_empty() { EventFlags::empty() } else { EventFlags::OUT }
    }

    /// Reads and writes until one of the sides has to be waited for.
    fn pump(&mut self, from: &OwnedFd, to: &OwnedFd, scratch: &mut [u8]) -> Result<(), Failure> {
        for _ in 0..ROUNDS_PER_EVENT {
            if !self.flush(to)? {
                return Ok(());
            }
            if self.ended {
                return self.close(to);
            }
            match recv(from, &mut *scratch, RecvFlags::empty()) {
                Ok((_, 0)) => {
                    // Nothing is pending here, and nothing will wake us for the end later.
                    self.ended = true;
                    return self.close(to);
                }
                Ok((_, length)) => self.write(to, scratch.get(..length).unwrap_or_default())?,
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Failure::Read),
            }
        }
        Ok(())
    }

    /// Writes bytes, and keeps what the other side does not take now.
    fn write(&mut self, to: &OwnedFd, bytes: &[u8]) -> Result<(), Failure> {
        let taken = match send(to, bytes, SendFlags::NOSIGNAL) {
            Ok(taken) => taken,
            Err(Errno::WOULDBLOCK | Errno::INTR) => 0,
            Err(_) => return Err(Failure::Write),
        };
        self.pending.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        Ok(())
    }

    /// Writes what was kept and returns true if nothing is left.
    fn flush(&mut self, to: &OwnedFd) -> Result<bool, Failure> {
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            match send(to, rest, SendFlags::NOSIGNAL) {
                Ok(taken) => self.written += taken,
                Err(Errno::WOULDBLOCK) => return Ok(false),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Failure::Write),
            }
        }
        // Idle connections are many; they keep no buffer.
        self.pending = Vec::new();
        self.written = 0;
        Ok(true)
    }

    fn close(&mut self, to: &OwnedFd) -> Result<(), Failure> {
        if !self.closed {
            self.closed = true;
            match shutdown(to, Shutdown::Write) {
                Ok(()) | Err(Errno::NOTCONN) => {}
                Err(_) => return Err(Failure::Write),
            }
        }
        Ok(())
    }

    fn abandon(&mut self) {
        *self = Self { pending: Vec::new(), written: 0, ended: true, closed: true };
    }
}

/// Makes the closing of a socket a refusal instead of a regular end, so that a client does not
/// take an answer that was cut for a whole one.
pub(super) fn reset(socket: &OwnedFd) {
    // A socket that is already dead cannot be told, and need not be.
    passed_over(&set_socket_linger(socket, Some(Duration::ZERO)));
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
    }

    #[test]
    fn the_end_is_passed_on_whatever_the_number_of_reads_before_it() {
        for length in 0..3 * ROUNDS_PER_EVENT {
            let (writer, from) = pair();
            let (to, reader) = pair();
            assert_eq!(send(&writer, &vec![7; length], SendFlags::NOSIGNAL), Ok(length));
            shutdown(&writer, Shutdown::Write).unwrap();
            let mut flow = Flow::default();
            // One byte a read; the flow is only asked to go on while it says that it wants to.
            while flow.wanted_of_reader() == EventFlags::IN {
                flow.pump(&from, &to, &mut [0]).unwrap();
            }
            assert!(flow.closed, "after {length} bytes");
            let mut seen = vec![0; length + 1];
            assert_eq!(recv(&reader, &mut seen[..], RecvFlags::empty()).unwrap().0, length);
            assert_eq!(recv(&reader, &mut seen[..], RecvFlags::empty()).unwrap().0, 0);
        }
    }

    #[test]
    fn what_the_writer_does_not_take_is_kept_and_the_reader_is_left_alone() {
        let (writer, from) = pair();
        let (to, reader) = pair();
        let mut scratch = vec![0; 64 * 1024];
        let block = vec![1; 64 * 1024];
        let mut sent = 0;
        let mut flow = Flow::default();
        while flow.wanted_of_writer().is_empty() {
            sent += send(&writer, &block, SendFlags::NOSIGNAL).unwrap();
            flow.pump(&from, &to, &mut scratch).unwrap();
        }
        assert_eq!(flow.wanted_of_reader(), EventFlags::empty());
        shutdown(&writer, Shutdown::Write).unwrap();
        let mut received = 0;
        loop {
            match recv(&reader, &mut scratch[..], RecvFlags::empty()) {
                Ok((0, _)) => break,
                Ok((length, _)) => received += length,
                Err(Errno::WOULDBLOCK) => flow.pump(&from, &to, &mut vec![0; 4096]).unwrap(),
                Err(errno) => panic!("{errno}"),
            }
        }
        assert_eq!(received, sent);
    }
}
