//! Services at real sockets, in cgroups and network namespaces of the test's own. Never a packet from outside.

use crate::sockets::{BACKENDS, Cgroup, Client, in_a_namespace};
use async_trait::async_trait;
use backend_ebpf::service::{Config, EbpfServices, Key, Object, SocketDriver};
use cni_core::backend::{Change, Driver, Engine, ProxyBackend as _, Reconciler, Result};
use cni_core::model::{
    BackendUse, Conditions, FrontendKind, NodeContext, Scheduler, ServiceBackend, ServiceItem, ServiceKey, ServiceName,
    TrafficScope,
};
use cni_core::policy::model::Protocol;
use cni_core::testkit::engine::{DriverRig, Settings, Strangers, Tamper, Testbed, conformance, fake};
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;

const V4: &str = "10.96.0.10:80";
const V6: &str = "[fd96::10]:80";
const MAPPED: &str = "[::ffff:10.96.0.10]:80";

/// A frontend with those backends that are named.
fn item(address: &str, protocol: u8, backends: &str) -> ServiceItem {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let conditions = Conditions { ready: true, serving: true, terminating: false };
    let backends = BACKENDS.iter().filter(|(name, ..)| backends.contains(name)).map(|(_, v4, v6)| ServiceBackend {
        address: if address.is_ipv4() { v4 } else { v6 }.parse().unwrap(),
        port: 8080,
        usage: BackendUse::Active,
        conditions,
        local: true,
        node: None,
        zone: None,
    });
    ServiceItem {
        key: ServiceKey { address: address.ip(), port: address.port(), protocol: Protocol(protocol) },
        service: ServiceName { namespace: "red".into(), name: "shop".into() },
        port_name: "".into(),
        kind: FrontendKind::ClusterIp,
        scope: TrafficScope::Cluster,
        scheduler: Scheduler::RoundRobin,
        affinity_seconds: None,
        sources: None,
        health_check_port: None,
        backends: backends.collect(),
    }
}

/// The service at both families, over TCP and UDP.
fn items(backends: &str) -> Vec<ServiceItem> {
    let both = [V4, V6].into_iter().flat_map(|address| [6, 17].map(|protocol| (address, protocol)));
    both.map(|(address, protocol)| item(address, protocol, backends)).collect()
}

struct Proxy(Reconciler<SocketDriver>, tokio::runtime::Runtime);

impl Proxy {
    fn open(cgroup: &Path) -> Self {
        let config = Config { cgroup: Some(cgroup.to_owned()), ..Config::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut engine = Reconciler::new(SocketDriver::open(&config).unwrap()).unwrap();
        runtime.block_on(engine.resync()).unwrap();
        Self(engine, runtime)
    }

    fn put(&mut self, items: Vec<ServiceItem>) {
        items.into_iter().for_each(|item| self.0.stage(Change::Put(item)).unwrap());
        self.commit();
    }

    fn commit(&mut self) {
        self.0.stage(Change::InSync).unwrap();
        let report = self.1.block_on(self.0.commit());
        assert!(report.is_complete(), "{report:?}");
        let again = self.1.block_on(self.0.resync()).unwrap();
        assert!(again.is_none(), "what was written is what is read: {again:?}");
    }
}

/// How often each backend answered.
fn spread(client: &mut Client, how: &str, to: &str, rounds: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        let (server, peer) = client.ask(how, to).unwrap();
        assert_eq!(peer, to, "{how}: the socket shows the service");
        *counts.entry(server).or_default() += 1;
    }
    counts
}

const WAYS: [(&str, &str); 8] = [
    ("tcp", V4),
    ("tcp", V6),
    ("tcp", MAPPED),
    ("connected", V4),
    ("connected", V6),
    ("udp", V4),
    ("udp", V6),
    ("udp", MAPPED),
];

#[test]
fn connections_are_spread_over_backends_and_sockets_show_the_service() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(items("abc"));
        let mut client = Client::new(&cgroup.0);
        for (how, to) in WAYS {
            let counts = spread(&mut client, how, to, 30);
            assert!(counts.len() == 3 && counts.values().all(|count| *count == 10), "{how} {to}: {counts:?}");
        }
        let (server, peer) = client.ask("tcp", "10.96.1.2:8080").unwrap();
        assert_eq!((server.as_str(), peer.as_str()), ("b", "10.96.1.2:8080"), "a backend itself is no service");
    });
}

#[test]
fn a_removed_backend_gets_no_connection_and_without_one_they_are_refused() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(items("abc"));
        let mut client = Client::new(&cgroup.0);
        proxy.put(items("ac"));
        for (how, to) in WAYS {
            let counts = spread(&mut client, how, to, 20);
            assert_eq!(counts.keys().collect::<Vec<_>>(), ["a", "c"], "{how} {to}");
        }
        proxy.put(items(""));
        for (how, to) in WAYS {
            assert_eq!(client.ask(how, to), Err("PermissionDenied".to_owned()), "{how} {to}");
        }
        items("").into_iter().for_each(|item| proxy.0.stage(Change::Remove(item.key)).unwrap());
        proxy.commit();
        let error = client.ask("tcp", V4).unwrap_err();
        assert_ne!(error, "PermissionDenied", "an address that is no service goes where routes say");
    });
}

