//! The laws of masquerading single containers, in fresh namespaces, read back with the `nft` program.

use super::*;
use crate::netns::NetNs;
use std::process::Command;

fn id(container: &str) -> EndpointId {
    EndpointId::of(container, "eth0").unwrap()
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn open(network: &str) -> Containers {
    Containers::open(&NetworkName::new(network).unwrap()).unwrap()
}

fn nft(script: &str) -> String {
    let output = Command::new("nft").args(script.split(' ')).output().expect("the Debian package nftables");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fresh(test: impl FnOnce() + Send) {
    NetNs::new().unwrap().run(test).unwrap();
}

const A: &[&str] = &["10.1.0.2/24", "fd00:1::2/64"];

#[test]
fn it_lists_as_a_person_would_write_it() {
    fresh(|| {
        open("net").put(&id("a"), &nets(A)).unwrap();
        let text = nft("list table inet cnidarian-masq-net");
        let chain = marks::host_interface(&id("a"));
        for line in [
            format!("elements = {{ 10.1.0.2 : jump {chain} }}"),
            format!("elements = {{ fd00:1::2 : jump {chain} }}"),
            "type nat hook postrouting priority srcnat; policy accept;".to_owned(),
            "ip saddr vmap @masq-source4".to_owned(),
            "ip6 saddr vmap @masq-source6".to_owned(),
            "ip saddr 10.1.0.2 ip daddr != 10.1.0.0/24 ip daddr != 224.0.0.0/4 masquerade fully-random".to_owned(),
            "ip6 saddr fd00:1::2 ip6 daddr != fd00:1::/64 ip6 daddr != ff00::/8 masquerade fully-random".to_owned(),
        ] {
            assert!(text.lines().any(|listed| listed.trim() == line), "{line:?} is not in\n{text}");
        }
    });
}

#[test]
fn put_again_replaces_and_remove_is_repeatable() {
    fresh(|| {
        let mut net = open("net");
        net.remove(&id("a")).unwrap();
        net.put(&id("a"), &nets(A)).unwrap();
        let once = nft("list ruleset");
        net.put(&id("a"), &nets(A)).unwrap();
        assert_eq!(nft("list ruleset"), once);
        net.put(&id("a"), &nets(&["10.1.0.9/24"])).unwrap();
        let other = nft("list ruleset");
        assert!(other.contains("10.1.0.9 :") && !other.contains("10.1.0.2") && !other.contains("fd00"), "{other}");
        // An address that a lost container had belongs to who has it now.
        net.put(&id("b"), &nets(&["10.1.0.9/24"])).unwrap();
        assert!(nft("list ruleset").contains(&format!("10.1.0.9 : jump {}", marks::host_interface(&id("b")))));
        for container in ["a", "b", "b"] {
            net.remove(&id(container)).unwrap();
        }
        assert_eq!(nft("list ruleset"), "", "the table goes with its last container");
    });
}

#[test]
fn containers_are_forgotten_one_by_one_and_by_what_is_valid() {
    fresh(|| {
        let (mut net, mut other) = (open("net"), open("other"));
        for (at, container) in ["a", "b", "c"].iter().enumerate() {
            net.put(&id(container), &nets(&[&format!("10.1.0.{}/24", at + 2)])).unwrap();
        }
        other.put(&id("a"), &nets(&["10.2.0.2/24"])).unwrap();
        net.remove(&id("a")).unwrap();
        net.retain(&BTreeSet::from([id("c")])).unwrap();
        let text = nft("list ruleset");
        assert!(!text.contains("10.1.0.2") && !text.contains("10.1.0.3"), "{text}");
        assert!(text.contains("10.1.0.4") && text.contains("10.2.0.2"), "{text}");
        net.retain(&BTreeSet::new()).unwrap();
        net.retain(&BTreeSet::new()).unwrap();
        assert!(!nft("list ruleset").contains("cnidarian-masq-net"));
    });
}

#[test]
fn what_others_have_survives() {
    fresh(|| {
        nft("add table ip nat { chain post { type nat hook postrouting priority 100; masquerade; }; }");
        let mut net = open("net");
        net.put(&id("a"), &nets(A)).unwrap();
        nft("add chain inet cnidarian-masq-net others { accept; }");
        nft("add rule inet cnidarian-masq-net masq-postrouting counter");
        net.put(&id("b"), &nets(&["10.1.0.3/24"])).unwrap();
        assert!(nft("list ruleset").contains("counter packets"));
        for container in ["a", "b"] {
            net.remove(&id(container)).unwrap();
        }
        let text = nft("list ruleset");
        assert!(text.contains("table ip nat") && text.contains("chain others"), "{text}");
        assert!(!text.contains("10.1.0.") && !text.contains("jump cni"), "{text}");
    });
}

#[test]
fn many_at_once_all_get_their_rules() {
    fresh(|| {
        let here = NetNs::current().unwrap();
        std::thread::scope(|scope| {
            for container in 0..32 {
                let here = here.clone();
                scope.spawn(move || {
                    let address = nets(&[&format!("10.1.0.{}/24", container + 2)]);
                    here.run(|| open("net").put(&id(&format!("c{container}")), &address).unwrap()).unwrap();
                });
            }
        });
        assert_eq!(nft("list ruleset").matches("masquerade fully-random").count(), 32);
    });
}
