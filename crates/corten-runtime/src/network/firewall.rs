//! Corten's own tables of the packet filter, and what to make of other people's.
//!
//! Each network has a table of its own, so that those of several stores do not know of each other:
//!
//! ```text
//! table ip corten {                       # its user data says which version of this it is
//!   chain prerouting  { type filter hook prerouting priority raw; policy accept;
//!     iifname "corten0" ip daddr 127.0.0.0/8 drop }
//!   chain forward     { type filter hook forward priority filter; policy accept;
//!     oifname "corten0" iifname != "corten0" ct state != established,related drop }
//!   chain postrouting { type nat hook postrouting priority srcnat; policy accept;
//!     ip saddr SUBNET oifname != "corten0" masquerade }
//! }
//! table ip corten-ID                      # the same, for the bridge of a network
//! table ip6 corten-ID                     # if it has IPv6, without the first rule
//! table ip corten-ID                      # of an internal network:
//!   forward: iifname BRIDGE oifname != BRIDGE drop; oifname BRIDGE iifname != BRIDGE drop
//!   input:   iifname BRIDGE ct state new drop
//! ```
//!
//! The first rule keeps containers from the host's loopback services even where someone has set
//! `route_localnet`; the second keeps other machines, and other networks of containers, from ports
//! that were not published, since published ones come from the host itself, not through it.
//!
//! A network's tables are replaced as a whole in one transaction, so that they are never half there,
//! and only when they differ from what they should be.

use std::net::{IpAddr, Ipv4Addr};

use corten_sys::netlink::NetlinkError;
use corten_sys::netlink::nft::{
    Base, Batch, Chain, ChainKind, Expression, Family, Hook, NftSocket, Test, Verdict,
};

use super::Notice;
use super::config::{BRIDGE_PREFIX, On, UserNetwork};
use super::subnet::{Subnet, Subnet6};

const TABLE: &str = "corten";

/// The priorities that the `nft` program calls `raw`, `filter` and `srcnat`.
const RAW: i32 = -300;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;

/// The chain that Docker calls before its own rules and leaves to others.
const DOCKER_TABLE: &str = "filter";
const DOCKER_USER: &str = "DOCKER-USER";

/// What a network's tables follow from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wall<'a> {
    table: String,
    bridge: &'a str,
    subnet: Subnet,
    subnet6: Option<Subnet6>,
    internal: bool,
}

/// Makes the tables of a network what they should be and returns what people should know of others.
pub(super) fn ensure(on: &On, subnet: Subnet) -> Result<Vec<Notice>, NetlinkError> {
    let wall = Wall {
        table: table_of(on.user()),
        bridge: on.bridge(),
        subnet,
        subnet6: on.user().and_then(|network| network.ipv6).map(|ipv6| ipv6.subnet),
        internal: on.is_internal(),
    };
    let mut socket = NftSocket::open()?;
    if !wall.is_current(&mut socket)? {
        let operation = format!("set up the firewall table `ip {}`", wall.table);
        socket.commit(&operation, wall.tables())?;
    }
    // Nothing of an internal network is ever passed on.
    if wall.internal { Ok(Vec::new()) } else { pass_foreign_chains(&mut socket, wall.bridge) }
}

/// Removes the tables of a network that is no more.
pub(super) fn remove(network: &UserNetwork) -> Result<(), NetlinkError> {
    let table = table_of(Some(network));
    let mut batch = Batch::new();
    for family in [Family::Ipv4, Family::Ipv6] {
        // A table can only be removed if it is there, so it is made first.
        batch.add_table(family, &table, &[]).remove_table(family, &table);
    }
    let operation = format!("remove the firewall table `ip {table}`");
    NftSocket::open()?.commit(&operation, batch)
}

fn table_of(network: Option<&UserNetwork>) -> String {
    match network {
        None => TABLE.to_owned(),
        Some(network) => format!("{TABLE}-{}", network.id.get(..12).unwrap_or(&network.id)),
    }
}

