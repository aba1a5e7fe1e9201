//! Sessions and routes between speakers.

use crate::config::{Config, PeerAddress, PeerConfig, RemoteAsn};
use crate::speaker::{Beginning, Origination};
use crate::testkit::{Network, NodeId};
use crate::types::{Asn, Family, RouterId};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

fn address(node: u8) -> Ipv4Addr {
    [192, 0, 2, node].into()
}

fn config(node: u8, asn: u32) -> Config {
    Config::new(Asn::new(asn).unwrap(), RouterId::new(address(node)).unwrap())
}

fn peer(node: u8, asn: u32) -> PeerConfig {
    PeerConfig::new(PeerAddress::Ip(address(node).into()), RemoteAsn::Exactly(Asn::new(asn).unwrap()))
}

fn network(configs: &[Config]) -> (Network, Vec<NodeId>) {
    let mut network = Network::new(Duration::from_millis(1));
    let nodes: Vec<NodeId> = configs.iter().map(|config| network.add(&[IpAddr::V4(config.router_id.get())])).collect();
    for (node, config) in nodes.iter().zip(configs) {
        network.start(*node, config.clone(), &Beginning::Fresh).unwrap();
    }
    (network, nodes)
}

fn chain() -> (Network, Vec<NodeId>) {
    let mut one = config(1, 65_001);
    one.peers.insert("two".into(), peer(2, 65_002));
    let mut two = config(2, 65_002);
    two.peers.insert("one".into(), peer(1, 65_001));
    two.peers.insert("three".into(), peer(3, 65_003));
    let mut three = config(3, 65_003);
    three.peers.insert("two".into(), peer(2, 65_002));
    network(&[one, two, three])
}

#[test]
fn a_route_goes_from_one_end_to_the_other_and_comes_back_when_it_is_withdrawn() {
    let (mut network, nodes) = chain();
    let prefix = "10.0.0.0/24".parse().unwrap();
    network.with(nodes[0], |speaker, now, _| speaker.announce(now, prefix, &Origination::default()));
    let took = network.run_until(SOON, |network| network.fib(nodes[2]).contains_key(&prefix));
    assert!(took.is_some(), "{:?}", network.speaker(nodes[2]).unwrap().peers());
    let routes = network.speaker(nodes[2]).unwrap().routes(Family::Ipv4);
    assert_eq!(routes[0].2.as_path.to_string(), "65002 65001");
    assert_eq!(network.fib(nodes[2])[&prefix][0].address, IpAddr::V4(address(2)));
    network.with(nodes[0], |speaker, now, _| speaker.withdraw(now, prefix));
    let took = network.run_until(SOON, |network| !network.fib(nodes[2]).contains_key(&prefix));
    assert!(took.is_some());
}
