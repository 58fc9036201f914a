//! The `epoll` loop that serves all published ports of one container.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::datagram;
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, connect, recv,
    send, socket_with,
};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::super::ports::Protocol;
use super::listen::Listener;
use super::passed_over;
use super::tcp::{Connection, State, reset};
use super::udp::{Key, Sessions};

/// Two descriptors and little memory each; a service with more clients than this wants the
/// host's network.
const CONNECTIONS_MAX: usize = 16_384;

/// When descriptors or memory have run out, accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one event may take before the others get their turn.
const ACCEPTS_PER_EVENT: usize = 64;
const DATAGRAMS_PER_EVENT: usize = 64;

/// The largest UDP datagram is 65507 bytes; for TCP it is a fair share per read.
const SCRATCH_BYTES: usize = 64 * 1024;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 128;

/// After the container has ended, how long its last bytes may take to reach slow clients.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Where published ports lead.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Dial {
    /// The container's address.
    pub(in super::super) target: Ipv4Addr,
    /// The address to come from, when the kernel's choice would be the container's own loopback.
    pub(in super::super) source: Option<Ipv4Addr>,
}

impl Dial {
    /// Makes a socket that is being connected to a port of the container.
    pub(super) fn connect(&self, port: u16, protocol: Protocol) -> Result<OwnedFd, Errno> {
        let kind = match protocol {
            Protocol::Tcp => SocketType::STREAM,
            Protocol::Udp => SocketType::DGRAM,
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, kind, flags, None)?;
        if let Some(source) = self.source {
            bind(&socket, &SocketAddrV4::new(source, 0))?;
        }
        match connect(&socket, &SocketAddrV4::new(self.target, port)) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(errno) => Err(errno),
        }
    }
}

/// What an event is about, packed into the 64 bits that the kernel hands back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Stop,
    Listener(u64),
    Client(u64),
    Upstream(u64),
    Session(u64),
}

impl Token {
    const KINDS: u64 = 5;

    fn pack(self) -> EventData {
        let (kind, id) = match self {
            Self::Stop => (0, 0),
            Self::Listener(id) => (1, id),
            Self::Client(id) => (2, id),
            Self::Upstream(id) => (3, id),
            Self::Session(id) => (4, id),
        };
        EventData::new_u64(id * Self::KINDS + kind)
    }

    fn unpack(data: EventData) -> Self {
        let id = data.u64() / Self::KINDS;
        match data.u64() % Self::KINDS {
            0 => Self::Stop,
            1 => Self::Listener(id),
            2 => Self::Client(id),
            3 => Self::Upstream(id),
            _ => Self::Session(id),
        }
    }
}

/// The state of the loop.
#[derive(Debug)]
pub(super) struct Engine {
    epoll: OwnedFd,
    stop: OwnedFd,
    dial: Dial,
    listeners: Vec<Listener>,
    connections: BTreeMap<u64, Connection>,
    sessions: Sessions,
    next_id: u64,
    scratch: Vec<u8>,
    /// While set, nothing is accepted.
    paused_until: Option<Duration>,
    /// Once set, nothing is accepted any more, and at this time the loop ends in any case.
    drain_until: Option<Duration>,
}

