//! Decides what has to be done for the bridge network. Pure.

use std::net::Ipv4Addr;

use serde::Serialize;

use super::config::UserNetwork;
use super::facts::NetworkFacts;
use super::subnet::Subnet;
use super::{NetworkError, Notice};

/// The bridge that all containers of this host share.
pub const BRIDGE: &str = "corten0";

/// A bridge has at most 1023 ports (`BR_MAX_PORTS`), and 22 bits leave 1021 addresses for them.
const PREFIX_BITS: u8 = 22;

/// The first addresses of the subnets to choose from, in order. They avoid what Docker
/// (172.17–172.31 and 192.168 in steps of 16), Podman (10.88–10.89), Kubernetes (10.96, 10.244),
/// home routers and the usual virtual machines take by default; what the host really uses is
/// looked up.
const CANDIDATES: [[u8; 4]; 12] = [
    [10, 213, 0, 0],
    [10, 214, 0, 0],
    [10, 215, 0, 0],
    [10, 227, 0, 0],
    [10, 233, 160, 0],
    [172, 30, 212, 0],
    [172, 31, 212, 0],
    [172, 22, 212, 0],
    [172, 23, 212, 0],
    [192, 168, 212, 0],
    [192, 168, 228, 0],
    [198, 18, 212, 0],
];

/// What has to be done so that the bridge can take a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BridgePlan {
    /// What to do about the bridge itself.
    pub bridge: BridgeStep,
    /// The bridge's own address, which is the containers' gateway.
    pub gateway: Ipv4Addr,
    /// The network of the containers.
    pub subnet: Subnet,
    /// The largest packet, for the bridge and for the containers.
    pub mtu: u32,
    /// Whether the host must be told to pass packets on.
    pub turn_on_forwarding: bool,
    /// What people should know.
    pub notices: Vec<Notice>,
}

/// What to do about the bridge itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BridgeStep {
    /// Make it.
    Create,
    /// It is there; its maker did not get to its address.
    GiveAddress {
        /// The kernel's number of it.
        link: u32,
    },
    /// It is there but switched off.
    SwitchOn {
        /// The kernel's number of it.
        link: u32,
    },
    /// It is ready.
    Keep {
        /// The kernel's number of it.
        link: u32,
    },
}

/// Decides about bridge, subnet, MTU and forwarding.
pub fn plan_bridge(facts: &NetworkFacts) -> Result<BridgePlan, NetworkError> {
    let mut notices = Vec::new();
    if !facts.forwarding {
        notices.push(Notice::note(
            "turned on `net.ipv4.ip_forward`, without which no packet leaves the bridge",
        ));
    }
    let (bridge, gateway, subnet) = match &facts.bridge {
        None => {
            let subnet = choose_subnet(facts)?;
            (BridgeStep::Create, first_host(subnet), subnet)
        }
        Some(found) if found.kind != "bridge" => {
            let (name, kind) = (BRIDGE.to_owned(), found.kind.clone());
            return Err(NetworkError::NotABridge { name, kind });
        }
        Some(found) => match found.addresses.first() {
            None => {
                let subnet = choose_subnet(facts)?;
                (BridgeStep::GiveAddress { link: found.link }, first_host(subnet), subnet)
            }
            Some((gateway, bits)) => {
                let subnet = Subnet::new(*gateway, *bits);
                notices.extend(overlap_notice(facts, subnet));
                let link = found.link;
                let step = if found.up {
                    BridgeStep::Keep { link }
                } else {
                    BridgeStep::SwitchOn { link }
                };
                (step, *gateway, subnet)
            }
        },
    };
    Ok(BridgePlan {
        bridge,
        gateway,
        subnet,
        mtu: facts.uplink_mtu,
        turn_on_forwarding: !facts.forwarding,
        notices,
    })
}

