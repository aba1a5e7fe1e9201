//! Configurations and networks for the tests beside it. Never a check.

use crate::config::{Config, PeerAddress, PeerConfig, RemoteAsn};
use crate::speaker::{Beginning, Origination};
use crate::testkit::{Network, NodeId};
use crate::types::{Asn, Family, Negotiated, RouterId};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// Long enough for sessions to begin and routes to pass.
pub(super) const SOON: Duration = Duration::from_secs(30);

pub(super) fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

/// What holds on a session with a peer that keeps no routes over a restart.
pub(in crate::speaker) fn agreed(families: BTreeSet<Family>) -> Negotiated {
    Negotiated {
        peer_asn: asn(64_512),
        peer_id: RouterId::new(address(1)).unwrap(),
        hold_time: Duration::from_secs(90),
        families,
        four_octet_asn: true,
        max_message_bytes: 4096,
        route_refresh: true,
        enhanced_route_refresh: true,
        extended_next_hop: BTreeSet::new(),
        add_path_in: BTreeSet::new(),
        add_path_out: BTreeSet::new(),
        graceful_restart: None,
        long_lived: Vec::new(),
        role: None,
    }
}

pub(super) fn address(node: u8) -> Ipv4Addr {
    [192, 0, 2, node].into()
}

pub(super) fn config(node: u8, number: u32) -> Config {
    Config::new(asn(number), RouterId::new(address(node)).unwrap())
}

pub(super) fn peer(node: u8, number: u32) -> PeerConfig {
    PeerConfig::new(PeerAddress::Ip(address(node).into()), RemoteAsn::Exactly(asn(number)))
}

pub(super) fn network(configs: &[Config]) -> (Network, Vec<NodeId>) {
    let mut network = Network::new(Duration::from_millis(1));
    let nodes: Vec<NodeId> = configs.iter().map(|config| network.add(&[IpAddr::V4(config.router_id.get())])).collect();
    for (node, config) in nodes.iter().zip(configs) {
        network.start(*node, config.clone(), &Beginning::Fresh).unwrap();
    }
    (network, nodes)
}

/// One, two and three in a row, each a system of its own.
pub(super) fn chain() -> (Network, Vec<NodeId>) {
    network(&chain_configs())
}

pub(super) fn chain_configs() -> [Config; 3] {
    let (mut one, mut two, mut three) = (config(1, 65_001), config(2, 65_002), config(3, 65_003));
    one.peers.insert("two".into(), peer(2, 65_002));
    two.peers.insert("one".into(), peer(1, 65_001));
    two.peers.insert("three".into(), peer(3, 65_003));
    three.peers.insert("two".into(), peer(2, 65_002));
    [one, two, three]
}

pub(super) fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub(super) fn announce(network: &mut Network, node: NodeId, text: &str) -> IpNet {
    let prefix = prefix(text);
    network.with(node, |speaker, now, _| speaker.announce(now, prefix, &Origination::default())).unwrap();
    prefix
}

/// Waits until a node's kernel has a route.
pub(super) fn arrives(network: &mut Network, node: NodeId, prefix: IpNet) -> Option<Duration> {
    network.run_until(SOON, |network| network.fib(node).contains_key(&prefix))
}

/// Waits until a node's kernel has a route no longer.
pub(super) fn goes(network: &mut Network, node: NodeId, prefix: IpNet) -> Option<Duration> {
    network.run_until(SOON, |network| !network.fib(node).contains_key(&prefix))
}
