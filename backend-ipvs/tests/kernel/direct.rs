//! Answers that go to clients directly: a client outside asks one node, a pod of another node answers. Never one node alone.
//!
//! ```text
//!            203.0.113.9:80              in a tunnel                  10.244.1.1:8080
//!  client ───────────────────> other ─────────────────────> node ───────────────────> pod
//!     ^                                                       │
//!     └──────────────────────── from 203.0.113.9 ─────────────┘
//! ```

use crate::bed::{Bed, echoes, has_ipvs};
use crate::items::{PODS, item, over};
use crate::packets::{engine, put};
use cni_core::backend::ServiceProxy;
use cni_core::model::{FrontendKind, ServiceItem};
use cni_core::policy::model::Protocol;
use std::io::{ErrorKind, Read, Write};
use testlab::bed::run;

const SERVICE: &str = "203.0.113.9:80";

/// The service as the node with the pods sees it, or as another one does.
fn seen(local: bool, place: &str) -> ServiceItem {
    let mut seen = ServiceItem { direct_return: true, ..item(FrontendKind::ExternalIp, place, &PODS) };
    let mut backends = seen.backends.to_vec();
    backends.iter_mut().for_each(|backend| backend.local = local);
    seen.backends = backends.into();
    seen
}

/// Both nodes serve, the client asks the one without pods, and nothing comes back through that one.
struct Two {
    bed: Bed,
    far: Box<dyn ServiceProxy>,
    near: Box<dyn ServiceProxy>,
}

impl Two {
    fn new() -> Self {
        let bed = Bed::new();
        bed.other
            .netns
            .run(|| {
                run("ip route delete 203.0.113.0/24");
                run("ip route add 10.244.1.0/24 via 192.0.2.1");
                std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
                std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap();
                run("nft add table ip test");
                run("nft add chain ip test back { type filter hook prerouting priority -400 ; }");
                run("nft add rule ip test back iifname != lo ip saddr 203.0.113.9 drop");
            })
            .unwrap();
        bed.node.netns.run(|| std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "1").unwrap()).unwrap();
        bed.client.netns.run(|| run("ip route add 203.0.113.9 via 192.0.2.3")).unwrap();
        let (far, near) = (engine(&bed.node.netns), engine(&bed.other.netns));
        Self { bed, far, near }
    }

    fn put(&mut self, place: &str, protocol: Protocol) {
        put(&mut *self.far, [over(protocol, seen(true, place))]);
        put(&mut *self.near, [over(protocol, seen(false, place))]);
    }
}

#[test]
fn an_answer_goes_to_the_client_from_the_service_s_address_past_the_node_that_was_asked() {
    if !has_ipvs() {
        return;
    }
    let mut two = Two::new();
    two.put(SERVICE, Protocol::TCP);
    two.put(SERVICE, Protocol::UDP);
    let mut names = [0; 3];
    for _ in 0..12 {
        let (name, from) = two.bed.client.ask(SERVICE).unwrap();
        assert_eq!(from.to_string(), "192.0.2.2", "a pod sees the client itself");
        names[usize::from(name) - 1] += 1;
    }
    assert!(names.iter().all(|count| *count > 0), "{names:?}");
    assert_eq!(two.bed.client.ask_by_datagram(SERVICE).unwrap().1.to_string(), "192.0.2.2");
    // What is too large for the tunnel: the client is told so by the node that was asked.
    let (mut stream, _) = two.bed.client.open(SERVICE);
    echoes(&mut stream);
    let much = vec![7; 60_000];
    stream.write_all(&much).unwrap();
    let mut back = vec![0; much.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, much);
    // Who asks the node with the pods is served there; and a node restarts without a trace in a connection.
    two.bed.client.netns.run(|| run("ip route replace 203.0.113.9 via 192.0.2.1")).unwrap();
    assert!(two.bed.client.ask(SERVICE).is_ok());
    two.bed.client.netns.run(|| run("ip route replace 203.0.113.9 via 192.0.2.3")).unwrap();
    drop((two.far, two.near));
    echoes(&mut stream);
    assert!(two.bed.client.ask(SERVICE).is_ok(), "without an agent too");
}

#[test]
fn pods_and_nodes_without_a_way_back_are_refused_at_once_and_pods_cannot_use_the_tunnel() {
    if !has_ipvs() {
        return;
    }
    let mut two = Two::new();
    two.put(SERVICE, Protocol::TCP);
    let error = two.bed.other.ask(SERVICE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    assert!(two.bed.pods[3].ask(SERVICE).is_ok(), "on a node with endpoints");
    let ask = || two.bed.pods[3].ask_by_datagram(SERVICE);
    assert!(ask().is_err(), "no such service");
    // An address of its own in a tunnel of a pod's own.
    two.bed.pods[3]
        .netns
        .run(|| {
            run("ip link add forged type ipip local 10.244.1.4 remote 10.244.1.1");
            run("ip link set forged up");
            run("ip route add 203.0.113.9 dev forged");
        })
        .unwrap();
    assert!(two.bed.pods[3].ask(SERVICE).is_err(), "a pod tunnels");
}

#[test]
fn what_comes_by_the_tunnel_reaches_services_only() {
    if !has_ipvs() {
        return;
    }
    let mut two = Two::new();
    two.put(SERVICE, Protocol::UDP);
    let forge = |address: &str| {
        two.bed.client.netns.run(|| run(&format!("ip route replace {address} dev forged"))).unwrap();
    };
    two.bed
        .client
        .netns
        .run(|| {
            run("ip route replace 10.244.1.0/24 via 192.0.2.1");
            run("ip link add forged type ipip local 192.0.2.2 remote 10.244.1.1");
            run("ip link set forged up");
        })
        .unwrap();
    forge("203.0.113.9");
    assert!(two.bed.client.ask_by_datagram(SERVICE).is_ok(), "as a node tunnels");
    let pod = "10.244.1.2:8080";
    assert!(two.bed.client.ask_by_datagram(pod).is_ok(), "by its route");
    forge("10.244.1.2");
    assert!(two.bed.client.ask_by_datagram(pod).is_err(), "past what is asked about a packet from outside");
}

#[test]
fn a_node_that_gets_a_pod_serves_and_one_that_loses_its_last_tunnels() {
    if !has_ipvs() {
        return;
    }
    let mut two = Two::new();
    two.put(SERVICE, Protocol::TCP);
    let tunnel =
        |two: &Two| two.bed.node.netns.run(|| testlab::bed::try_run("ip link show svc-tunnel").is_ok()).unwrap();
    assert!(tunnel(&two));
    let mut gone = seen(true, SERVICE);
    gone.backends = [].into();
    put(&mut *two.far, [gone]);
    assert!(!tunnel(&two), "without pods to tunnel to, the device goes");
    two.put(SERVICE, Protocol::TCP);
    assert!(two.bed.client.ask(SERVICE).is_ok());
}
