//! All laws of the engine on a real namespace. Never more than the laws: packets are elsewhere.

use crate::bed::{block_on, has_ipvs};
use crate::items::{PODS, PODS6, item, over};
use async_trait::async_trait;
use backend_ipvs::config::Config;
use backend_ipvs::driver::IpvsDriver;
use backend_ipvs::object::{Key, Object};
use backend_ipvs::probe::probe;
use cni_core::backend::{Driver, Error, ErrorKind, Result};
use cni_core::model::{
    BackendUse, FrontendKind, InterfaceName, NodeContext, NodeName, Scheduler, ServiceBackend, ServiceItem,
    TrafficScope, Underlay,
};
use cni_core::policy::model::Protocol;
use cni_core::testkit::engine::{DriverRig, Settings, Snapshot, Strangers, Tamper, Testbed, conformance};
use net_linux::ipvs::{Changes, Destination, Ipvs, Service, ServiceId};
use net_linux::netns::NetNs;
use std::num::NonZeroU32;
use testlab::bed::{run, try_run};

/// The thread's own namespace, a new one at every reset.
struct Bed;

fn failed(error: impl ToString) -> Error {
    Error::new(ErrorKind::Kernel, "prepare", "test", error.to_string())
}

fn nft(script: &str) -> std::result::Result<String, String> {
    let output = std::process::Command::new("nft").arg(script).output().unwrap();
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{script}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Changes IPVS as another program would.
fn ipvs(change: impl FnOnce(&mut Changes)) -> Result<()> {
    let mut ipvs = Ipvs::open()?;
    let mut batch = ipvs.batch();
    change(&mut batch);
    ipvs.run(batch).into_iter().try_for_each(|result| Ok(result?))
}

/// The service of `IPVS service tcp 10.96.0.10:80`.
fn service_id(protocol: &str, place: &str) -> ServiceId {
    ServiceId::address(if protocol == "tcp" { 6 } else { 17 }, place.parse().unwrap())
}

#[async_trait]
impl Testbed for Bed {
    type Driver = IpvsDriver;

    fn open(&mut self) -> Result<IpvsDriver> {
        IpvsDriver::open(&Config::default(), probe())
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        self.open()?.observe().await
    }

    async fn reset(&mut self) -> Result<()> {
        NetNs::new().map_err(failed)?.enter().map_err(failed)?;
        run("ip link set lo up");
        run("ip link add eth0 type dummy");
        run("ip link set eth0 up");
        run("ip address add 192.0.2.1/24 dev eth0");
        Ok(())
    }

    fn contexts(&self) -> Vec<NodeContext> {
        let underlay =
            Underlay { interface: InterfaceName::new("eth0").unwrap(), index: 2, mtu_bytes: 1500, v4: None, v6: None };
        let name = NodeName::new("node-1").unwrap();
        vec![NodeContext { name, labels: Default::default(), underlay, masquerade: None }]
    }

    fn unsupported(&self) -> Vec<ServiceItem> {
        vec![over(Protocol::UDP_LITE, item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS))]
    }

    fn tamper(&mut self) -> Option<&mut dyn Tamper> {
        Some(self)
    }

    fn strangers(&mut self) -> Option<&mut dyn Strangers> {
        Some(self)
    }
}

#[async_trait]
impl Tamper for Bed {
    async fn remove(&mut self, object: &str) -> Result<bool> {
        match object.split(' ').collect::<Vec<_>>()[..] {
            ["link", name] => run(&format!("ip link delete {name}")),
            ["address", address, "dev", device] => run(&format!("ip address delete {address} dev {device}")),
            ["rules", ..] => nft("delete table inet cnidarian").map_err(failed)?,
            ["IPVS", "service", protocol, place] => {
                ipvs(|batch| {
                    batch.delete(&service_id(protocol, place));
                })?;
                String::new()
            }
            ["destination", to, "of", "IPVS", "service", protocol, place] => {
                let gone = Destination::new(to.parse().unwrap());
                ipvs(|batch| {
                    batch.delete_destination(&service_id(protocol, place), &gone);
                })?;
                String::new()
            }
            ["element", .., set] if !set.starts_with("svc-allowed") => {
                let (key, _) = object.strip_prefix("element ").unwrap().rsplit_once(" of ").unwrap();
                nft(&format!("delete element inet cnidarian {set} {{ {key} }}")).map_err(failed)?
            }
            _ => return Ok(false),
        };
        Ok(true)
    }

