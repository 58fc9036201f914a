//! Questions that others are asked: by datagrams from the host's own network, one socket for each, so that
//! an answer cannot be guessed from outside.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use corten_sys::clock::{Clock as _, SystemClock};

use super::super::resolv::HostResolver;
use super::{PORT, codec, send};

/// Questions that wait at a time; a program that asks more has to ask again.
const PENDING_MAX: usize = 256;

/// How long one server has before the next is asked.
const ANSWER_MAX: Duration = Duration::from_millis(1500);

/// How often each server is asked.
const ATTEMPTS: usize = 2;

/// How often it is looked whether the host has other servers now.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Whom to ask.
#[derive(Debug)]
pub(super) struct Upstreams {
    given: Vec<SocketAddr>,
    host: Mutex<(Option<Duration>, Vec<SocketAddr>)>,
}

impl Upstreams {
    /// Those that are given; none are the host's, whichever it has at the time.
    pub(super) fn new(given: Vec<IpAddr>) -> Self {
        let given = given.into_iter().map(|address| SocketAddr::new(address, PORT)).collect();
        Self { given, host: Mutex::new((None, Vec::new())) }
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        if !self.given.is_empty() {
            return self.given.clone();
        }
        let mut host = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemClock.monotonic();
        if host.0.is_none_or(|looked| now.saturating_sub(looked) > LOOK_EVERY) {
            // One that cannot be read just now is as it was.
            if let Ok(resolver) = HostResolver::read() {
                host.1 = servers(&resolver);
            }
            host.0 = Some(now);
        }
        host.1.clone()
    }
}

/// The host's own servers, also those on its loopback addresses: they are asked from the host.
fn servers(resolver: &HostResolver) -> Vec<SocketAddr> {
    let addresses = resolver.own_nameservers().into_iter();
    addresses.map(|address| SocketAddr::new(address, PORT)).collect()
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Asked {
    /// With the number that we have put in the place of the client's.
    query: Vec<u8>,
    id: [u8; 2],
    client: SocketAddr,
    socket: UdpSocket,
    /// Who is asked next if this one does not answer, the last first.
    others: Vec<SocketAddr>,
    until: Duration,
}

/// Questions that wait.
#[derive(Debug, Default)]
pub(super) struct Pending {
    asked: Vec<Asked>,
}

impl Pending {
    pub(super) fn sockets(&self) -> impl Iterator<Item = &UdpSocket> {
        self.asked.iter().map(|asked| &asked.socket)
    }

    /// Returns how long there is nothing to do without an answer.
    pub(super) fn timeout(&self, now: Duration) -> Option<Duration> {
        self.asked.iter().map(|asked| asked.until.saturating_sub(now)).min()
    }

    /// Asks the first who can be asked.
    pub(super) fn ask(
        &mut self,
        query: &[u8],
        client: SocketAddr,
        upstreams: &[SocketAddr],
        now: Duration,
        udp: &UdpSocket,
    ) {
        let failure = |udp: &UdpSocket| {
            send(udp, &codec::refuse(query, codec::SERVER_FAILURE), client);
        };
        let Some(id) = query.first_chunk::<2>().filter(|_| self.asked.len() < PENDING_MAX) else {
            return failure(udp);
        };
        let rounds = std::iter::repeat_n(upstreams, ATTEMPTS).flatten();
        let mut others: Vec<SocketAddr> = rounds.copied().collect();
        others.reverse();
        let mut own = query.to_vec();
        if let Some(number) = own.first_chunk_mut::<2>() {
            *number = random();
        }
        match ask_next(&own, &mut others) {
            Some(socket) => {
                let until = now + ANSWER_MAX;
                self.asked.push(Asked { query: own, id: *id, client, socket, others, until });
            }
            None => failure(udp),
        }
    }

    /// Takes what has come for a question, and passes it on if it is its answer.
    pub(super) fn receive(&mut self, index: usize, udp: &UdpSocket, buffer: &mut [u8]) {
        let Some(asked) = self.asked.get_mut(index) else { return };
        match asked.socket.recv(buffer) {
            Ok(length) => {
                let Some(answer) = buffer.get_mut(..length) else { return };
                if !codec::is_answer_to(answer, &asked.query) {
                    return;
                }
                if let Some(number) = answer.first_chunk_mut::<2>() {
                    *number = asked.id;
                }
                send(udp, answer, asked.client);
                drop(self.asked.swap_remove(index));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Nobody listens there: the next one is asked at once.
            Err(_) => asked.until = Duration::ZERO,
        }
    }

    /// Asks the next server where one has not answered in its time.
    pub(super) fn tidy(&mut self, now: Duration, udp: &UdpSocket) {
        self.asked.retain_mut(|asked| {
            if now < asked.until {
                return true;
            }
            if let Some(socket) = ask_next(&asked.query, &mut asked.others) {
                asked.socket = socket;
                asked.until = now + ANSWER_MAX;
                return true;
            }
            let mut failure = codec::refuse(&asked.query, codec::SERVER_FAILURE);
            if let Some(number) = failure.first_chunk_mut::<2>() {
                *number = asked.id;
            }
            send(udp, &failure, asked.client);
            false
        });
    }
}

/// Sends a question to the last of these who can be reached at all, and takes them off.
fn ask_next(query: &[u8], others: &mut Vec<SocketAddr>) -> Option<UdpSocket> {
    while let Some(server) = others.pop() {
        if let Ok(socket) = ask(query, server) {
            return Some(socket);
        }
    }
    None
}

fn ask(query: &[u8], server: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    // From a stranger, nothing is received.
    socket.connect(server)?;
    socket.send(query)?;
    Ok(socket)
}

/// Two random bytes.
fn random() -> [u8; 2] {
    let text = corten_sys::random::name();
    let bytes = u16::from_str_radix(text.get(..4).unwrap_or_default(), 16).unwrap_or_default();
    bytes.to_be_bytes()
}
