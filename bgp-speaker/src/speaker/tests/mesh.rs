//! A cluster of hundreds of nodes, each with a session with each other one: what happens when all begin at once, and when one
//! is gone.

use super::bed::{asn, prefix};
use crate::config::{Config, PeerAddress, PeerConfig, RemoteAsn};
use crate::speaker::{Beginning, Origination};
use crate::testkit::{Network, NodeId};
use crate::types::{Family, RouterId};
use ipnet::IpNet;
use std::net::Ipv4Addr;
use std::time::Duration;

const NODES: usize = 300;
/// How long a node may be away.
const AWAY_SECONDS: u16 = 20;

fn address(node: usize) -> Ipv4Addr {
    Ipv4Addr::from(0xc633_0000 + node as u32 + 1)
}

fn block(node: usize) -> IpNet {
    prefix(&format!("10.{}.{}.0/26", node / 256, node % 256))
}

fn config(node: usize) -> Config {
    let mut config = Config::new(asn(64_512), RouterId::new(address(node)).unwrap());
    config.restart.time_seconds = AWAY_SECONDS;
    for other in (0..NODES).filter(|other| *other != node) {
        let mut peer = PeerConfig::new(PeerAddress::Ip(address(other).into()), RemoteAsn::Internal);
        peer.families = [Family::Ipv4].into();
        // One side calls, and says nothing where nothing happens: tens of thousands of sessions take a while as it is.
        peer.passive = other > node;
        (peer.hold.hold_seconds, peer.hold.send_hold) = (3600, None);
        config.peers.insert(format!("n{other}").into(), peer);
    }
    config
}

fn has_blocks(network: &Network, nodes: &[NodeId], count: usize) -> bool {
    nodes.iter().all(|node| network.fib(*node).len() == count)
}

#[test]
fn a_mesh_of_300_nodes_knows_all_blocks_a_second_after_a_cold_start_and_loses_a_node_that_stays_away() {
    let mut network = Network::new(Duration::from_millis(1));
    let mut nodes: Vec<NodeId> = (0..NODES).map(|node| network.add(&[address(node).into()])).collect();
    for (node, id) in nodes.iter().enumerate() {
        network.start(*id, config(node), &Beginning::Fresh).unwrap();
        network.with(*id, |speaker, now, _| speaker.announce(now, block(node), &Origination::default()));
    }
    let took = network.run_until(Duration::from_secs(60), |network| has_blocks(network, &nodes, NODES - 1));
    assert!(took.is_some_and(|took| took < Duration::from_secs(1)), "{took:?}");
    // Everybody tells everybody once: not again what others have told.
    let pieces = nodes.iter().map(|node| network.traffic(*node).sends).max().unwrap();
    assert!(pieces < 8 * NODES as u64, "{pieces} for each node");

    // Nobody hears of the death of a node but its peers, by its connections; they keep its block for the restart time.
    let gone = nodes.remove(NODES / 2);
    network.kill(gone);
    network.run_for(Duration::from_secs(u64::from(AWAY_SECONDS) - 1));
    assert!(has_blocks(&network, &nodes, NODES - 1), "it may come back");
    network.run_for(Duration::from_secs(2));
    assert!(has_blocks(&network, &nodes, NODES - 2));
    assert!(nodes.iter().all(|node| !network.fib(*node).contains_key(&block(NODES / 2))));
    let ups: u64 = nodes.iter().map(|node| ups(&network, *node)).sum();
    assert_eq!(ups, ((NODES - 1) * (NODES - 1)) as u64, "no other session has ended");
}

fn ups(network: &Network, node: NodeId) -> u64 {
    network.speaker(node).unwrap().peers().iter().map(|peer| peer.counters.sessions).sum()
}
