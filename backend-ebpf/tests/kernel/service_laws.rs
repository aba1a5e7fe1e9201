//! The laws of every engine, for programs at sockets and for whom they serve. Never a connection.

use crate::services::{V4, V6, item};
use crate::sockets::in_a_namespace;
use async_trait::async_trait;
use backend_ebpf::service::{
    ClientDriver, ClientKey, ClientObject, Config, EbpfServices, Key, Object, Sizes, SocketDriver,
};
use cni_core::backend::{Driver as _, ProxyBackend as _, Result};
use cni_core::model::{EndpointId, NodeContext, Scheduler, ServiceClient, ServiceItem};
use cni_core::testkit::engine::{DriverRig, Settings, Strangers, Tamper, Testbed, conformance, fake};
use std::num::NonZeroU32;
use std::path::Path;
use testlab::bed::Cgroup;

struct Bed<'a>(&'a Path);

impl Bed<'_> {
    fn driver(&self) -> Result<SocketDriver> {
        // It is opened hundreds of times, and most of that is the memory of large maps.
        let maps = Sizes { affinity: 64, sockets: 64, ..Sizes::default() };
        SocketDriver::open(&Config { cgroup: Some(self.0.to_owned()), maps, ..Config::default() })
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
        vec![item(V4, 132, "a"), ServiceItem { direct_return: true, ..item(V4, 6, "a") }]
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
        let limited = |clients: &[&str]| ServiceItem {
            sources: Some(clients.iter().map(|range| range.parse().unwrap()).collect()),
            ..item(V6, 6, "a")
        };
        let states = [
            vec![],
            vec![affine("abc"), maglev("ab"), limited(&["fd00::/8", "2001:db8::/64"])],
            vec![item(V4, 6, "bc"), maglev("abc"), limited(&["2001:db8::/65"])],
        ];
        let settings = Settings { walks: 4, fault_points: 3, ..Settings::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rig = DriverRig::new(Bed(&cgroup.0));
        let report = runtime.block_on(conformance(&mut rig, &states, settings));
        if let Err(violation) = report {
            panic!("{violation}");
        }
    });
}

/// Namespaces in the maps of a proxy.
struct ClientBed<'a>(&'a Path);

#[async_trait]
impl Testbed for ClientBed<'_> {
    type Driver = ClientDriver;

    fn open(&mut self) -> Result<ClientDriver> {
        Bed(self.0).driver()?.clients(&fake::node())
    }

    async fn observe(&mut self) -> Result<Vec<(ClientKey, ClientObject)>> {
        self.open()?.observe().await
    }

    async fn reset(&mut self) -> Result<()> {
        EbpfServices.clear()
    }

    fn contexts(&self) -> Vec<NodeContext> {
        let mut moved = fake::node();
        (moved.underlay.v4, moved.underlay.v6) = (Some("192.0.2.7/24".parse().unwrap()), None);
        vec![fake::node(), moved]
    }

    fn unsupported(&self) -> Vec<ServiceClient> {
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
fn the_laws_of_every_engine_hold_for_clients() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let served = |interface: &str, netns_cookie, addresses: &[&str]| ServiceClient {
            endpoint: EndpointId::of("c0ffee", interface).unwrap(),
            netns_cookie,
            netns_inode: netns_cookie + 100,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        // Two interfaces of one pod are in one namespace.
        let states = [
            vec![],
            vec![served("eth0", 7, &["10.244.0.7", "fd44::7"]), served("eth1", 7, &["10.245.0.7"])],
            vec![served("eth0", 7, &["10.244.0.8"]), served("net1", 8, &[])],
        ];
        let settings = Settings { walks: 4, fault_points: 3, ..Settings::default() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut rig = DriverRig::new(ClientBed(&cgroup.0));
        let report = runtime.block_on(conformance(&mut rig, &states, settings));
        if let Err(violation) = report {
            panic!("{violation}");
        }
    });
}
