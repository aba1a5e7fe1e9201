//! What is logged, read from the group by netlink, and what an agent hears of it. Never the rules' text.

use crate::bed::block_on;
use crate::items::{chain, chain_id, direction, port, tier};
use crate::node::{A, B, Node};
use cni_core::backend::PolicyBackend as _;
use cni_core::flow::{Event, Heard, Reason, Verdict};
use cni_core::policy::model::{Action, Direction, Protocol, TierEnd};
use cni_core::policy::program::{Clause, DirectionProgram, PolicyItem};
use net_linux::marks;
use net_linux::nflog::{LogEvent, LogReader};
use policy_nftables::Nftables;
use policy_nftables::names::{Tag, read_tag};
use serde_json::json;
use std::time::Duration;

/// The words and names of what logged datagrams, by their port, in order, until there are so many.
fn logged(reader: &mut LogReader, most: usize) -> Vec<(u16, String, Tag)> {
    let mut found = Vec::new();
    let wait = async {
        while found.len() < most {
            for event in reader.next().await.unwrap() {
                let LogEvent::Packet(record) = event else { panic!("{event:?}") };
                // IPv4 without options, then UDP: only what it is told to copy is there.
                if record.packet[0] == 0x45 && record.packet[9] == Protocol::UDP.0 {
                    assert!(record.packet.len() <= 128, "{record:?}");
                    let to = u16::from_be_bytes([record.packet[22], record.packet[23]]);
                    let (word, name) = record.prefix.split_once(' ').unwrap();
                    found.push((to, word.to_owned(), read_tag(name)));
                }
            }
        }
    };
    let waited = block_on(async { tokio::time::timeout(Duration::from_secs(10), wait).await });
    assert!(waited.is_ok(), "heard only {found:?}");
    found
}

#[test]
fn a_record_names_the_policy_and_the_rule_and_at_its_end_the_tier() {
    let mut node = Node::open_to_all();
    let [web, draft] = ["web", "draft"].map(|name| chain_id(name, Direction::Ingress));
    let mut program = node.endpoint_b();
    program.ingress = DirectionProgram {
        staged: Some(vec![tier("default", &[&web, &draft], TierEnd::Deny)]),
        ..direction(vec![tier("default", &[&web], TierEnd::Deny)])
    };
    let of = |number| vec![port(Protocol::UDP, number)];
    node.commit(vec![
        chain(&web, vec![(Action::Log, of(80)), (Action::Allow, of(80)), (Action::Deny, of(81))]),
        chain(&draft, vec![(Action::Deny, vec![Clause::default()])]),
        PolicyItem::Endpoint(program),
    ]);
    let mut reader = node.node.netns.run(|| LogReader::open(marks::POLICY_LOG_GROUP, 256).unwrap()).unwrap();
    let b = node.b.addresses[0];
    assert!(node.a.udp(b, 80) && !node.a.udp(b, 81) && !node.a.udp(b, 82));
    let rule = |name: &str, number: usize| Tag {
        policy: Some(format!("NetworkPolicy shop/{name}")),
        direction: Some(Direction::Ingress),
        rule: format!("spec.rules[{number}]"),
        ..Tag::default()
    };
    let end = Tag {
        tier: Some("default".to_owned()),
        policy: None,
        direction: Some(Direction::Ingress),
        rule: "end of tier".to_owned(),
        interface: Some(B.to_owned()),
    };
    // First the dry run, then what decides. What is allowed is not logged.
    let expected = [
        (80, "log", rule("web", 0)),
        (80, "log", rule("web", 0)),
        (81, "would-deny", rule("web", 2)),
        (81, "deny", rule("web", 2)),
        (82, "would-deny", rule("draft", 0)),
        (82, "deny", end),
    ];
    assert_eq!(logged(&mut reader, 6), expected.map(|(to, word, tag)| (to, word.to_owned(), tag)));
}

