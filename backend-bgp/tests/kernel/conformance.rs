//! All laws of the engine on a real namespace and a speaker's table in memory.

use backend_bgp::config::Config;
use backend_bgp::driver::BgpDriver;
use backend_bgp::table::Table;
use cni_core::backend::{Capabilities, Capability, Result};
use cni_core::model::{NetworkItem, NodeContext, ServiceAddress};
use cni_core::testkit::engine::fake;
use serde_json::{Value, json};
use testlab::bed::{self, Own};

struct Bgp {
    config: Config,
    capabilities: Capabilities,
    /// All drivers' on one kernel: a process that ends takes its speaker along, the suite's kernel does not.
    table: Table,
}

impl Own for Bgp {
    type Driver = BgpDriver;

    fn open(&mut self, node: &NodeContext) -> Result<BgpDriver> {
        BgpDriver::open(&self.config, node, self.capabilities.clone(), self.table.clone())
    }

    fn reset(&mut self) {
        self.table = Table::default();
    }

    fn removal(&self, _: &[&str]) -> Option<String> {
        None
    }

    fn alteration(&self, _: &[&str]) -> Option<String> {
        None
    }
}

fn keeps_every_law(section: Value) {
    let capabilities = Capabilities::default().with(Capability::Ipv4).with(Capability::Ipv6);
    let capabilities = capabilities.with(Capability::GuardedTunnel);
    let own = Bgp { config: Config::from_json(&section).unwrap(), capabilities, table: Table::default() };
    let mut states = fake::network_states(Some);
    for (number, state) in states.iter_mut().enumerate().filter(|(number, _)| number % 2 == 1) {
        let address = format!("203.0.113.{}", number % 3 + 1);
        state.push(NetworkItem::ServiceAddress(ServiceAddress { address: address.parse().unwrap(), services: vec![] }));
    }
    bed::keeps_every_law(own, states);
}

#[test]
fn a_mesh_without_tunnel_keeps_every_law() {
    keeps_every_law(json!({}));
}

#[test]
fn encapsulation_keeps_every_law() {
    keeps_every_law(json!({ "encapsulation": "CrossSubnet" }));
}

#[test]
fn reflectors_by_label_keep_every_law() {
    keeps_every_law(json!({
        "encapsulation": "Always",
        "mode": "reflectors",
        "reflectors": { "selector": "number == '1'" },
        "nodes": [{ "selector": { "matchLabels": { "number": "2" } }, "asn": 65002 }],
        "peers": [{ "name": "tor", "address": "192.0.2.254", "asn": "external" }],
        "listenRanges": [{ "name": "far", "range": "198.51.100.0/24", "asn": 65003 }],
        "serviceAdvertisement": { "clusterIPs": ["10.96.0.0/12"] }
    }));
}
