//! The grammar of published ports: `[ADDRESS:][HOST:]CONTAINER[/tcp|/udp]`, with ranges.
//!
//! Pure: what can be said about a port without asking the host is decided here, and every
//! refusal names the part of the text that is wrong.
//!
//! | Text | Meaning |
//! |---|---|
//! | `80` | container port 80 on any free host port |
//! | `8080:80` | on host port 8080, every address of the host |
//! | `127.0.0.1:8080:80` | on host port 8080, reachable from the host only |
//! | `127.0.0.1::80` | on any free host port of that address; so does `0` |
//! | `[::1]:8080:80` | an IPv6 address stands in brackets |
//! | `8000-8003:80-83/udp` | four ports, one to one |
//! | `8000-8009:80` | the first free one of ten host ports |

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The most ports that one container publishes: each is a socket or two of ours, and the usual
/// limit of open files is 1024 before we raise it.
pub const PORTS_MAX: usize = 1024;

/// What travels through a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// The host's side of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPort {
    /// Whichever the host gives.
    Any,
    /// This one.
    Exactly(u16),
    /// The first free one from the first to the last, both included.
    FirstFree(u16, u16),
}

/// One container port that is to be reachable from the host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's address to listen on; `None` for all of them.
    pub host_address: Option<IpAddr>,
    /// The host's port to listen on.
    pub host_port: HostPort,
    /// The port inside.
    pub container_port: u16,
    /// What travels.
    pub protocol: Protocol,
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_address {
            Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
            None => {}
        }
        match self.host_port {
            HostPort::Any if self.host_address.is_some() => f.write_str(":")?,
            HostPort::Any => {}
            HostPort::Exactly(port) => write!(f, "{port}:")?,
            HostPort::FirstFree(first, last) => write!(f, "{first}-{last}:")?,
        }
        write!(f, "{}/{}", self.container_port, self.protocol)
    }
}

/// A text that does not say which port to publish.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nothing is written where the container port should be.
    #[error("`{spec}` names no container port")]
    NoContainerPort {
        /// The whole text.
        spec: String,
    },
    /// A part is not a port.
    #[error("`{part}` in `{spec}` is not a port number from 1 to 65535")]
    NotAPort {
        /// The whole text.
        spec: String,
        /// The part.
        part: String,
    },
    /// A range ends before it starts.
    #[error("the range `{part}` in `{spec}` ends before it starts")]
    Backwards {
        /// The whole text.
        spec: String,
        /// The part.
        part: String,
    },
    /// The ranges of host and container have different lengths.
    #[error("the two ranges of `{spec}` have different lengths, {host} and {container}")]
    UnequalRanges {
        /// The whole text.
        spec: String,
        /// Ports on the host's side.
        host: usize,
        /// Ports on the container's side.
        container: usize,
    },
    /// A part is not an address.
    #[error("`{part}` in `{spec}` is not an IP address")]
    NotAnAddress {
        /// The whole text.
        spec: String,
        /// The part.
        part: String,
    },
    /// An IPv6 address without brackets cannot be told from ports.
    #[error("the IPv6 address in `{spec}` needs brackets")]
    BracketsMissing {
        /// The whole text.
        spec: String,
    },
    /// Neither TCP nor UDP.
    #[error("`{part}` in `{spec}` is not a protocol that can be published")]
    UnknownProtocol {
        /// The whole text.
        spec: String,
        /// The part.
        part: String,
    },
    /// More ports than a container may publish.
    #[error("{count} ports are too many to publish, the limit is {PORTS_MAX}")]
    TooMany {
        /// How many were asked for.
        count: usize,
    },
    /// Two mappings want the same port of the host.
    #[error("`{first}` and `{second}` publish the same port of the host")]
    Twice {
        /// The one.
        first: PortMapping,
        /// The other.
        second: PortMapping,
    },
}

