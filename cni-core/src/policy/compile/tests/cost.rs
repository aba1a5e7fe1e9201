//! What a change says to engines: only what it touches.

use super::{app, endpoint, pod, policy, put};
use crate::backend::Change;
use crate::policy::compile::Compiler;
use crate::policy::model::*;
use crate::policy::program::{Member, PolicyChange, PolicyItem, PolicyKey};
use crate::policy::world::ModelChange;
use std::sync::Arc;

/// A server on this node that admits clients, and thousands of other pods elsewhere.
fn cluster() -> Compiler {
    let mut compiler = Compiler::new("here");
    for number in 0..5_000 {
        let address = format!("10.1.{}.{}", number / 250, number % 250);
        compiler.apply(put(pod(&format!("p{number}"), &format!("app{}", number % 500), &address, "there")));
    }
    compiler.apply(put(pod("server", "server", "10.0.0.1", "here")));
    compiler.put_endpoint(endpoint("server", "10.0.0.1"));
    for number in 0..20 {
        let clients = Peer::pods(Selector::Any(vec![app(&format!("app{number}")), app("client")]));
        let rule = Rule { source: clients, ..Rule::new("r", Action::Allow) };
        let mut one = policy(&format!("p{number}"), Direction::Ingress, vec![rule]);
        one.order = Order::at(number);
        compiler.apply(ModelChange::PutPolicy(Arc::new(one)));
    }
    assert!(!compiler.drain().is_empty());
    compiler
}

fn describe(changes: Vec<PolicyChange>) -> Vec<String> {
    let describe = |change: PolicyChange| match change {
        Change::Put(PolicyItem::Member(_, Member::Address(address))) => format!("+ {address}"),
        Change::Remove(PolicyKey::Member(_, Member::Address(address))) => format!("- {address}"),
        Change::Put(PolicyItem::Endpoint(program)) => format!("endpoint {}", program.endpoint),
        Change::Put(PolicyItem::Chain(chain)) => format!("chain {}", chain.id),
        Change::Remove(key) => format!("no {key}"),
        other => format!("{other:?}"),
    };
    changes.into_iter().map(describe).collect()
}

#[test]
fn a_pod_is_one_member_of_each_set_that_it_is_in() {
    let mut compiler = cluster();
    compiler.apply(put(pod("new", "app3", "10.2.0.1", "there")));
    assert_eq!(describe(compiler.drain()), ["+ 10.2.0.1"]);
    compiler.apply(put(pod("nobody", "other", "10.2.0.2", "there")));
    assert_eq!(describe(compiler.drain()), [""; 0]);
    compiler.apply(put(pod("new", "app4", "10.2.0.1", "there")));
    assert_eq!(describe(compiler.drain()), ["+ 10.2.0.1", "- 10.2.0.1"]);
    compiler.apply(put(pod("new", "client", "10.2.0.1", "there")));
    assert_eq!(describe(compiler.drain()), ["+ 10.2.0.1"; 19]);
    compiler.apply(ModelChange::RemoveWorkload(WorkloadId::pod("ns", "new")));
    assert_eq!(describe(compiler.drain()), ["- 10.2.0.1"; 20]);
}

#[test]
fn what_is_taken_back_before_a_drain_is_nothing() {
    let mut compiler = cluster();
    compiler.apply(put(pod("new", "app3", "10.2.0.1", "there")));
    compiler.apply(ModelChange::RemoveWorkload(WorkloadId::pod("ns", "new")));
    compiler.apply(put(pod("p3", "app9", "10.1.0.3", "there")));
    compiler.apply(put(pod("p3", "app3", "10.1.0.3", "there")));
    let one = policy("p3", Direction::Ingress, vec![]);
    compiler.apply(ModelChange::RemovePolicy(one.id));
    let rule =
        Rule { source: Peer::pods(Selector::Any(vec![app("app3"), app("client")])), ..Rule::new("r", Action::Allow) };
    let again = Policy { order: Order::at(3), ..policy("p3", Direction::Ingress, vec![rule]) };
    compiler.apply(ModelChange::PutPolicy(Arc::new(again)));
    assert_eq!(describe(compiler.drain()), [""; 0]);
}

