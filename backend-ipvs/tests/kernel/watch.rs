//! Somebody else's changes: told as they happen, and repaired by what follows. Never a packet.

use crate::bed::has_ipvs;
use crate::items::{PODS, PODS6, item};
use cni_core::backend::{Change, DriftWatch, ServiceProxy};
use cni_core::model::FrontendKind;
use net_linux::netns::NetNs;
use net_linux::sysctl;
use std::time::Duration;
use testlab::bed::run;
use testlab::patience::stretched;

/// Until the watch says so and the resync that it asks for finds something.
async fn found(what: &str, engine: &mut dyn ServiceProxy, watch: &mut dyn DriftWatch) {
    let until_found = async {
        loop {
            watch.changed().await.unwrap();
            if !engine.resync().await.unwrap().is_none() {
                break;
            }
        }
    };
    let deadline = stretched(Duration::from_secs(10));
    tokio::time::timeout(deadline, until_found).await.unwrap_or_else(|_| panic!("{what}: nobody said so"));
    assert!(engine.resync().await.unwrap().is_none(), "{what}: repaired at once");
}

async fn inside() {
    for setup in ["ip link set lo up", "ip link add eth0 type dummy", "ip link set eth0 up"] {
        run(setup);
    }
    let (mut engine, mut watch) = backend_ipvs::open_watched(&Default::default()).unwrap();
    engine.stage(Change::Put(item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS))).unwrap();
    engine.stage(Change::Put(item(FrontendKind::ClusterIp, "[fd00:96::10]:80", &PODS6))).unwrap();
    engine.stage(Change::InSync).unwrap();
    assert!(engine.commit().await.is_complete());
    for by_somebody in [
        "ip address delete 10.96.0.10/32 dev svc-cnidarian",
        "ip address delete fd00:96::10/128 dev svc-cnidarian",
        "ip address add 10.96.0.99/32 dev svc-cnidarian",
        "ip link set svc-cnidarian down",
        "ip link delete svc-cnidarian",
        "nft flush chain inet cnidarian svc-input",
    ] {
        run(by_somebody);
        found(by_somebody, &mut *engine, &mut *watch).await;
    }
    for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        sysctl::write(setting, "0").unwrap();
        found(setting, &mut *engine, &mut *watch).await;
    }
}

#[test]
fn what_somebody_changes_of_device_addresses_rules_and_forwarding_is_told_and_repaired_at_once() {
    if !has_ipvs() {
        return;
    }
    NetNs::new().unwrap().run(|| crate::bed::block_on(inside())).unwrap();
}
