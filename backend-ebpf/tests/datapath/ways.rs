//! Prefixes as the programs look them up, against a search through all of them. Never what is done with what is found.

use crate::hooks::{index, open};
use backend_ebpf::Ebpf;
use backend_ebpf::abi::{FORWARD_VERSION, Settings, Way, mapped};
use backend_ebpf::config::Family;
use backend_ebpf::kernel::forward::{Attached, Forward, Generation};
use backend_ebpf::kernel::{ForwardMaps, Hook, Side};
use backend_ebpf::lengths::PrefixLength;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use testlab::bed::{Cluster, Node};

/// What programs return. `include/uapi/linux/pkt_cls.h`.
const NEXT: i32 = -1;
const DROP: i32 = 2;
const REDIRECT: i32 = 7;

/// The loopback interface, and none.
const LOOPBACK: u32 = 1;
const NOWHERE: u32 = 0x7fff_ffff;

/// Programs that send elsewhere only what goes as it is: there is no tunnel device.
fn loaded(prefixes: u32) -> (Generation, ForwardMaps) {
    let loaded = Generation::load((1, prefixes)).unwrap();
    let mut maps = loaded.maps().unwrap();
    let (tunnel, underlay, flags) = (NOWHERE, LOOPBACK, Settings::DIRECT);
    let settings = Settings { version: FORWARD_VERSION, tunnel, underlay, flags, ..Settings::default() };
    maps.set_settings(settings).unwrap();
    (loaded, maps)
}

fn way(kind: u32) -> Way {
    Way { node: mapped([192, 0, 2, 2]), kind }
}

fn put(maps: &mut ForwardMaps, ways: &BTreeMap<IpNet, u32>) {
    for prefix in ways.keys() {
        maps.set_length(PrefixLength::of(prefix), true).unwrap();
    }
    let ways: Vec<_> = ways.iter().map(|(prefix, kind)| (*prefix, Some(way(*kind)))).collect();
    maps.set_ways(&ways).into_iter().for_each(Result::unwrap);
}

fn frame(to: IpAddr) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xfe];
    match to {
        IpAddr::V4(to) => {
            frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 20, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1]);
            frame.extend_from_slice(&to.octets());
        }
        IpAddr::V6(to) => {
            frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, 17, 64]);
            frame.extend_from_slice(&[0xfd; 16]);
            frame.extend_from_slice(&to.octets());
        }
    }
    frame
}

/// The kind of the way that the programs find, by what they do.
fn found(loaded: &Generation, to: IpAddr) -> Option<u32> {
    let run = |program| loaded.try_frame(program, &frame(to), 1).unwrap().0;
    match (run(Forward::PastStack), run(Forward::IntoTunnel)) {
        (REDIRECT, DROP) => Some(Way::PLAIN),
        (NEXT, NEXT) => Some(Way::TUNNEL),
        (NEXT, DROP) => None,
        other => panic!("{to}: {other:?}"),
    }
}

/// By looking at all of them.
fn searched(ways: &BTreeMap<IpNet, u32>, to: IpAddr) -> Option<u32> {
    let holding = ways.iter().filter(|(prefix, _)| prefix.contains(&to));
    holding.max_by_key(|(prefix, _)| prefix.prefix_len()).map(|(_, kind)| *kind)
}

fn v4(bits: u32) -> IpAddr {
    IpAddr::V4(bits.into())
}

fn v6(bits: u128) -> IpAddr {
    IpAddr::V6(bits.into())
}

/// With one prefix of each length around one address: an address that differs in a bit is in those that end before it.
#[test]
fn of_prefixes_of_all_lengths_the_longest_is_found() {
    let (four, six) = (0x0a01_0203_u32, 0xfd00_0000_0000_0000_1234_5678_9abc_def1_u128);
    let (loaded, mut maps) = loaded(200);
    let kind = |bits: u8| if bits.is_multiple_of(2) { Way::TUNNEL } else { Way::PLAIN };
    let of_v4 = (0..=32).map(|bits| (IpNet::V4(Ipv4Net::new(four.into(), bits).unwrap().trunc()), kind(bits)));
    let of_v6 = (0..=128).map(|bits| (IpNet::V6(Ipv6Net::new(six.into(), bits).unwrap().trunc()), kind(bits)));
    let ways: BTreeMap<_, _> = of_v4.chain(of_v6).collect();
    put(&mut maps, &ways);
    assert_eq!(maps.lengths().unwrap().len(), 33 + 129);
    for bits in 0..32 {
        let to = v4(four ^ (1 << (31 - bits)));
        assert_eq!(found(&loaded, to), Some(kind(bits)), "{to}");
    }
    for bits in 0..128 {
        let to = v6(six ^ (1 << (127 - bits)));
        assert_eq!(found(&loaded, to), Some(kind(bits)), "{to}");
    }
    assert_eq!((found(&loaded, v4(four)), found(&loaded, v6(six))), (Some(kind(32)), Some(kind(128))));
}

