//! Counters of rules by the names that people know, after packets that are counted. Never the text of the nft program.

use crate::bed::block_on;
use crate::items::{chain, chain_id, direction, port, tier};
use crate::node::{B, Node};
use cni_core::backend::{Dropped, Meter, PolicyBackend};
use cni_core::flow::Reason;
use cni_core::policy::counters::{RuleCounter, RuleCounters};
use cni_core::policy::model::{Action, Direction, Protocol, TierEnd};
use cni_core::policy::program::{Clause, DirectionProgram, PolicyItem};
use std::sync::Arc;

fn reader(node: &Node) -> Arc<dyn RuleCounters> {
    let open = || block_on(policy_nftables::Nftables.open(&serde_json::Value::Null, None)).unwrap().counters.unwrap();
    node.node.netns.run(open).unwrap()
}

fn meter(node: &Node) -> Arc<dyn Meter> {
    let open = || block_on(policy_nftables::Nftables.open(&serde_json::Value::Null, None)).unwrap().meter.unwrap();
    node.node.netns.run(open).unwrap()
}

/// `tier|policy|rule|interface action` of what counted something, with the number of packets.
fn lines(counters: &[RuleCounter], staged: bool) -> Vec<String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let counted = counters.iter().filter(|one| one.staged == staged && one.packets > 0);
    let line = |one: &RuleCounter| {
        let (tier, policy, interface) = (text(&one.tier), text(&one.policy), text(&one.interface));
        assert!(one.bytes >= one.packets * 28, "{one:?}");
        format!("{tier}|{policy}|{}|{interface} {} {}", one.rule, one.action, one.packets)
    };
    counted.map(line).collect()
}

#[test]
fn each_rule_is_named_by_tier_and_policy_and_staged_ones_are_apart() {
    let mut node = Node::open_to_all();
    let [web, more, draft] = ["web", "more", "draft"].map(|name| chain_id(name, Direction::Ingress));
    let udp = |number| port(Protocol::UDP, number);
    let tiers = |chains: &[&cni_core::policy::program::ChainId]| {
        vec![tier("admin", &[&more], TierEnd::Pass), tier("default", chains, TierEnd::Deny)]
    };
    let mut program = node.endpoint_b();
    program.ingress = DirectionProgram { staged: Some(tiers(&[&web, &draft])), ..direction(tiers(&[&web])) };
    node.commit(vec![
        chain(&more, vec![(Action::Pass, vec![udp(80)]), (Action::Log, vec![Clause::default()])]),
        // Two clauses of one rule are one line.
        chain(&web, vec![(Action::Deny, vec![udp(7)]), (Action::Allow, vec![udp(80), udp(81)])]),
        chain(&draft, vec![(Action::Allow, vec![udp(82)]), (Action::Deny, vec![udp(83)])]),
        PolicyItem::Endpoint(program),
    ]);
    let reader = reader(&node);
    let b = node.b.addresses[0];
    for (port, passes) in [(80, true), (80, true), (81, true), (82, false), (83, false), (84, false)] {
        assert_eq!(node.a.udp(b, port), passes, "{port}");
    }
    let dropped: Vec<Dropped> =
        meter(&node).dropped().unwrap().into_iter().filter(|dropped| dropped.packets > 0).collect();
    assert_eq!(
        dropped,
        [Dropped::told(Some(Direction::Ingress), Reason::EndOfTier, 3)],
        "what is staged drops nothing"
    );
    let counters = reader.read().unwrap();
    let end = format!("default|-|end of tier|{B} deny 3");
    let [web, more, draft] = ["web", "more", "draft"].map(|name| format!("NetworkPolicy shop/{name}"));
    assert_eq!(
        lines(&counters, false).iter().filter(|line| !line.contains("no tier decides")).collect::<Vec<_>>(),
        [
            &format!("admin|{more}|spec.rules[0]|- pass 2"),
            &format!("admin|{more}|spec.rules[1]|- log 4"),
            &format!("default|{web}|spec.rules[1]|- allow 3"),
            &end,
        ]
    );
    assert_eq!(
        lines(&counters, true),
        [
            format!("admin|{more}|spec.rules[0]|- pass 2"),
            format!("admin|{more}|spec.rules[1]|- log 4"),
            format!("default|{draft}|spec.rules[0]|- allow 1"),
            format!("default|{draft}|spec.rules[1]|- deny 1"),
            format!("default|{web}|spec.rules[1]|- allow 3"),
            format!("default|-|end of tier|{B} deny 1"),
        ]
    );
    let order: Vec<&str> =
        counters.iter().filter(|one| !one.staged && one.policy.as_ref() == Some(&web)).map(|one| &*one.rule).collect();
    assert_eq!(order, ["spec.rules[0]", "spec.rules[1]"], "also rules that nothing met, in their order");
    // Who decides nothing here, and what is of no policy.
    assert!(counters.iter().any(|one| one.rule == "spoofed source" && one.tier.is_none() && one.packets == 0));
}
