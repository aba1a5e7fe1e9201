//! What single rules and endpoints become.

use super::{app, endpoint, networks, pod, policy, put};
use crate::backend::Change;
use crate::model::{EndpointId, InterfaceName};
use crate::policy::compile::{Compiler, LocalEndpoint};
use crate::policy::model::*;
use crate::policy::program::{
    Chain, Clause, EndpointProgram, HostEndpointProgram, Member, PolicyItem, PolicyKey, SetKind,
};
use crate::policy::world::ModelChange;
use crate::testkit::policy::Items;
use std::sync::Arc;

/// What the server's node makes of one rule.
fn compiled(direction: Direction, rule: Rule) -> (Compiler, Items, Vec<Clause>) {
    let mut compiler = Compiler::new("here");
    compiler.apply(put(pod("server", "server", "10.0.0.1", "here")));
    compiler.apply(put(pod("a", "a", "10.0.0.2", "there")));
    compiler.apply(put(pod("b", "b", "10.0.0.3", "there")));
    compiler.put_endpoint(endpoint("server", "10.0.0.1"));
    compiler.apply(ModelChange::PutPolicy(Arc::new(policy("p", direction, vec![rule]))));
    let mut items = Items::default();
    for change in compiler.drain() {
        items.apply(change);
    }
    let chain = chains(&items).remove(0);
    (compiler, items, chain.rules[0].clauses.clone())
}

fn chains(items: &Items) -> Vec<Chain> {
    let chain = |item: &PolicyItem| if let PolicyItem::Chain(chain) = item { Some(chain.clone()) } else { None };
    items.0.values().filter_map(chain).collect()
}

fn program(items: &Items, name: &str) -> EndpointProgram {
    let key = PolicyKey::Endpoint(EndpointId::of(name, "eth0").unwrap());
    let Some(PolicyItem::Endpoint(program)) = items.0.get(&key) else { panic!("no program of {name}") };
    program.clone()
}

/// The members of the only lookup of the clause for IPv4.
fn looked_up(items: &Items, clauses: &[Clause]) -> (SetKind, bool, Vec<String>) {
    let v4: Vec<_> = clauses.iter().filter(|clause| clause.family == Some(Family::V4)).collect();
    let [clause] = v4[..] else { panic!("not one clause: {v4:#?}") };
    let [lookup] = &clause.sets[..] else { panic!("not one lookup: {clause:#?}") };
    (lookup.set.kind, lookup.negated, items.members(&lookup.set).map(Member::to_string).collect())
}

fn from(source: Peer) -> Rule {
    Rule { source, ..Rule::new("r", Action::Allow) }
}

#[test]
fn many_peers_are_one_lookup() {
    let peers = Peer::AnyOf(vec![Peer::pods(app("a")), Peer::pods(app("b")), Peer::pods(app("c"))]);
    let (_, items, clauses) = compiled(Direction::Ingress, from(peers.clone()));
    assert_eq!(clauses.len(), 2);
    let both = vec!["10.0.0.2".to_owned(), "10.0.0.3".to_owned()];
    assert_eq!(looked_up(&items, &clauses), (SetKind::Addresses(Family::V4), false, both.clone()));
    let (_, items, clauses) = compiled(Direction::Ingress, from(peers.negated()));
    assert_eq!(looked_up(&items, &clauses), (SetKind::Addresses(Family::V4), true, both));
}

