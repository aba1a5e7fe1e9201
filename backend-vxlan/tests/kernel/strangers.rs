//! Who is no node is not heard: packets that somebody makes by hand and sends to the tunnel's port.

use backend_vxlan::Vxlan;
use backend_vxlan::udp::packet::checksum;
use backend_vxlan::vtep;
use cni_core::backend::{Change, Item};
use cni_core::model::{NetworkItem, NodeName};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use testlab::bed::{Cluster, Node, run, v4_of, v6_of, wait_for};

/// The pod's port that forged packets go to.
const TARGET: u16 = 4242;

/// A datagram of a forged pod of node 2 to the pod of node 1, as the tunnel of the mode carries it.
fn forged(mode: &str, payload: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 244, 2, 9, 10, 244, 1, 2];
    let sum = checksum(&packet).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend([0x10, 0]);
    packet.extend(TARGET.to_be_bytes());
    // Checksum 0: not used.
    packet.extend([0, 12, 0, 0]);
    packet.extend(payload);
    if mode == "udp" {
        return packet;
    }
    // VXLAN header with VNI 1, RFC 7348, section 5; Ethernet header to node 1's VTEP.
    let mut frame = vec![8, 0, 0, 0, 0, 0, 1, 0];
    frame.extend(vtep::mac_of(&NodeName::new("node-1").unwrap()).0);
    frame.extend([2, 0, 0, 0, 0, 9, 8, 0]);
    frame.extend(packet);
    frame
}

/// Node 1's pod and nodes 1 and 2 that know each other; node 9 beyond the router that nobody knows.
struct Bed {
    cluster: Cluster,
    stranger: Node,
    mode: &'static str,
    /// Node 1's end of the tunnel.
    end: SocketAddr,
    target: UdpSocket,
}

impl Bed {
    fn new(mode: &'static str, underlay: &str) -> Self {
        let section: Value = json!({ "mode": mode, "underlay": underlay, "checksumOffload": "on" });
        let cluster = Cluster::new(&Vxlan, &[1, 2], &section);
        let stranger = Node::new(&cluster.underlays, 9, &Vxlan, &section);
        let address: IpAddr = if underlay == "ipv6" { v6_of(1).into() } else { v4_of(1).into() };
        let end = SocketAddr::new(address, if mode == "udp" { 8285 } else { 8472 });
        let target = cluster.pods[0].netns.run(|| UdpSocket::bind(("0.0.0.0", TARGET)).unwrap()).unwrap();
        target.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
        // What leaves node 2 comes from its own address, as with masquerading; and a Service leads to node 1's tunnel.
        let (any, service) = if underlay == "ipv6" { ("::", "fd96::1") } else { ("0.0.0.0", "10.96.0.1") };
        let family = if any == "::" { "ip6" } else { "ip" };
        let nat = format!(
            "table inet theirs {{ chain post {{ type nat hook postrouting priority srcnat; oifname eth0 masquerade; }}; \
             chain pre {{ type nat hook prerouting priority dstnat; \
             {family} daddr {service} udp dport 99 dnat {family} to {end}; }}; }}"
        );
        cluster.nodes[1]
            .netns
            .run(|| {
                let output = std::process::Command::new("nft").arg(&nat).output().expect("the Debian package nftables");
                assert!(output.status.success(), "{nat}: {}", String::from_utf8_lossy(&output.stderr));
            })
            .unwrap();
        Self { cluster, stranger, mode, end, target }
    }

    fn send(&self, from: &NetNs, to: SocketAddr, payload: [u8; 4]) {
        let send = || {
            let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
            UdpSocket::bind((any, 0)).unwrap().send_to(&forged(self.mode, payload), to).unwrap();
        };
        from.run(send).unwrap();
    }

    /// All payloads that the pod got.
    fn received(&self) -> Vec<[u8; 4]> {
        let mut buffer = [0; 4];
        std::iter::from_fn(|| self.target.recv(&mut buffer).ok().map(|_| buffer)).collect()
    }

