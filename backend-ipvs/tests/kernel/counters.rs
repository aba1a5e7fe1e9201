//! What is counted of services. Never what a packet meets: `packets` has that.

use crate::bed::{Bed, block_on, has_ipvs};
use crate::items::{PODS, item};
use crate::packets::{engine, put};
use crate::registry::request;
use backend_ipvs::IpvsServices;
use cni_core::backend::ProxyBackend;
use cni_core::model::FrontendKind;
use net_linux::ipvs::{Ipvs, Service, ServiceId};
use std::time::Duration;
use testlab::bed::wait_for;

#[test]
fn what_passes_a_frontend_and_its_backends_is_counted_and_nothing_of_others() {
    if !has_ipvs() {
        return;
    }
    let bed = Bed::new();
    let mut proxy = engine(&bed.node.netns);
    let web = item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS);
    put(&mut *proxy, [web.clone()]);
    let open = || {
        let mut ipvs = Ipvs::open().unwrap();
        let mut batch = ipvs.batch();
        batch.create(&Service::new(ServiceId::address(6, "10.97.0.1:80".parse().unwrap()), "rr"));
        ipvs.run(batch).into_iter().for_each(|answer| answer.unwrap());
        block_on(IpvsServices.open(request())).unwrap().counters.unwrap()
    };
    let counters = bed.node.netns.run(open).unwrap();
    let before = counters.read().unwrap();
    assert_eq!(before.keys().collect::<Vec<_>>(), [&web.key], "a service of somebody else is not ours to count");
    assert_eq!(before[&web.key].backends.len(), 3);
    bed.client.count("10.96.0.10:80", 30);
    // The kernel adds up every two seconds.
    let told = |traffic: cni_core::backend::Traffic| {
        traffic.connections == 30 && traffic.packets_in > 60 && traffic.bytes_in > 0 && traffic.bytes_out > 0
    };
    wait_for("connections are counted", Duration::from_secs(20), || {
        let web = counters.read().unwrap().remove(&web.key).unwrap();
        let of_backends = web.backends.values().map(|backend| backend.traffic.unwrap().connections).sum::<u64>();
        web.traffic.is_some_and(told) && of_backends == 30
    });
    let after = counters.read().unwrap().remove(&web.key).unwrap();
    assert!(after.backends.values().all(|backend| backend.weight == Some(1)), "{after:?}");
    let connections = after.backends.values().map(|one| one.active.unwrap() + one.inactive.unwrap()).sum::<u32>();
    assert_eq!(connections, 30, "those that ended are remembered for a while: {after:?}");
}