#[test]
fn a_block_with_exceptions_is_one_lookup_in_as_few_prefixes_as_can_be() {
    let block = |block: &str, except: &str| Peer::AllOf(vec![networks(&[block]), networks(&[except]).negated()]);
    let v4 = SetKind::Networks(Family::V4);
    let (_, items, clauses) = compiled(Direction::Ingress, from(block("10.0.0.0/8", "10.128.0.0/9")));
    assert_eq!(looked_up(&items, &clauses), (v4, false, vec!["10.0.0.0/9".to_owned()]));
    assert_eq!(clauses.len(), 1, "no clause for a family that the prefixes have nothing of");
    let two = Peer::AnyOf(vec![block("10.0.0.0/8", "10.128.0.0/9"), networks(&["10.128.0.0/9"])]);
    let (_, items, clauses) = compiled(Direction::Ingress, from(two));
    assert_eq!(looked_up(&items, &clauses), (v4, false, vec!["10.0.0.0/8".to_owned()]));
    let (_, items, clauses) = compiled(Direction::Ingress, from(block("0.0.0.0/0", "10.0.0.0/8")));
    assert_eq!(looked_up(&items, &clauses), (v4, true, vec!["10.0.0.0/8".to_owned()]));
    let (_, _, clauses) = compiled(Direction::Ingress, from(networks(&["0.0.0.0/0"])));
    assert_eq!(clauses, [Clause { family: Some(Family::V4), ..Clause::default() }]);
}

#[test]
fn rules_with_one_meaning_share_a_set_and_its_name_is_the_same_in_every_process() {
    let set = |rule| compiled(Direction::Ingress, rule).2[0].sets[0].set.clone();
    let one = set(from(Peer::AnyOf(vec![Peer::pods(app("a")), Peer::pods(app("b"))])));
    let other = set(from(Peer::AnyOf(vec![Peer::pods(app("b")), Peer::Nothing, Peer::pods(app("a"))])));
    assert_eq!(one, other);
    assert_eq!(one.id.0.len(), 32);
    assert_ne!(one, set(from(Peer::pods(app("a")))));
}

#[test]
fn named_ports_are_the_local_ones_for_ingress_and_the_peers_for_egress() {
    let names = Ports { names: ["http".into()].into(), ..Ports::default() };
    let traffic = vec![Traffic::to_ports(Protocol::TCP, names)];
    let ports = SetKind::AddressPorts(Family::V4);
    let rule = Rule { traffic: traffic.clone(), ..Rule::new("r", Action::Allow) };
    let (_, items, clauses) = compiled(Direction::Ingress, rule);
    assert_eq!(looked_up(&items, &clauses), (ports, false, vec!["10.0.0.1 TCP 8080".to_owned()]));
    let rule = Rule { destination: Peer::pods(app("a")), traffic: traffic.clone(), ..Rule::new("r", Action::Allow) };
    let (_, items, clauses) = compiled(Direction::Egress, rule);
    assert_eq!(looked_up(&items, &clauses), (ports, false, vec!["10.0.0.2 TCP 8080".to_owned()]));
    let rule = Rule { traffic, ..Rule::new("r", Action::Allow) };
    let (_, items, clauses) = compiled(Direction::Egress, rule);
    assert_eq!(looked_up(&items, &clauses).2.len(), 3);
}

#[test]
fn ports_that_are_not_to_have_a_name_are_a_lookup_that_must_fail_beside_that_of_the_peer() {
    let names = Ports { names: ["http".into()].into(), ..Ports::default() };
    let not_http = Traffic { not_destination_ports: Some(names), ..Traffic::of(Protocol::TCP) };
    let rule = Rule { destination: Peer::pods(app("a")), traffic: vec![not_http], ..Rule::new("r", Action::Allow) };
    let (_, _, clauses) = compiled(Direction::Egress, rule);
    let lookups: Vec<_> = clauses[0].sets.iter().map(|lookup| (lookup.set.kind, lookup.negated)).collect();
    let v4 = Family::V4;
    assert_eq!(lookups, [(SetKind::Addresses(v4), false), (SetKind::AddressPorts(v4), true)]);
    assert_eq!(clauses[0].not_destination_ports, Some(vec![]), "a protocol with ports is wanted still");
}

/// Alternatives that multiply: each part of the conjunction is a pod or a prefix or the own node.
fn explosive() -> Peer {
    let part = |number: usize| {
        Peer::AnyOf(vec![Peer::pods(app(&format!("x{number}"))), networks(&["10.0.0.0/8"]), Peer::OwnNode])
    };
    Peer::AllOf((0..20).map(part).collect())
}

