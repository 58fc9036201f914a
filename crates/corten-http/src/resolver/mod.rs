//! Finds the addresses of hosts: numbers, the hosts file, then the name servers of `resolv.conf`.
//!
//! The C library's resolver loads modules of the host's own C library, which a program that has its own
//! linked into it cannot do safely. This one does what `hosts: files dns` in `nsswitch.conf` does. It also
//! asks again after one second instead of five, so that a question that gets lost costs little.

mod files;
mod message;

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::{file, random};
use ureq::config::{Config, IpFamily};
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use files::ResolvConf;
use message::{Answer, Family};

/// Hosts files with blocked hosts have some megabytes.
const HOSTS_BYTES_MAX: u64 = 16 << 20;
const RESOLV_CONF_BYTES_MAX: u64 = 64 << 10;

/// After this time without an answer, the question is asked again: datagrams get lost.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// How long the addresses of the other family are waited for when some are known, as a multiple of
/// what RFC 8305, section 3, advises, since a name is asked for once.
const OTHER_FAMILY_WAIT: Duration = Duration::from_millis(250);

/// As many as the HTTP library tries.
const ADDRESSES_MAX: usize = 16;

const NAME_SERVER_PORT: u16 = 53;

/// Largest answer: the length of one over TCP has two bytes.
const ANSWER_BYTES_MAX: usize = 1 << 16;

/// Asks the name servers of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Stub {
    hosts: PathBuf,
    resolv_conf: PathBuf,
    port: u16,
}

impl Default for Stub {
    fn default() -> Self {
        Self {
            hosts: PathBuf::from("/etc/hosts"),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            port: NAME_SERVER_PORT,
        }
    }
}

impl Resolver for Stub {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or_else(|| ureq::Error::BadUri(uri.to_string()))?;
        let port = uri.port_u16().unwrap_or(match uri.scheme_str() {
            Some("https") => 443,
            _ => 80,
        });
        let wanted = |address: &IpAddr| match config.ip_family() {
            IpFamily::Any => true,
            IpFamily::Ipv4Only => address.is_ipv4(),
            IpFamily::Ipv6Only => address.is_ipv6(),
        };
        let deadline = SystemClock.monotonic().saturating_add(*timeout.after);
        let addresses = self.addresses(host, deadline)?;
        let mut found = self.empty();
        for address in reachable_first(addresses).into_iter().filter(wanted).take(ADDRESSES_MAX) {
            found.push(SocketAddr::new(address, port));
        }
        if found.is_empty() { Err(ureq::Error::HostNotFound) } else { Ok(found) }
    }
}