impl PortError {
    /// Returns advice on what to write instead.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAnAddress { part, .. } if part == "localhost" => {
                Some("write `127.0.0.1` for the host itself".to_owned())
            }
            Self::NotAnAddress { .. } => Some(
                "write `ADDRESS:HOST:CONTAINER`, such as `127.0.0.1:8080:80`; names are not looked \
                 up"
                .to_owned(),
            ),
            Self::BracketsMissing { .. } => {
                Some("write the address as in `[::1]:8080:80`".to_owned())
            }
            Self::UnknownProtocol { .. } => Some("write `/tcp` or `/udp`".to_owned()),
            Self::UnequalRanges { .. } => Some(
                "give both ranges the same length, or name one container port to take the first \
                 free host port"
                    .to_owned(),
            ),
            Self::NoContainerPort { .. } => {
                Some("write `HOST:CONTAINER`, such as `8080:80`".to_owned())
            }
            Self::NotAPort { .. }
            | Self::Backwards { .. }
            | Self::TooMany { .. }
            | Self::Twice { .. } => None,
        }
    }
}

/// Reads one `-p` text; a range gives several mappings.
pub fn parse(spec: &str) -> Result<Vec<PortMapping>, PortError> {
    let (rest, protocol) = split_protocol(spec)?;
    let (host_address, host, container) = split_parts(spec, rest)?;
    if container.is_empty() {
        return Err(PortError::NoContainerPort { spec: spec.to_owned() });
    }
    let container = parse_range(spec, container)?;
    // As with Docker, host port 0 is any.
    let host = if matches!(host, "" | "0") { None } else { Some(parse_range(spec, host)?) };
    let mapping = |host_port, container_port| PortMapping {
        host_address,
        host_port,
        container_port,
        protocol,
    };
    match host {
        None => Ok(container.ports().map(|port| mapping(HostPort::Any, port)).collect()),
        Some(host) if container.count() == 1 && host.count() > 1 => {
            Ok(vec![mapping(HostPort::FirstFree(host.first, host.last), container.first)])
        }
        Some(host) if host.count() == container.count() => Ok(host
            .ports()
            .zip(container.ports())
            .map(|(host, port)| mapping(HostPort::Exactly(host), port))
            .collect()),
        Some(host) => Err(PortError::UnequalRanges {
            spec: spec.to_owned(),
            host: host.count(),
            container: container.count(),
        }),
    }
}

/// Reads all `-p` texts of a container and refuses what cannot hold together.
pub fn parse_all<S: AsRef<str>>(specs: &[S]) -> Result<Vec<PortMapping>, PortError> {
    let mut mappings = Vec::new();
    for spec in specs {
        for mapping in parse(spec.as_ref())? {
            // The same mapping twice, as from a script, is no conflict.
            if !mappings.contains(&mapping) {
                mappings.push(mapping);
            }
        }
    }
    check(&mappings)?;
    Ok(mappings)
}

/// Refuses mappings that are too many or that want the same port of the host.
pub fn check(mappings: &[PortMapping]) -> Result<(), PortError> {
    if mappings.len() > PORTS_MAX {
        return Err(PortError::TooMany { count: mappings.len() });
    }
    let mut exact: Vec<&PortMapping> =
        mappings.iter().filter(|one| matches!(one.host_port, HostPort::Exactly(_))).collect();
    exact.sort_by_key(|one| (one.protocol, one.host_port));
    for group in exact.chunk_by(|a, b| (a.protocol, a.host_port) == (b.protocol, b.host_port)) {
        for (index, first) in group.iter().enumerate() {
            for second in group.iter().skip(index + 1) {
                if same_address(first.host_address, second.host_address) {
                    return Err(PortError::Twice {
                        first: (*first).clone(),
                        second: (*second).clone(),
                    });
                }
            }
        }
    }
    Ok(())
}

/// Returns true if one socket cannot listen on the first while another listens on the second.
fn same_address(first: Option<IpAddr>, second: Option<IpAddr>) -> bool {
    let (Some(first), Some(second)) = (first, second) else { return true };
    let every = first.is_unspecified() || second.is_unspecified();
    first == second || (every && first.is_ipv4() == second.is_ipv4())
}

/// A first and a last port, both included.
#[derive(Debug, Clone, Copy)]
struct Range {
    first: u16,
    last: u16,
}

impl Range {
    fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }

    fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

fn split_protocol(spec: &str) -> Result<(&str, Protocol), PortError> {
    let Some((rest, protocol)) = spec.rsplit_once('/') else { return Ok((spec, Protocol::Tcp)) };
    match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Ok((rest, Protocol::Tcp)),
        "udp" => Ok((rest, Protocol::Udp)),
        _ => {
            Err(PortError::UnknownProtocol { spec: spec.to_owned(), part: format!("/{protocol}") })
        }
    }
}

