//! Packets of all kinds against every kind of verdict. Never an inspection of rules where a packet can tell.

use crate::bed::{block_on, run};
use crate::items::{addresses, chain, chain_id, direction, member, named, network, port, set, tier, within};
use crate::node::{A, B, Host, Node};
use cni_core::backend::Change;
use cni_core::policy::model::{Action, Direction, Family, Icmp, PortRange, Protocol, TierEnd};
use cni_core::policy::program::{Clause, DirectionProgram, PolicyItem, PolicyKey, SetKind, Side};
use net_linux::netns::NetNs;
use policy_nftables::config::Config;
use std::time::Duration;

/// What arrives, of TCP and UDP to port 80, and ICMP, both families: all or nothing.
fn all_pass(from: &Host, to: &Host) -> bool {
    let each = to.addresses.map(|address| [from.tcp(address, 80), from.udp(address, 80), from.ping(address)]);
    let all = each.concat();
    assert!(all.iter().all(|one| *one == all[0]), "TCP, UDP, ICMP over IPv4, then IPv6: {all:?}");
    all[0]
}

fn ingress(tiers: Vec<cni_core::policy::program::TierProgram>, node: &Node) -> PolicyItem {
    let mut program = node.endpoint_b();
    program.ingress = direction(tiers);
    PolicyItem::Endpoint(program)
}

fn egress(tiers: Vec<cni_core::policy::program::TierProgram>, node: &Node) -> PolicyItem {
    let mut program = node.endpoint_a();
    program.egress = direction(tiers);
    PolicyItem::Endpoint(program)
}

#[test]
fn without_a_program_nothing_passes_and_with_an_empty_one_everything() {
    let mut node = Node::new();
    assert!(all_pass(&node.a, &node.b), "before there is policy");
    node.commit(Vec::new());
    assert!(!all_pass(&node.a, &node.b) && !all_pass(&node.outside, &node.b) && !all_pass(&node.a, &node.outside));
    assert!(!all_pass(&node.a, &node.node));
    // The node itself is never filtered, and answers come back to it only from endpoints that are known.
    let (a, b) = (node.endpoint_a(), node.endpoint_b());
    node.commit(vec![PolicyItem::Endpoint(a), PolicyItem::Endpoint(b)]);
    for (from, to) in [
        (&node.a, &node.b),
        (&node.outside, &node.b),
        (&node.a, &node.outside),
        (&node.a, &node.node),
        (&node.node, &node.a),
        (&node.outside, &node.node),
    ] {
        assert!(all_pass(from, to));
    }
    node.change(vec![Change::Remove(PolicyKey::Endpoint(node.endpoint_b().endpoint))]);
    assert!(!all_pass(&node.a, &node.b) && all_pass(&node.a, &node.outside));
    let report = block_on(node.engine.resync()).unwrap();
    assert!(report.is_none(), "{report:?}");
}

#[test]
fn isolation_denies_what_no_rule_allows_but_never_the_own_node() {
    let mut node = Node::open_to_all();
    let (web, out) = (chain_id("web", Direction::Ingress), chain_id("out", Direction::Egress));
    let (v4, v6) = (addresses("c1", Family::V4), addresses("c2", Family::V6));
    let to_b = ingress(vec![tier("default", &[&web], TierEnd::Deny)], &node);
    let from_a = egress(vec![tier("default", &[&out], TierEnd::Deny)], &node);
    let from = |set: &_| within(Side::Source, set);
    node.commit(vec![
        PolicyItem::Set(v4.clone()),
        PolicyItem::Set(v6.clone()),
        chain(&web, vec![(Action::Allow, vec![from(&v4), from(&v6)])]),
        to_b,
    ]);
    assert!(!all_pass(&node.a, &node.b) && !all_pass(&node.outside, &node.b));
    assert!(all_pass(&node.node, &node.b) && all_pass(&node.b, &node.a) && all_pass(&node.b, &node.outside));
    assert!(node.counted(&format!("end of tier default ingress {B}")) >= 6);
    node.commit(vec![member(&v4, "10.9.0.1"), member(&v6, "fd00::1")]);
    assert!(all_pass(&node.a, &node.b) && !all_pass(&node.outside, &node.b));
    assert!(node.counted("NetworkPolicy shop/web ingress spec.rules[0]") >= 6);
    node.commit(vec![chain(&out, Vec::new()), from_a]);
    assert!(!all_pass(&node.a, &node.b) && !all_pass(&node.a, &node.outside));
    assert!(all_pass(&node.a, &node.node), "isolation alone does not cut a pod from its node");
    node.commit(vec![chain(&out, vec![(Action::Deny, vec![Clause::default()])])]);
    assert!(!all_pass(&node.a, &node.node), "a rule does");
    assert!(all_pass(&node.node, &node.a), "the node still reaches the pod");
}

