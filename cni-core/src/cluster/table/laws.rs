//! The laws of [`PeerTable`], against a model that computes everything anew from what is in force.

use super::PeerTable;
use crate::backend::{Change, Item};
use crate::cluster::{ClusterProblem, NotForPods};
use crate::model::{Encapsulation, LocalBlock, NetworkItem, NetworkKey, NodeName, Peer, PeerPrefix};
use crate::store::resources::Node;
use crate::store::{Kind, Object, ObjectKey};
use ipnet::{IpNet, Ipv4Net};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

type Route = (NodeName, IpNet);
type Known = BTreeMap<NetworkKey, NetworkItem>;

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn node(text: &str, v4: Option<Ipv4Addr>, pod_cidrs: &[IpNet]) -> Node {
    let mut object = Object::new(ObjectKey::cluster(Kind::NODE, text));
    let attributes = v4.map(|v4| ("vtep-mac".into(), format!("mac of {v4}").into())).into_iter().collect();
    Node::publish(&mut object, v4, None, "vxlan", &attributes);
    object.metadata.labels.insert("zone".to_owned(), format!("zone of {v4:?}"));
    object.set("spec", &json!({"podCIDRs": pod_cidrs})).unwrap();
    Node::try_from(&object).unwrap()
}

/// What a datapath knows after some changes.
fn follow(known: &mut Known, table: &mut PeerTable) {
    for change in table.changes() {
        match change {
            Change::Put(item) => drop(known.insert(item.key(), item)),
            Change::Remove(key) => assert!(known.remove(&key).is_some(), "{key} was removed, but was not known"),
            _ => panic!("a table gives puts and removes only"),
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Node(Node),
    NodeGone(NodeName),
    Block(IpNet, Option<&'static str>, Vec<Route>),
    BlockGone(IpNet),
    Pool(&'static str, Option<Encapsulation>),
    Underlay(Option<Ipv4Net>),
    NodeAddress(IpNet, Option<IpAddr>),
    Drain,
}

fn take(table: &mut PeerTable, step: &Step, known: &mut Known) {
    match step {
        Step::Node(node) => table.put_node(node),
        Step::NodeGone(name) => table.remove_node(name),
        Step::Block(block, pool, routes) => table.put_block(*block, *pool, routes),
        Step::BlockGone(block) => table.remove_block(*block),
        Step::Pool(name, encapsulation) => table.set_pool(name, *encapsulation),
        Step::Underlay(v4) => table.set_underlay(*v4, None),
        Step::NodeAddress(block, address) => table.set_node_address(*block, *address),
        Step::Drain => follow(known, table),
    }
}

/// What is in force after some steps.
#[derive(Default, Clone)]
struct InForce {
    nodes: BTreeMap<NodeName, Node>,
    blocks: BTreeMap<IpNet, (Option<&'static str>, Vec<Route>)>,
    pools: BTreeMap<&'static str, Option<Encapsulation>>,
    node_addresses: BTreeMap<IpNet, IpAddr>,
    v4: Option<Ipv4Net>,
}

impl InForce {
    fn take(&mut self, step: &Step) {
        match step.clone() {
            Step::Node(node) => drop(self.nodes.insert(node.name.clone(), node)),
            Step::NodeGone(name) => drop(self.nodes.remove(&name)),
            Step::Block(block, pool, routes) => drop(self.blocks.insert(block, (pool, routes))),
            Step::BlockGone(block) => drop(self.blocks.remove(&block)),
            Step::Pool(name, encapsulation) => drop(self.pools.insert(name, encapsulation)),
            Step::Underlay(v4) => self.v4 = v4,
            Step::NodeAddress(block, Some(address)) => drop(self.node_addresses.insert(block, address)),
            Step::NodeAddress(block, None) => drop(self.node_addresses.remove(&block)),
            Step::Drain => {}
        }
    }

    /// One step for each thing in force, the shortest history.
    fn steps(&self) -> Vec<Step> {
        let nodes = self.nodes.values().map(|node| Step::Node(node.clone()));
        let blocks = self.blocks.iter().map(|(block, (pool, routes))| Step::Block(*block, *pool, routes.clone()));
        let pools = self.pools.iter().map(|(name, encapsulation)| Step::Pool(name, *encapsulation));
        let own = self.node_addresses.iter().map(|(block, address)| Step::NodeAddress(*block, Some(*address)));
        nodes.chain(blocks).chain(pools).chain(own).chain([Step::Underlay(self.v4)]).collect()
    }

    /// What a datapath must know, computed anew: for each prefix the winner.
    fn known(&self, local: &NodeName) -> Known {
        let mut winners: BTreeMap<IpNet, (u8, IpNet, Option<&'static str>, NodeName)> = BTreeMap::new();
        let mut claim = |prefix: IpNet, claim: (u8, IpNet, Option<&'static str>, NodeName)| {
            let winner = winners.entry(prefix).or_insert_with(|| claim.clone());
            if (claim.0, claim.1, &claim.3) < (winner.0, winner.1, &winner.3) {
                *winner = claim;
            }
        };
        for (block, (pool, routes)) in &self.blocks {
            for (node, prefix) in routes.iter().filter(|(_, prefix)| block.contains(prefix)) {
                claim(*prefix, (0, *block, *pool, node.clone()));
            }
        }
        for node in self.nodes.values() {
            for prefix in &node.pod_cidrs {
                claim(*prefix, (1, *prefix, None, node.name.clone()));
            }
        }
        let encapsulation = |pool: Option<&str>| pool.and_then(|pool| self.pools.get(pool).copied().flatten());
        let mut items = Vec::new();
        for (prefix, (_, _, pool, _)) in winners.iter().filter(|(_, (.., node))| node == local) {
            if prefix.prefix_len() == prefix.max_prefix_len() {
                continue;
            }
            items.push(NetworkItem::Block(LocalBlock {
                prefix: *prefix,
                pool: pool.map(str::to_owned),
                encapsulation: encapsulation(*pool),
                node_address: self.node_addresses.get(prefix).copied(),
            }));
        }
        for (name, node) in &self.nodes {
            if name == local || node.v4.is_none() || (self.v4.is_some() && node.v4 == self.v4.map(|net| net.addr())) {
                continue;
            }
            let special = net("169.254.0.0/16");
            let clashes = |prefix: &IpNet| {
                let mut never = self.v4.map(|net| IpNet::V4(net.trunc())).into_iter().chain([special]);
                never.any(|never| never.contains(prefix) || prefix.contains(&never))
                    || node.v4.is_some_and(|own| prefix.contains(&IpAddr::V4(own)))
            };
            let own = winners.iter().filter(|(prefix, (.., winner))| winner == name && !clashes(prefix));
            let prefix = |(prefix, claim): (&IpNet, &(u8, IpNet, Option<&str>, NodeName))| PeerPrefix {
                prefix: *prefix,
                encapsulation: encapsulation(claim.2),
            };
            items.push(NetworkItem::Peer(Peer {
                node: name.clone(),
                v4: node.v4,
                v6: None,
                prefixes: own.map(prefix).collect(),
                labels: node.labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect(),
                attributes: node.attributes.clone().into(),
            }));
        }
        items.into_iter().map(|item| (item.key(), item)).collect()
    }
}

fn any_name() -> impl Strategy<Value = NodeName> {
    (0..4_u8).prop_map(|number| name(&format!("node-{number}")))
}

fn any_v4() -> impl Strategy<Value = Option<Ipv4Addr>> {
    proptest::option::weighted(0.8, (0..5_u8).prop_map(|last| Ipv4Addr::new(192, 0, 2, last)))
}

fn any_underlay() -> impl Strategy<Value = Option<Ipv4Net>> {
    (any_v4(), proptest::sample::select(vec![24, 30, 32]))
        .prop_map(|(v4, length)| v4.map(|v4| Ipv4Net::new(v4, length).unwrap()))
}

fn any_prefix() -> impl Strategy<Value = IpNet> {
    let prefixes = [
        "10.0.0.0/24",
        "10.0.0.0/26",
        "10.0.0.64/26",
        "10.0.1.0/24",
        "10.0.0.5/32",
        "10.0.0.0/32",
        "fd00::/122",
        "192.0.2.64/26",
        "192.0.2.2/31",
        "169.254.9.0/24",
    ];
    proptest::sample::select(prefixes.map(net).to_vec())
}

fn any_pool() -> impl Strategy<Value = &'static str> {
    proptest::sample::select(vec!["red", "blue"])
}

fn any_step() -> impl Strategy<Value = Step> {
    let encapsulation = proptest::sample::select(vec![None, Some(Encapsulation::Always), Some(Encapsulation::Never)]);
    let routes = proptest::collection::vec((any_name(), any_prefix()), 0..3);
    prop_oneof![
        4 => (any_name(), any_v4(), proptest::collection::vec(any_prefix(), 0..3))
            .prop_map(|(name, v4, cidrs)| Step::Node(node(name.as_str(), v4, &cidrs))),
        2 => any_name().prop_map(Step::NodeGone),
        4 => (any_prefix(), proptest::option::of(any_pool()), routes).prop_map(|(block, pool, routes)| Step::Block(block, pool, routes)),
        2 => any_prefix().prop_map(Step::BlockGone),
        1 => (any_pool(), encapsulation).prop_map(|(pool, encapsulation)| Step::Pool(pool, encapsulation)),
        1 => any_underlay().prop_map(Step::Underlay),
        1 => (any_prefix(), proptest::option::of(any_prefix().prop_map(|prefix| prefix.addr())))
            .prop_map(|(block, address)| Step::NodeAddress(block, address)),
        2 => Just(Step::Drain),
    ]
}

proptest! {
    /// Laws 1, 4, 5 and 6.
    #[test]
    fn any_history_of_one_state_gives_the_same_table(
        (steps, shuffled) in proptest::collection::vec(any_step(), 0..60).prop_flat_map(|steps| {
            let mut in_force = InForce::default();
            steps.iter().for_each(|step| in_force.take(step));
            (Just(steps), Just(in_force.steps()).prop_shuffle())
        })
    ) {
        let local = name("node-1");
        let run = |steps: &[Step]| {
            let (mut table, mut known) = (PeerTable::new(local.clone(), None, None), Known::new());
            steps.iter().chain([&Step::Drain]).for_each(|step| take(&mut table, step, &mut known));
            (known, table.problems(), table.nodes().cloned().collect::<Vec<_>>())
        };
        let mut in_force = InForce::default();
        steps.iter().for_each(|step| in_force.take(step));
        let long = run(&steps);
        prop_assert_eq!(&long.0, &in_force.known(&local));
        prop_assert_eq!(&long, &run(&shuffled));
    }

    /// Law 3.
    #[test]
    fn what_is_in_force_already_gives_no_change(steps in proptest::collection::vec(any_step(), 0..30)) {
        let (mut table, mut known, mut in_force) = (PeerTable::new(name("node-1"), None, None), Known::new(), InForce::default());
        for step in &steps {
            take(&mut table, step, &mut known);
            in_force.take(step);
        }
        follow(&mut known, &mut table);
        for step in in_force.steps() {
            take(&mut table, &step, &mut known);
        }
        let changes = table.changes();
        prop_assert!(changes.is_empty(), "{changes:?}");
    }
}

#[test]
fn of_two_nodes_with_one_pod_cidr_the_lesser_name_gets_it_in_either_order() {
    let (a, b) = (
        node("a", Some(Ipv4Addr::new(192, 0, 2, 1)), &[net("10.0.0.0/24")]),
        node("b", Some(Ipv4Addr::new(192, 0, 2, 2)), &[net("10.0.0.0/24")]),
    );
    for order in [[&a, &b], [&b, &a]] {
        let (mut table, mut known) = (PeerTable::new(name("c"), None, None), Known::new());
        for node in order {
            table.put_node(node);
            follow(&mut known, &mut table);
        }
        let Some(NetworkItem::Peer(loser)) = known.get(&NetworkKey::Peer(name("b"))) else { panic!("no peer b") };
        assert_eq!(loser.prefixes, []);
        let (prefix, winner, loser) = (net("10.0.0.0/24"), name("a"), name("b"));
        assert_eq!(table.problems(), [ClusterProblem::SharedPrefix { prefix, winner, loser }]);
        table.remove_node(&name("a"));
        follow(&mut known, &mut table);
        let Some(NetworkItem::Peer(heir)) = known.get(&NetworkKey::Peer(name("b"))) else { panic!("no peer b") };
        assert_eq!((heir.prefixes.len(), table.problems().len()), (1, 0));
    }
}

#[test]
fn nodes_without_an_address_or_with_ours_are_no_peers_and_are_reported() {
    let own = Ipv4Addr::new(192, 0, 2, 9);
    let (mut table, mut known) = (PeerTable::new(name("local"), Some(own.into()), None), Known::new());
    table.put_node(&node("silent", None, &[]));
    table.put_node(&node("thief", Some(own), &[]));
    table.put_node(&node("local", Some(Ipv4Addr::new(192, 0, 2, 8)), &[]));
    follow(&mut known, &mut table);
    assert_eq!(known, Known::new());
    let problems: Vec<String> = table.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "this node's own object local publishes 192.0.2.8, but the underlay address here is 192.0.2.9; is another agent running under this name?",
            "node silent has no underlay address; its agent writes the annotation cnidarian.io/v4-address or v6-address, or set an InternalIP in status.addresses",
            "node thief publishes 192.0.2.9, which is this node's own underlay address; correct its address or delete it",
        ]
    );
    table.set_underlay(Some("192.0.2.7/24".parse().unwrap()), Some("2001:db8::7/64".parse().unwrap()));
    follow(&mut known, &mut table);
    assert!(known.contains_key(&NetworkKey::Peer(name("thief"))));
}

#[test]
fn a_bad_block_of_a_peer_is_left_out_alone_and_reported() {
    let own = Some("192.0.2.1/24".parse().unwrap());
    let (mut table, mut known) = (PeerTable::new(name("local"), own, None), Known::new());
    let remote = Some(Ipv4Addr::new(198, 51, 100, 2));
    let bad = ["127.0.0.0/24", "192.0.2.128/25", "198.51.100.0/26"].map(net);
    table.put_node(&node("peer", remote, &[bad[0], bad[1], bad[2], net("10.0.0.0/24")]));
    follow(&mut known, &mut table);
    let prefixes = |known: &Known| match known.get(&NetworkKey::Peer(name("peer"))) {
        Some(NetworkItem::Peer(peer)) => peer.prefixes.iter().map(|prefix| prefix.prefix).collect::<Vec<_>>(),
        other => panic!("no peer: {other:?}"),
    };
    assert_eq!(prefixes(&known), [net("10.0.0.0/24")]);
    let unusable = |prefix, other: &str, what| ClusterProblem::UnusablePrefix {
        node: name("peer"),
        prefix,
        other: net(other),
        what,
    };
    assert_eq!(
        table.problems(),
        [
            unusable(bad[0], "127.0.0.0/8", NotForPods::Special),
            unusable(bad[1], "192.0.2.0/24", NotForPods::Underlay),
            unusable(bad[2], "198.51.100.2/32", NotForPods::OwnAddress),
        ]
    );
    // Where the underlay is another, so is what is on it.
    table.set_underlay(Some("10.0.0.7/16".parse().unwrap()), None);
    follow(&mut known, &mut table);
    assert_eq!(prefixes(&known), [bad[1]]);
}

#[test]
fn a_change_among_5000_nodes_with_20_blocks_each_concerns_one_peer() {
    let mut table = PeerTable::new(name("node-0"), None, None);
    let block = |node: u32, number: u32| {
        IpNet::new(Ipv4Addr::from(0x0a00_0000 + (node * 20 + number) * 64).into(), 26).unwrap()
    };
    for number in 0..5000_u32 {
        let this = node(&format!("node-{number}"), Some(Ipv4Addr::from(0xc000_0000 + number)), &[]);
        table.put_node(&this);
        for count in 0..20 {
            table.put_block(block(number, count), Some("pool"), &[(this.name.clone(), block(number, count))]);
        }
    }
    assert_eq!(table.changes().len(), 20 + 4999);
    assert_eq!(table.blocks().len(), 100_000);
    table.remove_block(block(77, 3));
    let changes = table.changes();
    let [Change::Put(NetworkItem::Peer(peer))] = &changes[..] else { panic!("{changes:?}") };
    assert_eq!((peer.node.as_str(), peer.prefixes.len()), ("node-77", 19));
    let borrowed = net("10.0.0.9/32");
    table.put_block(block(0, 0), Some("pool"), &[(name("node-0"), block(0, 0)), (name("node-5"), borrowed)]);
    assert_eq!(table.changes().len(), 1, "a borrowed address concerns its borrower only");
    let named = BTreeSet::from([block(0, 0)]);
    assert!(table.blocks().is_superset(&named));
}