impl Stub {
    /// Returns the addresses of a host, none if there is no such host.
    fn addresses(&self, host: &str, deadline: Duration) -> Result<Vec<IpAddr>, ureq::Error> {
        let number = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = number.parse() {
            return Ok(vec![address]);
        }
        let found = files::in_hosts(&read(&self.hosts, HOSTS_BYTES_MAX)?, host);
        if !found.is_empty() {
            return Ok(found);
        }
        // RFC 6761, section 6.3: such a name is never asked for.
        if crate::is_own_machine(host) {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        let conf = ResolvConf::parse(&read(&self.resolv_conf, RESOLV_CONF_BYTES_MAX)?);
        let mut failure = None;
        for name in conf.candidates(host) {
            match self.of_name(&conf, &name, deadline) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => return Ok(found),
                // A domain of the search list that cannot be asked does not hide the name itself.
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or_else(|| Ok(Vec::new()), |error| Err(ureq::Error::Io(error)))
    }

    fn of_name(
        &self,
        conf: &ResolvConf,
        name: &str,
        deadline: Duration,
    ) -> io::Result<Vec<IpAddr>> {
        let mut failure = None;
        for _ in 0..conf.attempts {
            for server in &conf.servers {
                let now = SystemClock.monotonic();
                if now >= deadline {
                    return Err(failure.unwrap_or_else(|| silent(conf, name)));
                }
                let server = SocketAddr::new(*server, self.port);
                let until = deadline.min(now + conf.timeout);
                match ask(server, name, conf.tcp, until) {
                    Ok(Some(found)) => return Ok(found),
                    Ok(None) => {}
                    Err(error) => failure = Some(error),
                }
            }
        }
        Err(failure.unwrap_or_else(|| silent(conf, name)))
    }
}

/// The error of servers that say nothing, or that they cannot say.
fn silent(conf: &ResolvConf, name: &str) -> io::Error {
    let servers: Vec<String> = conf.servers.iter().map(ToString::to_string).collect();
    let text = format!("no name server knows of `{name}`: asked {}", servers.join(", "));
    io::Error::new(io::ErrorKind::TimedOut, text)
}

fn read(path: &Path, bytes_max: u64) -> Result<String, ureq::Error> {
    let bytes = file::read_optional(path, bytes_max).map_err(|error| {
        let text = format!("{error}: {}", error.source);
        ureq::Error::Io(io::Error::new(error.source.kind(), text))
    })?;
    Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
}

/// One question to a server, with its answer when that has come.
struct Asked {
    family: Family,
    id: u16,
    question: Vec<u8>,
    answer: Option<Answer>,
}

/// Asks one server for both families at once; `None` says that it does not answer or refuses to.
fn ask(
    server: SocketAddr,
    name: &str,
    tcp: bool,
    deadline: Duration,
) -> io::Result<Option<Vec<IpAddr>>> {
    let mut asked = Vec::new();
    for family in [Family::V6, Family::V4] {
        let id = number();
        let Some(question) = message::question(id, name, family) else {
            return Ok(Some(Vec::new()));
        };
        asked.push(Asked { family, id, question, answer: None });
    }
    if !tcp {
        over_udp(server, name, &mut asked, deadline)?;
    }
    let mut found = Vec::new();
    let mut answered = false;
    for mut asked in asked {
        let whole = matches!(asked.answer, Some(Answer::Addresses(_) | Answer::Absent));
        if asked.answer == Some(Answer::Truncated) || (tcp && !whole) {
            asked.answer = over_tcp(server, name, &asked, deadline)?;
        }
        match asked.answer {
            Some(Answer::Addresses(addresses)) => {
                answered = true;
                found.extend(addresses);
            }
            Some(Answer::Absent) => answered = true,
            Some(Answer::Refused | Answer::Truncated) | None => {}
        }
    }
    Ok(answered.then_some(found))
}

/// A number that nobody who does not see the question can guess.
fn number() -> u16 {
    let text = random::name();
    u16::from_str_radix(&text[..4], 16).expect("a random name is hexadecimal digits")
}

fn over_udp(
    server: SocketAddr,
    name: &str,
    asked: &mut [Asked],
    deadline: Duration,
) -> io::Result<()> {
    let own: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((own, 0))?;
    socket.connect(server)?;
    let mut bytes = vec![0; ANSWER_BYTES_MAX];
    let mut repeat_at = Duration::ZERO;
    let mut deadline = deadline;
    while asked.iter().any(|asked| asked.answer.is_none()) {
        let now = SystemClock.monotonic();
        if now >= deadline {
            return Ok(());
        }
        if now >= repeat_at {
            for asked in asked.iter().filter(|asked| asked.answer.is_none()) {
                socket.send(&asked.question)?;
            }
            repeat_at = now + REPEAT_AFTER;
        }
        let wait = deadline.min(repeat_at).saturating_sub(now).max(Duration::from_millis(1));
        socket.set_read_timeout(Some(wait))?;
        let length = match socket.recv(&mut bytes) {
            Ok(length) => length,
            Err(error) if is_pause(&error) => continue,
            // Nobody listens there: the next server is asked at once.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
            Err(error) => return Err(error),
        };
        for asked in asked.iter_mut().filter(|asked| asked.answer.is_none()) {
            asked.answer = message::answer(&bytes[..length], asked.id, name, asked.family);
            if matches!(&asked.answer, Some(Answer::Addresses(found)) if !found.is_empty()) {
                deadline = deadline.min(SystemClock.monotonic() + OTHER_FAMILY_WAIT);
            }
        }
    }
    Ok(())
}

fn is_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}

/// Asks over TCP, where a message follows its length in two bytes (RFC 1035, 4.2.2).
fn over_tcp(
    server: SocketAddr,
    name: &str,
    asked: &Asked,
    deadline: Duration,
) -> io::Result<Option<Answer>> {
    let wait = deadline.saturating_sub(SystemClock.monotonic()).max(Duration::from_millis(1));
    let mut stream = TcpStream::connect_timeout(&server, wait)?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))?;
    let length = u16::try_from(asked.question.len()).map_err(io::Error::other)?;
    let mut message = length.to_be_bytes().to_vec();
    message.extend_from_slice(&asked.question);
    stream.write_all(&message)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(message::answer(&bytes, asked.id, name, asked.family))
}

/// Puts addresses to which there is no route last: on most networks those of IPv6.
fn reachable_first(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let routed = |address: &IpAddr| {
        let own: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // Connecting a datagram socket looks the route up and sends nothing.
        UdpSocket::bind((own, 0)).and_then(|socket| socket.connect((*address, 9))).is_ok()
    };
    let (mut first, last): (Vec<_>, Vec<_>) = addresses.into_iter().partition(routed);
    first.extend(last);
    first
}

#[cfg(test)]
mod tests;
