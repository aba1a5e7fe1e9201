//! What is logged, read as a flow log will read it: from the group, by netlink. Never the rules' text.

use crate::bed::block_on;
use crate::items::{chain, chain_id, direction, port, tier};
use crate::node::{B, Node};
use cni_core::policy::model::{Action, Direction, Protocol, TierEnd};
use cni_core::policy::program::{Clause, DirectionProgram, PolicyItem};
use net_linux::marks;
use net_linux::nflog::{LogEvent, LogReader};
use policy_nftables::names::{Tag, read_tag};
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