/// Splits into address, host ports and container ports, the latter two as text.
fn split_parts<'a>(
    spec: &str,
    rest: &'a str,
) -> Result<(Option<IpAddr>, &'a str, &'a str), PortError> {
    if let Some(bracketed) = rest.strip_prefix('[') {
        let not_an_address =
            || PortError::NotAnAddress { spec: spec.to_owned(), part: rest.to_owned() };
        let (address, ports) = bracketed.split_once("]:").ok_or_else(not_an_address)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| PortError::NotAnAddress {
            spec: spec.to_owned(),
            part: address.to_owned(),
        })?;
        let (host, container) = ports
            .split_once(':')
            .ok_or_else(|| PortError::NoContainerPort { spec: spec.to_owned() })?;
        return Ok((Some(IpAddr::V6(address)), host, container));
    }
    let parts: Vec<&str> = rest.split(':').collect();
    match parts.as_slice() {
        [container] => Ok((None, "", container)),
        [host, container] => Ok((None, host, container)),
        [address, host, container] => {
            let address: std::net::Ipv4Addr = address.parse().map_err(|_| {
                PortError::NotAnAddress { spec: spec.to_owned(), part: (*address).to_owned() }
            })?;
            Ok((Some(IpAddr::V4(address)), host, container))
        }
        _ => Err(PortError::BracketsMissing { spec: spec.to_owned() }),
    }
}

