//! Route reflection: RFC 4456, with the whole speaker.

use super::bed::{SOON, address, announce, arrives, config, goes, network, peer};
use crate::config::{Config, PeerConfig};
use crate::testkit::Network;
use crate::types::Family;
use std::net::IpAddr;

const ASN: u32 = 64_512;

fn reflector(node: u8, clients: &[u8], others: &[u8]) -> Config {
    let mut config = config(node, ASN);
    for client in clients {
        let client_config = PeerConfig { reflector_client: true, ..peer(*client, ASN) };
        config.peers.insert(format!("n{client}").into(), client_config);
    }
    for other in others {
        config.peers.insert(format!("n{other}").into(), peer(*other, ASN));
    }
    config
}

fn node(node: u8, reflectors: &[u8]) -> Config {
    reflector(node, &[], reflectors)
}

/// Two reflectors, three clients of both.
fn redundant() -> (Network, Vec<crate::testkit::NodeId>) {
    let clients = [3, 4, 5];
    let mut configs = vec![reflector(1, &clients, &[2]), reflector(2, &clients, &[1])];
    configs.extend(clients.map(|client| node(client, &[1, 2])));
    network(&configs)
}

#[test]
fn clients_hear_of_each_other_with_their_own_next_hops() {
    let (mut network, nodes) = redundant();
    let block = announce(&mut network, nodes[2], "10.0.3.0/26");
    for client in [3, 4] {
        assert!(arrives(&mut network, nodes[client], block).is_some());
        assert_eq!(network.fib(nodes[client])[&block][0].address, IpAddr::V4(address(3)));
    }
    network.run_for(SOON);
    let explained = network.speaker(nodes[4]).unwrap().explain(&block).unwrap();
    assert_eq!(explained.paths.len(), 2, "one from each reflector");
    assert_eq!(explained.paths[0].received.originator.unwrap().get(), address(3));
    assert!(network.speaker(nodes[2]).unwrap().routes(Family::Ipv4).len() == 1, "nothing comes back");
    network.with(nodes[2], |speaker, now, _| speaker.withdraw(now, block));
    assert!(goes(&mut network, nodes[4], block).is_some());
}

#[test]
fn the_death_of_one_reflector_loses_nothing() {
    let (mut network, nodes) = redundant();
    let block = announce(&mut network, nodes[2], "10.0.3.0/26");
    assert!(arrives(&mut network, nodes[4], block).is_some());
    network.run_for(SOON);
    network.kill(nodes[0]);
    let lost = network.run_until(SOON * 20, |network| !network.fib(nodes[4]).contains_key(&block));
    assert_eq!(lost, None);
}

#[test]
fn from_a_mesh_to_reflectors_and_back_without_a_gap() {
    let all = [1, 2, 3, 4];
    let mesh = |own: u8| {
        let others: Vec<u8> = all.into_iter().filter(|other| *other != own).collect();
        node(own, &others)
    };
    let (mut network, nodes) = network(&all.map(mesh));
    let blocks: Vec<_> = (0..4).map(|at| announce(&mut network, nodes[at], &format!("10.0.{at}.0/26"))).collect();
    let whole = |network: &Network| {
        (0..4).all(|at| (0..4).all(|other| at == other || network.fib(nodes[at]).contains_key(&blocks[other])))
    };
    assert!(network.run_until(SOON, whole).is_some());
    // First the reflectors come, beside the mesh; then the mesh goes.
    let both = |own: u8| if own == 1 { reflector(1, &[2, 3, 4], &[]) } else { mesh(own) };
    let only = |own: u8| if own == 1 { both(1) } else { node(own, &[1]) };
    for step in [&both as &dyn Fn(u8) -> Config, &only, &both, &mesh] {
        for own in all {
            let config = step(own);
            network
                .with(nodes[usize::from(own) - 1], |speaker, now, out| speaker.reconfigure(now, config, out))
                .unwrap()
                .unwrap();
            let gap = network.run_until(SOON / 10, |network| !whole(network));
            assert_eq!(gap, None, "after node {own}");
        }
        network.run_for(SOON);
    }
}
