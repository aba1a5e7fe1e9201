//! Changes of the configuration: applied to sessions that stand, wherever BGP allows it.

use super::bed::{SOON, announce, arrives, chain, chain_configs, goes, prefix};
use crate::config::{Aggregate, Bfd, Config};
use crate::policy::{Policy, RawPolicy};
use crate::speaker::{Effect, Output};
use crate::testkit::{Network, NodeId};
use crate::types::Community;
use std::sync::Arc;
use std::time::Duration;

fn apply(network: &mut Network, node: NodeId, config: Config) {
    network.with(node, |speaker, now, out| speaker.reconfigure(now, config, out)).unwrap().unwrap();
}

fn sessions(network: &Network, nodes: &[NodeId]) -> Vec<u64> {
    let peers = nodes.iter().flat_map(|node| network.speaker(*node).unwrap().peers());
    peers.map(|peer| peer.counters.sessions).collect()
}

fn policy(
    text: &str,
    make: impl FnOnce(&RawPolicy) -> Result<Policy, crate::policy::PolicyError>,
) -> Option<Arc<Policy>> {
    Some(Arc::new(make(&serde_json::from_str(text).unwrap()).unwrap()))
}

#[test]
fn policies_communities_prefixes_and_bfd_change_without_a_reset() {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    let other = announce(&mut network, nodes[0], "10.0.1.0/24");
    assert!(arrives(&mut network, nodes[2], first).is_some());
    assert!(arrives(&mut network, nodes[2], other).is_some());
    let before = sessions(&network, &nodes);
    let [_, two, _] = chain_configs();

    let mut changed = two.clone();
    let rejects = r#"{ "statements": [{ "if": { "prefixes": [{ "prefix": "10.0.1.0/24" }] }, "then": "reject" }],
        "default": "accept" }"#;
    changed.peers.get_mut("three").unwrap().export = policy(rejects, Policy::export);
    apply(&mut network, nodes[1], changed);
    assert!(goes(&mut network, nodes[2], other).is_some());
    assert!(network.fib(nodes[2]).contains_key(&first));

    let mut changed = two.clone();
    let tags = r#"{ "statements": [{ "set": { "communities": { "add": ["65002:7"] } }, "then": "accept" }],
        "default": "reject" }"#;
    changed.peers.get_mut("one").unwrap().import = policy(tags, Policy::import);
    apply(&mut network, nodes[1], changed);
    let has_tag = |network: &Network| {
        let explained = network.speaker(nodes[2]).unwrap().explain(&first);
        explained.is_some_and(|explained| explained.paths[0].received.has(Community(65_002 << 16 | 7)))
    };
    assert!(network.run_until(SOON, has_tag).is_some());
    assert!(arrives(&mut network, nodes[2], other).is_some(), "the export policy is gone");

    let mut changed = two.clone();
    changed.aggregates.insert(prefix("10.0.0.0/16"), Aggregate { summary_only: true });
    apply(&mut network, nodes[1], changed);
    assert!(arrives(&mut network, nodes[2], prefix("10.0.0.0/16")).is_some());
    assert!(goes(&mut network, nodes[2], first).is_some());
    apply(&mut network, nodes[1], two.clone());
    assert!(arrives(&mut network, nodes[2], first).is_some());
    assert!(goes(&mut network, nodes[2], prefix("10.0.0.0/16")).is_some());

    let mut changed = two;
    changed.peers.get_mut("three").unwrap().bfd = Some(Bfd { interval: Duration::from_millis(100), multiplier: 3 });
    let asked = network.with(nodes[1], |speaker, now, _| {
        let mut out = Vec::new();
        speaker.reconfigure(now, changed, &mut out).unwrap();
        out.iter().any(|output| matches!(output, Output::StartBfd { .. }))
    });
    assert_eq!(asked, Some(true));
    network.run_for(SOON);
    assert_eq!(sessions(&network, &nodes), before);
}

#[test]
fn what_needs_a_reset_is_said_before_and_done_to_that_session_only() {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(arrives(&mut network, nodes[2], first).is_some());
    let [_, mut two, _] = chain_configs();
    two.peers.get_mut("three").unwrap().families.pop_last();
    let plan = network.speaker(nodes[1]).unwrap().plan(&two).unwrap();
    let changed: Vec<_> = plan.changed.into_iter().collect();
    assert_eq!(changed, [("three".into(), Effect::Reset { because: "families" })]);
    apply(&mut network, nodes[1], two);
    network.run_for(SOON);
    assert_eq!(sessions(&network, &nodes), [1, 1, 2, 2]);
    assert!(network.fib(nodes[2]).contains_key(&first));
}

#[test]
fn a_configuration_that_cannot_be_changes_nothing() {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    assert!(arrives(&mut network, nodes[2], first).is_some());
    let [_, mut two, _] = chain_configs();
    two.peers.remove("three");
    two.peers.get_mut("one").unwrap().port = 0;
    let refused =
        network.with(nodes[1], |speaker, now, out| speaker.reconfigure(now, two, out).unwrap_err().to_string());
    assert_eq!(refused.as_deref(), Some("peer one.port: is 0; must be 1 to 65535"));
    network.run_for(SOON);
    assert_eq!(sessions(&network, &nodes), [1, 1, 1, 1]);
}

#[test]
fn a_peer_that_is_removed_takes_its_routes_along_and_others_keep_theirs() {
    let (mut network, nodes) = chain();
    let first = announce(&mut network, nodes[0], "10.0.0.0/24");
    let last = announce(&mut network, nodes[2], "10.0.2.0/24");
    assert!(arrives(&mut network, nodes[2], first).is_some());
    assert!(arrives(&mut network, nodes[1], last).is_some());
    let [_, mut two, _] = chain_configs();
    two.peers.remove("one");
    apply(&mut network, nodes[1], two);
    assert!(goes(&mut network, nodes[2], first).is_some());
    assert!(network.fib(nodes[1]).contains_key(&last));
}