#[test]
fn a_pass_skips_the_rest_of_its_tier_and_the_first_match_decides() {
    let mut node = Node::open_to_all();
    let [first, second, base] = ["1-first", "2-second", "3-base"].map(|name| chain_id(name, Direction::Ingress));
    let two_tiers = |end, node: &Node| {
        ingress(vec![tier("admin", &[&first, &second], end), tier("default", &[&base], TierEnd::Pass)], node)
    };
    let pass_80 = vec![(Action::Pass, vec![port(Protocol::TCP, 80)])];
    node.commit(vec![
        chain(&first, pass_80),
        chain(&second, vec![(Action::Deny, vec![Clause { protocol: Some(Protocol::TCP), ..Clause::default() }])]),
        chain(&base, Vec::new()),
        two_tiers(TierEnd::Pass, &node),
    ]);
    let b = node.b.addresses[0];
    assert!(node.a.tcp(b, 80) && !node.a.tcp(b, 81) && node.a.udp(b, 81));
    // The end of a tier decides for what was not passed only.
    node.commit(vec![two_tiers(TierEnd::Deny, &node)]);
    assert!(node.a.tcp(b, 80) && !node.a.tcp(b, 81) && !node.a.udp(b, 81));
    // What one tier passed, the next may deny.
    node.commit(vec![chain(&base, vec![(Action::Deny, vec![port(Protocol::TCP, 80)])])]);
    assert!(!node.a.tcp(b, 80));
    node.commit(vec![chain(&first, vec![(Action::Allow, vec![port(Protocol::TCP, 80)])])]);
    assert!(node.a.tcp(b, 80) && !node.a.tcp(b, 81));
    // Our marks do not leave our chains.
    node.nft(
        "add table inet t; add chain inet t c { type filter hook postrouting priority 300; }; \
              add rule inet t c meta mark and 0x300000 != 0 counter comment \"leaked\"",
    );
    node.commit(vec![chain(&first, vec![(Action::Pass, vec![Clause::default()])]), chain(&base, Vec::new())]);
    assert!(node.a.tcp(b, 81));
    assert!(node.nft("list table inet t").contains("counter packets 0 bytes 0 comment \"leaked\""));
}

