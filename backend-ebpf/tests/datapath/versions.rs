//! What a predecessor of another layout left is known as that, and replaced. Never read.

use crate::each::at_each_hook;
use crate::hooks::{backend, open};
use backend_ebpf::abi::{FORWARD_VERSION, Settings};
use backend_ebpf::kernel::forward::{Attached, Forward, Generation};
use backend_ebpf::kernel::{ForwardMaps, Hook, Side};
use serde_json::json;
use testlab::bed::{Cluster, Node};

at_each_hook! {
    programs_whose_maps_have_another_version_are_loaded_anew,
}

/// All of the node's and its pod's.
fn programs(hook: Hook, node: &Node) -> Vec<Attached> {
    let veth = node.endpoint_with([10, 0, 0, 1].into()).host_interface;
    let find = || {
        let mut found = Vec::new();
        for (name, side) in [
            ("eth0", Side::Ingress),
            (veth.as_str(), Side::Ingress),
            ("cnidarian-ebpf", Side::Ingress),
            ("cnidarian-ebpf", Side::Egress),
        ] {
            if let Ok(index) = nix::net::if_::if_nametoindex(name) {
                found.extend(open(hook).find(index, side).unwrap());
            }
        }
        found
    };
    node.netns.run(find).unwrap()
}

fn maps(programs: &[Attached]) -> Option<ForwardMaps> {
    ForwardMaps::of(programs.iter().flat_map(|found| found.known.map_ids.iter().copied())).unwrap()
}

fn numbers(programs: &[Attached]) -> Vec<(Forward, u32)> {
    programs.iter().map(|found| (found.program, found.known.id)).collect()
}

/// As an older build sees what a newer one left, too. The programs themselves are the same here.
fn programs_whose_maps_have_another_version_are_loaded_anew(hook: Hook) {
    for (nodes, mode, count) in [([1, 2, 9], "vxlan", 4), ([1, 2, 3], "native", 2)] {
        let mut cluster = Cluster::new(backend(hook), &nodes, &json!({ "mode": mode, "fastPath": true }));
        for other in [FORWARD_VERSION + 1, FORWARD_VERSION - 1, 0] {
            let before = programs(hook, &cluster.nodes[0]);
            let mut old = maps(&before).unwrap();
            let settings = old.settings().unwrap();
            old.set_settings(Settings { version: other, ..settings }).unwrap();
            assert!(maps(&before).is_none());
            cluster.nodes[0].stop();
            cluster.nodes[0].start();
            cluster.introduce(&cluster.nodes[0]);
            let after = programs(hook, &cluster.nodes[0]);
            assert_eq!((before.len(), after.len()), (count, count), "{mode}");
            let (before, numbers) = (numbers(&before), numbers(&after));
            assert!(numbers.iter().all(|number| !before.contains(number)), "{mode} {other}: {before:?} {numbers:?}");
            assert_eq!(maps(&after).unwrap().settings().unwrap(), settings, "{mode} {other}");
            cluster.all_pairs_talk();
        }
    }
}

/// `BPF_MAP_TYPE_ARRAY`, and as long as the settings were before they had a version.
const ARRAY: (u32, u32) = (2, 32);

#[test]
fn maps_with_values_of_another_length_are_not_read() {
    let loaded = Generation::load((1, 1)).unwrap();
    let own = || loaded.info(Forward::PastStack).unwrap().map_ids().unwrap().unwrap();
    assert!(ForwardMaps::of(own()).unwrap().is_some());
    let (kind, bytes) = ARRAY;
    let map = aya_obj::Map::new_from_params(kind, 4, bytes, 1, 0);
    let map = aya::maps::MapData::create(map, "SETTINGS", None).unwrap();
    let number = map.info().unwrap().id();
    assert!(ForwardMaps::of([number].into_iter().chain(own())).unwrap().is_none());
}