#[test]
fn a_rule_of_too_many_alternatives_is_closed_and_reported() {
    for (action, closed) in [(Action::Allow, Vec::new()), (Action::Pass, vec![Clause::default()])] {
        let rule = Rule { source: explosive(), ..Rule::new("spec.ingress[0]", action) };
        let (compiler, items, clauses) = compiled(Direction::Ingress, rule);
        assert_eq!(clauses, closed);
        let expected = if action == Action::Pass { Action::Deny } else { action };
        assert_eq!(chains(&items)[0].rules[0].action, expected);
        let problems = compiler.problems();
        assert_eq!(problems.len(), 1);
        assert_eq!((problems[0].path.as_str(), problems[0].effect), ("spec.ingress[0]", Effect::RuleClosed));
        assert!(!items.0.values().any(|item| matches!(item, PolicyItem::Set(_))), "sets of a closed rule are not made");
    }
}

#[test]
fn rules_that_need_a_proxy_are_closed() {
    let names = Peer::Names(vec![DnsPattern::Name("example.com".into())]);
    let to_names = |action| Rule { destination: names.clone(), ..Rule::new("r", action) };
    assert_eq!(compiled(Direction::Egress, to_names(Action::Allow)).2, []);
    assert_eq!(compiled(Direction::Egress, to_names(Action::Log)).2, []);
    let (_, items, clauses) = compiled(Direction::Egress, to_names(Action::Pass));
    assert_eq!(clauses, [Clause::default()]);
    let rule = &chains(&items)[0].rules[0];
    assert_eq!((rule.action, &rule.unenforceable), (Action::Deny, &Some(Unenforceable::Names)));
    let layer7 = Rule {
        layer7: Some(Layer7::Http(vec![])),
        traffic: vec![Traffic::of(Protocol::TCP)],
        ..Rule::new("r", Action::Deny)
    };
    let (_, _, clauses) = compiled(Direction::Ingress, layer7);
    assert_eq!(clauses, [Clause { protocol: Some(Protocol::TCP), ..Clause::default() }]);
}

#[test]
fn an_endpoint_is_closed_until_its_pod_is_known_to_be_here() {
    let mut compiler = Compiler::new("here");
    let mut items = Items::default();
    let mut ends = |compiler: &mut Compiler| {
        compiler.drain().into_iter().for_each(|change| assert!(items.apply(change)));
        let program = program(&items, "server");
        [program.ingress, program.egress].map(|direction| {
            direction
                .enforced
                .iter()
                .map(|tier| (tier.tier.to_string(), tier.chains.len(), tier.end))
                .collect::<Vec<_>>()
        })
    };
    let closed = || [(); 2].map(|()| vec![(Tier::CLOSED.to_owned(), 0, TierEnd::Deny)]);
    compiler.put_endpoint(endpoint("server", "10.0.0.1"));
    assert_eq!(ends(&mut compiler), closed());
    compiler.apply(put(pod("server", "server", "10.0.0.9", "there")));
    assert!(compiler.drain().is_empty(), "that is another pod of the name");
    compiler.apply(put(pod("server", "server", "10.0.0.1", "here")));
    assert_eq!(ends(&mut compiler), [vec![], vec![]]);
    compiler.apply(put(Workload { host_network: true, ..pod("server", "server", "10.0.0.1", "here") }));
    assert_eq!(ends(&mut compiler), closed());
    compiler.apply(ModelChange::PutPolicy(Arc::new(policy("p", Direction::Ingress, vec![]))));
    compiler.apply(put(pod("server", "server", "10.0.0.1", "here")));
    assert_eq!(ends(&mut compiler), [vec![(Tier::DEFAULT.to_owned(), 1, TierEnd::Deny)], vec![]]);
    compiler.apply(ModelChange::RemoveWorkload(WorkloadId::pod("ns", "server")));
    assert_eq!(ends(&mut compiler), closed());
}