impl Wall<'_> {
    fn fingerprint(&self) -> String {
        let Self { bridge, subnet, .. } = self;
        let ipv6 = self.subnet6.map(|subnet| format!(" {subnet}")).unwrap_or_default();
        let internal = if self.internal { " internal" } else { "" };
        format!("corten 1 {bridge} {subnet}{ipv6}{internal}")
    }

    fn families(&self) -> Vec<Family> {
        let ipv6 = self.subnet6.map(|_| Family::Ipv6);
        std::iter::once(Family::Ipv4).chain(ipv6).collect()
    }

    /// Returns true if the tables are there, of this version, and still have their rules: someone
    /// may have flushed them.
    fn is_current(&self, socket: &mut NftSocket) -> Result<bool, NetlinkError> {
        for family in self.families() {
            let Some(table) = socket.table(family, &self.table)? else { return Ok(false) };
            if table.user_data != self.fingerprint().as_bytes() {
                return Ok(false);
            }
            if socket.rules(family, &self.table)?.len() != self.rules(family).len() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn tables(&self) -> Batch {
        let mut batch = Batch::new();
        for family in self.families() {
            // A table can only be removed if it is there, so it is made first.
            batch.add_table(family, &self.table, &[]).remove_table(family, &self.table).add_table(
                family,
                &self.table,
                self.fingerprint().as_bytes(),
            );
            for (name, base) in self.chains(family) {
                batch.add_chain(family, &self.table, name, Some(base));
            }
            for (chain, expressions) in self.rules(family) {
                batch.append_rule(family, &self.table, chain, &expressions);
            }
        }
        batch
    }

    fn chains(&self, family: Family) -> Vec<(&'static str, Base)> {
        let base = |kind, hook, priority| Base { kind, hook, priority, policy: Verdict::Accept };
        let mut chains = vec![("forward", base(ChainKind::Filter, Hook::Forward, FILTER))];
        if family == Family::Ipv4 {
            chains.push(("prerouting", base(ChainKind::Filter, Hook::Prerouting, RAW)));
        }
        chains.push(if self.internal {
            ("input", base(ChainKind::Filter, Hook::Input, FILTER))
        } else {
            ("postrouting", base(ChainKind::Nat, Hook::Postrouting, SOURCE_NAT))
        });
        chains
    }

    fn rules(&self, family: Family) -> Vec<(&'static str, Vec<Expression<'_>>)> {
        let from_bridge = Expression::InputInterface(Test::Is, self.bridge);
        let from_elsewhere = Expression::InputInterface(Test::IsNot, self.bridge);
        let to_bridge = Expression::OutputInterface(Test::Is, self.bridge);
        let to_elsewhere = Expression::OutputInterface(Test::IsNot, self.bridge);
        let no_answer = Expression::Answer(Test::IsNot);
        let drop = Expression::Verdict(Verdict::Drop);
        let (first, bits) = match (family, self.subnet6) {
            (Family::Ipv6, Some(subnet)) => (IpAddr::V6(subnet.first()), subnet.bits()),
            _ => (IpAddr::V4(self.subnet.first()), self.subnet.bits()),
        };
        let mut rules = Vec::new();
        if family == Family::Ipv4 {
            let loopback = Expression::Destination(Test::Is, Ipv4Addr::new(127, 0, 0, 0).into(), 8);
            rules.push(("prerouting", vec![from_bridge, loopback, drop]));
        }
        if self.internal {
            rules.push(("forward", vec![from_bridge, to_elsewhere, drop]));
            rules.push(("forward", vec![to_bridge, from_elsewhere, drop]));
            // What is no connection, as the search for neighbours of IPv6, is let through.
            rules.push(("input", vec![from_bridge, Expression::New, drop]));
        } else {
            rules.push(("forward", vec![to_bridge, from_elsewhere, no_answer, drop]));
            let from_containers = Expression::Source(Test::Is, first, bits);
            rules
                .push(("postrouting", vec![from_containers, to_elsewhere, Expression::Masquerade]));
        }
        rules
    }
}

/// A packet must be accepted by every table. Where another one drops what is passed on, the
/// containers are let through if its owner provides a place for it; else people are told.
fn pass_foreign_chains(socket: &mut NftSocket, bridge: &str) -> Result<Vec<Notice>, NetlinkError> {
    let mut notices = Vec::new();
    for family in [Family::Ipv4, Family::Inet] {
        let chains = socket.chains(family)?;
        for chain in chains.iter().filter(|chain| drops_forwarded(chain)) {
            let rules = socket.rules(family, &chain.table)?;
            let is_ours = bridge.starts_with(BRIDGE_PREFIX);
            if rules.iter().any(|rule| {
                rule.mentions(bridge) || (is_ours && rule.mentions_prefix(BRIDGE_PREFIX))
            }) {
                continue;
            }
            if has_docker_user(&chains, chain) {
                socket.commit("let the containers pass Docker's firewall", docker_batch(bridge))?;
            } else {
                notices.push(drop_notice(chain, bridge));
            }
        }
    }
    Ok(notices)
}

/// Asks the packet filter something, to see whether it answers.
pub fn reach_packet_filter() -> Result<(), corten_sys::netlink::NetlinkError> {
    NftSocket::open()?.chains(Family::Ipv4).map(drop)
}

/// Finds a chain of somebody else's that drops what is passed on, and that we cannot be let through of.
pub fn foreign_drop() -> Option<String> {
    let mut socket = NftSocket::open().ok()?;
    [Family::Ipv4, Family::Inet].into_iter().find_map(|family| {
        let chains = socket.chains(family).ok()?;
        let found = chains
            .iter()
            .find(|chain| drops_forwarded(chain) && !has_docker_user(&chains, chain))?;
        Some(format!("{} of the table {}", found.name, found.table))
    })
}

fn drops_forwarded(chain: &Chain) -> bool {
    chain.hook == Some(Hook::Forward)
        && chain.policy == Some(Verdict::Drop)
        && !is_own(&chain.table)
}

fn is_own(table: &str) -> bool {
    table.strip_prefix(TABLE).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn has_docker_user(chains: &[Chain], dropping: &Chain) -> bool {
    dropping.family == Family::Ipv4
        && dropping.table == DOCKER_TABLE
        && chains.iter().any(|chain| chain.table == DOCKER_TABLE && chain.name == DOCKER_USER)
}

/// Both directions are accepted without looking at the state of connections: what may come in is
/// decided by our own tables, and `iptables` can only show rules of the forms it knows. One pair of
/// rules is for the bridges of all networks that are called by our prefix: it shows as `ctn-+`.
fn docker_batch(bridge: &str) -> Batch {
    let accept = Expression::Verdict(Verdict::Accept);
    let counter = Expression::Counter;
    let interfaces = if bridge.starts_with(BRIDGE_PREFIX) {
        [Expression::OutputInterfaces(BRIDGE_PREFIX), Expression::InputInterfaces(BRIDGE_PREFIX)]
    } else {
        [
            Expression::OutputInterface(Test::Is, bridge),
            Expression::InputInterface(Test::Is, bridge),
        ]
    };
    let mut batch = Batch::new();
    for interface in interfaces {
        batch.insert_rule(Family::Ipv4, DOCKER_TABLE, DOCKER_USER, &[interface, counter, accept]);
    }
    batch
}

fn drop_notice(chain: &Chain, bridge: &str) -> Notice {
    let place = format!("{} {} {}", chain.family.name(), chain.table, chain.name);
    Notice::warning(format!(
        "the firewall chain `{place}` drops forwarded packets by default and may keep the \
         container from the network; to let containers through, run `nft insert rule {place} \
         iifname {bridge} accept` and `nft insert rule {place} oifname {bridge} ct state \
         established,related accept`"
    ))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::plan::BRIDGE;
    use super::*;

    fn chain(family: Family, table: &str, name: &str, policy: Verdict) -> Chain {
        Chain {
            family,
            table: table.to_owned(),
            name: name.to_owned(),
            hook: Some(Hook::Forward),
            policy: Some(policy),
        }
    }

    #[test]
    fn only_a_foreign_dropping_forward_chain_is_in_the_way() {
        let docker = chain(Family::Ipv4, "filter", "FORWARD", Verdict::Drop);
        assert!(drops_forwarded(&docker));
        assert!(!drops_forwarded(&chain(Family::Ipv4, "filter", "FORWARD", Verdict::Accept)));
        assert!(!drops_forwarded(&chain(Family::Ipv4, "corten", "forward", Verdict::Drop)));
        assert!(!drops_forwarded(&chain(Family::Ipv4, "corten-ab", "forward", Verdict::Drop)));
        assert!(drops_forwarded(&chain(Family::Ipv4, "cortens", "forward", Verdict::Drop)));
        let input = Chain { hook: Some(Hook::Input), ..docker.clone() };
        assert!(!drops_forwarded(&input));
        let jumped_to = Chain { hook: None, policy: None, ..docker };
        assert!(!drops_forwarded(&jumped_to));
    }

    #[test]
    fn docker_s_own_place_counts_only_for_its_own_chain() {
        let docker = chain(Family::Ipv4, "filter", "FORWARD", Verdict::Drop);
        let user =
            Chain { name: DOCKER_USER.to_owned(), hook: None, policy: None, ..docker.clone() };
        let other = chain(Family::Inet, "filter", "forward", Verdict::Drop);
        let chains = [docker.clone(), user];
        assert!(has_docker_user(&chains, &docker));
        assert!(!has_docker_user(&chains, &other));
        assert!(!has_docker_user(&chains[..1], &docker));
    }

    #[test]
    fn a_chain_in_the_way_is_named_with_the_remedy() {
        let notice = drop_notice(&chain(Family::Inet, "filter", "forward", Verdict::Drop), BRIDGE);
        expect!["the firewall chain `inet filter forward` drops forwarded packets by default and may keep the container from the network; to let containers through, run `nft insert rule inet filter forward iifname corten0 accept` and `nft insert rule inet filter forward oifname corten0 ct state established,related accept`"].assert_eq(&notice.text);
    }
}
