//! Services for clients outside, in network namespaces of the test's own: real packets to a node whose backends are at its loopback
//! interface, and the laws of every engine. Never a socket program.

use crate::place::run;
use crate::services::item;
use crate::sockets::{client_in, in_a_namespace};
use async_trait::async_trait;
use backend_ebpf::service::EbpfServices;
use backend_ebpf::service::outside::{Key, Object, OutsideDriver};
use cni_core::backend::{Capability, Change, Driver as _, Engine, OpenRequest, ProxyBackend as _, Reconciler, Result};
use cni_core::model::{NodeContext, Scheduler, ServiceItem};
use cni_core::testkit::engine::{DriverRig, Settings, Strangers, Tamper, Testbed, conformance, fake};
use net_linux::netns::NetNs;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::Duration;
use testlab::bed::{Cgroup, Client};

/// A frontend at an address of the node.
const V4: &str = "192.0.2.1:30080";
const V6: &str = "[2001:db8::1]:30080";

/// Somebody outside, behind a wire to the calling thread's namespace.
fn outside() -> NetNs {
    behind("eth0")
}

/// Somebody behind this interface of the calling thread's namespace.
pub(crate) fn behind(interface: &str) -> NetNs {
    let outside = NetNs::new().unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), outside.as_fd().as_raw_fd());
    run(&format!("ip link add {interface} type veth peer name wire netns {path}"));
    for what in ["address add 192.0.2.1/24", "address add 2001:db8::1/64 nodad", "link set up"] {
        run(&format!("ip {what} dev {interface}"));
    }
    let lines = ["address add 192.0.2.2/24 dev wire", "address add 2001:db8::2/64 dev wire nodad", "link set wire up"];
    outside.run(|| lines.iter().for_each(|line| drop(run(&format!("ip {line}"))))).unwrap();
    outside
}

pub(crate) fn commit(engine: &mut Reconciler<OutsideDriver>, items: Vec<ServiceItem>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    items.into_iter().for_each(|item| engine.stage(Change::Put(item)).unwrap());
    engine.stage(Change::InSync).unwrap();
    let report = runtime.block_on(engine.commit());
    assert!(report.is_complete(), "{report:?}");
    let again = runtime.block_on(engine.resync()).unwrap();
    assert!(again.is_none(), "what was written is what is read: {again:?}");
}

fn items(backends: &str) -> Vec<ServiceItem> {
    let both = [V4, V6].into_iter().flat_map(|address| [6, 17].map(|protocol| (address, protocol)));
    both.map(|(address, protocol)| item(address, protocol, backends)).collect()
}

fn spread(client: &mut Client, how: &str, to: &str, rounds: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        let (server, peer) = client.ask(how, to).unwrap();
        assert_eq!(peer, to, "answers come from the service");
        *counts.entry(server).or_default() += 1;
    }
    counts
}

/// How long something may take that is about to happen.
const PATIENCE: Duration = Duration::from_secs(10);

const WAYS: [(&str, &str); 4] = [("tcp", V4), ("tcp", V6), ("connected", V4), ("connected", V6)];

#[test]
fn clients_outside_reach_every_backend_and_without_one_they_are_refused() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut client = client_in(&cgroup.0, &outside());
        let mut engine = Reconciler::new(OutsideDriver::open().unwrap()).unwrap();
        commit(&mut engine, items("abc"));
        for (how, to) in WAYS {
            let counts = spread(&mut client, how, to, 60);
            // By chance: that one of three is not among sixty happens once in ten thousand million times.
            assert_eq!(counts.len(), 3, "{how} {to}: {counts:?}");
        }
        commit(&mut engine, items("b"));
        for (how, to) in WAYS {
            assert_eq!(spread(&mut client, how, to, 8).into_keys().collect::<Vec<_>>(), ["b"], "{how} {to}");
        }
        commit(&mut engine, items(""));
        for (how, to) in WAYS {
            assert_eq!(client.ask(how, to).unwrap_err(), "ConnectionRefused", "{how} {to}");
        }
        let affine = |backends| ServiceItem { affinity_seconds: NonZeroU32::new(60), ..item(V4, 6, backends) };
        commit(&mut engine, vec![affine("abc")]);
        assert_eq!(spread(&mut client, "tcp", V4, 12).len(), 1, "a client stays with its backend");
        EbpfServices.clear().unwrap();
        let tables = run("nft list tables");
        assert!(!tables.contains("cnidarian"), "{tables}");
    });
}

#[test]
fn a_client_that_goes_on_to_send_is_led_to_another_backend_when_its_own_goes() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut client = client_in(&cgroup.0, &outside());
        let mut engine = Reconciler::new(OutsideDriver::open().unwrap()).unwrap();
        for to in [V4, V6] {
            commit(&mut engine, items("c"));
            assert_eq!(client.ask("hold", to).unwrap().0, "c", "{to}");
            // Its place is another, and it stays.
            commit(&mut engine, items("ac"));
            assert_eq!(client.ask("held", to).unwrap().0, "c", "{to}");
            commit(&mut engine, items("a"));
            assert_eq!(client.ask("held", to).unwrap().0, "a", "{to}: the same socket");
        }
    });
}

#[test]
fn a_pod_that_no_program_leads_is_not_led_behind_those_that_judge_it() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut client = client_in(&cgroup.0, &behind("cni0123456789ab"));
        let mut engine = Reconciler::new(OutsideDriver::open().unwrap()).unwrap();
        commit(&mut engine, items("a"));
        for (how, to) in WAYS {
            assert_eq!(client.ask(how, to).unwrap_err(), "ConnectionRefused", "{how} {to}: nobody listens there");
        }
    });
}