#[test]
fn ports_names_ranges_networks_and_messages_match_what_they_say() {
    let mut node = Node::open_to_all();
    let web = chain_id("web", Direction::Ingress);
    let http = set("h1", SetKind::AddressPorts(Family::V4));
    let nets = set("n1", SetKind::Networks(Family::V4));
    node.commit(vec![
        PolicyItem::Set(http.clone()),
        PolicyItem::Set(nets.clone()),
        named(&http, "10.9.0.2", Protocol::UDP, 81),
        network(&nets, "192.0.2.8/31"),
        chain(&web, vec![(Action::Allow, vec![within(Side::Destination, &http), within(Side::Source, &nets)])]),
        ingress(vec![tier("default", &[&web], TierEnd::Deny)], &node),
    ]);
    let [v4, v6] = node.b.addresses;
    assert!(node.a.udp(v4, 81) && !node.a.udp(v4, 80) && !node.a.tcp(v4, 81) && !node.a.udp(v6, 81));
    assert!(node.outside.tcp(v4, 80) && !node.outside.tcp(v6, 80));
    let ranges = |ports: &[(u16, u16)]| Some(ports.iter().map(|&(first, last)| PortRange { first, last }).collect());
    let echo = Clause { icmp: Some(Icmp { kind: 8, code: None }), ..Clause::default() };
    let several = Clause { destination_ports: ranges(&[(1, 10), (81, 90)]), ..Clause::default() };
    node.commit(vec![chain(&web, vec![(Action::Allow, vec![several, Clause { family: Some(Family::V4), ..echo }])])]);
    assert!(node.a.tcp(v4, 81) && node.a.udp(v6, 81) && !node.a.tcp(v4, 80) && !node.a.udp(v6, 80));
    assert!(node.a.ping(v4) && !node.a.ping(v6));
    // Not these ports: other ports, but no protocol without ports.
    let others = Clause { not_destination_ports: ranges(&[(81, 81)]), ..Clause::default() };
    node.commit(vec![chain(&web, vec![(Action::Allow, vec![others])])]);
    assert!(node.a.tcp(v4, 80) && node.a.udp(v6, 80) && !node.a.tcp(v4, 81) && !node.a.ping(v4));
    // A rule of no clauses, and a clause of no ports: nothing.
    let none = Clause { destination_ports: Some(Vec::new()), ..Clause::default() };
    node.commit(vec![chain(&web, vec![(Action::Allow, Vec::new()), (Action::Allow, vec![none])])]);
    assert!(!node.a.tcp(v4, 80) && !node.a.tcp(v4, 81));
}

#[test]
fn a_pod_sends_from_its_own_addresses_only() {
    let node = Node::open_to_all();
    node.a
        .netns
        .run(|| {
            run("ip address add 10.9.0.77/32 dev eth0");
            run("ip address add fd00::77/128 dev eth0 nodad");
        })
        .unwrap();
    // Answers would find the way.
    node.node
        .netns
        .run(|| {
            run(&format!("ip route add 10.9.0.77/32 dev {A}"));
            run(&format!("ip -6 route add fd00::77/128 dev {A}"));
        })
        .unwrap();
    let ping = |from: &str, to: std::net::IpAddr| {
        let to = to.to_string();
        node.a
            .netns
            .run(|| crate::bed::try_run("ping", &["-n", "-c", "1", "-W", "1", "-I", from, &to]).is_ok())
            .unwrap()
    };
    for to in [&node.b, &node.outside, &node.node] {
        assert!(ping("10.9.0.1", to.addresses[0]) && ping("fd00::1", to.addresses[1]));
        assert!(!ping("10.9.0.77", to.addresses[0]) && !ping("fd00::77", to.addresses[1]));
    }
    assert!(node.counted("spoofed source") >= 6);
}

#[test]
fn a_bridge_or_tunnel_with_our_prefix_is_no_pod() {
    let mut node = Node::open_to_all();
    node.node
        .netns
        .run(|| {
            run("ip link add cni0 type bridge");
            run("ip link set cni0 up");
            run("ip link set eth0 master cni0");
            for address in ["192.0.2.1/24", "2001:db8::1/64"] {
                run(&format!("ip address delete {address} dev eth0"));
                let nodad = if address.contains(':') { "nodad" } else { "" };
                run(&format!("ip address add {address} dev cni0 {nodad}"));
            }
        })
        .unwrap();
    // The node's own packets are never filtered: they tell when the bridge forwards.
    assert!((0..10).any(|_| node.node.ping(node.outside.addresses[1])));
    assert!(
        all_pass(&node.a, &node.outside) && all_pass(&node.outside, &node.b) && all_pass(&node.outside, &node.node)
    );
    node.change(vec![Change::Remove(PolicyKey::Endpoint(node.endpoint_b().endpoint))]);
    assert!(!all_pass(&node.outside, &node.b) && all_pass(&node.a, &node.outside));
}

