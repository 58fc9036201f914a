//! `corten port`: which ports of the host lead to a container.

use std::process::ExitCode;

use corten_runtime::network::{LiveContainer, LivePort, Protocol, Register, ports};
use corten_store::Container;

use super::{Context, life};
use crate::cli::PortArgs;
use crate::error::CliError;

pub(super) fn port(context: &Context, arguments: &PortArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let name = &arguments.container;
    let container = life::existing(&store, name)?;
    let mut published = live(&container)?.map(|live| live.ports).unwrap_or_default();
    published.sort_by_key(|port| (port.container, port.protocol, port.host));
    let Some(wanted) = &arguments.port else {
        for port in &published {
            context.ui.line(&format!("{}/{} -> {}", port.container, port.protocol, port.host));
        }
        return Ok(ExitCode::SUCCESS);
    };
    let (number, protocol) = parse(wanted)?;
    published.retain(|port| (port.container, port.protocol) == (number, protocol));
    if published.is_empty() {
        return Err(CliError::new(format!(
            "port {number}/{protocol} of `{name}` is not published"
        ))
        .hint(format!("`corten port {name}` lists those that are")));
    }
    for port in &published {
        context.ui.line(&port.host.to_string());
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(text: &str) -> Result<(u16, Protocol), CliError> {
    let found = ports::parse(text).ok().filter(|_| !text.contains(':'));
    match found.as_deref() {
        Some([one]) => Ok((one.container_port, one.protocol)),
        _ => Err(CliError::new(format!("`{text}` is no port of a container"))
            .hint("write a number, such as `80` or `53/udp`".to_owned())),
    }
}

/// Where a container that runs is on the network.
pub(super) fn live(container: &Container) -> Result<Option<LiveContainer>, CliError> {
    if !container.running {
        return Ok(None);
    }
    Ok(Register::here()?.read(&container.record.id))
}

/// The same for lists: where it cannot be found out, a container is shown without it.
pub(super) fn shown(container: &Container) -> LiveContainer {
    live(container).ok().flatten().unwrap_or_default()
}

/// The published ports as Docker shows them: `0.0.0.0:8080->80/tcp, [::]:8080->80/tcp`; consecutive ones that
/// lead to consecutive ones are one.
pub(super) fn summary(ports: &[LivePort]) -> String {
    let mut ports = ports.to_vec();
    ports.sort_by_key(|port| (port.host.ip(), port.protocol, port.container, port.host.port()));
    let mut groups: Vec<(LivePort, u16)> = Vec::new();
    for port in ports {
        match groups.last_mut() {
            Some((first, more))
                if first.host.ip() == port.host.ip()
                    && first.protocol == port.protocol
                    && u32::from(port.container)
                        == u32::from(first.container) + u32::from(*more) + 1
                    && u32::from(port.host.port())
                        == u32::from(first.host.port()) + u32::from(*more) + 1 =>
            {
                *more += 1;
            }
            _ => groups.push((port, 0)),
        }
    }
    // As in Docker, those of one port of the container stand together.
    groups.sort_by_key(|(port, _)| (port.container, port.protocol, port.host.ip()));
    let texts = groups.iter().map(|(port, more)| {
        let range = |first: u16| match more {
            0 => first.to_string(),
            more => format!("{first}-{}", first + more),
        };
        let address = match port.host.ip() {
            std::net::IpAddr::V4(address) => address.to_string(),
            std::net::IpAddr::V6(address) => format!("[{address}]"),
        };
        let (host, inside) = (range(port.host.port()), range(port.container));
        format!("{address}:{host}->{inside}/{}", port.protocol)
    });
    texts.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host: &str, container: u16, protocol: Protocol) -> LivePort {
        LivePort { host: host.parse().unwrap(), container, protocol }
    }

    #[test]
    fn ports_are_shown_as_in_docker() {
        let tcp = |host: &str, container| port(host, container, Protocol::Tcp);
        assert_eq!(summary(&[]), "");
        assert_eq!(
            summary(&[tcp("[::]:8080", 80), tcp("0.0.0.0:8080", 80)]),
            "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp"
        );
        assert_eq!(
            summary(&[tcp("0.0.0.0:8001", 81), tcp("0.0.0.0:8000", 80), tcp("0.0.0.0:9000", 82)]),
            "0.0.0.0:8000-8001->80-81/tcp, 0.0.0.0:9000->82/tcp"
        );
        assert_eq!(
            summary(&[port("127.0.0.1:53", 53, Protocol::Udp), tcp("0.0.0.0:65535", 65535)]),
            "127.0.0.1:53->53/udp, 0.0.0.0:65535->65535/tcp"
        );
    }
}