#[test]
fn a_set_of_another_kind_that_rules_look_at_is_made_anew() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut client = client_in(&cgroup.0, &outside());
        let mut engine = Reconciler::new(OutsideDriver::open().unwrap()).unwrap();
        commit(&mut engine, items("a"));
        run("nft delete table inet cnidarian-services");
        run("nft add table inet cnidarian-services");
        run("nft add map inet cnidarian-services backends4 { type ipv4_addr : ipv4_addr ; }");
        run("nft add chain inet cnidarian-services choose4-random-1");
        run("nft add rule inet cnidarian-services choose4-random-1 dnat ip to ip daddr map @backends4");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let drift = runtime.block_on(engine.resync()).unwrap();
        assert!(drift.repair.is_complete(), "{drift:?}");
        assert!(runtime.block_on(engine.resync()).unwrap().is_none());
        assert_eq!(client.ask("tcp", V4).unwrap().0, "a");
    });
}

#[test]
fn what_others_do_to_the_table_is_told_of_at_once() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let config = serde_json::json!({ "cgroup": cgroup.0 });
        let state_dir = std::env::temp_dir();
        let request = OpenRequest { node: fake::node(), config, state_dir, host_stack_for: Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut parts = EbpfServices.open(request).await.unwrap();
            let watch = parts.drift.as_mut().unwrap();
            parts.proxy.stage(Change::Put(item(V4, 6, "a"))).unwrap();
            parts.proxy.stage(Change::InSync).unwrap();
            assert!(parts.proxy.commit().await.is_complete());
            run("nft flush ruleset");
            tokio::time::timeout(PATIENCE, watch.changed()).await.expect("nobody said so").unwrap();
            assert!(parts.proxy.resync().await.unwrap().repair.is_complete());
            let quiet = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
            assert!(quiet.is_err(), "what we do ourselves is no drift");
        });
        EbpfServices.clear().unwrap();
    });
}

struct Bed;

#[async_trait]
impl Testbed for Bed {
    type Driver = OutsideDriver;

    fn open(&mut self) -> Result<OutsideDriver> {
        OutsideDriver::open()
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        OutsideDriver::open()?.observe().await
    }

    async fn reset(&mut self) -> Result<()> {
        EbpfServices.clear()
    }

    fn contexts(&self) -> Vec<NodeContext> {
        vec![fake::node()]
    }

    fn unsupported(&self) -> Vec<ServiceItem> {
        Vec::new()
    }

    fn tamper(&mut self) -> Option<&mut dyn Tamper> {
        None
    }

    fn strangers(&mut self) -> Option<&mut dyn Strangers> {
        None
    }
}

#[test]
fn the_laws_of_every_engine_hold_for_clients_outside() {
    in_a_namespace(|| {
        let affine = |backends| ServiceItem { affinity_seconds: NonZeroU32::new(60), ..item(V4, 6, backends) };
        let limited = |at, backends, clients: &str| ServiceItem {
            sources: Some([clients.parse().unwrap()].into()),
            ..item(at, 6, backends)
        };
        let states = [
            vec![],
            vec![affine("abc"), item(V6, 17, "ab"), limited(V6, "a", "fd00::/8")],
            vec![
                item(V4, 6, "bc"),
                item(V6, 17, "abc"),
                limited(V6, "", "fd00::/9"),
                limited("192.0.2.1:81", "ab", "10.0.0.0/8"),
            ],
        ];
        let settings = Settings { walks: 4, fault_points: 3, ..Settings::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rig = DriverRig::new(Bed);
        if let Err(violation) = runtime.block_on(conformance(&mut rig, &states, settings)) {
            panic!("{violation}");
        }
    });
}

#[test]
fn what_programs_at_sockets_refuse_is_served_nowhere_and_the_rest_at_both() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let config = serde_json::json!({ "cgroup": cgroup.0 });
        let state_dir = std::env::temp_dir();
        let request = OpenRequest { node: fake::node(), config, state_dir, host_stack_for: Vec::new() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut proxy = runtime.block_on(EbpfServices.open(request.clone())).unwrap().proxy;
        let mut client = client_in(&cgroup.0, &outside());
        let mut put = |item: ServiceItem| {
            let staged = proxy.stage(Change::Put(item));
            proxy.stage(Change::InSync).unwrap();
            runtime.block_on(proxy.commit());
            staged.map_err(|error| error.field)
        };
        put(item(V4, 6, "a")).unwrap();
        assert_eq!(client.ask("tcp", V4).unwrap().0, "a");
        let least = ServiceItem { scheduler: Scheduler::LeastConnections, ..item(V4, 6, "a") };
        assert_eq!(put(least).unwrap_err(), Some("scheduler"));
        assert_eq!(client.ask("tcp", V4).unwrap_err(), "ConnectionRefused", "nobody listens there");
        assert!(!run("nft list table inet cnidarian-services").contains("192.0.2.1"), "no trace of it");
        put(item(V4, 6, "a")).unwrap();
        drop(proxy);
        let off = serde_json::json!({ "cgroup": cgroup.0, "outsideClients": false });
        let off = OpenRequest { config: off, ..request.clone() };
        let mut proxy = runtime.block_on(EbpfServices.open(off)).unwrap().proxy;
        assert!(!proxy.capabilities().has(Capability::OutsideClients), "off");
        assert_eq!(client.ask("tcp", V4).unwrap().0, "a", "who opens writes nothing");
        proxy.stage(Change::InSync).unwrap();
        assert!(runtime.block_on(proxy.commit()).is_complete());
        assert!(!run("nft list tables").contains("cnidarian"), "and what was served before is gone");
        EbpfServices.clear().unwrap();
    });
}
