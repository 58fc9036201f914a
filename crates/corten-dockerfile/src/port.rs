//! Ports of `EXPOSE`: `80`, `53/udp`, `8000-8010/tcp`, and what was allowed once.

use std::fmt;
use std::net::IpAddr;

/// One exposed port, as it stands in an image's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    pub number: u16,
    pub protocol: Protocol,
}

/// A protocol of ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

/// Why a text is no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortError {
    /// No number stands before the protocol.
    Missing,
    Protocol(String),
    Address(String),
    /// It is no number up to 65535, or a range that runs backwards.
    Container(String),
    /// The same of the port of the host.
    Host(String),
    /// Two ranges of different lengths.
    Lengths {
        container: String,
        host: String,
    },
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("a port number is missing"),
            Self::Protocol(protocol) => write!(f, "unknown protocol `{protocol}`"),
            Self::Address(address) => write!(f, "invalid address `{address}`"),
            Self::Container(port) => write!(f, "invalid port `{port}`"),
            Self::Host(port) => write!(f, "invalid port `{port}` of the host"),
            Self::Lengths { container, host } => {
                write!(f, "the ranges `{container}` and `{host}` differ in length")
            }
        }
    }
}

impl std::error::Error for PortError {}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// What an `EXPOSE` word says, once it was expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed {
    /// In rising order.
    pub ports: Vec<Port>,
    /// An address or a port of the host was given, which means nothing here.
    pub has_host_part: bool,
    /// The protocol was not written in lower case.
    pub protocol_in_upper_case: bool,
}

/// Reads `[[address:]host:]port[-port][/protocol]`.
pub fn parse(text: &str) -> Result<Exposed, PortError> {
    let mut parts = text.rsplitn(3, ':');
    let port = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    let address = parts.next().unwrap_or_default();

    let (range, protocol) = port.split_once('/').unwrap_or((port, ""));
    if range.is_empty() {
        return Err(PortError::Missing);
    }
    let protocol_in_upper_case = protocol.chars().any(char::is_uppercase);
    let protocol = match protocol.to_lowercase().as_str() {
        "" | "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(PortError::Protocol(protocol.to_owned())),
    };
    let bare = match address.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').unwrap_or(address),
        None => address,
    };
    if !address.is_empty() && bare.parse::<IpAddr>().is_err() {
        return Err(PortError::Address(address.to_owned()));
    }
    let container = ports(range).ok_or_else(|| PortError::Container(range.to_owned()))?;
    if !host.is_empty() {
        let on_host = ports(host).ok_or_else(|| PortError::Host(host.to_owned()))?;
        let lengths = (container.1 - container.0, on_host.1 - on_host.0);
        if lengths.0 != lengths.1 && lengths.0 != 0 {
            let (container, host) = (range.to_owned(), host.to_owned());
            return Err(PortError::Lengths { container, host });
        }
    }
    Ok(Exposed {
        ports: (container.0..=container.1).map(|number| Port { number, protocol }).collect(),
        has_host_part: !address.is_empty() || !host.is_empty(),
        protocol_in_upper_case,
    })
}

fn ports(range: &str) -> Option<(u16, u16)> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    // A sign before a number is taken, as `strconv` takes it.
    let number = |text: &str| text.parse::<i64>().ok().and_then(|port| u16::try_from(port).ok());
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}