fn parse_range(spec: &str, part: &str) -> Result<Range, PortError> {
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let port = |text: &str| {
        // `u16::from_str` takes a plus sign, which no other tool does.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = if digits { text.parse().ok() } else { None };
        number
            .filter(|number| *number != 0)
            .ok_or_else(|| PortError::NotAPort { spec: spec.to_owned(), part: part.to_owned() })
    };
    let range = Range { first: port(first)?, last: port(last)? };
    if range.first > range.last {
        return Err(PortError::Backwards { spec: spec.to_owned(), part: part.to_owned() });
    }
    if range.count() > PORTS_MAX {
        return Err(PortError::TooMany { count: range.count() });
    }
    Ok(range)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(specs: &[&str], expected: &Expect) {
        let text = match parse_all(specs) {
            Ok(mappings) => lines(&mappings),
            Err(error) => match error.hint() {
                Some(hint) => format!("error: {error}\nhint: {hint}\n"),
                None => format!("error: {error}\n"),
            },
        };
        expected.assert_eq(&text);
    }

    fn lines(mappings: &[PortMapping]) -> String {
        mappings.iter().fold(String::new(), |text, one| text + &one.to_string() + "\n")
    }

    #[test]
    fn a_container_port_alone_takes_any_host_port() {
        check(
            &["80"],
            &expect![[r#"
            80/tcp
        "#]],
        );
    }

    #[test]
    fn host_and_container_port() {
        check(
            &["8080:80"],
            &expect![[r#"
            8080:80/tcp
        "#]],
        );
    }

    #[test]
    fn an_address_before_the_ports() {
        check(
            &["127.0.0.1:8080:80"],
            &expect![[r#"
            127.0.0.1:8080:80/tcp
        "#]],
        );
    }

    #[test]
    fn an_address_with_any_host_port() {
        check(
            &["127.0.0.1::80"],
            &expect![[r#"
            127.0.0.1::80/tcp
        "#]],
        );
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        check(
            &["[::1]:8080:80/udp"],
            &expect![[r#"
            [::1]:8080:80/udp
        "#]],
        );
    }

    #[test]
    fn an_ipv6_address_with_any_host_port() {
        check(
            &["[::]::80"],
            &expect![[r#"
            [::]::80/tcp
        "#]],
        );
    }

    #[test]
    fn an_ipv6_address_without_brackets_is_refused() {
        check(
            &["::1:8080:80"],
            &expect![[r#"
            error: the IPv6 address in `::1:8080:80` needs brackets
            hint: write the address as in `[::1]:8080:80`
        "#]],
        );
    }

    #[test]
    fn an_open_bracket_is_refused() {
        check(
            &["[::1:8080:80"],
            &expect![[r#"
            error: `[::1:8080:80` in `[::1:8080:80` is not an IP address
            hint: write `ADDRESS:HOST:CONTAINER`, such as `127.0.0.1:8080:80`; names are not looked up
        "#]],
        );
    }

    #[test]
    fn an_ipv4_address_in_brackets_is_refused() {
        check(
            &["[127.0.0.1]:80:80"],
            &expect![[r#"
            error: `127.0.0.1` in `[127.0.0.1]:80:80` is not an IP address
            hint: write `ADDRESS:HOST:CONTAINER`, such as `127.0.0.1:8080:80`; names are not looked up
        "#]],
        );
    }

    #[test]
    fn a_bracketed_address_without_a_container_port_is_refused() {
        check(
            &["[::1]:80"],
            &expect![[r#"
            error: `[::1]:80` names no container port
            hint: write `HOST:CONTAINER`, such as `8080:80`
        "#]],
        );
    }

    #[test]
    fn the_protocol_is_tcp_unless_said_otherwise() {
        check(
            &["53:53/udp", "53:53/tcp", "54:54/UDP"],
            &expect![[r#"
            53:53/udp
            53:53/tcp
            54:54/udp
        "#]],
        );
    }

    #[test]
    fn another_protocol_is_refused() {
        check(
            &["53:53/sctp"],
            &expect![[r#"
            error: `/sctp` in `53:53/sctp` is not a protocol that can be published
            hint: write `/tcp` or `/udp`
        "#]],
        );
    }

    #[test]
    fn a_missing_protocol_is_refused() {
        check(
            &["53:53/"],
            &expect![[r#"
            error: `/` in `53:53/` is not a protocol that can be published
            hint: write `/tcp` or `/udp`
        "#]],
        );
    }

    #[test]
    fn ranges_map_one_to_one() {
        check(
            &["8000-8002:80-82"],
            &expect![[r#"
            8000:80/tcp
            8001:81/tcp
            8002:82/tcp
        "#]],
        );
    }

    #[test]
    fn a_container_range_alone_takes_any_host_ports() {
        check(
            &["80-81"],
            &expect![[r#"
            80/tcp
            81/tcp
        "#]],
        );
    }

    #[test]
    fn a_host_range_for_one_container_port_is_a_choice() {
        check(
            &["8000-8009:80"],
            &expect![[r#"
            8000-8009:80/tcp
        "#]],
        );
    }

    #[test]
    fn ranges_of_different_length_are_refused() {
        check(
            &["8000-8002:80-81"],
            &expect![[r#"
            error: the two ranges of `8000-8002:80-81` have different lengths, 3 and 2
            hint: give both ranges the same length, or name one container port to take the first free host port
        "#]],
        );
    }

    #[test]
    fn one_host_port_for_a_container_range_is_refused() {
        check(
            &["8000:80-81"],
            &expect![[r#"
            error: the two ranges of `8000:80-81` have different lengths, 1 and 2
            hint: give both ranges the same length, or name one container port to take the first free host port
        "#]],
        );
    }

    #[test]
    fn a_backward_range_is_refused() {
        check(
            &["8002-8000:80-82"],
            &expect![[r#"
            error: the range `8002-8000` in `8002-8000:80-82` ends before it starts
        "#]],
        );
    }

    #[test]
    fn a_huge_range_is_refused() {
        check(
            &["1-65535:1-65535"],
            &expect![[r#"
            error: 65535 ports are too many to publish, the limit is 1024
        "#]],
        );
    }

    #[test]
    fn too_many_ports_in_all_are_refused() {
        check(
            &["1-1000:1-1000", "2001-2100:2001-2100"],
            &expect![[r#"
            error: 1100 ports are too many to publish, the limit is 1024
        "#]],
        );
    }

    #[test]
    fn the_whole_last_range_is_read() {
        check(
            &["65534-65535:65534-65535"],
            &expect![[r#"
            65534:65534/tcp
            65535:65535/tcp
        "#]],
        );
    }

    #[test]
    fn host_port_zero_is_any() {
        check(
            &["0:80"],
            &expect![[r#"
            80/tcp
        "#]],
        );
    }

    #[test]
    fn container_port_zero_is_refused() {
        check(
            &["80:0"],
            &expect![[r#"
            error: `0` in `80:0` is not a port number from 1 to 65535
        "#]],
        );
    }

    #[test]
    fn a_port_that_is_too_large_is_refused() {
        check(
            &["65536:80"],
            &expect![[r#"
            error: `65536` in `65536:80` is not a port number from 1 to 65535
        "#]],
        );
    }

    #[test]
    fn a_signed_port_is_refused() {
        check(
            &["+80:80"],
            &expect![[r#"
            error: `+80` in `+80:80` is not a port number from 1 to 65535
        "#]],
        );
        check(
            &["-80:80"],
            &expect![[r#"
            error: `-80` in `-80:80` is not a port number from 1 to 65535
        "#]],
        );
    }

    #[test]
    fn words_are_not_ports() {
        check(
            &["http:80"],
            &expect![[r#"
            error: `http` in `http:80` is not a port number from 1 to 65535
        "#]],
        );
    }

    #[test]
    fn a_space_is_not_a_port() {
        check(
            &["8080: 80"],
            &expect![[r#"
            error: ` 80` in `8080: 80` is not a port number from 1 to 65535
        "#]],
        );
    }

    #[test]
    fn a_missing_container_port_is_refused() {
        check(
            &["8080:"],
            &expect![[r#"
            error: `8080:` names no container port
            hint: write `HOST:CONTAINER`, such as `8080:80`
        "#]],
        );
        check(
            &[""],
            &expect![[r#"
            error: `` names no container port
            hint: write `HOST:CONTAINER`, such as `8080:80`
        "#]],
        );
        check(
            &["/tcp"],
            &expect![[r#"
            error: `/tcp` names no container port
            hint: write `HOST:CONTAINER`, such as `8080:80`
        "#]],
        );
    }

    #[test]
    fn a_host_name_is_not_an_address() {
        check(
            &["localhost:8080:80"],
            &expect![[r#"
            error: `localhost` in `localhost:8080:80` is not an IP address
            hint: write `127.0.0.1` for the host itself
        "#]],
        );
        check(
            &["example.com:8080:80"],
            &expect![[r#"
            error: `example.com` in `example.com:8080:80` is not an IP address
            hint: write `ADDRESS:HOST:CONTAINER`, such as `127.0.0.1:8080:80`; names are not looked up
        "#]],
        );
    }

    #[test]
    fn the_same_host_port_twice_is_refused() {
        check(
            &["8080:80", "8080:81"],
            &expect![[r#"
            error: `8080:80/tcp` and `8080:81/tcp` publish the same port of the host
        "#]],
        );
    }

    #[test]
    fn the_same_host_port_on_all_and_on_one_address_is_refused() {
        check(
            &["8080:80", "127.0.0.1:8080:81"],
            &expect![[r#"
            error: `8080:80/tcp` and `127.0.0.1:8080:81/tcp` publish the same port of the host
        "#]],
        );
        check(
            &["0.0.0.0:8080:80", "127.0.0.1:8080:81"],
            &expect![[r#"
            error: `0.0.0.0:8080:80/tcp` and `127.0.0.1:8080:81/tcp` publish the same port of the host
        "#]],
        );
    }

    #[test]
    fn the_same_host_port_on_different_addresses_or_protocols_is_fine() {
        check(
            &["127.0.0.1:53:53", "127.0.0.2:53:53", "127.0.0.1:53:53/udp", "[::1]:53:53"],
            &expect![[r#"
                127.0.0.1:53:53/tcp
                127.0.0.2:53:53/tcp
                127.0.0.1:53:53/udp
                [::1]:53:53/tcp
            "#]],
        );
    }

    #[test]
    fn the_same_mapping_twice_is_one() {
        check(
            &["8080:80", "8080:80/tcp"],
            &expect![[r#"
            8080:80/tcp
        "#]],
        );
    }

    #[test]
    fn what_is_printed_is_read_back() {
        for spec in ["80/tcp", "127.0.0.1::80/udp", "[::1]:1:2/tcp", "1-9:80/tcp"] {
            let mappings = parse(spec).unwrap();
            assert_eq!(mappings.iter().map(ToString::to_string).collect::<Vec<_>>(), [spec]);
        }
    }
}
