//! Corten's own table of the packet filter, and what to make of other people's.
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
//! ```
//!
//! The first rule keeps containers from the host's loopback services even where someone has set
//! `route_localnet`; the second keeps other machines from ports that were not published, since
//! published ones come from the host itself, not through it.
//!
//! The table is replaced as a whole in one transaction, so that it is never half there, and only
//! when it differs from what it should be.

use std::net::Ipv4Addr;

use corten_sys::netlink::NetlinkError;
use corten_sys::netlink::nft::{
    Base, Batch, Chain, ChainKind, Expression, Family, Hook, NftSocket, Test, Verdict,
};

use super::Notice;
use super::plan::{BRIDGE, Subnet};

const TABLE: &str = "corten";
const FAMILY: Family = Family::Ipv4;

/// The chains: the priorities are those that the `nft` program calls `raw`, `filter` and `srcnat`.
const CHAINS: [(&str, ChainKind, Hook, i32); 3] = [
    ("prerouting", ChainKind::Filter, Hook::Prerouting, -300),
    ("forward", ChainKind::Filter, Hook::Forward, 0),
    ("postrouting", ChainKind::Nat, Hook::Postrouting, 100),
];

/// How many rules the table has in all.
const RULES: usize = 3;

/// The chain that Docker calls before its own rules and leaves to others.
const DOCKER_TABLE: &str = "filter";
const DOCKER_USER: &str = "DOCKER-USER";

/// Makes the table what it should be and returns what people should know of other tables.
pub(super) fn ensure(subnet: Subnet) -> Result<Vec<Notice>, NetlinkError> {
    let mut socket = NftSocket::open()?;
    if !is_current(&mut socket, subnet)? {
        socket.commit("set up the firewall table `ip corten`", own_table(subnet))?;
    }
    pass_foreign_chains(&mut socket)
}

fn fingerprint(subnet: Subnet) -> String {
    format!("corten 1 {BRIDGE} {subnet}")
}

/// Returns true if the table is there, of this version, and still has its rules: someone may
/// have flushed them.
fn is_current(socket: &mut NftSocket, subnet: Subnet) -> Result<bool, NetlinkError> {
    let Some(table) = socket.table(FAMILY, TABLE)? else { return Ok(false) };
    if table.user_data != fingerprint(subnet).as_bytes() {
        return Ok(false);
    }
    Ok(socket.rules(FAMILY, TABLE)?.len() == RULES)
}

fn own_table(subnet: Subnet) -> Batch {
    let loopback = Expression::Destination(Test::Is, Ipv4Addr::new(127, 0, 0, 0), 8);
    let from_bridge = Expression::InputInterface(Test::Is, BRIDGE);
    let from_elsewhere = Expression::InputInterface(Test::IsNot, BRIDGE);
    let to_bridge = Expression::OutputInterface(Test::Is, BRIDGE);
    let to_elsewhere = Expression::OutputInterface(Test::IsNot, BRIDGE);
    let from_containers = Expression::Source(Test::Is, subnet.first(), subnet.bits());
    let no_answer = Expression::Answer(Test::IsNot);
    let drop = Expression::Verdict(Verdict::Drop);

    let mut batch = Batch::new();
    // A table can only be removed if it is there, so it is made first.
    batch.add_table(FAMILY, TABLE, &[]).remove_table(FAMILY, TABLE).add_table(
        FAMILY,
        TABLE,
        fingerprint(subnet).as_bytes(),
    );
    for (name, kind, hook, priority) in CHAINS {
        let base = Base { kind, hook, priority, policy: Verdict::Accept };
        batch.add_chain(FAMILY, TABLE, name, Some(base));
    }
    batch
        .append_rule(FAMILY, TABLE, "prerouting", &[from_bridge, loopback, drop])
        .append_rule(FAMILY, TABLE, "forward", &[to_bridge, from_elsewhere, no_answer, drop])
        .append_rule(
            FAMILY,
            TABLE,
            "postrouting",
            &[from_containers, to_elsewhere, Expression::Masquerade],
        );
    batch
}

/// A packet must be accepted by every table. Where another one drops what is passed on, the
/// containers are let through if its owner provides a place for it; else people are told.
fn pass_foreign_chains(socket: &mut NftSocket) -> Result<Vec<Notice>, NetlinkError> {
    let mut notices = Vec::new();
    for family in [Family::Ipv4, Family::Inet] {
        let chains = socket.chains(family)?;
        for chain in chains.iter().filter(|chain| drops_forwarded(chain)) {
            let rules = socket.rules(family, &chain.table)?;
            if rules.iter().any(|rule| rule.mentions(BRIDGE)) {
                continue;
            }
            if has_docker_user(&chains, chain) {
                socket.commit("let the containers pass Docker's firewall", docker_batch())?;
            } else {
                notices.push(drop_notice(chain));
            }
        }
    }
    Ok(notices)
}

fn drops_forwarded(chain: &Chain) -> bool {
    chain.hook == Some(Hook::Forward) && chain.policy == Some(Verdict::Drop) && chain.table != TABLE
}

fn has_docker_user(chains: &[Chain], dropping: &Chain) -> bool {
    dropping.family == Family::Ipv4
        && dropping.table == DOCKER_TABLE
        && chains.iter().any(|chain| chain.table == DOCKER_TABLE && chain.name == DOCKER_USER)
}

/// Both directions are accepted without looking at the state of connections: what may come in is
/// decided by our own table, and `iptables` can only show rules of the forms it knows.
fn docker_batch() -> Batch {
    let accept = Expression::Verdict(Verdict::Accept);
    let counter = Expression::Counter;
    let mut batch = Batch::new();
    for interface in [
        Expression::OutputInterface(Test::Is, BRIDGE),
        Expression::InputInterface(Test::Is, BRIDGE),
    ] {
        batch.insert_rule(FAMILY, DOCKER_TABLE, DOCKER_USER, &[interface, counter, accept]);
    }
    batch
}

fn drop_notice(chain: &Chain) -> Notice {
    let place = format!("{} {} {}", chain.family.name(), chain.table, chain.name);
    Notice::warning(format!(
        "the firewall chain `{place}` drops forwarded packets by default and may keep the \
         container from the network; to let containers through, run `nft insert rule {place} \
         iifname {BRIDGE} accept` and `nft insert rule {place} oifname {BRIDGE} ct state \
         established,related accept`"
    ))
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

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
        let notice = drop_notice(&chain(Family::Inet, "filter", "forward", Verdict::Drop));
        expect!["the firewall chain `inet filter forward` drops forwarded packets by default and may keep the container from the network; to let containers through, run `nft insert rule inet filter forward iifname corten0 accept` and `nft insert rule inet filter forward oifname corten0 ct state established,related accept`"].assert_eq(&notice.text);
    }
}