/// Decides about the bridge of a network that somebody has made.
pub fn plan_user_bridge(
    network: &UserNetwork,
    facts: &NetworkFacts,
) -> Result<BridgePlan, NetworkError> {
    let mut notices = Vec::new();
    let turn_on_forwarding = !facts.forwarding && !network.internal;
    if turn_on_forwarding {
        notices.push(Notice::note(
            "turned on `net.ipv4.ip_forward`, without which no packet leaves the bridge",
        ));
    }
    let subnet = network.ipv4.subnet;
    if let Some(other) = facts.networks.iter().find(|other| other.overlaps(subnet)) {
        notices.push(Notice::warning(format!(
            "the network `{}` has {subnet}, which overlaps {other} of this host",
            network.name
        )));
    }
    let own = (network.ipv4.gateway, subnet.bits());
    let bridge = match &facts.bridge {
        None => BridgeStep::Create,
        Some(found) if found.kind != "bridge" => {
            let (name, kind) = (network.bridge.clone(), found.kind.clone());
            return Err(NetworkError::NotABridge { name, kind });
        }
        Some(found) => match (found.addresses.contains(&own), found.up) {
            (false, _) => BridgeStep::GiveAddress { link: found.link },
            (true, false) => BridgeStep::SwitchOn { link: found.link },
            (true, true) => BridgeStep::Keep { link: found.link },
        },
    };
    Ok(BridgePlan {
        bridge,
        gateway: network.ipv4.gateway,
        subnet,
        mtu: network.mtu.unwrap_or(facts.uplink_mtu),
        turn_on_forwarding,
        notices,
    })
}

fn choose_subnet(facts: &NetworkFacts) -> Result<Subnet, NetworkError> {
    let taken = |one: &Subnet| facts.networks.iter().any(|network| network.overlaps(*one));
    CANDIDATES
        .iter()
        .map(|first| Subnet::new(Ipv4Addr::from(*first), PREFIX_BITS))
        .find(|subnet| !taken(subnet))
        .ok_or(NetworkError::NoFreeSubnet { candidates: CANDIDATES.len() })
}

fn first_host(subnet: Subnet) -> Ipv4Addr {
    subnet.hosts().next().unwrap_or(subnet.first())
}