    async fn alter(&mut self, object: &str) -> Result<bool> {
        match object.split(' ').collect::<Vec<_>>()[..] {
            ["link", name] => drop(run(&format!("ip link set {name} down"))),
            ["address", address, "dev", device] if !address.contains(':') => {
                run(&format!("ip address delete {address} dev {device}"));
                run(&format!("ip address add {address} dev {device}"));
            }
            ["address", address, "dev", device] => {
                drop(run(&format!("ip address change {address} dev {device} preferred_lft forever valid_lft forever")))
            }
            ["rules", ..] => drop(nft("flush chain inet cnidarian svc-input").map_err(failed)?),
            ["sysctl", path] => std::fs::write(format!("/proc/sys/{path}"), "0").map_err(failed)?,
            ["IPVS", "service", protocol, place] => {
                let id = service_id(protocol, place);
                ipvs(|batch| {
                    batch.change(&Service { ours: true, ..Service::new(id, "nq") });
                })?;
            }
            ["destination", to, "of", "IPVS", "service", protocol, place] => {
                let heavy = Destination { weight: 7, ..Destination::new(to.parse().unwrap()) };
                ipvs(|batch| {
                    batch.change_destination(&service_id(protocol, place), &heavy);
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    async fn add(&mut self) -> Result<bool> {
        let id = service_id("tcp", "10.99.0.9:80");
        ipvs(|batch| {
            batch.create(&Service { ours: true, ..Service::new(id, "rr") });
            batch.create_destination(&id, &Destination::new("10.244.9.9:80".parse().unwrap()));
        })?;
        run("ip address add 10.99.0.9/32 dev svc-cnidarian");
        nft("add element inet cnidarian svc-frontends4 { 10.99.0.9 . 6 . 80 }; \
             add element inet cnidarian svc-addresses4 { 10.99.0.9 }")
        .map_err(failed)?;
        Ok(true)
    }
}

#[async_trait]
impl Strangers for Bed {
    async fn add(&mut self) -> Result<()> {
        let (id, here) = (service_id("tcp", "10.77.0.1:80"), service_id("udp", "192.0.2.1:30053"));
        ipvs(|batch| {
            batch.create(&Service::new(id, "wlc"));
            batch.create_destination(&id, &Destination::new("10.244.7.7:80".parse().unwrap()));
            batch.create(&Service::new(here, "rr"));
            batch.create(&Service::new(ServiceId::Mark { mark: 7, ipv6: false }, "rr"));
        })?;
        run("ip link add kube-ipvs0 type dummy");
        run("ip address add 10.77.0.1/32 dev kube-ipvs0");
        nft("add table inet foreign; add chain inet foreign svc-input { type filter hook input priority 0; }; \
             add table inet cnidarian; \
             add set inet cnidarian masq-theirs { type ipv4_addr; elements = { 10.0.0.1 } }; \
             add chain inet cnidarian masq-theirs { type nat hook postrouting priority 100; }")
        .map(drop)
        .map_err(failed)
    }

    async fn occupy(&mut self, object: &str) -> Result<bool> {
        match object.split(' ').collect::<Vec<_>>()[..] {
            ["link", name] => drop(try_run(&format!("ip link add {name} type dummy")).map_err(failed)?),
            ["IPVS", "service", protocol, place] => {
                let id = service_id(protocol, place);
                ipvs(|batch| {
                    batch.create(&Service::new(id, "rr"));
                })?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    async fn leave(&mut self, object: &str) -> Result<()> {
        match object.split(' ').collect::<Vec<_>>()[..] {
            ["link", name] => drop(try_run(&format!("ip link delete {name}")).map_err(failed)?),
            ["IPVS", "service", protocol, place] => ipvs(|batch| {
                batch.delete(&service_id(protocol, place));
            })?,
            _ => {}
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<Snapshot> {
        let mut found = Snapshot::new();
        let mut ipvs = Ipvs::open()?;
        for (service, _) in ipvs.services()?.into_iter().filter(|(service, _)| !service.ours) {
            let mut behind: Vec<String> =
                ipvs.destinations(&service.id)?.iter().map(|(to, ..)| format!("{to:?}")).collect();
            behind.sort();
            found.insert(service.id.to_string(), format!("{service:?} {behind:?}"));
        }
        for what in ["table inet foreign", "chain inet cnidarian masq-theirs", "set inet cnidarian masq-theirs"] {
            found.insert(what.to_owned(), nft(&format!("list {what}")).unwrap_or_default());
        }
        let links = run("ip -o -d link show type dummy");
        let theirs = links.lines().filter(|line| !line.contains("cnidarian:") && !line.contains(" eth0:"));
        found.insert("dummies".to_owned(), theirs.collect::<Vec<_>>().join("\n"));
        found.insert("addresses".to_owned(), try_run("ip -o address show dev kube-ipvs0").unwrap_or_default());
        Ok(found)
    }
}

/// Every kind of frontend and of change to one.
fn states() -> Vec<Vec<ServiceItem>> {
    let web = item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS);
    let web6 = item(FrontendKind::ClusterIp, "[fd00:96::10]:80", &PODS6[..2]);
    let dns = over(Protocol::UDP, item(FrontendKind::ClusterIp, "10.96.0.10:53", &PODS[..1]));
    let port = item(FrontendKind::NodePort, "192.0.2.1:30080", &PODS);
    let mut balanced = item(FrontendKind::LoadBalancer, "203.0.113.7:443", &PODS[1..]);
    balanced.sources = Some(["192.0.2.0/24", "198.51.100.7/32"].map(|net| net.parse().unwrap()).into());
    let mut other = ServiceItem {
        scheduler: Scheduler::Maglev,
        scope: TrafficScope::Local,
        affinity_seconds: NonZeroU32::new(600),
        ..item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS[..2])
    };
    let mut leaving = other.backends.to_vec();
    leaving[1].usage = BackendUse::Draining;
    other.backends = leaving.into();
    let mut moved = balanced.clone();
    moved.sources = Some([].into());
    let empty = item(FrontendKind::ClusterIp, "[fd00:96::10]:80", &[]);
    let bad = item(FrontendKind::ClusterIp, "10.96.0.11:80", &PODS6[..1]);
    let answers = |place, local| {
        let mut answers = ServiceItem { direct_return: true, ..item(FrontendKind::ExternalIp, place, &PODS[..2]) };
        let backends = answers.backends.iter().cloned().map(|backend| ServiceBackend { local, ..backend });
        answers.backends = backends.collect();
        answers
    };
    let (here, away) = (answers("203.0.113.8:80", true), answers("203.0.113.9:80", false));
    let moved_away = answers("203.0.113.8:80", false);
    vec![
        vec![],
        vec![web.clone(), web6, dns.clone(), port, balanced, here, away],
        vec![other, empty, moved, bad, moved_away],
        vec![web, dns],
    ]
}

/// On a thread of its own, because a reset moves the thread into another namespace.
#[test]
fn the_engine_keeps_every_law() {
    if !has_ipvs() {
        return;
    }
    let test = std::thread::spawn(|| {
        let mut rig = DriverRig::new(Bed);
        let settings = Settings { walks: 1, fault_points: 3, ..Settings::default() };
        block_on(async { conformance(&mut rig, &states(), settings).await })
    });
    let report = test.join().unwrap().unwrap_or_else(|violation| panic!("{violation}"));
    println!("{report}");
}
