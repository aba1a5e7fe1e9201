//! The `udp` mode as a router: hops, errors, sizes, and who is let in.

use backend_vxlan::Vxlan;
use serde_json::json;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;
use testlab::bed::{Cluster, run, try_run, udp};

/// What `ping` says, whether or not it succeeds.
fn ping(cluster: &Cluster, options: &str, to: IpAddr) -> String {
    let run = || {
        let line = format!("-n -c 1 -W 5 {options} {to}");
        Command::new("ping").args(line.split_whitespace()).output().unwrap()
    };
    let output = cluster.pods[0].netns.run(run).unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn a_packet_whose_hops_are_used_up_in_the_tunnel_is_answered() {
    for underlay in ["ipv4", "ipv6"] {
        let cluster = Cluster::new(&Vxlan, &[1, 2], &json!({ "mode": "udp", "underlay": underlay }));
        for address in cluster.pods[1].addresses.clone() {
            // One hop is node 1's kernel, the second is the tunnel, the third is node 2's kernel.
            for hops in 1..=3 {
                let told = ping(&cluster, &format!("-t {hops}"), address);
                let exceeded = told.contains("Time to live exceeded") || told.contains("Hop limit");
                assert!(exceeded, "{hops} hops to {address}: {told}");
            }
            let told = ping(&cluster, "-t 4", address);
            assert!(told.contains("1 received"), "{told}");
        }
    }
}

#[test]
fn a_destination_that_no_peer_has_is_told_to_be_unreachable() {
    let cluster = Cluster::new(&Vxlan, &[1, 2], &json!({ "mode": "udp" }));
    cluster.nodes[0]
        .netns
        .run(|| {
            run("ip route add 10.99.0.0/16 dev cnidarian-udp");
            run("ip -6 route add fd99::/64 dev cnidarian-udp");
        })
        .unwrap();
    let told = ping(&cluster, "", "10.99.0.1".parse().unwrap());
    assert!(told.contains("Net Unreachable"), "{told}");
    let told = ping(&cluster, "", "fd99::1".parse().unwrap());
    assert!(told.contains("No route"), "{told}");
}

#[test]
fn a_narrower_path_is_told_to_senders_that_want_whole_packets_and_others_are_cut() {
    let cluster = Cluster::new(&Vxlan, &[1, 2], &json!({ "mode": "udp" }));
    // The kernel's route knows that the path to the peer is narrower than the device.
    cluster.nodes[0].netns.run(|| run("ip route add 192.0.2.2/32 dev eth0 mtu lock 1400")).unwrap();
    let v4 = cluster.pods[1].addresses[0];
    let told = ping(&cluster, "-M do -s 1400", v4);
    assert!(told.contains("mtu = 1372") || told.contains("mtu=1372"), "{told}");
    let told = ping(&cluster, "-M dont -s 1400", v4);
    assert!(told.contains("1 received"), "{told}");
    // TCP finds the path's size by itself.
    cluster.pods[0].talks_to(v4);
    cluster.pods[0].talks_to(cluster.pods[1].addresses[1]);
}

#[test]
fn large_datagrams_are_cut_by_the_pod_and_put_together_again() {
    let cluster = Cluster::new(&Vxlan, &[1, 2], &json!({ "mode": "udp" }));
    for address in &cluster.pods[1].addresses {
        cluster.pods[0].netns.run(|| udp(SocketAddr::new(*address, 7), 20_000).unwrap()).unwrap();
    }
}

#[test]
fn what_comes_from_an_address_that_is_no_peers_is_dropped() {
    let cluster = Cluster::new(&Vxlan, &[1, 2, 3], &json!({ "mode": "udp" }));
    let pod = &cluster.pods[0];
    let listener = pod.netns.run(|| UdpSocket::bind("0.0.0.0:4242").unwrap()).unwrap();
    listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // An IPv4 and UDP header with payload "hi!!", from a pod of node 2 to our pod; checksum 0: not used.
    let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 244, 2, 2, 10, 244, 1, 2];
    let sum = backend_vxlan::udp::packet::checksum(&packet).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
    packet.extend([0x10, 0, 0x10, 0x92, 0, 12, 0, 0]);
    packet.extend(b"hi!!");
    let send_from = |node: usize| {
        cluster.nodes[node]
            .netns
            .run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.send_to(&packet, "192.0.2.1:8285").unwrap();
            })
            .unwrap();
    };
    send_from(1);
    let mut buffer = [0; 16];
    assert_eq!(listener.recv(&mut buffer).unwrap(), 4, "a peer's packet arrives");
    cluster.nodes[2].netns.run(|| try_run("ip address add 192.0.2.66/24 dev eth0").unwrap()).unwrap();
    let stranger = || {
        let socket = UdpSocket::bind("192.0.2.66:0").unwrap();
        socket.send_to(&packet, "192.0.2.1:8285").unwrap();
    };
    cluster.nodes[2].netns.run(stranger).unwrap();
    assert!(listener.recv(&mut buffer).is_err(), "a stranger's packet does not");
}

#[test]
fn an_address_that_comes_back_is_bound_again_at_once() {
    let netns = net_linux::netns::NetNs::new().unwrap();
    let flap = || {
        run("ip link set lo up");
        let pump = backend_vxlan::udp::Pump::default();
        let name = cni_core::model::InterfaceName::new("flap").unwrap();
        pump.serve(net_linux::tun::TunOptions::new(name).open().unwrap()).unwrap();
        for round in 0..4_000 {
            let address = if round % 2 == 0 { "127.0.0.1:8285" } else { "127.0.0.2:8285" };
            pump.bind(address.parse().unwrap()).unwrap();
        }
    };
    netns.run(flap).unwrap();
}