#[test]
fn a_pod_reaches_itself_through_its_node_whatever_its_policies() {
    let mut node = Node::open_to_all();
    let closed = |program: &mut DirectionProgram| *program = direction(vec![tier("default", &[], TierEnd::Deny)]);
    let mut program = node.endpoint_a();
    closed(&mut program.ingress);
    closed(&mut program.egress);
    node.commit(vec![PolicyItem::Endpoint(program)]);
    // A service whose only backend is the pod itself: the packet comes back through the same interface.
    node.nft(
        "add table ip svc; add chain ip svc pre { type nat hook prerouting priority -100; }; \
              add rule ip svc pre ip daddr 10.96.0.1 dnat to 10.9.0.1; \
              add chain ip svc post { type nat hook postrouting priority 100; }; \
              add rule ip svc post ip saddr 10.9.0.1 ip daddr 10.9.0.1 snat to 192.0.2.1",
    );
    node.node
        .netns
        .run(|| std::fs::write(format!("/proc/sys/net/ipv4/conf/{A}/route_localnet"), "1").unwrap())
        .unwrap();
    assert!(node.a.tcp("10.96.0.1".parse().unwrap(), 80));
    assert!(!node.a.tcp(node.b.addresses[0], 80) && !node.b.tcp(node.a.addresses[0], 80));
}

#[test]
fn staged_policies_count_and_drop_nothing() {
    let mut node = Node::open_to_all();
    let [strict, loose] = ["strict", "loose"].map(|name| chain_id(name, Direction::Ingress));
    let mut program = node.endpoint_b();
    program.ingress = DirectionProgram {
        enforced: Vec::new(),
        staged: Some(vec![
            tier("admin", &[&loose, &strict], TierEnd::Pass),
            tier("default", &[&strict], TierEnd::Deny),
        ]),
    };
    node.commit(vec![
        chain(&loose, vec![(Action::Pass, vec![port(Protocol::TCP, 81)])]),
        chain(
            &strict,
            vec![(Action::Deny, vec![port(Protocol::TCP, 80)]), (Action::Allow, vec![port(Protocol::UDP, 80)])],
        ),
        PolicyItem::Endpoint(program),
    ]);
    let b = node.b.addresses[0];
    assert!(all_pass(&node.a, &node.b) && node.a.tcp(b, 81));
    assert!(node.counted("NetworkPolicy shop/strict ingress spec.rules[0]") >= 2);
    assert!(node.counted("NetworkPolicy shop/strict ingress spec.rules[1]") >= 2);
    assert!(node.counted("NetworkPolicy shop/loose ingress spec.rules[0]") >= 1);
    // ICMP, and what was passed: nothing in the default tier matches it.
    assert!(node.counted(&format!("end of tier default ingress {B}")) >= 3);
}

#[test]
fn an_agent_that_starts_again_writes_nothing_and_cuts_nothing() {
    let mut node = Node::open_to_all();
    let web = chain_id("web", Direction::Ingress);
    let items = vec![
        chain(&web, vec![(Action::Allow, vec![port(Protocol::TCP, 80)])]),
        ingress(vec![tier("default", &[&web], TierEnd::Deny)], &node),
        PolicyItem::Endpoint(node.endpoint_a()),
    ];
    node.commit(items.clone());
    let mut stream = node.a.connect(node.b.addresses[0], 80);
    assert!(stream.echoes());
    node.restart();
    assert!(stream.echoes() && node.a.tcp(node.b.addresses[1], 80) && !node.a.tcp(node.b.addresses[0], 81));
    assert_eq!(node.commit(items).written, 0);
    assert!(stream.echoes());
}

