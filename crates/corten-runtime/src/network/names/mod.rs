//! Names of containers: a small server for each container that is on a network with names.
//!
//! ```text
//! container                              process that runs it (`corten run`, or the monitor)
//! program ── 127.0.0.11:53 ── rule ──►   127.0.0.11:PORT, opened in the container's namespace
//!                                          │ names of the container's networks: the register
//!                                          └ everything else: the host's name servers, from the host
//! ```
//!
//! It ends with its container, and nothing is shared: one that dies takes its own container's names
//! along and nobody else's. The port is any, and a rule of the packet filter in the container's own
//! namespace leads there, so that a name server in the container can have port 53 of every address.
//!
//! What is asked comes from inside the container and is not trusted: it is read by [`codec`], whose
//! readers refuse what they do not understand, and there is a limit to everything that is kept.

mod codec;
mod forward;
mod tcp;
mod zone;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::netlink::nft::{
    Base, Batch, ChainKind, Expression, Family, Hook, NftSocket, Test, Verdict,
};
use corten_sys::process::PidFd;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

use super::NetworkError;
use super::bridge::inside;
use super::register::{Register, Watched};
use codec::{Query, Refusal};
use forward::{Pending, Upstreams};
use zone::Found;

/// Where a container's programs ask, as in Docker.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The port of the domain name system.
const PORT: u16 = 53;

/// The table in the container's namespace, and where its chain stands: `dstnat` of the `nft` program.
const TABLE: &str = "corten-names";
const DESTINATION_NAT: i32 = -100;

/// The numbers of the protocols above IP.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// A query is one question; with cookies and padding it is some hundred bytes.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What one round may take before answers of others get their turn.
const QUERIES_PER_ROUND: usize = 64;

/// How much stack a thread of the server needs, with room.
const STACK_BYTES: usize = 256 * 1024;

/// Whose names a server knows.
#[derive(Debug)]
pub(super) struct Settings {
    /// The container that asks.
    pub container: String,
    pub register: Register,
    /// Whom it asks instead of the host's name servers.
    pub nameservers: Vec<IpAddr>,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Server {
    stop: OwnedFd,
    thread: JoinHandle<io::Result<()>>,
}

impl Server {
    /// Starts to answer in a container's namespace.
    pub(super) fn start(netns: BorrowedFd<'_>, settings: Settings) -> Result<Self, NetworkError> {
        Self::start_for(netns, settings, None)
    }

    /// Starts to answer in the namespace of a container that runs, until its first process ends.
    pub(super) fn start_beside(
        netns: BorrowedFd<'_>,
        settings: Settings,
        process: PidFd,
    ) -> Result<(), NetworkError> {
        Self::start_for(netns, settings, Some(process)).map(drop)
    }

    fn start_for(
        netns: BorrowedFd<'_>,
        settings: Settings,
        process: Option<PidFd>,
    ) -> Result<Self, NetworkError> {
        let failed = |source| NetworkError::Names { operation: "start", source };
        let (udp, tcp) = inside(netns, || {
            let (udp, tcp) = open().map_err(failed)?;
            lead_here(port_of(udp.local_addr()).map_err(failed)?, PORT, UDP)?;
            lead_here(port_of(tcp.local_addr()).map_err(failed)?, PORT, TCP)?;
            Ok((udp, tcp))
        })?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let stop = eventfd(0, flags).map_err(|errno| failed(errno.into()))?;
        let stopped = stop.try_clone().map_err(failed)?;
        let answers = Arc::new(Answers::new(settings));
        let thread = std::thread::Builder::new()
            .name("corten-names".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                Round { udp, tcp, stop: stopped, process, answers, pending: Pending::default() }
                    .run()
            })
            .map_err(failed)?;
        Ok(Self { stop, thread })
    }

    /// Stops to answer; what is asked just now gets no answer.
    pub(super) fn stop(self) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::Names { operation: "stop", source };
        rustix::io::write(&self.stop, &1_u64.to_ne_bytes())
            .map_err(|errno| failed(errno.into()))?;
        match self.thread.join() {
            Ok(result) => result.map_err(failed),
            Err(_panic) => Err(failed(io::Error::other("the thread panicked"))),
        }
    }
}

