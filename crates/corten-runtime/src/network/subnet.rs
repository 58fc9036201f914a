//! Networks of addresses, as `FIRST/BITS`. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A network of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    first: Ipv4Addr,
    bits: u8,
}

impl Subnet {
    /// Makes the network that an address is in; more than 32 bits count as 32.
    pub fn new(address: Ipv4Addr, bits: u8) -> Self {
        let bits = bits.min(32);
        let mask = !u32::MAX.checked_shr(u32::from(bits)).unwrap_or_default();
        Self { first: Ipv4Addr::from_bits(address.to_bits() & mask), bits }
    }

    /// Returns the first address, which names the network.
    pub fn first(self) -> Ipv4Addr {
        self.first
    }

    /// Returns the number of bits that all its addresses share.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Returns the last address, which is the broadcast address.
    pub fn last(self) -> Ipv4Addr {
        let host_bits = u32::MAX.checked_shr(u32::from(self.bits)).unwrap_or_default();
        Ipv4Addr::from_bits(self.first.to_bits() | host_bits)
    }

    /// Returns true if the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }

    /// Returns true if the address is in the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        self.first <= address && address <= self.last()
    }

    /// Returns the addresses that hosts can have, without the network and broadcast addresses.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        let first = self.first.to_bits().saturating_add(1);
        (first..self.last().to_bits()).map(Ipv4Addr::from_bits)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// A network of IPv6 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet6 {
    first: Ipv6Addr,
    bits: u8,
}

impl Subnet6 {
    /// Makes the network that an address is in; more than 128 bits count as 128.
    pub fn new(address: Ipv6Addr, bits: u8) -> Self {
        let bits = bits.min(128);
        let mask = !u128::MAX.checked_shr(u32::from(bits)).unwrap_or_default();
        Self { first: Ipv6Addr::from_bits(address.to_bits() & mask), bits }
    }

    /// Returns the first address, which names the network.
    pub fn first(self) -> Ipv6Addr {
        self.first
    }

    /// Returns the number of bits that all its addresses share.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Returns the last address.
    pub fn last(self) -> Ipv6Addr {
        let host_bits = u128::MAX.checked_shr(u32::from(self.bits)).unwrap_or_default();
        Ipv6Addr::from_bits(self.first.to_bits() | host_bits)
    }

    /// Returns true if the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last() && other.first <= self.last()
    }

    /// Returns true if the address is in the network.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        self.first <= address && address <= self.last()
    }

    /// Returns the address that is so many after the first; `None` beyond the last.
    pub fn nth(self, offset: u128) -> Option<Ipv6Addr> {
        let bits = self.first.to_bits().checked_add(offset)?;
        Some(Ipv6Addr::from_bits(bits)).filter(|address| self.contains(*address))
    }
}

impl fmt::Display for Subnet6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// A text that is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no network of the form `ADDRESS/BITS`")]
pub struct SubnetError {
    /// The text.
    pub text: String,
}

/// A network of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnySubnet {
    /// Of IPv4.
    V4(Subnet),
    /// Of IPv6.
    V6(Subnet6),
}

impl FromStr for AnySubnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let wrong = || SubnetError { text: text.to_owned() };
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits: u8 = bits.parse().map_err(|_| wrong())?;
        match address {
            IpAddr::V4(address) if bits <= 32 => Ok(Self::V4(Subnet::new(address, bits))),
            IpAddr::V6(address) if bits <= 128 => Ok(Self::V6(Subnet6::new(address, bits))),
            _ => Err(wrong()),
        }
    }
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        match text.parse()? {
            AnySubnet::V4(subnet) => Ok(subnet),
            AnySubnet::V6(_) => Err(SubnetError { text: text.to_owned() }),
        }
    }
}

impl FromStr for Subnet6 {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        match text.parse()? {
            AnySubnet::V6(subnet) => Ok(subnet),
            AnySubnet::V4(_) => Err(SubnetError { text: text.to_owned() }),
        }
    }
}

/// Writes and reads a kind of network as text.
macro_rules! as_text {
    ($kind:ty) => {
        impl Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

as_text!(Subnet);
as_text!(Subnet6);

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(first: [u8; 4], bits: u8) -> Subnet {
        Subnet::new(Ipv4Addr::from(first), bits)
    }

    #[test]
    fn subnets_know_what_they_overlap() {
        let one = subnet([10, 213, 1, 7], 22);
        assert_eq!(one.to_string(), "10.213.0.0/22");
        assert_eq!(one.last(), Ipv4Addr::new(10, 213, 3, 255));
        assert!(one.overlaps(subnet([0, 0, 0, 0], 0)));
        assert!(one.overlaps(subnet([10, 213, 3, 255], 32)));
        assert!(!one.overlaps(subnet([10, 213, 4, 0], 22)));
        assert!(!one.overlaps(subnet([10, 212, 255, 255], 32)));
    }

    #[test]
    fn a_network_of_one_address_has_no_hosts() {
        assert_eq!(subnet([10, 0, 0, 1], 32).hosts().count(), 0);
        assert_eq!(subnet([10, 0, 0, 0], 30).hosts().count(), 2);
        assert_eq!(subnet([255, 255, 255, 255], 32).hosts().count(), 0);
        assert_eq!(subnet([10, 213, 0, 0], 22).hosts().count(), 1022);
    }

    #[test]
    fn more_than_32_bits_count_as_32() {
        assert_eq!(subnet([10, 0, 0, 1], 77).to_string(), "10.0.0.1/32");
    }

    #[test]
    fn networks_of_ipv6_know_their_ends() {
        let one: Subnet6 = "fd00:1::77/64".parse().unwrap();
        assert_eq!(one.to_string(), "fd00:1::/64");
        assert_eq!(one.last().to_string(), "fd00:1::ffff:ffff:ffff:ffff");
        assert_eq!(one.nth(2).unwrap().to_string(), "fd00:1::2");
        assert_eq!(one.nth(1 << 64), None);
        assert!(one.overlaps("fd00::/16".parse().unwrap()));
        assert!(!one.overlaps("fd00:2::/64".parse().unwrap()));
        assert_eq!(Subnet6::new(Ipv6Addr::LOCALHOST, 200).to_string(), "::1/128");
        assert!(Subnet6::new(Ipv6Addr::LOCALHOST, 0).contains(one.first()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "x/8", "10.0.0.0/-1"]
        {
            assert!(text.parse::<AnySubnet>().is_err(), "{text}");
        }
        assert!("fd00::/64".parse::<Subnet>().is_err());
        assert!("10.0.0.0/8".parse::<Subnet6>().is_err());
    }
}
