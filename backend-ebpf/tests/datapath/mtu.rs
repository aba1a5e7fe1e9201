//! Packets that are too big for where they go: their sender is told the MTU, on the fast path as in the stack, and what fits then
//! arrives. Never a packet that is silently lost.

use backend_ebpf::Ebpf;
use serde_json::json;
use std::net::IpAddr;
use std::time::Duration;
use testlab::bed::{Cluster, Pod, run, try_run, wait_for};

/// More than any link here but the pod's own.
const TOO_BIG: u32 = 3000;
const OWN_BYTES: u32 = 9000;

/// The MTU that the pod knows of the way to an address; `None`: nobody has told.
fn known(pod: &Pod, to: IpAddr) -> Option<u32> {
    let said = pod.netns.run(|| run(&format!("ip route get {to}"))).unwrap();
    let mut words = said.split_whitespace().skip_while(|word| *word != "mtu");
    words.nth(1)?.parse().ok()
}

/// The pod may send more than its way takes, as if it had set that itself.
fn widen(cluster: &Cluster) {
    let veth = cluster.nodes[0].endpoint_with([10, 0, 0, 1].into()).host_interface;
    cluster.nodes[0].netns.run(|| run(&format!("ip link set {veth} mtu {OWN_BYTES}"))).unwrap();
    cluster.pods[0].netns.run(|| run(&format!("ip link set eth0 mtu {OWN_BYTES}"))).unwrap();
}

fn ping(pod: &Pod, to: IpAddr, bytes: u32) -> Result<String, String> {
    // Behind the headers of IP and ICMP.
    let payload = bytes - if to.is_ipv4() { 28 } else { 48 };
    pod.netns.run(|| try_run(&format!("ping -n -M do -c 1 -W 1 -s {payload} {to}"))).unwrap()
}

fn sender_is_told(cluster: &Cluster, to: &[IpAddr], wanted: u32) {
    let pod = &cluster.pods[0];
    for to in to.iter().copied() {
        pod.talks_to(to);
        assert_eq!(known(pod, to), None, "{to}");
        // Routers answer at a limited rate.
        wait_for("the sender knows the MTU", Duration::from_secs(30), || {
            let sent = ping(pod, to, TOO_BIG);
            assert!(sent.is_err(), "{to}: {sent:?}");
            known(pod, to).is_some()
        });
        assert_eq!(known(pod, to), Some(wanted), "{to}");
        wait_for("what fits arrives", Duration::from_secs(30), || ping(pod, to, wanted).is_ok());
        pod.talks_to(to);
    }
}

#[test]
fn a_pod_is_told_the_mtu_of_another_node_with_and_without_the_fast_path() {
    for fast_path in [true, false] {
        for (numbers, mode, mtu) in [([1, 2, 9], "vxlan", 1450), ([1, 2, 3], "native", 1500)] {
            let cluster = Cluster::new(&Ebpf, &numbers, &json!({ "mode": mode, "fastPath": fast_path }));
            widen(&cluster);
            let to = &cluster.pods[1].addresses;
            sender_is_told(&cluster, to, mtu);
        }
    }
}

#[test]
fn a_pod_is_told_the_mtu_of_a_pod_of_its_own_node() {
    for fast_path in [true, false] {
        let mut cluster = Cluster::new(&Ebpf, &[1, 2], &json!({ "mode": "native", "fastPath": fast_path }));
        let near = cluster.nodes[0].attach_another();
        widen(&cluster);
        sender_is_told(&cluster, &near.addresses, 1500);
    }
}
