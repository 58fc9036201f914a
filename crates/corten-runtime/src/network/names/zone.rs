//! Which names a container finds. Pure.
//!
//! | asked for | found by |
//! |---|---|
//! | `db` | a container's name, the first 12 digits of its id, or an alias on a network of the asker |
//! | `db.web` | the same on the network `web` |
//! | `2.0.216.10.in-addr.arpa` | the container that has the address |
//!
//! A name without a dot is always one of the container's networks: one that stands for nobody there stands
//! for nobody at all, and nobody else hears of it. Others are asked about what is left, also where it ends in
//! the name of a network: there are networks that are called `dev`, and so is a part of the world's names.
//! The default network has no names, as in Docker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::config::DEFAULT_NETWORK;
use super::super::register::{LiveContainer, LiveEndpoint};
use super::codec::{A, AAAA, ANY, PTR, Query, Record};

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Records(Vec<Record>),
    /// The name is known, but it has nothing of this kind.
    NoRecord,
    /// There is no such name.
    NoName,
    /// It is none of ours.
    Elsewhere,
}

/// Of several containers with one name, each goes first in its turn.
static TURN: AtomicUsize = AtomicUsize::new(0);

/// Looks a question up for a container, `all` being those that run on its host.
pub(super) fn look_up(query: &Query<'_>, own: &LiveContainer, all: &[&LiveContainer]) -> Found {
    let Some(name) = query.name.as_deref().filter(|_| query.is_internet) else {
        return Found::Elsewhere;
    };
    if name.is_empty() {
        return Found::Elsewhere;
    }
    let networks: Vec<&LiveEndpoint> =
        own.endpoints.iter().filter(|endpoint| endpoint.network != DEFAULT_NETWORK).collect();
    if let Some(address) = reverse_address(name) {
        return reverse(query, address, &networks, all);
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return records(
            query,
            vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        );
    }
    // The first network that knows the name says who it is.
    for network in &networks {
        let suffix = network.network_name.to_ascii_lowercase();
        let within = name.strip_suffix(&suffix).and_then(|name| name.strip_suffix('.'));
        let addresses: Vec<IpAddr> = [Some(name), within]
            .into_iter()
            .flatten()
            .flat_map(|name| addresses_of(name, &network.network, all))
            .collect();
        if !addresses.is_empty() {
            return records(query, addresses);
        }
    }
    if name.contains('.') { Found::Elsewhere } else { Found::NoName }
}

/// Returns the addresses of all who have a name on a network.
fn addresses_of<'a>(
    name: &'a str,
    network: &'a str,
    all: &'a [&LiveContainer],
) -> impl Iterator<Item = IpAddr> + 'a {
    let endpoints = all.iter().filter_map(move |container| {
        let endpoint = container.endpoint(network)?;
        let is_it = container.name.eq_ignore_ascii_case(name)
            || container.short_id() == name
            || endpoint.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name));
        // One whose process has ended is only not written off yet.
        (is_it && container.is_alive()).then_some(endpoint)
    });
    endpoints.flat_map(LiveEndpoint::addresses)
}

fn records(query: &Query<'_>, addresses: Vec<IpAddr>) -> Found {
    let wanted = |address: &IpAddr| match query.kind {
        A => address.is_ipv4(),
        AAAA => address.is_ipv6(),
        kind => kind == ANY,
    };
    let mut records: Vec<Record> = addresses
        .into_iter()
        .filter(wanted)
        .map(|address| match address {
            IpAddr::V4(address) => Record::A(address),
            IpAddr::V6(address) => Record::Aaaa(address),
        })
        .collect();
    if records.is_empty() {
        return Found::NoRecord;
    }
    let turn = TURN.fetch_add(1, Ordering::Relaxed) % records.len();
    records.rotate_left(turn);
    Found::Records(records)
}