impl Engine {
    pub(super) fn new(listeners: Vec<Listener>, dial: Dial, stop: OwnedFd) -> io::Result<Self> {
        raise_descriptor_limit();
        let engine = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            stop,
            dial,
            listeners,
            connections: BTreeMap::new(),
            sessions: Sessions::default(),
            next_id: 0,
            scratch: vec![0; SCRATCH_BYTES],
            paused_until: None,
            drain_until: None,
        };
        epoll::add(&engine.epoll, &engine.stop, Token::Stop.pack(), EventFlags::IN)?;
        for (index, listener) in (0..).zip(&engine.listeners) {
            let token = Token::Listener(index).pack();
            epoll::add(&engine.epoll, &listener.socket, token, EventFlags::IN)?;
        }
        Ok(engine)
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS_MAX);
        loop {
            let now = SystemClock.monotonic();
            if self.drain_until.is_some_and(|end| now >= end || self.connections.is_empty()) {
                return Ok(());
            }
            let timeout = self.timeout(now);
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            for event in &events {
                self.handle(Token::unpack(event.data))?;
            }
            self.tidy(SystemClock.monotonic())?;
        }
    }

    /// Returns how long there is nothing to do without an event.
    fn timeout(&self, now: Duration) -> Option<Timespec> {
        [self.paused_until, self.drain_until, self.sessions.next_expiry()]
            .into_iter()
            .flatten()
            .min()
            .map(|at| {
                at.saturating_sub(now).try_into().unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 })
            })
    }

    fn handle(&mut self, token: Token) -> io::Result<()> {
        match token {
            Token::Stop => self.start_draining(),
            Token::Listener(index) => self.serve_listener(index),
            Token::Client(id) | Token::Upstream(id) => self.advance(id),
            Token::Session(id) => {
                self.answer(id);
                Ok(())
            }
        }
    }

    fn tidy(&mut self, now: Duration) -> io::Result<()> {
        self.sessions.expire(now);
        if self.paused_until.is_some_and(|until| now >= until) {
            self.paused_until = None;
            self.listen_for(EventFlags::IN)?;
        }
        Ok(())
    }

    /// Stops to accept and passes on what the container said last.
    fn start_draining(&mut self) -> io::Result<()> {
        for id in self.sessions.ids() {
            self.answer(id);
        }
        self.sessions = Sessions::default();
        epoll::delete(&self.epoll, &self.stop)?;
        self.listeners.clear();
        self.paused_until = None;
        self.drain_until = Some(SystemClock.monotonic() + DRAIN_MAX);
        let ids: Vec<u64> = self.connections.keys().copied().collect();
        ids.into_iter().try_for_each(|id| self.advance(id))
    }

    fn serve_listener(&mut self, index: u64) -> io::Result<()> {
        let Some(listener) = usize::try_from(index).ok().and_then(|at| self.listeners.get(at))
        else {
            return Ok(());
        };
        match listener.published.protocol {
            Protocol::Tcp => self.accept(index),
            Protocol::Udp => {
                self.pass_datagrams(index);
                Ok(())
            }
        }
    }

    fn listener(&self, index: u64) -> Option<&Listener> {
        self.listeners.get(usize::try_from(index).ok()?)
    }

    fn accept(&mut self, index: u64) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_EVENT {
            let Some(listener) = self.listener(index) else { return Ok(()) };
            let port = listener.published.container_port;
            if self.connections.len() >= CONNECTIONS_MAX {
                return self.pause();
            }
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let client = match accept_with(&listener.socket, flags) {
                Ok(client) => client,
                Err(Errno::WOULDBLOCK) => return Ok(()),
                Err(errno) if is_exhausted(errno) => return self.pause(),
                // The client went away while it waited; the next one may be well.
                Err(_) => continue,
            };
            match self.dial.connect(port, Protocol::Tcp) {
                Ok(upstream) => self.start_connection(client, upstream)?,
                Err(errno) => {
                    reset(&client);
                    if is_exhausted(errno) {
                        return self.pause();
                    }
                }
            }
        }
        Ok(())
    }

    fn start_connection(&mut self, client: OwnedFd, upstream: OwnedFd) -> io::Result<()> {
        self.next_id += 1;
        let id = self.next_id;
        self.connections.insert(id, Connection::new(client, upstream));
        self.advance(id)
    }

    /// Moves what can be moved, and asks to be told when more can be.
    fn advance(&mut self, id: u64) -> io::Result<()> {
        let draining = self.drain_until.is_some();
        let Some(connection) = self.connections.get_mut(&id) else { return Ok(()) };
        match connection.advance(&mut self.scratch, draining) {
            State::Open => {
                let epoll = self.epoll.as_fd();
                let wanted = connection.wanted();
                let client = Token::Client(id).pack();
                register(epoll, &connection.client, client, connection.asked.0, wanted.0)?;
                let upstream = Token::Upstream(id).pack();
                register(epoll, &connection.upstream, upstream, connection.asked.1, wanted.1)?;
                connection.asked = wanted;
            }
            State::Done => drop(self.connections.remove(&id)),
            State::Broken => {
                reset(&connection.client);
                reset(&connection.upstream);
                drop(self.connections.remove(&id));
            }
        }
        Ok(())
    }

    fn pause(&mut self) -> io::Result<()> {
        self.paused_until = Some(SystemClock.monotonic() + ACCEPT_PAUSE);
        self.listen_for(EventFlags::empty())
    }

    fn listen_for(&self, flags: EventFlags) -> io::Result<()> {
        for (index, listener) in (0..).zip(&self.listeners) {
            if listener.published.protocol == Protocol::Tcp {
                epoll::modify(&self.epoll, &listener.socket, Token::Listener(index).pack(), flags)?;
            }
        }
        Ok(())
    }

    /// Passes datagrams from clients on. What is lost is lost, as on any network.
    fn pass_datagrams(&mut self, index: u64) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for _ in 0..DATAGRAMS_PER_EVENT {
            let Some(listener) = self.listener(index) else { break };
            let received = match datagram::receive(listener.socket.as_fd(), &mut scratch) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An error of an earlier datagram, such as that its client listens no more.
                Err(_) => continue,
            };
            let key =
                Key { listener: index, client: received.sender, chosen: received.destination };
            self.pass_datagram(key, scratch.get(..received.length).unwrap_or_default());
        }
        self.scratch = scratch;
    }

    fn pass_datagram(&mut self, key: Key, bytes: &[u8]) {
        let now = SystemClock.monotonic();
        let known = self.sessions.touch(key, now);
        let Some(id) = known.or_else(|| self.start_session(key, now)) else { return };
        let Some(session) = self.sessions.get(id) else { return };
        // A refusal belongs to an earlier datagram and has been taken off the socket with this
        // call: the service was not listening then, and may be now.
        if send(&session.socket, bytes, SendFlags::NOSIGNAL) == Err(Errno::CONNREFUSED) {
            passed_over(&send(&session.socket, bytes, SendFlags::NOSIGNAL));
        }
    }

    fn start_session(&mut self, key: Key, now: Duration) -> Option<u64> {
        let port = self.listener(key.listener)?.published.container_port;
        let socket = match self.dial.connect(port, Protocol::Udp) {
            Err(errno) if is_exhausted(errno) => {
                self.sessions.drop_oldest();
                self.dial.connect(port, Protocol::Udp)
            }
            result => result,
        }
        .ok()?;
        self.next_id += 1;
        let id = self.next_id;
        epoll::add(&self.epoll, &socket, Token::Session(id).pack(), EventFlags::IN).ok()?;
        self.sessions.insert(id, key, socket, now);
        Some(id)
    }

    /// Passes the container's answers of one session back.
    fn answer(&mut self, id: u64) {
        let now = SystemClock.monotonic();
        for _ in 0..DATAGRAMS_PER_EVENT {
            let Some(session) = self.sessions.get_mut(id) else { return };
            let length = match recv(&session.socket, &mut self.scratch[..], RecvFlags::empty()) {
                Ok((_, length)) => length,
                // The error of a datagram that nobody took; reading has cleared it.
                Err(Errno::CONNREFUSED) => continue,
                Err(_) => return,
            };
            session.last_used = now;
            let Key { listener, client, chosen } = session.key;
            let Some(listener) = self.listener(listener) else { return };
            let bytes = self.scratch.get(..length).unwrap_or_default();
            // A full buffer loses the datagram, as any network may.
            drop(datagram::send(listener.socket.as_fd(), bytes, client, chosen));
        }
    }
}

/// Returns true if there are no more descriptors or no memory.
fn is_exhausted(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}

/// Asks for other events than before. A socket of which nothing is wanted is taken out, because
/// the kernel would report its end over and over.
fn register(
    epoll: BorrowedFd<'_>,
    socket: &OwnedFd,
    token: EventData,
    asked: EventFlags,
    wanted: EventFlags,
) -> io::Result<()> {
    match (asked.is_empty(), wanted.is_empty()) {
        _ if asked == wanted => {}
        (true, _) => epoll::add(epoll, socket, token, wanted)?,
        (false, true) => epoll::delete(epoll, socket)?,
        (false, false) => epoll::modify(epoll, socket, token, wanted)?,
    }
    Ok(())
}

/// Allows as many descriptors as the administrator does, since each connection takes two. The
/// container was started before and has limits of its own; if this is refused, there are fewer
/// connections at a time.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        passed_over(&setrlimit(Resource::Nofile, limit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for token in [
            Token::Stop,
            Token::Listener(0),
            Token::Listener(1023),
            Token::Client(1),
            Token::Upstream(1),
            Token::Session(u64::from(u32::MAX)),
        ] {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