/// Opens the sockets of the calling thread's namespace.
fn open() -> io::Result<(UdpSocket, TcpListener)> {
    let udp = UdpSocket::bind((SERVER, 0))?;
    udp.set_nonblocking(true)?;
    let tcp = TcpListener::bind((SERVER, 0))?;
    tcp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

fn port_of(address: io::Result<SocketAddr>) -> io::Result<u16> {
    Ok(address?.port())
}

/// Sends what the namespace's programs ask the server to the port that it has.
fn lead_here(port: u16, asked: u16, protocol: u8) -> Result<(), NetworkError> {
    let base = Base {
        kind: ChainKind::Nat,
        hook: Hook::Output,
        priority: DESTINATION_NAT,
        policy: Verdict::Accept,
    };
    let server = Expression::Destination(Test::Is, SERVER.into(), 32);
    let rule = [server, Expression::Port(protocol, asked), Expression::Redirect(SERVER, port)];
    let mut batch = Batch::new();
    batch
        .add_table(Family::Ipv4, TABLE, &[])
        .add_chain(Family::Ipv4, TABLE, "output", Some(base))
        .append_rule(Family::Ipv4, TABLE, "output", &rule);
    let operation = "lead questions about names to their server";
    Ok(NftSocket::open()?.commit(operation, batch)?)
}

/// What the threads of a server know together.
#[derive(Debug)]
struct Answers {
    container: String,
    watched: Mutex<Watched>,
    upstreams: Upstreams,
}

/// What is to become of a query.
#[derive(Debug)]
enum Reply {
    /// This is the answer.
    Now(Vec<u8>),
    /// One of these knows.
    Ask(Vec<SocketAddr>),
    /// It is no query.
    Never,
}

impl Answers {
    fn new(settings: Settings) -> Self {
        Self {
            container: settings.container,
            watched: Mutex::new(Watched::new(settings.register)),
            upstreams: Upstreams::new(settings.nameservers),
        }
    }

    /// Decides about the bytes of a query; `limit` is how many an answer may have.
    fn reply(&self, bytes: &[u8], limit: Limit) -> Reply {
        let query = match codec::parse(bytes) {
            Ok(query) => query,
            Err(Refusal::Silence) => return Reply::Never,
            Err(Refusal::Code(code)) => return Reply::Now(codec::refuse(bytes, code)),
        };
        let limit_bytes = match limit {
            Limit::Datagram => query.datagram_bytes(),
            Limit::Stream => usize::from(u16::MAX),
        };
        let (found, is_closed) = self.look_up(&query);
        match found {
            Found::Records(records) => Reply::Now(codec::answer(&query, &records, limit_bytes)),
            Found::NoRecord => Reply::Now(codec::answer(&query, &[], limit_bytes)),
            Found::NoName => Reply::Now(codec::no_name(&query)),
            // An internal network has no way out, and a question is one.
            Found::Elsewhere if is_closed => Reply::Now(codec::no_name(&query)),
            Found::Elsewhere => match self.upstreams.addresses() {
                upstreams if upstreams.is_empty() => {
                    Reply::Now(codec::refuse(bytes, codec::SERVER_FAILURE))
                }
                upstreams => Reply::Ask(upstreams),
            },
        }
    }

    /// Looks in the container's networks; also tells whether all of these are internal.
    fn look_up(&self, query: &Query<'_>) -> (Found, bool) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a register there is nobody: that is a machine that is being shut down.
        let Ok(all) = watched.look() else { return (Found::Elsewhere, true) };
        let all: Vec<_> = all.collect();
        let Some(own) = all.iter().find(|one| one.id == self.container) else {
            return (Found::Elsewhere, true);
        };
        let is_closed = own.endpoints.iter().all(|endpoint| endpoint.internal);
        (zone::look_up(query, own, &all), is_closed)
    }
}

/// How long an answer may be.
#[derive(Debug, Clone, Copy)]
enum Limit {
    Datagram,
    Stream,
}

/// The thread that waits for everything.
#[derive(Debug)]
struct Round {
    udp: UdpSocket,
    tcp: TcpListener,
    stop: OwnedFd,
    /// With the end of this one it ends as well.
    process: Option<PidFd>,
    answers: Arc<Answers>,
    pending: Pending,
}

impl Round {
    fn run(mut self) -> io::Result<()> {
        let connections = tcp::Connections::default();
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        loop {
            let ready = self.wait()?;
            if ready.stop {
                return Ok(());
            }
            if ready.udp {
                self.take_queries(&mut buffer);
            }
            if ready.tcp {
                connections.accept(&self.tcp, &self.answers);
            }
            for index in ready.upstreams {
                self.pending.receive(index, &self.udp, &mut buffer);
            }
            self.pending.tidy(SystemClock.monotonic(), &self.udp);
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut fds = vec![
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(&self.udp, PollFlags::IN),
            PollFd::new(&self.tcp, PollFlags::IN),
        ];
        fds.extend(self.process.as_ref().map(|process| PollFd::new(process, PollFlags::IN)));
        let first = fds.len();
        fds.extend(self.pending.sockets().map(|socket| PollFd::new(socket, PollFlags::IN)));
        let timeout = self.pending.timeout(SystemClock.monotonic()).map(timespec);
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => fds.iter_mut().for_each(PollFd::clear_revents),
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Ready {
            stop: is_ready(0) || (self.process.is_some() && is_ready(3)),
            udp: is_ready(1),
            tcp: is_ready(2),
            upstreams: (0..fds.len() - first)
                .filter(|index| is_ready(first + index))
                .rev()
                .collect(),
        })
    }

    fn take_queries(&mut self, buffer: &mut [u8]) {
        for _ in 0..QUERIES_PER_ROUND {
            let (length, client) = match self.udp.recv_from(buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The error of an answer that nobody took; reading has cleared it.
                Err(_) => continue,
            };
            let bytes = buffer.get(..length).unwrap_or_default();
            match self.answers.reply(bytes, Limit::Datagram) {
                Reply::Now(answer) => send(&self.udp, &answer, client),
                Reply::Ask(upstreams) => {
                    self.pending.ask(bytes, client, &upstreams, SystemClock.monotonic(), &self.udp);
                }
                Reply::Never => {}
            }
        }
    }
}

/// Sends an answer. Who has gone meanwhile, or has no room, does not get it, as on any network.
fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    socket.send_to(bytes, to).unwrap_or_default();
}

fn timespec(time: Duration) -> Timespec {
    time.try_into().unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 })
}

/// What has something for us.
struct Ready {
    stop: bool,
    udp: bool,
    tcp: bool,
    /// The last first, so that those before keep their place while one goes.
    upstreams: Vec<usize>,
}