#[test]
fn an_address_stays_while_one_of_its_pods_does() {
    let mut compiler = cluster();
    compiler.apply(put(pod("twin", "app3", "10.1.0.3", "there")));
    assert_eq!(describe(compiler.drain()), [""; 0]);
    compiler.apply(ModelChange::RemoveWorkload(WorkloadId::pod("ns", "p3")));
    assert_eq!(describe(compiler.drain()), [""; 0]);
    compiler.apply(ModelChange::RemoveWorkload(WorkloadId::pod("ns", "twin")));
    assert_eq!(describe(compiler.drain()), ["- 10.1.0.3"]);
}

#[test]
fn another_order_is_another_program_of_the_endpoints_concerned_only() {
    let mut compiler = cluster();
    compiler.apply(put(pod("bystander", "other", "10.0.0.2", "here")));
    compiler.put_endpoint(endpoint("bystander", "10.0.0.2"));
    assert_eq!(describe(compiler.drain()), ["endpoint bystander/eth0"]);
    let rule =
        Rule { source: Peer::pods(Selector::Any(vec![app("app3"), app("client")])), ..Rule::new("r", Action::Allow) };
    let moved = Policy { order: Order::LAST, ..policy("p3", Direction::Ingress, vec![rule]) };
    compiler.apply(ModelChange::PutPolicy(Arc::new(moved)));
    assert_eq!(describe(compiler.drain()), ["endpoint server/eth0"]);
    let tier = Tier { end: TierEnd::Pass, ..Tier::built_in()[2].clone() };
    assert_eq!(&*tier.name, Tier::DEFAULT);
    compiler.apply(ModelChange::PutTier(tier));
    assert_eq!(describe(compiler.drain()), ["endpoint server/eth0"]);
}

#[test]
fn policies_about_nobody_here_are_nothing() {
    let mut compiler = cluster();
    let rule = Rule { source: Peer::pods(app("app7")), ..Rule::new("r", Action::Allow) };
    let mut elsewhere = policy("elsewhere", Direction::Ingress, vec![rule]);
    elsewhere.subject.selector = app("app5");
    compiler.apply(ModelChange::PutPolicy(Arc::new(elsewhere)));
    assert_eq!(describe(compiler.drain()), [""; 0]);
    let told = compiler.drain().len();
    compiler.apply(ModelChange::RemoveWorkload(WorkloadId::pod("ns", "server")));
    let gone = describe(compiler.drain());
    assert_eq!(told, 0);
    assert_eq!(gone.iter().filter(|line| line.starts_with("no chain")).count(), 20);
    assert_eq!(gone.iter().filter(|line| line.starts_with("no set")).count(), 40);
    assert_eq!(gone.iter().filter(|line| line.starts_with("- ")).count(), 200);
    assert!(gone.contains(&"endpoint server/eth0".to_owned()), "it is closed now");
}

#[test]
fn who_shares_an_address_shares_the_names_of_its_ports() {
    let mut compiler = cluster();
    let names = Ports { names: ["metrics".into()].into(), ..Ports::default() };
    let traffic = vec![Traffic::to_ports(Protocol::TCP, names)];
    let rule = Rule { destination: Peer::pods(app("app3")), traffic, ..Rule::new("r", Action::Allow) };
    compiler.apply(ModelChange::PutPolicy(Arc::new(policy("named", Direction::Egress, vec![rule]))));
    let joined = |compiler: &mut Compiler| {
        let members = compiler.drain().into_iter().filter_map(|change| match change {
            Change::Put(PolicyItem::Member(_, member)) => Some(format!("+ {member}")),
            Change::Remove(PolicyKey::Member(_, member)) => Some(format!("- {member}")),
            _ => None,
        });
        members.collect::<Vec<_>>()
    };
    assert_eq!(joined(&mut compiler), [""; 0]);
    let mut twin = pod("twin", "other", "10.1.0.3", "there");
    twin.ports = vec![NamedPort { name: "metrics".into(), protocol: Protocol::TCP, port: 9090 }];
    compiler.apply(put(twin.clone()));
    assert_eq!(joined(&mut compiler), ["+ 10.1.0.3 TCP 9090"]);
    twin.addresses = vec!["10.3.0.1".parse().unwrap()];
    compiler.apply(put(twin));
    assert_eq!(joined(&mut compiler), ["- 10.1.0.3 TCP 9090"]);
}
