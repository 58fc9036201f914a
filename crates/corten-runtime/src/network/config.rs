//! Networks that people make, and how a container is on them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::plan::BRIDGE;
use super::subnet::{Subnet, Subnet6};

/// The name that the network of containers which ask for none has for people.
pub const DEFAULT_NETWORK: &str = "bridge";

/// What the bridges of people's networks are called, unless they say otherwise: this and the
/// beginning of the network's id. One rule of a foreign firewall can name all of them.
pub const BRIDGE_PREFIX: &str = "ctn-";

/// A network that somebody has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserNetwork {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The interface of the host.
    pub bridge: String,
    /// Its addresses.
    pub ipv4: Ipv4Network,
    /// Its addresses of IPv6, if it has any.
    pub ipv6: Option<Ipv6Network>,
    /// The largest packet; `None` takes that of the way out.
    pub mtu: Option<u32>,
    /// Nothing goes out, and nothing comes in.
    pub internal: bool,
}

/// The IPv4 addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv4Network {
    /// All of them.
    pub subnet: Subnet,
    /// The bridge's own.
    pub gateway: Ipv4Addr,
    /// Those that are given to containers which ask for none; `None` is all.
    pub range: Option<Subnet>,
}

/// The IPv6 addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Network {
    /// All of them.
    pub subnet: Subnet6,
    /// The bridge's own.
    pub gateway: Ipv6Addr,
}

/// Which network a container is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum On {
    /// The one of all containers that ask for none.
    Default,
    /// One that somebody has made.
    User(UserNetwork),
}

impl On {
    /// Returns what tells it from others on this host.
    pub fn id(&self) -> &str {
        match self {
            Self::Default => DEFAULT_NETWORK,
            Self::User(network) => &network.id,
        }
    }

    /// Returns what people call it.
    pub fn name(&self) -> &str {
        match self {
            Self::Default => DEFAULT_NETWORK,
            Self::User(network) => &network.name,
        }
    }

    /// Returns the interface of the host.
    pub fn bridge(&self) -> &str {
        match self {
            Self::Default => BRIDGE,
            Self::User(network) => &network.bridge,
        }
    }

    /// Returns true if nothing leaves the network.
    pub fn is_internal(&self) -> bool {
        self.user().is_some_and(|network| network.internal)
    }

    /// Returns the network if somebody has made it.
    pub fn user(&self) -> Option<&UserNetwork> {
        match self {
            Self::Default => None,
            Self::User(network) => Some(network),
        }
    }
}

/// How a container is on a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Which.
    pub on: On,
    /// The address that it asks for.
    pub ipv4: Option<Ipv4Addr>,
    /// The address of IPv6 that it asks for.
    pub ipv6: Option<Ipv6Addr>,
    /// The hardware address that it asks for.
    pub mac: Option<Mac>,
    /// Further names that others on the network find it by.
    pub aliases: Vec<String>,
    /// Of several networks with a way out, that with the highest is taken; then the first.
    pub gateway_priority: i32,
}

impl Endpoint {
    /// A place on a network without any wishes.
    pub fn on(on: On) -> Self {
        Self { on, ipv4: None, ipv6: None, mac: None, aliases: Vec::new(), gateway_priority: 0 }
    }
}

/// A hardware address of Ethernet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The hardware address follows from the IPv4 address, so that neighbours who remember it from
    /// the last holder of the address are right. The first byte says "administered locally".
    pub(super) fn of(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self([0x02, 0xc0, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.map(|byte| format!("{byte:02x}"));
        f.write_str(&digits.join(":"))
    }
}

/// A text that is no hardware address of one interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no hardware address of one interface, such as `02:42:ac:11:00:02`")]
pub struct MacError {
    /// The text.
    pub text: String,
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let wrong = || MacError { text: text.to_owned() };
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        // The lowest bit of the first byte marks groups; the kernel gives them to no interface.
        let is_one = bytes[0] & 1 == 0 && bytes != [0; 6];
        if parts.next().is_none() && is_one { Ok(Self(bytes)) } else { Err(wrong()) }
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardware_address_is_one_hosts_and_local() {
        let Mac(bytes) = Mac::of(Ipv4Addr::new(10, 213, 0, 2));
        assert_eq!(bytes, [0x02, 0xc0, 10, 213, 0, 2]);
        assert_eq!(bytes[0] & 1, 0, "not a group");
        assert_eq!(bytes[0] & 2, 2, "administered locally");
    }

    #[test]
    fn a_hardware_address_is_read_and_written() {
        for text in ["02:42:ac:11:00:02", "02-42-AC-11-00-02"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "02:42:ac:11:00:02");
        }
        for text in
            ["", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "01:00:00:00:00:01", "00:00:00:00:00:00"]
        {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
