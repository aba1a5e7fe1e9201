//! The proxy as a node gets it from a registry: what it finds of others, and that it goes without a trace. Never a packet.

use crate::bed::{block_on, has_ipvs};
use crate::items::{PODS, item};
use crate::packets::{engine, put};
use backend_ipvs::IpvsServices;
use cni_core::backend::{OpenRequest, ProxyBackend};
use cni_core::model::{FrontendKind, InterfaceName, NodeContext, NodeName, Underlay};
use net_linux::ipvs::{Ipvs, Service, ServiceId};
use net_linux::netns::NetNs;
use net_linux::sysctl;
use testlab::bed::run;

pub(crate) fn request() -> OpenRequest {
    let underlay =
        Underlay { interface: InterfaceName::new("eth0").unwrap(), index: 2, mtu_bytes: 1500, v4: None, v6: None };
    let name = NodeName::new("node-1").unwrap();
    OpenRequest {
        node: NodeContext { name, labels: Default::default(), underlay, masquerade: None },
        config: serde_json::Value::Null,
        state_dir: "/nowhere".into(),
        host_stack_for: Vec::new(),
    }
}

fn notices() -> Vec<String> {
    block_on(IpvsServices.open(request())).unwrap().notices
}

fn look() -> [String; 6] {
    let settings = OF_IPVS.map(|name| sysctl::read(name).unwrap());
    let [one, two, three] = settings;
    [run("ip -o link"), run("ip -o address"), run("nft list ruleset"), one, two, three]
}

/// What the engine changes for itself alone.
const OF_IPVS: [&str; 3] =
    ["net/ipv4/vs/conntrack", "net/ipv4/vs/expire_nodest_conn", "net/ipv4/vs/expire_quiescent_template"];

#[test]
fn settings_are_put_back_but_for_those_that_were_so_before_or_that_somebody_else_changed_since() {
    if !has_ipvs() {
        return;
    }
    let netns = NetNs::new().unwrap();
    let inside = || {
        run("ip link set lo up");
        let [tracked, nodest, template] = OF_IPVS;
        sysctl::write(nodest, "1").unwrap();
        sysctl::write(template, "2").unwrap();
        let settings = || OF_IPVS.map(|name| sysctl::read(name).unwrap());
        let start = || put(&mut *engine(&NetNs::current().unwrap()), []);
        assert_eq!(settings(), ["0", "1", "2"]);
        start();
        assert_eq!(settings(), ["1", "1", "1"]);
        // Another process, which found them so; and somebody takes all rules away while it runs.
        let mut again = engine(&NetNs::current().unwrap());
        put(&mut *again, []);
        run("nft flush ruleset");
        assert!(!block_on(again.resync()).unwrap().is_none());
        drop(again);
        assert_eq!(settings(), ["1", "1", "1"]);
        sysctl::write(template, "0").unwrap();
        IpvsServices.clear().unwrap();
        assert_eq!(settings(), ["0", "1", "0"], "{tracked} only");
        assert_eq!(run("nft list ruleset"), "", "the record too");
        // What it was counts from one start to the next, not for ever.
        sysctl::write(tracked, "1").unwrap();
        IpvsServices.clear().unwrap();
        assert_eq!(settings(), ["1", "1", "0"]);
    };
    netns.run(inside).unwrap();
}

#[test]
fn clearing_takes_all_of_ours_and_nothing_else_and_may_be_repeated() {
    if !has_ipvs() {
        return;
    }
    let netns = NetNs::new().unwrap();
    let inside = || {
        run("ip link set lo up");
        run("nft add table inet cnidarian");
        run("nft add chain inet cnidarian pol-egress");
        let theirs = Service::new(ServiceId::address(6, "10.97.0.1:80".parse().unwrap()), "rr");
        let mut ipvs = Ipvs::open().unwrap();
        let mut batch = ipvs.batch();
        batch.create(&theirs);
        ipvs.run(batch).into_iter().for_each(|answer| answer.unwrap());
        let before = look();
        let mut proxy = engine(&NetNs::current().unwrap());
        put(&mut *proxy, [item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS)]);
        drop(proxy);
        assert_ne!(look(), before);
        for _ in 0..2 {
            IpvsServices.clear().unwrap();
            assert_eq!(look(), before);
            let left: Vec<ServiceId> = ipvs.services().unwrap().into_iter().map(|(service, _)| service.id).collect();
            assert_eq!(left, [theirs.id]);
        }
    };
    netns.run(inside).unwrap();
}

#[test]
fn what_another_proxy_left_is_named_with_what_removes_it() {
    if !has_ipvs() {
        return;
    }
    let netns = NetNs::new().unwrap();
    let inside = || {
        assert!(notices().is_empty(), "{:?}", notices());
        run("ip link add kube-ipvs0 type dummy");
        run("nft add table ip nat");
        run("nft add chain ip nat KUBE-SERVICES");
        run("nft add table ip kube-proxy");
        let mut ipvs = Ipvs::open().unwrap();
        let mut batch = ipvs.batch();
        batch.create(&Service::new(ServiceId::address(6, "10.97.0.1:80".parse().unwrap()), "rr"));
        ipvs.run(batch).into_iter().for_each(|answer| answer.unwrap());
        let found = notices().join("\n");
        for word in
            ["kube-ipvs0", "KUBE-SERVICES", "table ip kube-proxy", "kube-proxy --cleanup", "10.97.0.1:80", "ipvsadm -D"]
        {
            assert!(found.contains(word), "{word} in {found}");
        }
    };
    netns.run(inside).unwrap();
}
