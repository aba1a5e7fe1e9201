//! All laws of the engine on a real namespace: the kernel of the suite, the tampering, and foreign objects as of other
//! programs. Never opens a driver itself, and never knows a kind of object that one backend alone has.

use super::shell::{ip_batch, run, run_json, try_run, uplink};
use super::wait::block_on;
use async_trait::async_trait;
use cni_core::backend::{Driver, Error, ErrorKind, Result};
use cni_core::model::{NetworkItem, NodeContext};
use cni_core::testkit::engine::{DriverRig, Settings, Snapshot, Strangers, Tamper, Testbed, conformance, fake};
use net_linux::netns::NetNs;
use serde_json::Value;

/// What each backend has of its own in this bed.
pub trait Own: Send {
    /// The driver under test.
    type Driver: Driver<Item = NetworkItem> + 'static;

    /// A new driver on the thread's own namespace, as a restarted process would open it. Writes nothing.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&mut self, node: &NodeContext) -> Result<Self::Driver>;

    /// Forgets what belongs to the suite's kernel and is not in the namespace.
    fn reset(&mut self);

    /// The command that removes an object of a kind that only this backend has; the object's name in words.
    fn removal(&self, object: &[&str]) -> Option<String>;

    /// The command that alters an object of a kind that only this backend has; the object's name in words.
    fn alteration(&self, object: &[&str]) -> Option<String>;
}

/// The thread's own namespace, a new one at every reset.
struct Bed<B> {
    own: B,
}

fn failed(error: String) -> Error {
    Error::new(ErrorKind::Kernel, "prepare", "test", error)
}

#[async_trait]
impl<B: Own> Testbed for Bed<B> {
    type Driver = B::Driver;

    fn open(&mut self) -> Result<B::Driver> {
        let node = fake::node();
        self.own.open(&node)
    }

    async fn observe(&mut self) -> Result<Vec<(<B::Driver as Driver>::Key, <B::Driver as Driver>::Object)>> {
        self.open()?.observe().await
    }

    async fn reset(&mut self) -> Result<()> {
        let fresh = NetNs::new().map_err(|error| failed(error.to_string()))?;
        fresh.enter().map_err(|error| failed(error.to_string()))?;
        self.own.reset();
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
impl<B: Own> Tamper for Bed<B> {
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
            _ => match self.own.removal(&words) {
                Some(command) => command,
                None => return Ok(false),
            },
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
            _ => match self.own.alteration(&words) {
                Some(command) => command,
                None => return Ok(false),
            },
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
impl<B: Own> Strangers for Bed<B> {
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

/// Lets a backend's driver pass all laws of the engine with these states, or panics with the first that is broken. On a
/// thread of its own, because a reset moves the thread into another namespace.
pub fn keeps_every_law<B: Own + 'static>(own: B, states: Vec<Vec<NetworkItem>>)
where
    <B::Driver as Driver>::Key: Ord + Send,
{
    let test = std::thread::spawn(move || {
        let mut rig = DriverRig::new(Bed { own });
        let settings = Settings { walks: 1, fault_points: 2, ..Settings::default() };
        block_on(async { conformance(&mut rig, &states, settings).await })
    });
    let report = test.join().unwrap().unwrap_or_else(|violation| panic!("{violation}"));
    println!("{report}");
}
