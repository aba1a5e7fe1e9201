//! Guarded tunnels in fresh namespaces: the laws of a Driver. Packets are for the backend's tests.

use super::*;
use crate::netns::NetNs;
use crate::nft::Nft;
use crate::untracked;
use cni_core::backend::{Known, Op, Support};
use std::process::Command;

const BOTH: [&str; 2] = ["192.0.2.1:8472", "[2001:db8::1]:8472"];

fn wanted(tunnels: &[&str]) -> Vec<(Key, Object)> {
    objects(tunnels.iter().map(|text| text.parse::<Tunnel>().unwrap()))
}

fn put_all(nft: &mut Nft, objects: &[(Key, Object)], present: &Known<Object>) {
    let put = |(key, object): &(Key, Object)| Op::Put { key: *key, present: present.clone(), object: object.clone() };
    apply(nft, &objects.iter().map(put).collect::<Vec<_>>()).unwrap();
}

fn delete_all(nft: &mut Nft, objects: &[(Key, Object)]) {
    let delete = |(key, _): &(Key, Object)| Op::Delete { key: *key, present: Known::Unknown };
    apply(nft, &objects.iter().map(delete).collect::<Vec<_>>()).unwrap();
}

fn seen(nft: &mut Nft) -> Vec<(Key, Object)> {
    let mut found = observe(nft).unwrap();
    found.sort_by_key(|(key, _)| *key);
    found
}

