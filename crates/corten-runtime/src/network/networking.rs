//! What a container's description says of its network, beside the mode and the ports.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use corten_sys::beneath::{Resolve, Root};
use corten_sys::file;
use serde::{Deserialize, Serialize};

use super::config::Endpoint;

/// Everything about a container's network that most containers have no wishes for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Networking {
    /// What people call the container; others on its networks find it by that.
    pub name: String,
    /// Its places on networks, with [`super::Network::User`]. They are found anew with each start.
    pub endpoints: Vec<Endpoint>,
    /// Addresses, by the network's id, that others will ask for.
    pub reserved: Vec<(String, Ipv4Addr)>,
    /// What goes with the network of another container, where it has that; found anew with each start.
    pub joined: Option<JoinedNetwork>,
    /// How names are found.
    pub names: NameOptions,
    /// Further lines of `/etc/hosts`.
    pub hosts: Vec<(String, HostAddress)>,
}

impl Networking {
    /// Returns true if nothing is otherwise than for most containers.
    pub fn is_empty(&self) -> bool {
        *self == Self { name: self.name.clone(), ..Self::default() }
    }
}

/// How names are found; what is empty is as on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameOptions {
    /// Who is asked.
    pub servers: Vec<IpAddr>,
    /// What is put behind a name that is not found; a dot alone is nothing.
    pub search: Vec<String>,
    /// The words of the `options` line.
    pub options: Vec<String>,
}

impl NameOptions {
    /// Returns true if everything is as on the host.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a line of `/etc/hosts` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostAddress {
    /// The host itself, as the container reaches it.
    Gateway,
    /// This address.
    Address(IpAddr),
}

/// What goes with the network of a container that another one has as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinedNetwork {
    /// The other container's id.
    pub container: String,
    /// The host name.
    pub hostname: String,
    /// The text of `/etc/hosts`, if it can be read.
    pub hosts: Option<String>,
    /// The text of `/etc/resolv.conf`, if it can be read.
    pub resolv_conf: Option<String>,
}

/// The files are a few lines.
const FILE_BYTES_MAX: u64 = 64 * 1024;

impl JoinedNetwork {
    /// Finds out what goes with the network of a container that runs, by its first process.
    pub fn of(container: &str, pid: u32) -> Self {
        let read = |name: &str| {
            let root = Root::open(&PathBuf::from(format!("/proc/{pid}/root"))).ok()?;
            let path = Path::new(name);
            let opened = root.open_file(path, Resolve::InRoot).ok()?;
            let bytes = file::read_file_limited(&opened, path, FILE_BYTES_MAX).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        Self {
            container: container.to_owned(),
            hostname: read("etc/hostname").unwrap_or_default().trim().to_owned(),
            hosts: read("etc/hosts"),
            resolv_conf: read("etc/resolv.conf"),
        }
    }
}