/// Prefixes around few addresses, so that they are within each other, and addresses in them and beside.
fn case() -> impl Strategy<Value = (BTreeMap<IpNet, u32>, Vec<IpAddr>)> {
    let near = prop_oneof![Just(0x0a01_0000_u32), Just(0x0a01_0180), Just(0xac10_ffff)];
    let near_v6 = prop_oneof![Just(0xfd00_u128 << 112), Just((0xfd00_u128 << 112) | 0x1_0000), Just(1_u128 << 64)];
    let of_v4 = (near.clone(), 0_u8..=32)
        .prop_map(|(address, bits)| IpNet::V4(Ipv4Net::new(address.into(), bits).unwrap().trunc()));
    let of_v6 = (near_v6.clone(), 0_u8..=128)
        .prop_map(|(address, bits)| IpNet::V6(Ipv6Net::new(address.into(), bits).unwrap().trunc()));
    let kind = prop_oneof![Just(Way::TUNNEL), Just(Way::PLAIN)];
    let ways = proptest::collection::btree_map(prop_oneof![of_v4, of_v6], kind, 0..40);
    let beside = (near, 0_u32..33).prop_map(|(address, bit)| v4(address ^ 1_u32.checked_shl(bit).unwrap_or(0)));
    let beside_v6 = (near_v6, 0_u32..129).prop_map(|(address, bit)| v6(address ^ 1_u128.checked_shl(bit).unwrap_or(0)));
    (ways, proptest::collection::vec(prop_oneof![beside, beside_v6], 40))
}

#[test]
fn the_walk_finds_what_a_search_for_the_longest_prefix_finds() {
    let (loaded, mut maps) = loaded(64);
    let law = |(ways, asked): (BTreeMap<IpNet, u32>, Vec<IpAddr>)| {
        put(&mut maps, &ways);
        let halves: Vec<BTreeMap<_, _>> =
            [0, 1].map(|half| ways.clone().into_iter().skip(half).step_by(2).collect()).into();
        for to in &asked {
            prop_assert_eq!(found(&loaded, *to), searched(&ways, *to), "{}", to);
        }
        // A half of them goes, the lengths with it that no other has; then the rest.
        for (gone, left) in [(&halves[0], halves[1].clone()), (&halves[1], BTreeMap::new())] {
            let gone: Vec<_> = gone.keys().map(|prefix| (*prefix, None)).collect();
            maps.set_ways(&gone).into_iter().for_each(Result::unwrap);
            for length in gone.iter().map(|(prefix, _)| PrefixLength::of(prefix)) {
                if left.keys().all(|prefix| PrefixLength::of(prefix) != length) {
                    maps.set_length(length, false).unwrap();
                }
            }
            for to in &asked {
                prop_assert_eq!(found(&loaded, *to), searched(&left, *to), "{}", to);
            }
        }
        prop_assert!(maps.ways().unwrap().is_empty() && maps.lengths().unwrap().is_empty());
        Ok(())
    };
    // Entries are one map's, so cases come one after the other, and nothing is shrunk.
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let law = std::cell::RefCell::new(law);
    runner.run(&case(), |case| (law.borrow_mut())(case)).unwrap();
}

#[test]
fn each_way_of_many_is_answered_by_itself() {
    let (_loaded, mut maps) = loaded(4);
    let prefixes = (0..6).map(|number| IpNet::V4(Ipv4Net::new([10, number, 0, 0].into(), 16).unwrap()));
    let ways: Vec<_> = prefixes.map(|prefix| (prefix, Some(way(Way::PLAIN)))).collect();
    let told: Vec<_> = maps.set_ways(&ways).iter().map(Result::is_ok).collect();
    assert_eq!(told, [true, true, true, true, false, false]);
    // Taken away and put in one call, and one that is not there.
    let mixed = [(ways[0].0, None), (ways[5].0, None), ways[4], ways[5]];
    let told: Vec<_> = maps.set_ways(&mixed).iter().map(Result::is_ok).collect();
    assert_eq!(told, [true, true, true, false]);
    let mut there = maps.ways().unwrap();
    there.sort_by_key(|(prefix, _)| *prefix);
    assert_eq!(there, ways[1..5].iter().map(|(prefix, way)| (*prefix, way.unwrap())).collect::<Vec<_>>());
}

/// The maps of forwarding's program at an interface.
pub(crate) fn maps_at(node: &Node, interface: &str, side: Side) -> ForwardMaps {
    let find = || open(Hook::probe()).find(index(interface), side).unwrap();
    let found: Vec<Attached> = node.netns.run(find).unwrap();
    ForwardMaps::of(found.iter().flat_map(|found| found.known.map_ids.iter().copied())).unwrap().unwrap()
}

fn maps(node: &Node) -> ForwardMaps {
    maps_at(node, "eth0", Side::Ingress)
}

#[test]
fn lengths_are_those_of_prefixes_and_come_back_when_somebody_takes_one_away() {
    let length = |family, bits| PrefixLength { family, bits };
    let mut cluster = Cluster::new(&Ebpf, &[1, 2, 9], &json!({ "mode": "vxlan", "fastPath": true }));
    let expected = [length(Family::Ipv4, 24), length(Family::Ipv6, 64)];
    let mut here = maps(&cluster.nodes[0]);
    assert_eq!(here.lengths().unwrap(), expected);
    // Of a successor nobody knows what it wants until it knows its peers; what is too much goes.
    here.set_length(expected[0], false).unwrap();
    here.set_length(length(Family::Ipv6, 80), true).unwrap();
    cluster.nodes[0].stop();
    cluster.nodes[0].start();
    cluster.introduce(&cluster.nodes[0]);
    assert_eq!(here.lengths().unwrap(), expected);
    cluster.all_pairs_talk();
}
