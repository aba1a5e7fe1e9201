//! Untracked tunnels in fresh namespaces: the laws of a Driver. Packets are for the backend's tests.

use super::*;
use crate::masquerade;
use crate::netns::NetNs;
use crate::nft::Nft;
use cni_core::backend::{Known, Op, Support};
use std::process::Command;

fn wanted(tunnels: &[&str]) -> Object {
    objects(tunnels.iter().map(|text| text.parse().unwrap())).pop().unwrap().1
}

fn put(nft: &mut Nft, object: &Object) {
    apply(nft, &Op::Put { key: Key, present: Known::Unknown, object: object.clone() }).unwrap();
}

fn delete(nft: &mut Nft) {
    apply(nft, &Op::Delete { key: Key, present: Known::Unknown }).unwrap();
}

fn nft_script(script: &str) -> String {
    let output = Command::new("nft").arg(script).output().expect("the Debian package nftables");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn in_fresh_namespace(test: impl FnOnce(&mut Nft) + Send) {
    NetNs::new().unwrap().run(|| test(&mut Nft::open().unwrap())).unwrap();
}

const BOTH: [&str; 2] = ["[2001:db8::1]:8472", "192.0.2.1:8472"];

#[test]
fn no_tunnel_is_no_object() {
    assert!(objects([]).is_empty());
    assert_eq!(wanted(&["192.0.2.1:8472", "192.0.2.1:8472"]).tunnels.len(), 1);
}

#[test]
fn what_was_put_is_observed_and_what_was_deleted_is_not() {
    in_fresh_namespace(|nft| {
        assert!(observe(nft).unwrap().is_empty());
        for object in [wanted(&BOTH), wanted(&["192.0.2.1:4789"]), wanted(&["[2001:db8::2]:8472"])] {
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
        put(nft, &wanted(&BOTH));
        let text = nft_script("list table inet cnidarian");
        for line in [
            "type filter hook prerouting priority raw; policy accept;",
            "type filter hook output priority raw; policy accept;",
            "ip daddr 192.0.2.1 udp dport 8472 notrack comment \"cnidarian:untracked 192.0.2.1:8472\"",
            "ip6 saddr 2001:db8::1 udp dport 8472 notrack comment \"cnidarian:untracked [2001:db8::1]:8472\"",
        ] {
            let listed = |listed: &str| listed.trim().trim_start_matches("meta l4proto udp ") == line;
            assert!(text.lines().any(listed), "{line:?} is not in\n{text}");
        }
    });
}

#[test]
fn whatever_somebody_else_does_to_it_is_seen_and_repaired() {
    in_fresh_namespace(|nft| {
        let object = wanted(&BOTH);
        put(nft, &object);
        for tampering in [
            "flush chain inet cnidarian untracked-output",
            "add rule inet cnidarian untracked-prerouting counter drop",
            "insert rule inet cnidarian untracked-prerouting notrack",
            "flush chain inet cnidarian untracked-output; delete chain inet cnidarian untracked-output",
            "add chain inet cnidarian untracked-output { policy drop; }",
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

/// The table is shared: neither takes the other along.
#[test]
fn masquerading_and_untracked_tunnels_do_not_disturb_each_other() {
    in_fresh_namespace(|nft| {
        let prefixes = vec!["10.42.0.0/16".parse().unwrap()];
        let masquerading = masquerade::Object { sources: prefixes.clone(), keep: prefixes, intact: true };
        let put_masquerade = Op::Put { key: masquerade::Key, present: Known::Unknown, object: masquerading.clone() };
        let object = wanted(&BOTH);
        put(nft, &object);
        masquerade::apply(nft, &put_masquerade).unwrap();
        assert_eq!(observe(nft).unwrap(), [(Key, object.clone())]);
        delete(nft);
        assert_eq!(masquerade::observe(nft).unwrap(), [(masquerade::Key, masquerading)]);
        put(nft, &object);
        masquerade::apply(nft, &Op::Delete { key: masquerade::Key, present: Known::Unknown }).unwrap();
        assert_eq!(observe(nft).unwrap(), [(Key, object)]);
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