#[test]
fn a_container_that_is_no_pod_has_policies_about_everything_only() {
    let mut compiler = Compiler::new("here");
    let about_all = Policy {
        subject: Subject { kinds: Kinds::PODS, selector: Selector::Everything },
        ..policy("all", Direction::Ingress, vec![])
    };
    compiler.apply(ModelChange::PutPolicy(Arc::new(about_all)));
    compiler.apply(ModelChange::PutPolicy(Arc::new(policy("server", Direction::Ingress, vec![]))));
    compiler.put_endpoint(super::super::LocalEndpoint { pod: None, ..endpoint("plain", "10.0.0.1") });
    let mut items = Items::default();
    compiler.drain().into_iter().for_each(|change| assert!(items.apply(change)));
    let tiers = program(&items, "plain").ingress.enforced;
    assert_eq!(tiers.len(), 1);
    assert_eq!(tiers[0].chains.iter().map(|chain| &*chain.policy.object.name).collect::<Vec<_>>(), ["all"]);
}

#[test]
fn the_addresses_of_an_attachment_count_before_the_cluster_tells_of_them() {
    let (mut compiler, ..) = compiled(Direction::Ingress, from(Peer::pods(app("a"))));
    let early = Workload { addresses: Vec::new(), ..pod("early", "a", "10.0.0.7", "here") };
    compiler.apply(put(early));
    assert_eq!(compiler.drain().len(), 0);
    compiler.put_endpoint(endpoint("early", "10.0.0.7"));
    let joined = compiler.drain().into_iter().filter_map(|change| match change {
        Change::Put(PolicyItem::Member(_, member)) => Some(member.to_string()),
        _ => None,
    });
    assert_eq!(joined.collect::<Vec<_>>(), ["10.0.0.7"]);
    compiler.apply(put(pod("early", "a", "10.0.0.7", "here")));
    assert!(compiler.drain().is_empty());
    compiler.remove_endpoint(&EndpointId::of("early", "eth0").unwrap());
    assert_eq!(compiler.drain().len(), 1, "its program goes; its address is still the pod's");
}