    /// Whether a forged packet arrives, where one that node 2 itself sends afterwards does.
    fn hears(&self, from: &NetNs, to: SocketAddr) -> bool {
        self.send(from, to, *b"bad!");
        self.send(&self.cluster.nodes[1].netns, self.end, *b"good");
        let received = self.received();
        assert!(received.contains(b"good"), "a node is heard");
        received.contains(b"bad!")
    }

    /// Who is no node: name, namespace, and where it sends to.
    fn others(&self) -> Vec<(&'static str, &NetNs, SocketAddr)> {
        let [ours, theirs] = [&self.cluster.pods[0].netns, &self.cluster.pods[1].netns];
        let service: SocketAddr = if self.end.is_ipv4() { "10.96.0.1:99" } else { "[fd96::1]:99" }.parse().unwrap();
        vec![
            ("a pod of this node", ours, self.end),
            ("a pod of another node", theirs, self.end),
            ("a pod of another node through a Service", theirs, service),
            ("a host beyond the router", &self.stranger.netns, self.end),
        ]
    }
}

#[test]
fn only_nodes_are_heard() {
    for (mode, underlay) in [("vxlan", "ipv4"), ("vxlan", "ipv6"), ("direct-routing", "ipv4"), ("udp", "ipv4")] {
        let mut bed = Bed::new(mode, underlay);
        for (who, from, to) in bed.others() {
            assert!(!bed.hears(from, to), "{who} is heard, {mode} over {underlay}");
        }
        bed.cluster.all_pairs_talk();
        if mode == "udp" {
            continue;
        }
        // The same packets arrive without the guard: it is what keeps them out.
        bed.cluster.nodes.iter_mut().for_each(Node::stop);
        for node in &bed.cluster.nodes {
            node.netns.run(|| run("nft delete table inet cnidarian")).unwrap();
        }
        for (who, from, to) in bed.others() {
            // Whoever is further away may be overtaken: a way that is not resolved yet takes its time.
            let what = format!("{who} would be heard, {mode} over {underlay}");
            wait_for(&what, Duration::from_secs(5), || bed.hears(from, to));
        }
    }
}

#[test]
fn a_new_peer_is_heard_at_once_and_one_that_is_gone_no_more() {
    for mode in ["vxlan", "udp"] {
        let bed = Bed::new(mode, "ipv4");
        let node = &bed.cluster.nodes[0];
        let peer = NetworkItem::Peer(bed.stranger.peer());
        let key = peer.key();
        for _ in 0..2 {
            assert!(!bed.hears(&bed.stranger.netns, bed.end));
            node.stage_all(vec![Change::Put(peer.clone())]);
            wait_for("the new peer is heard", Duration::from_secs(5), || bed.hears(&bed.stranger.netns, bed.end));
            node.stage_all(vec![Change::Remove(key.clone())]);
        }
    }
}

#[test]
fn whatever_is_done_to_the_guard_is_put_back_and_host_gw_has_none() {
    let mut cluster = Cluster::new(&Vxlan, &[1, 2], &json!({ "checksumOffload": "on" }));
    let table = |node: &Node| node.netns.run(|| run("nft list ruleset")).unwrap();
    let whole = |node: &Node| {
        let text = table(node);
        let ends = ["elements = { 192.0.2.1, 192.0.2.2 }", "elements = { 192.0.2.2, 192.0.2.1 }"];
        text.matches("udp dport 8472 drop").count() == 2 && ends.iter().any(|ends| text.contains(ends))
    };
    for deed in [
        "delete element inet cnidarian tunnel-ends4 { 192.0.2.2 }",
        "add element inet cnidarian tunnel-ends4 { 203.0.113.9 }",
        "flush chain inet cnidarian tunnel-prerouting",
        "delete table inet cnidarian",
    ] {
        let node = &cluster.nodes[0];
        node.netns.run(|| run(&format!("nft {deed}"))).unwrap();
        wait_for(deed, Duration::from_secs(1), || whole(node));
    }
    cluster.all_pairs_talk();
    let node = &mut cluster.nodes[0];
    node.stop();
    node.section = json!({ "mode": "host-gw" });
    node.start();
    node.stage(vec![Change::InSync]);
    assert!(!table(node).contains("tunnel-"));
}
