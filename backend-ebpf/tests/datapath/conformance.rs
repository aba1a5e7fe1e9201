//! All laws of the engine on a real namespace, in each mode, with the fast path and without.

use crate::each::at_each_hook;
use crate::hooks::backend;
use backend_ebpf::config::Config;
use backend_ebpf::driver::EbpfDriver;
use backend_ebpf::kernel::Hook;
use cni_core::backend::{Capabilities, Capability, Result};
use cni_core::model::NodeContext;
use cni_core::testkit::engine::fake;
use serde_json::{Value, json};
use testlab::bed::{self, Cluster, Own, run_json};

at_each_hook! {
    vxlan_keeps_every_law,
    native_keeps_every_law,
    the_fast_path_through_vxlan_keeps_every_law,
    the_fast_path_over_plain_routes_keeps_every_law,
    pods_talk_through_vxlan,
    pods_talk_over_plain_routes,
    pods_talk_by_the_fast_path_through_vxlan,
    pods_talk_by_the_fast_path_over_plain_routes,
}

struct Datapath {
    config: Config,
    capabilities: Capabilities,
    hook: Hook,
}

impl Own for Datapath {
    type Driver = EbpfDriver;

    fn open(&mut self, node: &NodeContext) -> Result<EbpfDriver> {
        EbpfDriver::open_at(&self.config, node, self.capabilities.clone(), self.hook)
    }

    fn reset(&mut self) {}

    fn removal(&self, _: &[&str]) -> Option<String> {
        None
    }

    fn alteration(&self, _: &[&str]) -> Option<String> {
        None
    }
}

fn keeps_every_law(hook: Hook, section: Value) {
    let capabilities = Capabilities::default().with(Capability::Ipv4).with(Capability::Ipv6);
    let capabilities = capabilities.with(Capability::GuardedTunnel).with(Capability::Tunnel);
    let own = Datapath { config: Config::from_json(&section).unwrap(), capabilities, hook };
    bed::keeps_every_law(own, fake::network_states(Some));
}

fn vxlan_keeps_every_law(hook: Hook) {
    keeps_every_law(hook, json!({}));
}

fn native_keeps_every_law(hook: Hook) {
    keeps_every_law(hook, json!({ "mode": "native" }));
}

fn the_fast_path_through_vxlan_keeps_every_law(hook: Hook) {
    keeps_every_law(hook, json!({ "fastPath": true }));
}

fn the_fast_path_over_plain_routes_keeps_every_law(hook: Hook) {
    keeps_every_law(hook, json!({ "mode": "native", "fastPath": true }));
}

fn everybody_talks(hook: Hook, numbers: &[u8], section: Value, device: &str, mtu_bytes: u32) {
    let cluster = Cluster::new(backend(hook), numbers, &section);
    cluster.all_pairs_talk();
    let node = &cluster.nodes[0];
    for (family, prefix) in [("-4", "10.244.2.0/24"), ("-6", "fd00:2::/64")] {
        let routes = node.netns.run(|| run_json(&format!("ip -j {family} route show {prefix}"))).unwrap();
        assert_eq!(routes[0]["dev"], device);
    }
    assert_eq!(node.pod_mtu_bytes, mtu_bytes);
}

/// Nodes 1 and 2 on one segment, node 9 on the other.
fn pods_talk_through_vxlan(hook: Hook) {
    everybody_talks(hook, &[1, 2, 9], json!({ "vni": 7 }), "cnidarian-ebpf", 1450);
}

fn pods_talk_over_plain_routes(hook: Hook) {
    everybody_talks(hook, &[1, 2, 3], json!({ "mode": "native" }), "eth0", 1500);
}

fn pods_talk_by_the_fast_path_through_vxlan(hook: Hook) {
    everybody_talks(hook, &[1, 2, 9], json!({ "fastPath": true }), "cnidarian-ebpf", 1450);
}

fn pods_talk_by_the_fast_path_over_plain_routes(hook: Hook) {
    everybody_talks(hook, &[1, 2, 3], json!({ "mode": "native", "fastPath": true }), "eth0", 1500);
}
