//! Connections that are open while rules change. Never a new connection where an old one can tell.

use crate::bed::block_on;
use crate::items::{addresses, chain, chain_id, direction, member, port, tier, within};
use crate::node::Node;
use cni_core::backend::Change;
use cni_core::policy::model::{Action, Direction, Family, Protocol, TierEnd};
use cni_core::policy::program::{Clause, PolicyItem, PolicyKey, Side};
use net_linux::conntrack::Conntrack;

fn isolate_b(node: &Node, chain: &cni_core::policy::program::ChainId) -> PolicyItem {
    let mut program = node.endpoint_b();
    program.ingress = direction(vec![tier("default", &[chain], TierEnd::Deny)]);
    PolicyItem::Endpoint(program)
}

fn flows(node: &Node) -> Vec<net_linux::conntrack::Flow> {
    node.node.netns.run(|| Conntrack::open().unwrap().list().unwrap()).unwrap()
}

#[test]
fn what_is_denied_now_is_cut_in_both_directions_and_what_is_allowed_goes_on() {
    let mut node = Node::open_to_all();
    let web = chain_id("web", Direction::Ingress);
    let [v4, v6] = node.b.addresses;
    let mut denied = [node.a.connect(v4, 81), node.a.connect(v6, 81), node.outside.connect(v4, 81)];
    let mut allowed = [node.a.connect(v4, 80), node.a.connect(v6, 80), node.b.connect(node.a.addresses[0], 81)];
    let datagrams = node.a.datagrams(v4, 81);
    let mut own_node = node.node.connect(v4, 81);
    assert!(denied.iter_mut().chain(&mut allowed).all(|stream| stream.echoes()) && datagrams.echoes());
    let allow_80 = vec![(Action::Allow, vec![port(Protocol::TCP, 80)])];
    node.commit(vec![chain(&web, allow_80), isolate_b(&node, &web)]);
    assert!(denied.iter_mut().all(|stream| !stream.echoes()) && !datagrams.echoes());
    assert!(node.counted("denied since it was opened") > 0);
    assert!(allowed.iter_mut().all(|stream| stream.echoes()) && own_node.echoes());
    // It is not forgotten, so that it goes on when it is allowed again.
    let allow_all = vec![(Action::Allow, vec![Clause::default()])];
    node.commit(vec![chain(&web, allow_all)]);
    assert!(denied.iter_mut().all(|stream| stream.resumes()) && datagrams.echoes());
    // Likewise when it is the program of the endpoint that changes.
    node.commit(vec![chain(&web, Vec::new())]);
    assert!(!allowed[0].echoes() && allowed[2].echoes());
    let program = PolicyItem::Endpoint(node.endpoint_b());
    node.commit(vec![program]);
    assert!(allowed[0].resumes());
}

#[test]
fn a_member_that_goes_takes_its_connections_along_and_one_that_comes_may_too() {
    let mut node = Node::open_to_all();
    let web = chain_id("web", Direction::Ingress);
    let (friends, foes) = (addresses("f1", Family::V4), addresses("f2", Family::V4));
    let of = |set: &_| vec![within(Side::Source, set)];
    node.commit(vec![
        PolicyItem::Set(friends.clone()),
        PolicyItem::Set(foes.clone()),
        member(&friends, "10.9.0.1"),
        member(&friends, "192.0.2.9"),
        chain(&web, vec![(Action::Deny, of(&foes)), (Action::Allow, of(&friends))]),
        isolate_b(&node, &web),
    ]);
    let to = node.b.addresses[0];
    let (mut from_a, mut from_outside) = (node.a.connect(to, 80), node.outside.connect(to, 80));
    node.change(vec![Change::Remove(cni_core::backend::Item::key(&member(&friends, "10.9.0.1")))]);
    assert!(!from_a.echoes() && from_outside.echoes());
    node.commit(vec![member(&foes, "192.0.2.9"), member(&friends, "10.9.0.1")]);
    assert!(from_a.resumes() && !from_outside.echoes());
}

#[test]
fn connections_of_an_endpoint_that_is_gone_are_forgotten() {
    let mut node = Node::open_to_all();
    let (b, outside) = (node.b.addresses[0], node.outside.addresses[0]);
    let (_in, _out, mut other) = (node.a.connect(b, 80), node.b.connect(outside, 80), node.a.connect(outside, 80));
    node.change(vec![Change::Remove(PolicyKey::Endpoint(node.endpoint_b().endpoint))]);
    let of_b = |flow: &net_linux::conntrack::Flow| flow.original.source == b || flow.original.destination == b;
    assert!(!flows(&node).iter().any(of_b));
    assert!(other.echoes());
}

#[test]
fn what_was_opened_while_the_table_was_gone_or_the_agent_away_is_cut() {
    let mut node = Node::open_to_all();
    let web = chain_id("web", Direction::Ingress);
    let items = vec![chain(&web, Vec::new()), isolate_b(&node, &web), PolicyItem::Endpoint(node.endpoint_a())];
    node.commit(items.clone());
    node.nft("delete table inet cnidarian");
    let mut sneaked = node.a.connect(node.b.addresses[0], 80);
    let drift = block_on(node.engine.resync()).unwrap();
    assert!(drift.repair.failed.is_empty(), "{drift:?}");
    assert!(!sneaked.echoes());
    // Killed after the rules were written and before connections were looked at.
    node.commit(vec![chain(&web, vec![(Action::Allow, vec![Clause::default()])])]);
    let mut open = node.a.connect(node.b.addresses[0], 80);
    node.nft("flush chain inet cnidarian pol-p-in-shop/web-8ce3b400");
    node.restart();
    node.commit(items);
    assert!(!open.echoes());
}
