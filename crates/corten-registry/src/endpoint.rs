//! Where a registry is.

use std::net::IpAddr;

/// The name that Docker Hub has in references, and the host that answers for it.
const HUB: &str = "docker.io";
const HUB_HOST: &str = "registry-1.docker.io";

/// The name under which credentials for it are kept.
const HUB_CREDENTIALS: &str = "https://index.docker.io/v1/";

/// A registry's host, and whether its identity must be proven.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The registry as references name it, for people.
    pub registry: String,
    /// The host with its port, if it has one.
    pub host: String,
    /// Whether an unknown certificate, or none at all, is accepted.
    pub insecure: bool,
}

impl Endpoint {
    /// Finds the host of a registry. One on this machine needs no certificate: nobody else hears it.
    pub fn new(registry: &str, insecure: bool) -> Self {
        let host = if registry == HUB { HUB_HOST } else { registry };
        Self {
            registry: registry.to_owned(),
            host: host.to_owned(),
            insecure: insecure || is_loopback(host),
        }
    }

    /// The name under which other programs keep credentials for it.
    pub(crate) fn credentials_name(&self) -> &str {
        if self.registry == HUB { HUB_CREDENTIALS } else { &self.registry }
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_needs_no_certificate() {
        for local in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.9.1", "[::1]:5000"] {
            assert!(Endpoint::new(local, false).insecure, "{local}");
        }
        for remote in ["registry.example", "localhost.example", "10.0.0.1:5000", "127.example"] {
            assert!(!Endpoint::new(remote, false).insecure, "{remote}");
        }
        assert!(Endpoint::new("registry.example", true).insecure);
        let hub = Endpoint::new("docker.io", false);
        assert_eq!(hub.host, "registry-1.docker.io");
        assert_eq!(hub.credentials_name(), "https://index.docker.io/v1/");
    }
}