fn nft_script(script: &str) -> String {
    let output = Command::new("nft").arg(script).output().expect("the Debian package nftables");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn in_fresh_namespace(test: impl FnOnce(&mut Nft) + Send) {
    NetNs::new().unwrap().run(|| test(&mut Nft::open().unwrap())).unwrap();
}

#[test]
fn no_tunnel_is_no_object() {
    assert!(wanted(&[]).is_empty());
    assert_eq!(wanted(&["192.0.2.1:8472", "192.0.2.1:8472"]).len(), 2);
}

#[test]
fn what_was_put_is_observed_and_what_was_deleted_is_not() {
    in_fresh_namespace(|nft| {
        assert!(seen(nft).is_empty());
        for tunnels in [&BOTH[..], &["192.0.2.1:4789"], &["[2001:db8::2]:8472"], &["192.0.2.1:4789", "ipip/192.0.2.1"]]
        {
            let mut objects = wanted(tunnels);
            objects.extend(["192.0.2.2", "2001:db8::7"].map(|peer| end(peer.parse().unwrap())));
            objects.sort_by_key(|(key, _)| *key);
            for present in [Known::Absent, Known::Unknown] {
                put_all(nft, &objects, &present);
                assert_eq!(seen(nft), objects);
            }
            delete_all(nft, &objects[1..]);
            assert_eq!(seen(nft), objects[..1]);
            delete_all(nft, &objects[1..]);
        }
        delete_all(nft, &wanted(&BOTH)[..1]);
        assert!(seen(nft).is_empty());
        assert!(nft.tables().unwrap().is_empty(), "the empty table goes too");
        delete_all(nft, &wanted(&BOTH));
    });
}

#[test]
fn thousands_of_ends_are_one_transaction() {
    in_fresh_namespace(|nft| {
        put_all(nft, &wanted(&BOTH), &Known::Absent);
        let before = nft.generation().unwrap();
        let ends: Vec<_> =
            (0..5_000_u32).map(|number| end(IpAddr::from((0x0a00_0000 + number).to_be_bytes()))).collect();
        put_all(nft, &ends, &Known::Absent);
        let after = nft.generation().unwrap();
        assert_eq!(after.0, before.0 + 1);
        assert_eq!(seen(nft).len(), ends.len() + 3);
        delete_all(nft, &ends);
        assert_eq!(seen(nft), wanted(&BOTH));
    });
}

#[test]
fn it_lists_as_a_person_would_write_it() {
    in_fresh_namespace(|nft| {
        put_all(nft, &wanted(&[&BOTH[..], &["ipip/192.0.2.1"]].concat()), &Known::Absent);
        let text = nft_script("list table inet cnidarian");
        for line in [
            "type filter hook prerouting priority filter; policy accept;",
            "type filter hook input priority filter; policy accept;",
            "elements = { 192.0.2.1 }",
            "elements = { 2001:db8::1 }",
        ] {
            assert!(text.lines().any(|listed| listed.trim() == line), "{line:?} is not in\n{text}");
        }
        for part in [
            "iifname \"cni*\" meta iifkind \"veth\" ip daddr @tunnel-ends4 udp dport 8472 drop",
            "ip6 daddr 2001:db8::1 udp dport 8472 ip6 saddr @tunnel-ends6 accept",
            "meta l4proto ipencap iifname \"cni*\" meta iifkind \"veth\" ip daddr @tunnel-ends4 drop",
            "ip daddr 192.0.2.1 ip saddr @tunnel-ends4 accept",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    });
}

#[test]
fn whatever_somebody_else_does_to_it_is_seen_and_repaired() {
    in_fresh_namespace(|nft| {
        let objects = wanted(&BOTH);
        put_all(nft, &objects, &Known::Absent);
        for tampering in [
            "flush chain inet cnidarian tunnel-input",
            "insert rule inet cnidarian tunnel-input accept",
            "flush chain inet cnidarian tunnel-input; delete chain inet cnidarian tunnel-input",
            "add chain inet cnidarian tunnel-prerouting { policy drop; }",
            "delete element inet cnidarian tunnel-ends4 { 192.0.2.1 }",
            "flush set inet cnidarian tunnel-ends6",
            "delete element inet cnidarian tunnel-ends4 { 192.0.2.1 }; \
             add element inet cnidarian tunnel-ends4 { 192.0.2.1 comment \"mine\" }",
            "add table inet cnidarian { flags dormant; }",
            "delete table inet cnidarian",
            "delete table inet cnidarian; add table inet cnidarian; \
             add set inet cnidarian tunnel-ends4 { type ipv4_addr; flags interval; elements = { 0.0.0.0/0 }; }",
        ] {
            nft_script(tampering);
            assert_ne!(seen(nft), objects, "{tampering}");
            put_all(nft, &objects, &Known::Unknown);
            assert_eq!(seen(nft), objects, "{tampering}");
        }
        nft_script("add element inet cnidarian tunnel-ends4 { 203.0.113.9 }");
        let stranger = end("203.0.113.9".parse().unwrap());
        assert!(seen(nft).contains(&stranger));
        delete_all(nft, &[stranger]);
        assert_eq!(seen(nft), objects);
    });
}

/// The table is shared: neither takes the other along.
#[test]
fn what_else_is_in_the_table_stays() {
    in_fresh_namespace(|nft| {
        let untracked = untracked::objects([BOTH[0].parse().unwrap()]).pop().unwrap();
        let put = Op::Put { key: untracked.0, present: Known::Unknown, object: untracked.1.clone() };
        untracked::apply(nft, &put).unwrap();
        let objects = wanted(&BOTH);
        put_all(nft, &objects, &Known::Absent);
        nft_script("add set inet cnidarian theirs { type ipv4_addr; }");
        assert_eq!(untracked::observe(nft).unwrap(), std::slice::from_ref(&untracked));
        delete_all(nft, &objects);
        assert_eq!(untracked::observe(nft).unwrap(), std::slice::from_ref(&untracked));
        put_all(nft, &objects, &Known::Absent);
        untracked::apply(nft, &Op::Delete { key: untracked.0, present: Known::Unknown }).unwrap();
        assert_eq!(seen(nft), objects);
        delete_all(nft, &objects);
        assert!(nft_script("list table inet cnidarian").contains("set theirs"));
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
