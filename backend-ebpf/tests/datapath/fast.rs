//! The fast path: packets between pods skip the host's stack, and what it does not do itself is left to the stack.

use crate::each::at_each_hook;
use crate::hooks::{backend, index, open};
use backend_ebpf::Ebpf;
use backend_ebpf::kernel::forward::{Attached, Forward};
use backend_ebpf::kernel::{Hook, Side};
use cni_core::backend::{Backend, ErrorKind, OpenRequest};
use serde_json::{Value, json};
use std::time::Duration;
use testlab::bed::{Cluster, Node, run, try_run, wait_for};

at_each_hook! {
    pods_talk_though_the_stack_drops_all_that_it_forwards,
    without_the_fast_path_the_stack_decides,
    fragments_get_through_and_packets_whose_hops_are_used_up_do_not,
    an_agent_that_ends_leaves_the_fast_path_to_one_that_starts,
    programs_that_somebody_takes_off_are_back_without_being_asked_for,
    programs_of_other_sizes_take_the_place_of_those_before_them_without_a_lost_packet,
    another_backend_finds_no_fast_path_left,
}

const VXLAN: (&[u8], &str) = (&[1, 2, 9], "vxlan");
const NATIVE: (&[u8], &str) = (&[1, 2, 3], "native");

fn cluster(hook: Hook, (numbers, mode): (&[u8], &str), fast_path: bool) -> Cluster {
    Cluster::new(backend(hook), numbers, &json!({ "mode": mode, "fastPath": fast_path }))
}

/// A stranger's firewall that drops all that is forwarded.
fn close_stack(node: &Node) {
    node.netns
        .run(|| {
            run("nft add table inet stranger");
            run("nft add chain inet stranger forward { type filter hook forward priority 0 ; policy drop ; }");
        })
        .unwrap();
}

fn pods_talk_though_the_stack_drops_all_that_it_forwards(hook: Hook) {
    for place in [VXLAN, NATIVE] {
        let cluster = cluster(hook, place, true);
        cluster.nodes.iter().for_each(close_stack);
        cluster.all_pairs_talk();
    }
}

fn without_the_fast_path_the_stack_decides(hook: Hook) {
    for place in [VXLAN, NATIVE] {
        let cluster = cluster(hook, place, false);
        cluster.nodes.iter().for_each(close_stack);
        let to = cluster.pods[1].addresses[0];
        let asked = cluster.pods[0].netns.run(|| try_run(&format!("ping -n -c 1 -W 1 {to}"))).unwrap();
        assert!(asked.is_err(), "{asked:?}");
    }
}

fn fragments_get_through_and_packets_whose_hops_are_used_up_do_not(hook: Hook) {
    for place in [VXLAN, NATIVE] {
        let cluster = cluster(hook, place, true);
        for to in &cluster.pods[1].addresses {
            cluster.pods[0]
                .netns
                .run(|| {
                    run(&format!("ping -n -c 1 -W 10 -s 4000 {to}"));
                    let refused = try_run(&format!("ping -n -c 1 -W 2 -t 1 {to}"));
                    assert!(refused.is_err(), "{refused:?}");
                })
                .unwrap();
        }
    }
}

fn an_agent_that_ends_leaves_the_fast_path_to_one_that_starts(hook: Hook) {
    for place in [VXLAN, NATIVE] {
        let mut cluster = cluster(hook, place, true);
        cluster.nodes.iter().for_each(close_stack);
        cluster.nodes[0].stop();
        cluster.all_pairs_talk();
        cluster.nodes[0].start();
        cluster.introduce(&cluster.nodes[0]);
        cluster.all_pairs_talk();
    }
}

/// Of the fast path at an interface.
fn programs(hook: Hook, node: &Node, interface: &str) -> Vec<Forward> {
    let find = || open(hook).find(index(interface), Side::Ingress).unwrap();
    let found: Vec<Attached> = node.netns.run(find).unwrap();
    found.into_iter().map(|found| found.program).collect()
}

fn programs_that_somebody_takes_off_are_back_without_being_asked_for(hook: Hook) {
    let cluster = cluster(hook, VXLAN, true);
    let node = &cluster.nodes[0];
    let veth = node.endpoint_with([10, 0, 0, 1].into()).host_interface;
    let hooks = [
        ("eth0", Side::Ingress),
        (veth.as_str(), Side::Ingress),
        ("cnidarian-ebpf", Side::Ingress),
        ("cnidarian-ebpf", Side::Egress),
    ];
    let at = |(name, side): (&str, Side)| -> Vec<Attached> { open(hook).find(index(name), side).unwrap() };
    for place in hooks {
        let [found] = node.netns.run(|| at(place)).unwrap().try_into().unwrap();
        node.netns.run(|| open(hook).detach(&found).unwrap()).unwrap();
        let is_back = || node.netns.run(|| at(place).len() == 1).unwrap();
        wait_for("the program is back", Duration::from_secs(20), is_back);
    }
    cluster.all_pairs_talk();
}

/// As often as `CNIDARIAN_REPLACEMENTS` says, 6 times without it.
fn programs_of_other_sizes_take_the_place_of_those_before_them_without_a_lost_packet(hook: Hook) {
    let rounds: u64 = std::env::var("CNIDARIAN_REPLACEMENTS").map_or(6, |text| text.parse().unwrap());
    for (numbers, mode) in [VXLAN, NATIVE] {
        let mut cluster = cluster(hook, (numbers, mode), true);
        let pods = std::mem::take(&mut cluster.pods);
        let stream = pods[0].stream_while(pods[1].addresses[0], || {
            for round in 0..rounds {
                let node = &mut cluster.nodes[0];
                node.stop();
                node.section = json!({ "mode": mode, "fastPath": true, "maxPods": 4000 + round % 90 });
                node.start();
                cluster.introduce(&cluster.nodes[0]);
            }
        });
        println!("{mode}: {stream:?}");
        assert_eq!(stream.came, stream.sent, "{mode}: {stream:?}");
    }
}

fn another_backend_finds_no_fast_path_left(hook: Hook) {
    let mut cluster = cluster(hook, NATIVE, true);
    let veth = cluster.nodes[0].endpoint_with([10, 0, 0, 1].into()).host_interface;
    assert_eq!(programs(hook, &cluster.nodes[0], "eth0"), [Forward::FromUnderlay]);
    assert_eq!(programs(hook, &cluster.nodes[0], veth.as_str()), [Forward::PastStack]);
    cluster.nodes[0].stop();
    cluster.nodes[0].netns.run(|| Ebpf.clear().unwrap()).unwrap();
    assert_eq!(programs(hook, &cluster.nodes[0], "eth0"), []);
    assert_eq!(programs(hook, &cluster.nodes[0], veth.as_str()), []);
    cluster.all_pairs_talk();
}

#[test]
fn the_fast_path_is_refused_beside_who_has_to_see_packets_in_the_stack() {
    let cluster = cluster(Hook::probe(), NATIVE, false);
    let open = |config: Value| {
        let request = OpenRequest {
            node: cluster.nodes[0].context(),
            config,
            state_dir: std::env::temp_dir(),
            host_stack_for: vec!["policy of-a-test".to_owned()],
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let open = async { Ebpf.open(request).await.map(drop) };
        cluster.nodes[0].netns.run(|| runtime.block_on(open)).unwrap()
    };
    let refused = open(json!({ "fastPath": true })).unwrap_err();
    assert_eq!((refused.kind, refused.field), (ErrorKind::Unsupported, Some("fastPath")));
    assert!(refused.detail.contains("policy of-a-test"), "{refused}");
    open(json!({})).unwrap();
}
