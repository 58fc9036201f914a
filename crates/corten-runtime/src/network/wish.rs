//! From what somebody wants a network to be to what it is. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::config::{BRIDGE_PREFIX, DEFAULT_NETWORK, Ipv4Network, Ipv6Network, UserNetwork};
use super::plan::BRIDGE;
use super::subnet::{AnySubnet, Subnet, Subnet6};

/// Where subnets of networks are taken from, as many `/24` as they have: next to those of the
/// default network, and as seldom used by others.
const POOLS: [([u8; 4], u8); 3] =
    [([10, 216, 0, 0], 14), ([10, 228, 0, 0], 14), ([172, 29, 0, 0], 16)];

/// 253 containers are more than a network of one host has.
const POOL_BITS: u8 = 24;

/// The largest subnet that is of use; a larger one has room for a mistake only.
const BITS_MIN: u8 = 8;

/// A network, a gateway and a host are the least.
const BITS_MAX: u8 = 30;

/// What the kernel allows as an interface's name (`IFNAMSIZ`, without the zero byte).
const INTERFACE_NAME_MAX: usize = 15;

/// The limits of what a bridge takes; IPv6 needs 1280.
const MTU_MIN: u32 = 576;
const MTU_MAX: u32 = 65_535;

/// The names that mean something else.
const RESERVED: [&str; 4] = [DEFAULT_NETWORK, "default", "host", "none"];

/// What somebody wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkWish {
    /// What it is to be called.
    pub name: String,
    /// Its subnets, at most one of each kind.
    pub subnets: Vec<AnySubnet>,
    /// Its gateways, each in one of the subnets.
    pub gateways: Vec<IpAddr>,
    /// Which addresses are given to those who ask for none.
    pub ranges: Vec<AnySubnet>,
    /// With addresses of IPv6, also if no subnet says so.
    pub ipv6: bool,
    /// Without a way out.
    pub internal: bool,
    /// `NAME=VALUE` each.
    pub options: Vec<(String, String)>,
}

/// What is known of the host and of other networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// What a new subnet must not overlap.
    pub subnets: Vec<Subnet>,
    /// The same of IPv6.
    pub subnets6: Vec<Subnet6>,
    /// The names of interfaces.
    pub interfaces: Vec<String>,
}