fn reverse(
    query: &Query<'_>,
    address: IpAddr,
    networks: &[&LiveEndpoint],
    all: &[&LiveContainer],
) -> Found {
    let Some(network) = networks.iter().find(|network| is_in(network, address)) else {
        return Found::Elsewhere;
    };
    let holder = all.iter().find(|container| {
        let endpoint = container.endpoint(&network.network);
        endpoint.is_some_and(|endpoint| endpoint.addresses().any(|known| known == address))
            && container.is_alive()
    });
    match holder {
        None => Found::NoName,
        Some(_) if ![PTR, ANY].contains(&query.kind) => Found::NoRecord,
        Some(holder) => {
            let name = format!("{}.{}", holder.name, network.network_name);
            Found::Records(vec![Record::Ptr(name)])
        }
    }
}

fn is_in(network: &LiveEndpoint, address: IpAddr) -> bool {
    use super::super::subnet::{Subnet, Subnet6};
    match address {
        IpAddr::V4(address) => Subnet::new(network.address, network.prefix_bits).contains(address),
        IpAddr::V6(address) => {
            network.ipv6.is_some_and(|(own, bits, _)| Subnet6::new(own, bits).contains(address))
        }
    }
}

/// Reads the address that a name stands for backwards (RFC 1035, 3.5; RFC 3596, 2.5).
fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets: Vec<u8> = digits
            .split('.')
            .map(|octet| octet.parse().ok().filter(|_| !octet.starts_with('+')))
            .collect::<Option<_>>()?;
        octets.reverse();
        return octets.first_chunk::<4>().filter(|_| octets.len() == 4).map(|four| (*four).into());
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let mut bits: u128 = 0;
    let mut count = 0;
    for digit in digits.rsplit('.') {
        let one = digit.chars().next().filter(|_| digit.len() == 1)?;
        bits = (bits << 4) | u128::from(one.to_digit(16)?);
        count += 1;
        if count > 32 {
            return None;
        }
    }
    (count == 32).then(|| IpAddr::V6(Ipv6Addr::from_bits(bits)))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::super::config::Mac;
    use super::super::codec::{self, tests::query};
    use super::*;

    fn endpoint(network: &str, octets: [u8; 4], aliases: &[&str]) -> LiveEndpoint {
        let address = Ipv4Addr::from(octets);
        LiveEndpoint {
            network: format!("id-of-{network}"),
            network_name: network.to_owned(),
            interface: "eth0".to_owned(),
            veth: "veth0".to_owned(),
            address,
            prefix_bits: 24,
            gateway: Ipv4Addr::new(octets[0], octets[1], octets[2], 1),
            ipv6: (network == "Web").then(|| {
                let own = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(octets[3]));
                (own, 64, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))
            }),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
            internal: false,
        }
    }

    fn container(id: &str, name: &str, endpoints: Vec<LiveEndpoint>) -> LiveContainer {
        let pid = i32::try_from(std::process::id()).unwrap();
        let id = id.repeat(64);
        LiveContainer { endpoints, ..LiveContainer::new(&id, name, pid) }
    }

    fn world() -> Vec<LiveContainer> {
        let dead = container("d", "dead", vec![endpoint("Web", [10, 1, 0, 9], &[])]);
        vec![
            container("a", "app", vec![endpoint("Web", [10, 1, 0, 2], &["front"])]),
            container(
                "b",
                "DB",
                vec![
                    endpoint("Web", [10, 1, 0, 3], &["store"]),
                    endpoint("back", [10, 2, 0, 2], &[]),
                ],
            ),
            container("c", "cache", vec![endpoint("back", [10, 2, 0, 3], &["store"])]),
            LiveContainer { process: (dead.process.0, 1), ..dead },
        ]
    }

    fn ask(asker: usize, name: &str, kind: u16) -> Found {
        let world = world();
        let bytes = query(name, kind, None);
        let all: Vec<&LiveContainer> = world.iter().collect();
        look_up(&codec::parse(&bytes).unwrap(), all[asker], &all)
    }

    #[test]
    fn names_are_those_of_the_askers_networks() {
        let mut all = String::new();
        for (asker, name, kind) in [
            (0, "db", A),
            (0, "DB", AAAA),
            (0, "bbbbbbbbbbbb", A),
            (0, "store", A),
            (0, "front", A),
            (0, "app", A),
            (0, "db.web", A),
            (0, "db.back", A),
            (0, "cache", A),
            (0, "dead", A),
            (0, "absent", A),
            (0, "absent.web", A),
            (0, "web", A),
            (0, "db", 15),
            (0, "db.example.com", A),
            (0, "localhost", A),
            (1, "cache", A),
            (1, "store.back", A),
            (2, "app", A),
            (0, "3.0.1.10.in-addr.arpa", PTR),
            (0, "3.0.1.10.in-addr.arpa", A),
            (0, "77.0.1.10.in-addr.arpa", PTR),
            (0, "2.0.2.10.in-addr.arpa", PTR),
            (0, "0.1.10.in-addr.arpa", PTR),
            (0, "3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", PTR),
            (0, "d.f.ip6.arpa", PTR),
        ] {
            all += &format!("{asker} {name} {kind}: {:?}\n", ask(asker, name, kind));
        }
        expect![[r#"
            0 db 1: Records([A(10.1.0.3)])
            0 DB 28: Records([Aaaa(fd00::3)])
            0 bbbbbbbbbbbb 1: Records([A(10.1.0.3)])
            0 store 1: Records([A(10.1.0.3)])
            0 front 1: Records([A(10.1.0.2)])
            0 app 1: Records([A(10.1.0.2)])
            0 db.web 1: Records([A(10.1.0.3)])
            0 db.back 1: Elsewhere
            0 cache 1: NoName
            0 dead 1: NoName
            0 absent 1: NoName
            0 absent.web 1: Elsewhere
            0 web 1: NoName
            0 db 15: NoRecord
            0 db.example.com 1: Elsewhere
            0 localhost 1: Records([A(127.0.0.1)])
            1 cache 1: Records([A(10.2.0.3)])
            1 store.back 1: Records([A(10.2.0.3)])
            2 app 1: NoName
            0 3.0.1.10.in-addr.arpa 12: Records([Ptr("DB.Web")])
            0 3.0.1.10.in-addr.arpa 1: NoRecord
            0 77.0.1.10.in-addr.arpa 12: NoName
            0 2.0.2.10.in-addr.arpa 12: Elsewhere
            0 0.1.10.in-addr.arpa 12: Elsewhere
            0 3.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa 12: Records([Ptr("DB.Web")])
            0 d.f.ip6.arpa 12: Elsewhere
        "#]].assert_eq(&all);
    }

    #[test]
    fn those_who_share_a_name_go_first_in_turn() {
        let world = [
            container("a", "one", vec![endpoint("web", [10, 1, 0, 2], &["all"])]),
            container("b", "two", vec![endpoint("web", [10, 1, 0, 3], &["all"])]),
        ];
        let all: Vec<&LiveContainer> = world.iter().collect();
        let bytes = query("all", A, None);
        let query = codec::parse(&bytes).unwrap();
        let mut firsts: Vec<Record> = (0..20)
            .map(|_| match look_up(&query, &world[0], &all) {
                Found::Records(records) => {
                    assert_eq!(records.len(), 2);
                    records[0].clone()
                }
                other => panic!("{other:?}"),
            })
            .collect();
        firsts.dedup();
        assert!(firsts.len() > 2, "{firsts:?}");
    }

    #[test]
    fn the_default_network_has_no_names() {
        let on_default = |id: &str, name: &str, last| {
            let mut endpoint = endpoint("bridge", [10, 1, 0, last], &[]);
            DEFAULT_NETWORK.clone_into(&mut endpoint.network);
            container(id, name, vec![endpoint])
        };
        let world = [on_default("a", "one", 2), on_default("b", "two", 3)];
        let all: Vec<&LiveContainer> = world.iter().collect();
        let bytes = query("two", A, None);
        assert_eq!(look_up(&codec::parse(&bytes).unwrap(), &world[0], &all), Found::NoName);
    }
}