#[test]
fn a_table_that_a_stranger_deletes_is_made_again_and_theirs_stay() {
    let mut node = Node::open_to_all();
    let web = chain_id("web", Direction::Ingress);
    node.commit(vec![
        chain(&web, vec![(Action::Allow, vec![port(Protocol::TCP, 80)])]),
        ingress(vec![tier("default", &[&web], TierEnd::Deny)], &node),
    ]);
    node.nft(
        "add table inet foreign; add chain inet foreign pol-egress; add rule inet foreign pol-egress counter accept",
    );
    let theirs = node.nft("list table inet foreign");
    let b = node.b.addresses[0];
    for deed in [
        "delete table inet cnidarian",
        "add table inet cnidarian { flags dormant; }",
        "flush chain inet cnidarian pol-ingress",
    ] {
        node.nft(deed);
        assert!(node.a.tcp(b, 81), "{deed} opens the pod");
        let drift = block_on(node.engine.resync()).unwrap();
        assert!(!drift.is_none() && drift.repair.failed.is_empty(), "{drift:?}");
        assert!(node.a.tcp(b, 80) && !node.a.tcp(b, 81), "after {deed}");
    }
    assert_eq!(node.nft("list table inet foreign"), theirs);
}

#[test]
fn a_watch_hears_what_strangers_do_to_ours_and_nothing_else() {
    let mut node = Node::new();
    let (engine, mut watch) =
        node.node.netns.run(|| policy_nftables::open_watched(&Config::default()).unwrap()).unwrap();
    node.engine = engine;
    node.commit(vec![PolicyItem::Endpoint(node.endpoint_a())]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut hears = |deed: &str| {
        if !deed.is_empty() {
            node.nft(deed);
        }
        let waited = async { tokio::time::timeout(Duration::from_millis(200), watch.changed()).await };
        runtime.block_on(waited).is_ok_and(|heard| heard.is_ok())
    };
    assert!(!hears(""), "our own writes");
    assert!(!hears("add chain inet cnidarian masq-other; add table inet foreign; add chain inet foreign pol-egress"));
    for deed in [
        "flush chain inet cnidarian pol-ingress",
        "delete element inet cnidarian pol-own4 { \"cni00000000000a\" . 10.9.0.1 }",
        "delete table inet cnidarian",
    ] {
        assert!(hears(deed), "{deed}");
    }
}

#[test]
fn a_rule_that_stays_keeps_its_count_when_another_changes() {
    let mut node = Node::open_to_all();
    let web = chain_id("web", Direction::Ingress);
    let rules = |last: u16| {
        vec![(Action::Allow, vec![port(Protocol::TCP, 80)]), (Action::Allow, vec![port(Protocol::TCP, last)])]
    };
    node.commit(vec![chain(&web, rules(81)), ingress(vec![tier("default", &[&web], TierEnd::Deny)], &node)]);
    let b = node.b.addresses[0];
    assert!(node.a.tcp(b, 80) && node.a.tcp(b, 81));
    node.commit(vec![chain(&web, rules(82))]);
    assert!(!node.a.tcp(b, 81) && node.a.tcp(b, 80));
    assert_eq!(node.counted("NetworkPolicy shop/web ingress spec.rules[0]"), 2);
    assert_eq!(node.counted("NetworkPolicy shop/web ingress spec.rules[1]"), 0);
}

#[test]
fn all_of_it_can_be_removed_and_the_nft_program_can_read_it_back() {
    let mut node = Node::open_to_all();
    for state in crate::conformance::states() {
        let state: Vec<_> = state.into_iter().map(Change::Put).collect();
        for change in state {
            let _some_are_not_acceptable = node.engine.stage(change);
        }
        block_on(node.engine.commit());
        let listed = node.nft("list table inet cnidarian");
        let fresh = NetNs::new().unwrap();
        let again = fresh
            .run(|| {
                crate::bed::nft(&listed).unwrap();
                crate::bed::nft("list table inet cnidarian").unwrap()
            })
            .unwrap();
        let without_counts = |text: &str| {
            let words: Vec<&str> = text.split_whitespace().filter(|word| word.parse::<u64>().is_err()).collect();
            words.join(" ")
        };
        assert_eq!(without_counts(&again), without_counts(&listed));
    }
    node.nft("add chain inet cnidarian masq-postrouting");
    node.node.netns.run(|| policy_nftables::clear().unwrap()).unwrap();
    assert!(!node.nft("list table inet cnidarian").contains("pol-"));
    assert!(all_pass(&node.a, &node.b));
}
