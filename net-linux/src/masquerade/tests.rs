//! Masquerading in fresh namespaces: the laws of a Driver, and packets.

use super::*;
use crate::netns::NetNs;
use crate::nft::Nft;
use cni_core::backend::{Known, Op, Support};
use cni_core::model::Masquerade;
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

fn wanted(sources: &[&str], keep: &[&str]) -> Object {
    let node = node(sources, keep);
    objects(&node).pop().unwrap().1
}

fn node(sources: &[&str], keep: &[&str]) -> NodeContext {
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    NodeContext {
        labels: Default::default(),
        name: cni_core::model::NodeName::new("node-1").unwrap(),
        underlay: cni_core::model::Underlay {
            interface: cni_core::model::InterfaceName::new("eth0").unwrap(),
            index: 2,
            mtu_bytes: 1500,
            v4: None,
            v6: None,
        },
        masquerade: Some(Masquerade { sources: parse(sources), keep: parse(keep) }),
    }
}

fn put(nft: &mut Nft, object: &Object) {
    apply(nft, &Op::Put { key: Key, present: Known::Unknown, object: object.clone() }).unwrap();
}

fn delete(nft: &mut Nft) {
    apply(nft, &Op::Delete { key: Key, present: Known::Unknown }).unwrap();
}

/// Runs a program in the calling thread's namespace.
fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().expect("nftables and iproute2");
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn nft_script(script: &str) {
    let output = Command::new("nft").arg(script).output().expect("the Debian package nftables");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

fn in_fresh_namespace(test: impl FnOnce(&mut Nft) + Send) {
    NetNs::new().unwrap().run(|| test(&mut Nft::open().unwrap())).unwrap();
}

const SOURCES: [&str; 3] = ["10.42.1.0/26", "10.42.1.64/26", "fd00:42:1::/64"];
const KEEP: [&str; 3] = ["10.0.0.0/8", "10.42.0.0/16", "fd00:42::/48"];

#[test]
fn overlapping_and_neighbouring_prefixes_become_the_fewest() {
    let object = wanted(&SOURCES, &KEEP);
    assert_eq!(object.sources, ["10.42.1.0/25", "fd00:42:1::/64"].map(|text| text.parse().unwrap()));
    assert_eq!(object.keep, ["10.0.0.0/8", "fd00:42::/48"].map(|text| text.parse().unwrap()));
    assert!(objects(&NodeContext { masquerade: None, ..node(&SOURCES, &KEEP) }).is_empty());
    assert!(objects(&node(&[], &KEEP)).is_empty());
}

#[test]
fn what_was_put_is_observed_and_what_was_deleted_is_not() {
    in_fresh_namespace(|nft| {
        assert!(observe(nft).unwrap().is_empty());
        for object in [wanted(&SOURCES, &KEEP), wanted(&["10.42.0.0/16"], &[]), wanted(&["10.0.0.0/8"], &["::/0"])] {
            put(nft, &object);
            assert_eq!(observe(nft).unwrap(), [(Key, object.clone())]);
            put(nft, &object);
            assert_eq!(observe(nft).unwrap(), [(Key, object)]);
        }
        delete(nft);
        assert!(observe(nft).unwrap().is_empty());
        assert!(nft.tables().unwrap().is_empty(), "the empty table goes too");
        delete(nft);
    });
}

#[test]
fn it_lists_as_a_person_would_write_it() {
    in_fresh_namespace(|nft| {
        put(nft, &wanted(&SOURCES, &KEEP));
        let text = run("nft list table inet cnidarian");
        for line in [
            "elements = { 10.42.1.0/25 }",
            "elements = { fd00:42::/48 }",
            "type nat hook postrouting priority srcnat; policy accept;",
            "ip saddr @masq-source4 ip daddr != @masq-keep4 ip daddr != 224.0.0.0/4 oifname != \"cni*\" \
             masquerade fully-random comment \"cnidarian:masquerade4\"",
            "ip6 saddr @masq-source6 ip6 daddr != @masq-keep6 ip6 daddr != ff00::/8 oifname != \"cni*\" \
             masquerade fully-random comment \"cnidarian:masquerade6\"",
        ] {
            assert!(text.lines().any(|listed| listed.trim() == line), "{line:?} is not in\n{text}");
        }
    });
}

#[test]
fn whatever_somebody_else_does_to_it_is_seen_and_repaired() {
    in_fresh_namespace(|nft| {
        let object = wanted(&SOURCES, &KEEP);
        put(nft, &object);
        for tampering in [
            "flush chain inet cnidarian masq-postrouting",
            "add rule inet cnidarian masq-postrouting counter drop",
            "insert rule inet cnidarian masq-postrouting ip daddr 192.0.2.1 return",
            "delete element inet cnidarian masq-keep4 { 10.0.0.0/8 }",
            "add element inet cnidarian masq-source4 { 172.16.0.3-172.16.0.9 }",
            "flush chain inet cnidarian masq-postrouting; delete set inet cnidarian masq-source6",
            "flush chain inet cnidarian masq-postrouting; delete set inet cnidarian masq-source6; \
             add set inet cnidarian masq-source6 { type ipv6_addr; }",
            "flush chain inet cnidarian masq-postrouting; delete chain inet cnidarian masq-postrouting",
            "flush chain inet cnidarian masq-postrouting; delete chain inet cnidarian masq-postrouting; \
             add chain inet cnidarian masq-postrouting { type nat hook postrouting priority 5; }",
            "add chain inet cnidarian masq-postrouting { policy drop; }",
            "add table inet cnidarian { flags dormant; }",
            "delete table inet cnidarian",
        ] {
            nft_script(tampering);
            assert_ne!(observe(nft).unwrap(), [(Key, object.clone())], "{tampering}");
            put(nft, &object);
            assert_eq!(observe(nft).unwrap(), [(Key, object.clone())], "{tampering}");
        }
    });
}

#[test]
fn what_others_have_survives() {
    in_fresh_namespace(|nft| {
        nft_script("table ip nat { chain post { type nat hook postrouting priority 100; masquerade; }; }");
        nft_script("table inet cnidarian { set other { type ipv4_addr; }; chain others { accept; }; }");
        put(nft, &wanted(&SOURCES, &KEEP));
        delete(nft);
        assert!(observe(nft).unwrap().is_empty());
        let text = run("nft list ruleset");
        for kept in ["masquerade", "set other", "chain others"] {
            assert!(text.contains(kept), "{kept} is not in\n{text}");
        }
        assert!(!text.contains("masq-"), "{text}");
    });
}

#[test]
fn a_probe_says_yes_and_leaves_nothing() {
    in_fresh_namespace(|nft| {
        let generation = nft.generation().unwrap();
        assert_eq!(probe(nft), Support::Yes);
        assert_eq!(nft.generation().unwrap(), generation);
        assert!(nft.tables().unwrap().is_empty());
    });
}

/// pod 10.42.1.2 - node - outside 192.0.2.2; what the outside sees as the source of a datagram to it.
#[test]
fn the_outside_sees_the_node_and_the_kept_see_the_pod() {
    let (node, pod, outside) = (NetNs::new().unwrap(), NetNs::new().unwrap(), NetNs::new().unwrap());
    // The program takes a namespace by path, and a descriptor of ours has one.
    let path = |namespace: &NetNs| format!("/proc/{}/fd/{}", std::process::id(), namespace.as_fd().as_raw_fd());
    node.run(|| {
        run(&format!("ip link add cni0123 type veth peer name eth0 netns {}", path(&pod)));
        run(&format!("ip link add up0 type veth peer name eth0 netns {}", path(&outside)));
        for command in [
            "ip address add 10.42.1.1/24 dev cni0123",
            "ip address add 192.0.2.1/24 dev up0",
            "ip address add fd00:42:1::1/64 dev cni0123 nodad",
            "ip address add 2001:db8::1/64 dev up0 nodad",
            "ip link set cni0123 up",
            "ip link set up0 up",
        ] {
            run(command);
        }
        crate::sysctl::write("net/ipv4/ip_forward", "1").unwrap();
        crate::sysctl::write("net/ipv6/conf/all/forwarding", "1").unwrap();
        put(
            &mut Nft::open().unwrap(),
            &wanted(&["10.42.1.0/24", "fd00:42:1::/64"], &["192.0.2.128/25", "2001:db8::8000/113"]),
        );
    })
    .unwrap();
    let configure = |namespace: &NetNs, addresses: &[&str], via: &[&str]| {
        namespace
            .run(|| {
                addresses.iter().for_each(|address| {
                    let nodad = if address.contains(':') { " nodad" } else { "" };
                    run(&format!("ip address add {address} dev eth0{nodad}"));
                });
                run("ip link set eth0 up");
                via.iter().for_each(|gateway| {
                    run(&format!("ip route add default via {gateway}"));
                });
            })
            .unwrap();
    };
    configure(&pod, &["10.42.1.2/24", "fd00:42:1::2/64"], &["10.42.1.1", "fd00:42:1::1"]);
    let outside_addresses = ["192.0.2.2/24", "192.0.2.200/24", "2001:db8::2/64", "2001:db8::8002/64"];
    configure(&outside, &outside_addresses, &["192.0.2.1", "2001:db8::1"]);
    for (to, seen) in [
        ("192.0.2.2", "192.0.2.1"),
        ("192.0.2.200", "10.42.1.2"),
        ("2001:db8::2", "2001:db8::1"),
        ("2001:db8::8002", "fd00:42:1::2"),
    ] {
        let to: std::net::IpAddr = to.parse().unwrap();
        let server = outside.run(|| std::net::UdpSocket::bind((to, 0)).unwrap()).unwrap();
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let client = pod.run(|| std::net::UdpSocket::bind(any).unwrap()).unwrap();
        server.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        let heard = (0..50).find_map(|_| {
            // A veth that has just come up may still drop.
            let _ = client.send_to(b"hello", server.local_addr().unwrap());
            server.recv_from(&mut [0; 16]).ok()
        });
        let (_, from) = heard.unwrap_or_else(|| panic!("nothing came to {to}"));
        assert_eq!(from.ip(), seen.parse::<std::net::IpAddr>().unwrap(), "to {to}");
    }
}