#[test]
fn an_address_of_an_attachment_is_its_pods_alone_whoever_claims_it() {
    let members = |compiler: &mut Compiler| {
        let told = compiler.drain().into_iter().filter_map(|change| match change {
            Change::Put(PolicyItem::Member(_, member)) => Some(format!("+ {member}")),
            Change::Remove(PolicyKey::Member(_, member)) => Some(format!("- {member}")),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    let (mut compiler, ..) = compiled(Direction::Ingress, from(Peer::pods(app("a"))));
    compiler.apply(put(pod("liar", "a", "10.0.0.9", "there")));
    assert_eq!(members(&mut compiler), ["+ 10.0.0.9"], "nobody here has it");
    compiler.apply(put(pod("honest", "b", "10.0.0.9", "here")));
    assert!(members(&mut compiler).is_empty() && compiler.problems().is_empty());
    compiler.put_endpoint(endpoint("honest", "10.0.0.9"));
    assert_eq!(members(&mut compiler), ["- 10.0.0.9"]);
    let problems: Vec<String> = compiler.problems().iter().map(ToString::to_string).collect();
    assert!(
        problems.len() == 1 && problems[0].contains("Pod ns/liar") && problems[0].contains("ns/honest"),
        "{problems:?}"
    );
    // In any order; and only this address.
    compiler.apply(ModelChange::RemoveWorkload(WorkloadId::pod("ns", "liar")));
    let mut liar = pod("liar", "a", "10.0.0.9", "there");
    liar.addresses.push("10.0.0.8".parse().unwrap());
    compiler.apply(put(liar));
    assert_eq!(members(&mut compiler), ["+ 10.0.0.8"]);
    compiler.remove_endpoint(&EndpointId::of("honest", "eth0").unwrap());
    assert_eq!(members(&mut compiler), ["+ 10.0.0.9"]);
    assert!(compiler.problems().is_empty());
    // Likewise when it is a container that is no pod.
    compiler.put_endpoint(LocalEndpoint { pod: None, ..endpoint("plain", "10.0.0.9") });
    assert_eq!(members(&mut compiler), ["- 10.0.0.9"]);
}

#[test]
fn staged_policies_are_beside_the_enforced_ones() {
    let mut compiler = Compiler::new("here");
    compiler.apply(put(pod("server", "server", "10.0.0.1", "here")));
    compiler.put_endpoint(endpoint("server", "10.0.0.1"));
    let staged = Policy { mode: Mode::Staged, ..policy("staged", Direction::Ingress, vec![]) };
    let enforced = Policy { ingress: Some(Rules::default()), ..policy("enforced", Direction::Ingress, vec![]) };
    compiler.apply(ModelChange::PutPolicy(Arc::new(staged)));
    compiler.apply(ModelChange::PutPolicy(Arc::new(enforced)));
    let mut items = Items::default();
    compiler.drain().into_iter().for_each(|change| assert!(items.apply(change)));
    let program = program(&items, "server");
    let ends = |tiers: &[crate::policy::program::TierProgram]| {
        tiers.iter().map(|tier| (tier.chains.len(), tier.end)).collect::<Vec<_>>()
    };
    assert_eq!(ends(&program.ingress.enforced), [(1, TierEnd::Pass)], "only the staged one isolates");
    assert_eq!(ends(&program.ingress.staged.unwrap()), [(2, TierEnd::Deny)]);
    assert_eq!(program.egress.staged, None);
}

/// A host endpoint of the node `here`.
fn host_endpoint(name: &str, interfaces: HostInterfaces, open: bool) -> Workload {
    let identity = Identity {
        labels: Arc::new([("app".into(), "hep".into())].into()),
        ..Identity::new(WorkloadKind::HostEndpoint)
    };
    Workload {
        id: WorkloadId { kind: WorkloadKind::HostEndpoint, namespace: None, name: name.into() },
        identity: Arc::new(identity),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        host: Some(HostPart { interfaces, open }),
        ports: Vec::new(),
        ..pod("unused", "unused", "192.0.2.1", "here")
    }
}

/// Where the node's program is, and how many tiers each has: in, out, through in, through out.
fn host_tiers(compiler: &mut Compiler) -> Vec<(String, [usize; 4])> {
    compiler.drain();
    let of = |endpoint: &HostEndpointProgram| {
        let (local, forwarded) = (&endpoint.local, &endpoint.forwarded);
        let directions = [&local.ingress, &local.egress, &forwarded.ingress, &forwarded.egress];
        (endpoint.interface.to_string(), directions.map(|direction| direction.enforced.len()))
    };
    compiler.host().into_iter().flat_map(|program| &program.endpoints).map(of).collect()
}

#[test]
fn the_node_has_a_program_by_interface_while_something_may_be_denied() {
    let mut compiler = Compiler::new("here");
    let shown =
        |all: &[(&str, [usize; 4])]| all.iter().map(|(at, tiers)| ((*at).to_owned(), *tiers)).collect::<Vec<_>>();
    let node = Workload {
        id: WorkloadId::node("here"),
        identity: Arc::new(Identity::new(WorkloadKind::Node)),
        ..pod("n", "n", "192.0.2.1", "here")
    };
    compiler.apply(put(node));
    compiler.apply(put(host_endpoint("open", HostInterfaces::All, true)));
    assert_eq!(host_tiers(&mut compiler), []);
    // Without a profile: the failsafe ports, then the end.
    compiler.apply(put(host_endpoint("closed", HostInterfaces::Named("eth0".into()), false)));
    let closed = ("interface eth0", [2, 2, 0, 0]);
    assert_eq!(host_tiers(&mut compiler), shown(&[closed, ("other interfaces", [0; 4]), ("its own pods", [0; 4])]));
    // About nodes: everywhere, without failsafe ports at pods' interfaces, and not about what passes through.
    let about = |name: &str, kind, direction| Policy {
        subject: Subject { kinds: Kinds::of(kind), selector: Selector::Everything },
        ..policy(name, direction, vec![])
    };
    compiler.apply(ModelChange::PutPolicy(Arc::new(about("nodes", WorkloadKind::Node, Direction::Ingress))));
    let expected =
        [("interface eth0", [3, 2, 0, 0]), ("other interfaces", [2, 0, 0, 0]), ("its own pods", [1, 0, 0, 0])];
    assert_eq!(host_tiers(&mut compiler), shown(&expected));
    let through = Policy { on_forward: true, ..about("through", WorkloadKind::HostEndpoint, Direction::Egress) };
    compiler.apply(ModelChange::PutPolicy(Arc::new(through)));
    let expected =
        [("interface eth0", [3, 3, 0, 1]), ("other interfaces", [2, 2, 0, 1]), ("its own pods", [1, 0, 0, 0])];
    assert_eq!(host_tiers(&mut compiler), shown(&expected));
}

#[test]
fn a_host_endpoint_by_address_waits_for_its_interface_and_gives_way_to_one_that_names_it() {
    let mut compiler = Compiler::new("here");
    compiler.apply(put(host_endpoint("by-address", HostInterfaces::ByAddress, false)));
    assert_eq!(host_tiers(&mut compiler), []);
    let idle = |compiler: &Compiler| {
        compiler.idle_host_endpoints().into_iter().map(|idle| idle.reason.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(idle(&compiler), ["no interface of the node has one of its expectedIPs"]);
    let eth0 = InterfaceName::new("eth0").unwrap();
    compiler.set_interfaces([(eth0, ["192.0.2.1".parse().unwrap()].into())].into());
    assert_eq!(host_tiers(&mut compiler).len(), 1);
    assert!(idle(&compiler).is_empty());
    compiler.apply(put(host_endpoint("named", HostInterfaces::Named("eth0".into()), true)));
    assert_eq!(host_tiers(&mut compiler), []);
    assert_eq!(idle(&compiler), ["host endpoint named is for the same interface and comes first"]);
    compiler.apply(ModelChange::RemoveWorkload(host_endpoint("named", HostInterfaces::All, true).id));
    assert_eq!(host_tiers(&mut compiler).len(), 1);
    compiler.apply(put(Workload {
        node: Some("there".into()),
        ..host_endpoint("by-address", HostInterfaces::ByAddress, false)
    }));
    assert_eq!(host_tiers(&mut compiler), [], "it is another node's now");
}

#[test]
fn early_stages_are_parts_of_their_own_and_leave_what_they_do_not_decide_to_the_next() {
    let mut compiler = Compiler::new("here");
    compiler.apply(put(host_endpoint("all", HostInterfaces::All, true)));
    for (name, stage) in [("raw", Stage::Untracked), ("pre", Stage::BeforeNat)] {
        let subject = Subject { kinds: Kinds::of(WorkloadKind::HostEndpoint), selector: Selector::Everything };
        let early = Policy { subject, stage, on_forward: true, ..policy(name, Direction::Ingress, vec![]) };
        compiler.apply(ModelChange::PutPolicy(Arc::new(early)));
    }
    compiler.drain();
    let [endpoint] = &compiler.host().unwrap().endpoints[..] else { panic!("one interface has a program") };
    assert!(endpoint.local.is_open() && endpoint.forwarded.is_open());
    let ends = |program: &crate::policy::program::DirectionProgram| {
        program.enforced.iter().map(|tier| (tier.tier.to_string(), tier.end)).collect::<Vec<_>>()
    };
    let expected = [("failsafe".to_owned(), TierEnd::Pass), (Tier::DEFAULT.to_owned(), TierEnd::Pass)];
    assert_eq!(ends(&endpoint.untracked.ingress), expected);
    assert_eq!(ends(&endpoint.before_nat), expected);
    assert!(endpoint.untracked.egress.enforced.is_empty());
}