/// The host may have joined another network since the subnet was chosen.
fn overlap_notice(facts: &NetworkFacts, subnet: Subnet) -> Option<Notice> {
    let other = facts.networks.iter().find(|network| network.overlaps(subnet))?;
    Some(Notice::warning(format!(
        "the containers' network {subnet} overlaps {other}, which this host uses too; when no \
         container runs, `ip link delete {BRIDGE}` lets the next one choose another"
    )))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::facts::BridgeFacts;
    use super::super::resolv::HostResolver;
    use super::*;

    fn facts() -> NetworkFacts {
        NetworkFacts {
            bridge: None,
            networks: vec![subnet([192, 0, 2, 0], 24)],
            uplink_mtu: 1400,
            forwarding: true,
            ipv6_forwarding: true,
            resolver: HostResolver::default(),
        }
    }

    fn bridge(kind: &str, up: bool, addresses: &[(Ipv4Addr, u8)]) -> BridgeFacts {
        BridgeFacts { link: 7, kind: kind.to_owned(), up, addresses: addresses.to_vec() }
    }

    fn subnet(first: [u8; 4], bits: u8) -> Subnet {
        Subnet::new(Ipv4Addr::from(first), bits)
    }

    fn check(facts: &NetworkFacts, expected: &Expect) {
        let text = match plan_bridge(facts) {
            Ok(plan) => serde_json::to_string_pretty(&plan).unwrap(),
            Err(error) => {
                format!("error: {error}\nhint: {}", error.hint().unwrap_or_default())
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn the_first_container_makes_the_bridge_with_the_first_subnet() {
        check(
            &facts(),
            &expect![[r#"
            {
              "bridge": "create",
              "gateway": "10.213.0.1",
              "subnet": "10.213.0.0/22",
              "mtu": 1400,
              "turn_on_forwarding": false,
              "notices": []
            }"#]],
        );
    }

    #[test]
    fn a_subnet_that_the_host_routes_is_passed_over() {
        let mut facts = facts();
        facts.networks.push(subnet([10, 0, 0, 0], 8));
        facts.networks.push(subnet([172, 30, 213, 7], 32));
        assert_eq!(plan_bridge(&facts).unwrap().subnet, subnet([172, 31, 212, 0], 22));
    }

    #[test]
    fn no_free_subnet_is_an_error_with_a_way_out() {
        let mut facts = facts();
        facts.networks.push(subnet([0, 0, 0, 0], 1));
        facts.networks.push(subnet([128, 0, 0, 0], 1));
        check(
            &facts,
            &expect![[r#"
            error: no subnet for the bridge `corten0` is free, the host routes all 12 of them
            hint: make the bridge with a subnet of your choice: `ip link add corten0 type bridge` and `ip address add 10.1.0.1/24 dev corten0`"#]],
        );
    }

    #[test]
    fn a_bridge_that_is_there_keeps_its_subnet() {
        let mut facts = facts();
        facts.bridge = Some(bridge("bridge", true, &[(Ipv4Addr::new(10, 9, 0, 1), 24)]));
        check(
            &facts,
            &expect![[r#"
            {
              "bridge": {
                "keep": {
                  "link": 7
                }
              },
              "gateway": "10.9.0.1",
              "subnet": "10.9.0.0/24",
              "mtu": 1400,
              "turn_on_forwarding": false,
              "notices": []
            }"#]],
        );
    }

    #[test]
    fn a_bridge_that_is_switched_off_is_switched_on() {
        let mut facts = facts();
        facts.bridge = Some(bridge("bridge", false, &[(Ipv4Addr::new(10, 9, 0, 1), 24)]));
        assert_eq!(plan_bridge(&facts).unwrap().bridge, BridgeStep::SwitchOn { link: 7 });
    }

    #[test]
    fn a_bridge_whose_maker_was_killed_gets_its_address() {
        let mut facts = facts();
        facts.bridge = Some(bridge("bridge", true, &[]));
        assert_eq!(plan_bridge(&facts).unwrap().bridge, BridgeStep::GiveAddress { link: 7 });
    }

    #[test]
    fn an_interface_that_only_has_the_name_is_refused() {
        let mut facts = facts();
        facts.bridge = Some(bridge("dummy", true, &[]));
        check(
            &facts,
            &expect![[r#"
            error: the network interface `corten0` exists and is not a bridge but `dummy`
            hint: remove the interface with `ip link delete corten0`, or use `--network host|none`"#]],
        );
    }

    #[test]
    fn a_network_that_the_host_joined_later_is_told_of() {
        let mut facts = facts();
        facts.bridge = Some(bridge("bridge", true, &[(Ipv4Addr::new(10, 213, 0, 1), 22)]));
        facts.networks.push(subnet([10, 213, 0, 0], 16));
        check(
            &facts,
            &expect![[r#"
            {
              "bridge": {
                "keep": {
                  "link": 7
                }
              },
              "gateway": "10.213.0.1",
              "subnet": "10.213.0.0/22",
              "mtu": 1400,
              "turn_on_forwarding": false,
              "notices": [
                {
                  "severity": "warning",
                  "text": "the containers' network 10.213.0.0/22 overlaps 10.213.0.0/16, which this host uses too; when no container runs, `ip link delete corten0` lets the next one choose another"
                }
              ]
            }"#]],
        );
    }

    #[test]
    fn forwarding_is_turned_on_and_told_of() {
        let mut facts = facts();
        facts.forwarding = false;
        let plan = plan_bridge(&facts).unwrap();
        assert!(plan.turn_on_forwarding);
        assert_eq!(plan.notices.len(), 1);
    }

    #[test]
    fn every_candidate_is_private_aligned_and_free_of_the_others() {
        let subnets: Vec<Subnet> =
            CANDIDATES.iter().map(|first| subnet(*first, PREFIX_BITS)).collect();
        for (index, one) in subnets.iter().enumerate() {
            assert_eq!(one.first().octets(), CANDIDATES[index], "{one} is not aligned");
            let benchmark = subnet([198, 18, 0, 0], 15);
            assert!(one.first().is_private() || benchmark.contains(one.first()), "{one}");
            assert!(!subnets[..index].iter().any(|other| other.overlaps(*one)), "{one}");
        }
    }
}