#[test]
fn a_client_stays_with_its_backend_for_as_long_as_it_is_there() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        let affine =
            |backends, seconds| ServiceItem { affinity_seconds: NonZeroU32::new(seconds), ..item(V4, 6, backends) };
        proxy.put(vec![affine("abc", 3600)]);
        let mut client = Client::new(&cgroup.0);
        let first = spread(&mut client, "tcp", V4, 12);
        assert_eq!(first.len(), 1, "{first:?}");
        let first = first.into_keys().next().unwrap();
        let others: String = ["a", "b", "c"].into_iter().filter(|name| *name != first).collect();
        let kept = format!("{first}{}", &others[..1]);
        proxy.put(vec![affine(&kept, 3600)]);
        assert_eq!(spread(&mut client, "tcp", V4, 12).into_keys().collect::<Vec<_>>(), std::slice::from_ref(&first));
        proxy.put(vec![affine(&others, 3600)]);
        let second = spread(&mut client, "tcp", V4, 12);
        assert!(second.len() == 1 && !second.contains_key(&first), "{second:?}");
    });
}

#[test]
fn maglev_leads_a_client_to_one_backend() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(vec![ServiceItem { scheduler: Scheduler::Maglev, ..item(V4, 6, "abc") }]);
        let mut client = Client::new(&cgroup.0);
        assert_eq!(spread(&mut client, "tcp", V4, 12).len(), 1);
    });
}

#[test]
fn services_go_on_without_an_agent_and_the_next_one_finds_them() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut first = Proxy::open(&cgroup.0);
        first.put(items("abc"));
        let mut client = Client::new(&cgroup.0);
        drop(first);
        assert_eq!(spread(&mut client, "tcp", V4, 9).len(), 3, "without an agent");
        let mut second = Proxy::open(&cgroup.0);
        items("abc").into_iter().for_each(|item| second.0.stage(Change::Put(item)).unwrap());
        assert!(second.0.plan().steps.is_empty(), "all of it is there: {}", second.0.plan());
        second.put(items("b"));
        assert_eq!(spread(&mut client, "udp", V6, 9).into_keys().collect::<Vec<_>>(), ["b"]);
        drop(second);
        EbpfServices.clear().unwrap();
        EbpfServices.clear().unwrap();
        // The kernel takes a program off a moment after its pin went.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while client.ask("tcp", V4).is_ok() {
            assert!(std::time::Instant::now() < end, "cleared: no service any more");
        }
        assert!(!std::fs::exists("/sys/fs/bpf/cnidarian").unwrap(), "nothing is left, no folder either");
    });
}

#[test]
fn sockets_outside_of_the_cgroup_are_left_alone() {
    let (Some(cgroup), Some(other)) = (Cgroup::new(), Cgroup::new()) else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(items(""));
        let mut client = Client::new(&other.0);
        assert_ne!(client.ask("tcp", V4).unwrap_err(), "PermissionDenied");
    });
}

struct Bed<'a>(&'a Path);

impl Bed<'_> {
    fn driver(&self) -> Result<SocketDriver> {
        SocketDriver::open(&Config { cgroup: Some(self.0.to_owned()), ..Config::default() })
    }
}

#[async_trait]
impl Testbed for Bed<'_> {
    type Driver = SocketDriver;

    fn open(&mut self) -> Result<SocketDriver> {
        self.driver()
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        self.driver()?.observe().await
    }

    async fn reset(&mut self) -> Result<()> {
        EbpfServices.clear()
    }

    fn contexts(&self) -> Vec<NodeContext> {
        vec![fake::node()]
    }

    fn unsupported(&self) -> Vec<ServiceItem> {
        vec![item(V4, 132, "a"), ServiceItem { sources: Some([].into()), ..item(V4, 6, "a") }]
    }

    fn tamper(&mut self) -> Option<&mut dyn Tamper> {
        None
    }

    fn strangers(&mut self) -> Option<&mut dyn Strangers> {
        None
    }
}

#[test]
fn the_laws_of_every_engine_hold() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let affine = |backends| ServiceItem { affinity_seconds: NonZeroU32::new(60), ..item(V4, 6, backends) };
        let maglev = |backends| ServiceItem { scheduler: Scheduler::Maglev, ..item(V6, 17, backends) };
        let states =
            [vec![], vec![affine("abc"), maglev("ab")], vec![item(V4, 6, "bc"), maglev("abc"), item(V6, 6, "")]];
        let settings = Settings { walks: 4, fault_points: 3, ..Settings::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rig = DriverRig::new(Bed(&cgroup.0));
        let report = runtime.block_on(conformance(&mut rig, &states, settings));
        if let Err(violation) = report {
            panic!("{violation}");
        }
    });
}