#[test]
fn the_source_tells_each_decision_once_with_the_dry_run_apart_and_a_restart_changes_no_rule() {
    let mut node = Node::open_to_all();
    let open = |node: &Node, flows: &str| {
        let section = json!({"flows": flows, "log": {"what": "none"}});
        node.node.netns.run(|| block_on(Nftables.open(&section, None)).unwrap()).unwrap()
    };
    let parts = open(&node, "all");
    node.engine = parts.engine;
    let mut source = parts.flows.unwrap();
    let [web, draft] = ["web", "draft"].map(|name| chain_id(name, Direction::Ingress));
    let mut program = node.endpoint_b();
    program.ingress = DirectionProgram {
        staged: Some(vec![tier("default", &[&web, &draft], TierEnd::Deny)]),
        ..direction(vec![tier("default", &[&web], TierEnd::Deny)])
    };
    let of = |number| vec![port(Protocol::UDP, number)];
    let a = node.endpoint_a();
    let items = [
        chain(&web, vec![(Action::Log, of(80)), (Action::Allow, of(80)), (Action::Deny, of(81))]),
        chain(&draft, vec![(Action::Deny, vec![Clause::default()])]),
        PolicyItem::Endpoint(program),
        PolicyItem::Endpoint(a),
    ];
    node.commit(items.to_vec());
    let b = node.b.addresses[0];
    // An answer belongs to its connection: it is not told.
    assert!(node.a.udp(b, 80) && !node.a.udp(b, 81) && !node.a.udp(b, 82));
    let mut told: Vec<Event> = Vec::new();
    let wait = async {
        while told.len() < 10 {
            let heard = source.next().await.unwrap();
            let events = heard.into_iter().map(|heard| match heard {
                Heard::Event(event) => *event,
                Heard::Lost(events) => panic!("{events} lost"),
            });
            told.extend(events.filter(|event| event.packet.is_some_and(|packet| packet.protocol == Protocol::UDP)));
        }
    };
    let waited = block_on(async { tokio::time::timeout(Duration::from_secs(10), wait).await });
    assert!(waited.is_ok(), "heard only {told:?}");
    let short = told.iter().map(|event| {
        assert_eq!((event.input.as_deref(), event.output.as_deref()), (Some(A), Some(B)), "{event:?}");
        let (_, port) = event.packet.unwrap().ports.unwrap();
        (port, event.direction.unwrap(), event.verdict, event.reason, event.by.policy.as_deref(), &*event.by.rule)
    });
    let (inward, outward) = (Direction::Ingress, Direction::Egress);
    let left = |port| (port, outward, Verdict::Allowed, None, None, "no tier decides");
    let [by_web, by_draft] = [Some("NetworkPolicy shop/web"), Some("NetworkPolicy shop/draft")];
    let rule = Some(Reason::Rule);
    let expected = [
        left(80),
        (80, inward, Verdict::WouldAllow, None, by_web, "spec.rules[1]"),
        (80, inward, Verdict::Logged, None, by_web, "spec.rules[0]"),
        (80, inward, Verdict::Allowed, None, by_web, "spec.rules[1]"),
        left(81),
        (81, inward, Verdict::WouldDeny, rule, by_web, "spec.rules[2]"),
        (81, inward, Verdict::Denied, rule, by_web, "spec.rules[2]"),
        left(82),
        (82, inward, Verdict::WouldDeny, rule, by_draft, "spec.rules[0]"),
        (82, inward, Verdict::Denied, Some(Reason::EndOfTier), None, "end of tier"),
    ];
    assert_eq!(short.collect::<Vec<_>>(), expected);
    // One reader for a group: a second engine enforces all the same, and says why it hears nothing.
    let second = open(&node, "all");
    assert!(block_on(second.flows.unwrap().next()).unwrap_err().to_string().contains("another reader"));
    node.engine = second.engine;
    assert_eq!(node.commit(items.to_vec()).written, 0, "what is logged is read back as it was written");
    node.engine = open(&node, "none").engine;
    assert!(node.commit(items.to_vec()).written > 0);
    assert!(!node.nft("list table inet cnidarian").contains("group 204"));
}