/// Why a network cannot be what was wanted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// The name is that of something else.
    #[error("a network cannot be called `{name}`, which stands for another one")]
    Reserved {
        /// The name.
        name: String,
    },
    /// Two subnets of one kind.
    #[error(
        "a network has one subnet of IPv4 and one of IPv6, and not both `{first}` and `{second}`"
    )]
    TwoSubnets {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// A subnet with room for nobody, or for everybody.
    #[error("the subnet `{subnet}` is of no use: it must have from {BITS_MIN} to {BITS_MAX} bits")]
    Size {
        /// The subnet.
        subnet: Subnet,
    },
    /// An IPv6 subnet with room for nobody.
    #[error("the subnet `{subnet}` is of no use: it must have from 16 to 126 bits")]
    Size6 {
        /// The subnet.
        subnet: Subnet6,
    },
    /// The subnet is of addresses that mean something else.
    #[error("the subnet `{subnet}` cannot be used: these addresses are not for networks")]
    Special {
        /// The subnet.
        subnet: String,
    },
    /// Something else has the subnet.
    #[error("the subnet `{subnet}` overlaps `{other}`, which this host or another network uses")]
    Overlap {
        /// The subnet.
        subnet: String,
        /// The other one.
        other: String,
    },
    /// Nothing is left in the pool.
    #[error("no subnet for the network is free")]
    PoolEmpty,
    /// A gateway or range without a subnet.
    #[error("`{what}` is in no subnet of the network")]
    Outside {
        /// As it was given.
        what: String,
    },
    /// Two gateways or ranges of one subnet.
    #[error("`{first}` and `{second}` are of the same subnet")]
    Twice {
        /// The one.
        first: String,
        /// The other.
        second: String,
    },
    /// The address is the subnet's own or its broadcast address.
    #[error("`{address}` cannot be a gateway: it is the first or the last address of its subnet")]
    Gateway {
        /// The address.
        address: IpAddr,
    },
    /// An option that is not known, or whose value is not.
    #[error("the option `{name}={value}` is not known")]
    Option {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// The interface cannot have this name.
    #[error("an interface cannot be called `{name}`")]
    Interface {
        /// The name.
        name: String,
    },
    /// There is an interface of this name.
    #[error("there is an interface `{name}` on this host already")]
    InterfaceTaken {
        /// The name.
        name: String,
    },
}

impl WishError {
    /// Returns advice on what to write instead.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::PoolEmpty => "choose one: `--subnet 10.1.2.0/24`",
            Self::Overlap { .. } => "leave out `--subnet`, and one that is free is taken",
            Self::Outside { .. } => {
                "give its subnet too: `--subnet 10.1.2.0/24 --gateway 10.1.2.1`"
            }
            Self::Option { .. } => {
                "`mtu=1400` and `bridge=NAME` are known, also as \
                 `com.docker.network.driver.mtu` and `com.docker.network.bridge.name`"
            }
            Self::Interface { .. } => "use at most 15 letters, digits, `_`, `.` and `-`",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Decides what a network with this id is.
pub fn plan_network(wish: &NetworkWish, id: &str, taken: &Taken) -> Result<UserNetwork, WishError> {
    if RESERVED.contains(&wish.name.as_str()) {
        return Err(WishError::Reserved { name: wish.name.clone() });
    }
    let (subnet, subnet6) = subnets(wish, id, taken)?;
    let (gateway, gateway6) = gateways(wish, subnet, subnet6)?;
    let range = range(wish, subnet)?;
    let (mtu, bridge) = options(wish, taken)?;
    let short = id.get(..INTERFACE_NAME_MAX - BRIDGE_PREFIX.len()).unwrap_or(id);
    Ok(UserNetwork {
        id: id.to_owned(),
        name: wish.name.clone(),
        bridge: bridge.unwrap_or_else(|| format!("{BRIDGE_PREFIX}{short}")),
        ipv4: Ipv4Network { subnet, gateway, range },
        ipv6: subnet6.zip(gateway6).map(|(subnet, gateway)| Ipv6Network { subnet, gateway }),
        mtu,
        internal: wish.internal,
    })
}

fn subnets(
    wish: &NetworkWish,
    id: &str,
    taken: &Taken,
) -> Result<(Subnet, Option<Subnet6>), WishError> {
    let (mut subnet, mut subnet6) = (None, None);
    for one in &wish.subnets {
        match *one {
            AnySubnet::V4(one) => put_once(&mut subnet, one)?,
            AnySubnet::V6(one) => put_once(&mut subnet6, one)?,
        }
    }
    let subnet = match subnet {
        None => free(taken)?,
        Some(subnet) => check(subnet, taken)?,
    };
    let subnet6 = match subnet6 {
        None if wish.ipv6 => Some(unique_local(id)),
        None => None,
        Some(subnet) => Some(check6(subnet, taken)?),
    };
    Ok((subnet, subnet6))
}

fn put_once<T: ToString>(place: &mut Option<T>, one: T) -> Result<(), WishError> {
    if let Some(first) = place {
        let (first, second) = (first.to_string(), one.to_string());
        return Err(WishError::TwoSubnets { first, second });
    }
    *place = Some(one);
    Ok(())
}

/// Returns the first subnet of the pools that nobody has.
fn free(taken: &Taken) -> Result<Subnet, WishError> {
    let step = 1_u32 << (32 - POOL_BITS);
    for (first, bits) in POOLS {
        let pool = Subnet::new(Ipv4Addr::from(first), bits);
        let mut next = pool.first().to_bits();
        while next <= pool.last().to_bits() {
            let subnet = Subnet::new(Ipv4Addr::from_bits(next), POOL_BITS);
            if !taken.subnets.iter().any(|other| other.overlaps(subnet)) {
                return Ok(subnet);
            }
            next += step;
        }
    }
    Err(WishError::PoolEmpty)
}

fn check(subnet: Subnet, taken: &Taken) -> Result<Subnet, WishError> {
    if !(BITS_MIN..=BITS_MAX).contains(&subnet.bits()) {
        return Err(WishError::Size { subnet });
    }
    let first = subnet.first();
    if first.is_loopback() || first.is_multicast() || first.octets()[0] == 0 {
        return Err(WishError::Special { subnet: subnet.to_string() });
    }
    match taken.subnets.iter().find(|other| other.overlaps(subnet)) {
        Some(other) => {
            Err(WishError::Overlap { subnet: subnet.to_string(), other: other.to_string() })
        }
        None => Ok(subnet),
    }
}

fn check6(subnet: Subnet6, taken: &Taken) -> Result<Subnet6, WishError> {
    if !(16..=126).contains(&subnet.bits()) {
        return Err(WishError::Size6 { subnet });
    }
    let first = subnet.first();
    if first.is_multicast() || first.segments()[0] == 0 || first.is_unicast_link_local() {
        return Err(WishError::Special { subnet: subnet.to_string() });
    }
    match taken.subnets6.iter().find(|other| other.overlaps(subnet)) {
        Some(other) => {
            Err(WishError::Overlap { subnet: subnet.to_string(), other: other.to_string() })
        }
        None => Ok(subnet),
    }
}

/// A network of unique local addresses (RFC 4193), whose 40 random bits are those of the id.
fn unique_local(id: &str) -> Subnet6 {
    let byte = |index: usize| {
        let digits = id.get(index * 2..index * 2 + 2);
        digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or_default()
    };
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    for (index, octet) in octets.iter_mut().enumerate().skip(1).take(5) {
        *octet = byte(index);
    }
    Subnet6::new(Ipv6Addr::from(octets), 64)
}

fn gateways(
    wish: &NetworkWish,
    subnet: Subnet,
    subnet6: Option<Subnet6>,
) -> Result<(Ipv4Addr, Option<Ipv6Addr>), WishError> {
    let (mut gateway, mut gateway6) = (None, None);
    for one in &wish.gateways {
        let outside = || WishError::Outside { what: one.to_string() };
        match *one {
            IpAddr::V4(address) => {
                if wish.subnets.iter().all(|subnet| matches!(subnet, AnySubnet::V6(_)))
                    || !subnet.contains(address)
                {
                    return Err(outside());
                }
                if address == subnet.first() || address == subnet.last() {
                    return Err(WishError::Gateway { address: *one });
                }
                put_twice(&mut gateway, address)?;
            }
            IpAddr::V6(address) => {
                let subnet = subnet6.filter(|subnet| subnet.contains(address));
                if subnet.ok_or_else(outside)?.first() == address {
                    return Err(WishError::Gateway { address: *one });
                }
                put_twice(&mut gateway6, address)?;
            }
        }
    }
    let first = subnet.hosts().next().unwrap_or(subnet.first());
    let first6 = subnet6.and_then(|subnet| subnet.nth(1));
    Ok((gateway.unwrap_or(first), gateway6.or(first6)))
}

fn put_twice<T: ToString>(place: &mut Option<T>, one: T) -> Result<(), WishError> {
    if let Some(first) = place {
        return Err(WishError::Twice { first: first.to_string(), second: one.to_string() });
    }
    *place = Some(one);
    Ok(())
}

fn range(wish: &NetworkWish, subnet: Subnet) -> Result<Option<Subnet>, WishError> {
    let mut range = None;
    for one in &wish.ranges {
        match *one {
            AnySubnet::V4(one) if subnet.contains(one.first()) && subnet.contains(one.last()) => {
                put_twice(&mut range, one)?;
            }
            AnySubnet::V4(one) => return Err(WishError::Outside { what: one.to_string() }),
            AnySubnet::V6(one) => return Err(WishError::Outside { what: one.to_string() }),
        }
    }
    Ok(range)
}

fn options(wish: &NetworkWish, taken: &Taken) -> Result<(Option<u32>, Option<String>), WishError> {
    let (mut mtu, mut bridge) = (None, None);
    for (name, value) in &wish.options {
        let unknown = || WishError::Option { name: name.clone(), value: value.clone() };
        match name.as_str() {
            "mtu" | "com.docker.network.driver.mtu" => {
                let number = value.parse().ok();
                let number = number.filter(|mtu| (MTU_MIN..=MTU_MAX).contains(mtu));
                mtu = Some(number.ok_or_else(unknown)?);
            }
            "bridge" | "com.docker.network.bridge.name" => {
                bridge = Some(interface(value, taken)?);
            }
            _ => return Err(unknown()),
        }
    }
    Ok((mtu, bridge))
}

fn interface(name: &str, taken: &Taken) -> Result<String, WishError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_good = !name.is_empty()
        && name.len() <= INTERFACE_NAME_MAX
        && name.bytes().all(plain)
        && !matches!(name, "." | ".." | BRIDGE)
        && !name.starts_with('-');
    if !is_good {
        return Err(WishError::Interface { name: name.to_owned() });
    }
    if taken.interfaces.iter().any(|known| known == name) {
        return Err(WishError::InterfaceTaken { name: name.to_owned() });
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    /// A wish as flags say it.
    fn wish(line: &str) -> NetworkWish {
        let mut wish = NetworkWish { name: "web".to_owned(), ..NetworkWish::default() };
        for word in line.split_whitespace() {
            let (flag, value) = word.split_once(':').unwrap_or((word, ""));
            match flag {
                "subnet" => wish.subnets.push(value.parse().unwrap()),
                "gateway" => wish.gateways.push(value.parse().unwrap()),
                "range" => wish.ranges.push(value.parse().unwrap()),
                "ipv6" => wish.ipv6 = true,
                "internal" => wish.internal = true,
                "name" => value.clone_into(&mut wish.name),
                _ => {
                    let (name, value) = value.split_once('=').unwrap();
                    wish.options.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        wish
    }

    fn taken() -> Taken {
        Taken {
            subnets: vec!["10.216.0.0/23".parse().unwrap(), "192.0.2.0/24".parse().unwrap()],
            subnets6: vec!["2001:db8:1::/48".parse().unwrap()],
            interfaces: vec!["eth0".to_owned()],
        }
    }

    #[test]
    fn wishes_become_networks_or_are_refused_in_words() {
        let mut all = String::new();
        for line in [
            "",
            "ipv6",
            "internal",
            "subnet:10.9.8.7/24",
            "subnet:10.9.8.0/24 gateway:10.9.8.254 range:10.9.8.128/25",
            "subnet:fd00:1::/64",
            "subnet:fd00:1::/64 gateway:fd00:1::77",
            "o:mtu=1280 o:bridge=br-web",
            "o:com.docker.network.driver.mtu=9000",
            "name:host",
            "subnet:10.1.0.0/24 subnet:10.2.0.0/24",
            "subnet:10.1.0.0/31",
            "subnet:127.0.0.0/8",
            "subnet:192.0.2.128/25",
            "subnet:2001:db8:1:2::/64",
            "subnet:fe80::/64",
            "subnet:fd00::/127",
            "gateway:10.9.8.1",
            "subnet:10.9.8.0/24 gateway:10.9.9.1",
            "subnet:10.9.8.0/24 gateway:10.9.8.255",
            "subnet:10.9.8.0/24 gateway:10.9.8.1 gateway:10.9.8.2",
            "gateway:fd00::1",
            "subnet:10.9.8.0/24 range:10.9.0.0/16",
            "o:mtu=12",
            "o:speed=fast",
            "o:bridge=eth0",
            "o:bridge=a-name-that-is-long",
        ] {
            let text = match plan_network(&wish(line), ID, &taken()) {
                Ok(network) => {
                    let ipv6 = network
                        .ipv6
                        .map(|one| format!(" {} via {}", one.subnet, one.gateway))
                        .unwrap_or_default();
                    let range =
                        network.ipv4.range.map(|one| format!(" of {one}")).unwrap_or_default();
                    let mtu = network.mtu.map(|mtu| format!(" mtu {mtu}")).unwrap_or_default();
                    let internal = if network.internal { " internal" } else { "" };
                    let (subnet, gateway) = (network.ipv4.subnet, network.ipv4.gateway);
                    format!("{} {subnet} via {gateway}{range}{ipv6}{mtu}{internal}", network.bridge)
                }
                Err(error) => format!("error: {error}"),
            };
            all += &format!("{line}\n    {text}\n");
        }
        expect![[r#"

                ctn-0123456789a 10.216.2.0/24 via 10.216.2.1
            ipv6
                ctn-0123456789a 10.216.2.0/24 via 10.216.2.1 fd23:4567:89ab::/64 via fd23:4567:89ab::1
            internal
                ctn-0123456789a 10.216.2.0/24 via 10.216.2.1 internal
            subnet:10.9.8.7/24
                ctn-0123456789a 10.9.8.0/24 via 10.9.8.1
            subnet:10.9.8.0/24 gateway:10.9.8.254 range:10.9.8.128/25
                ctn-0123456789a 10.9.8.0/24 via 10.9.8.254 of 10.9.8.128/25
            subnet:fd00:1::/64
                ctn-0123456789a 10.216.2.0/24 via 10.216.2.1 fd00:1::/64 via fd00:1::1
            subnet:fd00:1::/64 gateway:fd00:1::77
                ctn-0123456789a 10.216.2.0/24 via 10.216.2.1 fd00:1::/64 via fd00:1::77
            o:mtu=1280 o:bridge=br-web
                br-web 10.216.2.0/24 via 10.216.2.1 mtu 1280
            o:com.docker.network.driver.mtu=9000
                ctn-0123456789a 10.216.2.0/24 via 10.216.2.1 mtu 9000
            name:host
                error: a network cannot be called `host`, which stands for another one
            subnet:10.1.0.0/24 subnet:10.2.0.0/24
                error: a network has one subnet of IPv4 and one of IPv6, and not both `10.1.0.0/24` and `10.2.0.0/24`
            subnet:10.1.0.0/31
                error: the subnet `10.1.0.0/31` is of no use: it must have from 8 to 30 bits
            subnet:127.0.0.0/8
                error: the subnet `127.0.0.0/8` cannot be used: these addresses are not for networks
            subnet:192.0.2.128/25
                error: the subnet `192.0.2.128/25` overlaps `192.0.2.0/24`, which this host or another network uses
            subnet:2001:db8:1:2::/64
                error: the subnet `2001:db8:1:2::/64` overlaps `2001:db8:1::/48`, which this host or another network uses
            subnet:fe80::/64
                error: the subnet `fe80::/64` cannot be used: these addresses are not for networks
            subnet:fd00::/127
                error: the subnet `fd00::/127` is of no use: it must have from 16 to 126 bits
            gateway:10.9.8.1
                error: `10.9.8.1` is in no subnet of the network
            subnet:10.9.8.0/24 gateway:10.9.9.1
                error: `10.9.9.1` is in no subnet of the network
            subnet:10.9.8.0/24 gateway:10.9.8.255
                error: `10.9.8.255` cannot be a gateway: it is the first or the last address of its subnet
            subnet:10.9.8.0/24 gateway:10.9.8.1 gateway:10.9.8.2
                error: `10.9.8.1` and `10.9.8.2` are of the same subnet
            gateway:fd00::1
                error: `fd00::1` is in no subnet of the network
            subnet:10.9.8.0/24 range:10.9.0.0/16
                error: `10.9.0.0/16` is in no subnet of the network
            o:mtu=12
                error: the option `mtu=12` is not known
            o:speed=fast
                error: the option `speed=fast` is not known
            o:bridge=eth0
                error: there is an interface `eth0` on this host already
            o:bridge=a-name-that-is-long
                error: an interface cannot be called `a-name-that-is-long`
        "#]].assert_eq(&all);
    }

    #[test]
    fn a_pool_with_nothing_left_is_an_error_with_a_way_out() {
        let taken = Taken { subnets: vec!["0.0.0.0/0".parse().unwrap()], ..Taken::default() };
        let error = plan_network(&wish(""), ID, &taken).unwrap_err();
        assert_eq!(error.to_string(), "no subnet for the network is free");
        assert!(error.hint().is_some());
    }

    #[test]
    fn pools_are_private_and_apart() {
        let pools: Vec<Subnet> =
            POOLS.iter().map(|(first, bits)| Subnet::new(Ipv4Addr::from(*first), *bits)).collect();
        for (index, one) in pools.iter().enumerate() {
            assert!(one.first().is_private());
            assert!(!pools[..index].iter().any(|other| other.overlaps(*one)));
        }
    }
}
