//! All laws of the engine on a real namespace, in each mode of the kernel's.

use backend_vxlan::checksum::Decision;
use backend_vxlan::config::{Config, OuterFamilies};
use backend_vxlan::driver::VxlanDriver;
use backend_vxlan::udp::Pump;
use backend_vxlan::vtep;
use cni_core::backend::{Capabilities, Capability, Result};
use cni_core::model::{NetworkItem, NodeContext};
use cni_core::testkit::engine::fake;
use serde_json::{Value, json};
use testlab::bed::{self, Own, run_json};

struct Vxlan {
    config: Config,
    capabilities: Capabilities,
    /// All drivers' on one kernel: what it holds is no more to be seen in the kernel than it is lost there.
    pump: Pump,
}

impl Own for Vxlan {
    type Driver = VxlanDriver;

    fn open(&mut self, node: &NodeContext) -> Result<VxlanDriver> {
        let decision = Decision::new(self.config.checksum);
        let driver = VxlanDriver::open(&self.config, node, self.capabilities.clone(), decision)?;
        Ok(driver.with_pump(self.pump.clone()))
    }

    fn reset(&mut self) {
        self.pump = Pump::default();
    }

    fn removal(&self, object: &[&str]) -> Option<String> {
        match *object {
            ["fdb", mac, "dev", device] => Some(format!("bridge fdb delete {mac} dev {device} self")),
            ["nexthop", gateway, "dev", device] => {
                next_hop_id(gateway, device).map(|id| format!("ip nexthop delete id {id}"))
            }
            _ => None,
        }
    }

    fn alteration(&self, object: &[&str]) -> Option<String> {
        match *object {
            ["fdb", mac, "dev", device] => {
                let to = if self.config.underlay == OuterFamilies::Ipv6 { "2001:db8::99" } else { "203.0.113.9" };
                Some(format!("bridge fdb replace {mac} dev {device} dst {to} self permanent"))
            }
            _ => None,
        }
    }
}

/// The id of a next hop that is shown as `GATEWAY dev DEVICE`.
fn next_hop_id(gateway: &str, device: &str) -> Option<u64> {
    let all = run_json("ip -j nexthop");
    let found = all.iter().find(|hop| hop["gateway"] == gateway && hop["dev"] == device)?;
    found["id"].as_u64()
}

/// The suite's states with what our peers publish; the peer without an address stays one that is not acceptable.
fn states() -> Vec<Vec<NetworkItem>> {
    fake::network_states(|mut item| {
        if let NetworkItem::Peer(peer) = &mut item {
            peer.attributes = [(vtep::ATTRIBUTE_MAC.into(), vtep::mac_of(&peer.node).to_string().into())].into();
        }
        Some(item)
    })
}

fn keeps_every_law(section: Value, next_hop_objects: bool) {
    let capabilities = Capabilities::default().with(Capability::Ipv4).with(Capability::Ipv6);
    let capabilities = capabilities.with(Capability::GuardedTunnel);
    let capabilities = if next_hop_objects {
        capabilities.with(Capability::NextHopObjects)
    } else {
        capabilities.without(Capability::NextHopObjects, "switched off by the test")
    };
    let own = Vxlan { config: Config::from_json(&section).unwrap(), capabilities, pump: Pump::default() };
    bed::keeps_every_law(own, states());
}

#[test]
fn vxlan_keeps_every_law() {
    keeps_every_law(json!({}), true);
}

#[test]
fn vxlan_without_next_hop_objects_keeps_every_law() {
    keeps_every_law(json!({ "underlay": "ipv6" }), false);
}

#[test]
fn direct_routing_keeps_every_law() {
    keeps_every_law(json!({ "mode": "direct-routing", "underlay": "both" }), true);
}

#[test]
fn udp_keeps_every_law() {
    keeps_every_law(json!({ "mode": "udp", "underlay": "both" }), true);
}

#[test]
fn host_gw_keeps_every_law() {
    keeps_every_law(json!({ "mode": "host-gw" }), true);
}
