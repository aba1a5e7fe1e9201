//! All laws of the engine on a real namespace and a speaker's table in memory.

use crate::bed::{block_on, ip_batch, run, run_json, try_run, uplink};
use async_trait::async_trait;
use backend_bgp::config::Config;
use backend_bgp::driver::BgpDriver;
use backend_bgp::object::{Key, Object};
use backend_bgp::table::Table;
use cni_core::backend::{Capabilities, Capability, Driver, Error, ErrorKind, Result};
use cni_core::model::{NetworkItem, NodeContext};
use cni_core::testkit::engine::{DriverRig, Settings, Snapshot, Strangers, Tamper, Testbed, conformance, fake};
use net_linux::netns::NetNs;
use serde_json::{Value, json};

/// The thread's own namespace, a new one at every reset.
struct Bed {
    config: Config,
    capabilities: Capabilities,
    /// All drivers' on one kernel: a process that ends takes its speaker along, the suite's kernel does not.
    table: Table,
}

fn failed(error: String) -> Error {
    Error::new(ErrorKind::Kernel, "prepare", "test", error)
}

impl Bed {
    fn new(section: Value) -> Self {
        let capabilities = Capabilities::default().with(Capability::Ipv4).with(Capability::Ipv6);
        let capabilities = capabilities.with(Capability::GuardedTunnel);
        Self { config: Config::from_json(&section).unwrap(), capabilities, table: Table::default() }
    }
}

#[async_trait]
impl Testbed for Bed {
    type Driver = BgpDriver;

    fn open(&mut self) -> Result<BgpDriver> {
        BgpDriver::open(&self.config, &self.contexts()[0], self.capabilities.clone(), self.table.clone())
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        self.open()?.observe().await
    }

    async fn reset(&mut self) -> Result<()> {
        let fresh = NetNs::new().map_err(|error| failed(error.to_string()))?;
        fresh.enter().map_err(|error| failed(error.to_string()))?;
        self.table = Table::default();
        uplink("eth0", &["192.0.2.1/24", "192.0.2.7/24", "2001:db8::1/64"]);
        let mut lines = Vec::new();
        for container in ["c1", "c2", "c3", "c4"] {
            lines.push(format!("link add cni{container} type veth peer name pod{container}"));
            lines.push(format!("link set cni{container} alias cnidarian:{container}/eth0 up"));
            lines.push(format!("link set pod{container} up"));
        }
        ip_batch(&lines);
        Ok(())
    }

    fn contexts(&self) -> Vec<NodeContext> {
        let node = fake::node();
        let mut moved = node.clone();
        moved.underlay.v4 = Some("192.0.2.7/24".parse().unwrap());
        moved.underlay.mtu_bytes = 1400;
        vec![node, moved]
    }

    fn unsupported(&self) -> Vec<NetworkItem> {
        Vec::new()
    }

    fn tamper(&mut self) -> Option<&mut dyn Tamper> {
        Some(self)
    }

    fn strangers(&mut self) -> Option<&mut dyn Strangers> {
        Some(self)
    }
}

/// The set that an end of a tunnel is an element of.
fn ends(address: &str) -> &'static str {
    if address.contains(':') { "tunnel-ends6" } else { "tunnel-ends4" }
}

#[async_trait]
impl Tamper for Bed {
    async fn remove(&mut self, object: &str) -> Result<bool> {
        let words: Vec<&str> = object.split(' ').collect();
        let command = match words[..] {
            ["link", name] => format!("ip link delete {name}"),
            ["address", address, "dev", device] => format!("ip address delete {address} dev {device}"),
            ["neighbour", address, "dev" | "on", device] => format!("ip neigh delete {address} dev {device}"),
            ["route", prefix] => format!("ip route delete {prefix} protocol 203"),
            ["tunnel", "end", address] => {
                format!("nft delete element inet cnidarian {} {{ {address} }}", ends(address))
            }
            _ => return Ok(false),
        };
        try_run(&command).map(|_| true).map_err(failed)
    }

    async fn alter(&mut self, object: &str) -> Result<bool> {
        let words: Vec<&str> = object.split(' ').collect();
        let command = match words[..] {
            ["link", name] => format!("ip link set {name} down mtu 1290"),
            ["neighbour", address, "dev" | "on", device] => {
                format!("ip neigh replace {address} dev {device} lladdr 02:00:00:00:00:99 nud permanent protocol 203")
            }
            ["route", prefix] => format!("ip route replace prohibit {prefix} protocol 203"),
            ["tunnel", "end", address] => {
                run(&format!("nft delete element inet cnidarian {} {{ {address} }}", ends(address)));
                format!("nft add element inet cnidarian {} {{ {address} comment \"x\" }}", ends(address))
            }
            ["tunnel", "guard"] => "nft flush chain inet cnidarian tunnel-input".to_owned(),
            ["sysctl", path] => {
                std::fs::write(format!("/proc/sys/{path}"), "1").map_err(|error| failed(error.to_string()))?;
                std::fs::write(format!("/proc/sys/{path}"), "0").map_err(|error| failed(error.to_string()))?;
                return Ok(true);
            }
            _ => return Ok(false),
        };
        try_run(&command).map(|_| true).map_err(failed)
    }

    async fn add(&mut self) -> Result<bool> {
        run("ip route add unreachable 10.99.0.0/16 protocol 203");
        run("ip -6 route add unreachable fd99::/64 protocol 203");
        Ok(true)
    }
}

#[async_trait]
impl Strangers for Bed {
    async fn add(&mut self) -> Result<()> {
        run("ip link add flannel.9 type vxlan id 9 dstport 8472 local 192.0.2.1 nolearning");
        run("ip link set flannel.9 up");
        run("bridge fdb append 02:00:00:00:00:09 dev flannel.9 dst 192.0.2.200 self permanent");
        run("ip neigh add 10.88.0.1 dev flannel.9 lladdr 02:00:00:00:00:09 nud permanent");
        run("ip neigh add 192.0.2.200 dev eth0 lladdr 02:00:00:00:00:0a nud permanent");
        run("ip route add 10.88.0.0/16 via 192.0.2.200 dev eth0 protocol static");
        run("ip route add unreachable 10.1.77.0/26 protocol bird");
        run("ip -6 route add fd88::/64 via 2001:db8::200 dev eth0 protocol static");
        run("ip nexthop add id 5 via 192.0.2.200 dev eth0 protocol static");
        run("ip rule add from 10.88.0.0/16 lookup 88");
        Ok(())
    }

    async fn occupy(&mut self, object: &str) -> Result<bool> {
        let words: Vec<&str> = object.split(' ').collect();
        let command = match words[..] {
            ["link", name] => format!("ip link add {name} type vxlan id 77 dstport 4789 nolearning"),
            ["route", prefix] => format!("ip route add blackhole {prefix} protocol static"),
            ["neighbour", address, "on", device] => {
                format!("ip neigh add {address} dev {device} lladdr 02:00:00:00:00:0b nud permanent")
            }
            _ => return Ok(false),
        };
        try_run(&command).map(|_| true).map_err(failed)
    }

    async fn leave(&mut self, object: &str) -> Result<()> {
        let words: Vec<&str> = object.split(' ').collect();
        let command = match words[..] {
            ["link", name] => format!("ip link delete {name}"),
            ["route", prefix] => format!("ip route delete blackhole {prefix} protocol static"),
            ["neighbour", address, "on", device] => format!("ip neigh delete {address} dev {device}"),
            _ => return Ok(()),
        };
        try_run(&command).map(|_| ()).map_err(failed)
    }

    async fn list(&mut self) -> Result<Snapshot> {
        let mut found = Snapshot::new();
        let ours = |object: &Value| {
            let alias = object["ifalias"].as_str().unwrap_or_default();
            object["protocol"] == "203" || object["protocol"] == "kernel" || alias.starts_with("cnidarian:")
        };
        for command in
            ["ip -j route", "ip -j -6 route", "ip -j nexthop", "ip -j rule", "ip -j -details link show type vxlan"]
        {
            for object in run_json(command).into_iter().filter(|object| !ours(object)) {
                found.insert(format!("{command} {object}"), String::new());
            }
        }
        for command in ["ip -j neigh show nud permanent", "bridge -j fdb show"] {
            for object in run_json(command) {
                let device = object["dev"].as_str().or(object["ifname"].as_str()).unwrap_or_default();
                let kept = object["dst"].is_string() && ["flannel.9", "eth0"].contains(&device);
                if kept || object["lladdr"] == "02:00:00:00:00:0b" {
                    found.insert(format!("{command} {object}"), String::new());
                }
            }
        }
        Ok(found)
    }
}

/// On a thread of its own, because a reset moves the thread into another namespace.
fn keeps_every_law(section: Value) {
    let test = std::thread::spawn(move || {
        let mut rig = DriverRig::new(Bed::new(section));
        let settings = Settings { walks: 1, fault_points: 2, ..Settings::default() };
        block_on(async { conformance(&mut rig, &fake::network_states(Some), settings).await })
    });
    let report = test.join().unwrap().unwrap_or_else(|violation| panic!("{violation}"));
    println!("{report}");
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
