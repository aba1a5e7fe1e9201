//! Laws of the tables: what changes is all that is written, nothing is left behind, and what is not whole is closed. Never a
//! kernel.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use backend_ebpf::policy::{Device, Meant, PolicyError, Tables, Write};
use cni_core::backend::Change;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::compile::Compiler;
use cni_core::policy::failsafe::Failsafe;
use cni_core::policy::model::{Action, Direction, Family, PolicyId, Stage, TierEnd};
use cni_core::policy::program::{
    BothWays, Chain, ChainId, Clause, DirectionProgram, EndpointProgram, HostEndpointProgram, HostInterface,
    HostProgram, Member, PolicyItem, PolicyKey, ProgramRule, Set, SetId, SetKind, SetMatch, Side, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use cni_core::testkit::dice::Dice;
use cni_core::testkit::policy::Scene;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is in the maps after some writes.
#[derive(Default)]
struct Maps(BTreeMap<String, Write>);

impl Maps {
    fn write(&mut self, writes: Vec<Write>) {
        assert!(writes.is_empty() || writes.last() == Some(&Write::Advance), "the end of a change");
        for write in writes {
            let (key, is_there) = match &write {
                Write::Endpoint(key, value) => (format!("{key:?}"), value.is_some()),
                Write::Host(key, value) => (format!("host {key:?}"), value.is_some()),
                Write::Identity(key, value) => (format!("{key:?}"), value.is_some()),
                Write::Peer(key, value) => (format!("{key:?}"), value.is_some()),
                Write::Class(key, value) => (format!("{key:?}"), value.is_some()),
                Write::Verdict(key, value) => (format!("{key:?}"), value.is_some()),
                Write::Meaning(key, value) => (format!("{key:?}"), value.is_some()),
                Write::Advance => continue,
            };
            if is_there {
                assert_ne!(self.0.insert(key, write), Some(write), "needless");
            } else {
                assert!(self.0.remove(&key).is_some(), "taken away and not there: {write:?}");
            }
        }
    }
}

fn set(name: &str) -> Set {
    Set { id: SetId(name.into()), kind: SetKind::Addresses(Family::V4) }
}

fn chain_id() -> ChainId {
    let object = ObjectKey::namespaced(Kind::new("networking.k8s.io/v1", "NetworkPolicy"), "red", "p");
    ChainId { policy: PolicyId { object, part: 0 }, direction: Direction::Ingress }
}

/// Who is in the set may come.
fn chain() -> PolicyItem {
    let lookup = SetMatch { side: Side::Source, set: set("friends"), negated: false };
    let clause = Clause { family: Some(Family::V4), sets: vec![lookup], ..Clause::default() };
    let rule = ProgramRule { path: "r".into(), action: Action::Allow, clauses: vec![clause], unenforceable: None };
    PolicyItem::Chain(Chain { id: chain_id(), stage: Stage::Tracked, rules: vec![rule] })
}

fn endpoint(number: u8) -> PolicyItem {
    let tier = TierProgram { tier: "default".into(), chains: vec![chain_id()], end: TierEnd::Deny };
    PolicyItem::Endpoint(EndpointProgram {
        endpoint: EndpointId::of(&format!("pod-{number}"), "eth0").unwrap(),
        host_interface: interface(number),
        addresses: vec![IpAddr::from([10, 0, 0, number])],
        ingress: DirectionProgram { enforced: vec![tier], staged: None },
        egress: DirectionProgram::default(),
    })
}

fn interface(number: u8) -> InterfaceName {
    InterfaceName::new(&format!("cni{number}")).unwrap()
}

fn friend(address: [u8; 4]) -> PolicyItem {
    PolicyItem::Member(set("friends"), Member::Address(address.into()))
}

fn tables(items: impl IntoIterator<Item = PolicyItem>) -> Tables {
    let mut tables = Tables::default();
    for number in 1..=9 {
        tables.set_interface(&interface(number), Some(number.into()));
    }
    items.into_iter().for_each(|item| tables.apply(Change::Put(item)));
    tables
}

#[test]
fn one_more_address_behind_a_rule_is_one_write() {
    let mut tables =
        tables([PolicyItem::Set(set("friends")), friend([192, 0, 2, 1]), chain(), endpoint(1), endpoint(2)]);
    let _ = tables.drain();
    tables.apply(Change::Put(friend([192, 0, 2, 2])));
    tables.apply(Change::Put(friend([192, 0, 2, 2])));
    let writes = tables.drain();
    assert!(matches!(writes[..], [Write::Identity(_, Some(1)), Write::Advance]), "{writes:?}");
    assert_eq!(tables.drain(), []);
}

#[test]
fn endpoints_with_one_policy_share_a_program() {
    let mut tables = tables([PolicyItem::Set(set("friends")), friend([192, 0, 2, 1]), chain(), endpoint(1)]);
    let _ = tables.drain();
    tables.apply(Change::Put(endpoint(2)));
    let writes = tables.drain();
    assert!(matches!(writes[..], [Write::Endpoint(_, Some(_)), Write::Advance]), "{writes:?}");
}

#[test]
fn an_endpoint_without_its_chain_or_its_interface_has_no_entry() {
    let mut tables = tables([PolicyItem::Set(set("friends")), endpoint(1)]);
    let writes = tables.drain();
    assert!(!writes.iter().any(|write| matches!(write, Write::Endpoint(..))), "{writes:?}");
    assert!(matches!(tables.closed().next(), Some((_, PolicyError::NoChain { .. }))));
    tables.apply(Change::Put(chain()));
    let writes = tables.drain();
    assert!(matches!(writes[..], [.., Write::Endpoint(_, Some(_)), Write::Advance]), "{writes:?}");
    assert_eq!(tables.closed().count(), 0);
    tables.set_interface(&interface(1), None);
    let writes = tables.drain();
    assert!(matches!(writes[..], [Write::Endpoint(_, None), Write::Advance]), "{writes:?}");
}

#[test]
fn a_new_program_is_whole_before_its_endpoint_leads_to_it() {
    let mut tables = tables([PolicyItem::Set(set("friends")), friend([192, 0, 2, 1]), chain(), endpoint(1)]);
    let writes = tables.drain();
    let place = |wanted: fn(&Write) -> bool| writes.iter().position(wanted).unwrap();
    let (peer, identity) =
        (place(|write| matches!(write, Write::Peer(..))), place(|write| matches!(write, Write::Identity(..))));
    assert!(peer < identity && identity < place(|write| matches!(write, Write::Endpoint(..))), "{writes:?}");
}

/// What is said of an address, by its longest prefix.
fn said(maps: &Maps, address: IpAddr) -> Option<Write> {
    let prefixes = maps.0.values().filter_map(|write| match write {
        Write::Identity(net, Some(number)) if net.contains(&address) => Some((net.prefix_len(), *number)),
        _ => None,
    });
    let (_, number) = prefixes.max()?;
    maps.0
        .values()
        .find(|write| matches!(write, Write::Meaning(Meant::Identity(other), _) if *other == number))
        .copied()
}

#[test]
fn between_two_writes_an_address_is_what_it_was_or_what_it_shall_be() {
    let nets = ["10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24", "10.0.0.7/32", "10.0.1.0/24"];
    let addresses =
        ["10.0.0.7", "10.0.0.8", "10.0.1.1", "10.0.2.1", "10.1.0.1"].map(|text| text.parse::<IpAddr>().unwrap());
    for seed in 0..200 {
        let (mut dice, mut tables, mut maps) = (Dice::new(seed), Tables::default(), Maps::default());
        for _ in 0..10 {
            for _ in 0..=dice.below(6) {
                let kind = SetKind::Networks(Family::V4);
                let set = Set { id: SetId(["a", "b"][dice.below(2)].into()), kind };
                let member = Member::Network(nets[dice.below(nets.len())].parse().unwrap());
                tables.apply(match dice.below(2) {
                    0 => Change::Put(PolicyItem::Member(set, member)),
                    _ => Change::Remove(PolicyKey::Member(set.id, member)),
                });
            }
            let writes = tables.drain();
            let said = |maps: &Maps| addresses.map(|address| said(maps, address).map(|write| format!("{write:?}")));
            let (before, mut after) = (said(&maps), Maps(maps.0.clone()));
            after.write(writes.clone());
            let after = said(&after);
            for write in writes.iter().filter(|write| **write != Write::Advance) {
                maps.write(vec![*write, Write::Advance]);
                for ((now, before), after) in said(&maps).iter().zip(&before).zip(&after) {
                    assert!(
                        now == before || now == after,
                        "seed {seed}: {now:?}, not {before:?} or {after:?}: {writes:?}"
                    );
                }
            }
        }
    }
}

fn host(interface: HostInterface, tiers: Vec<TierProgram>) -> PolicyItem {
    hosted(interface, DirectionProgram { enforced: tiers, staged: None })
}

fn hosted(interface: HostInterface, ingress: DirectionProgram) -> PolicyItem {
    let local = BothWays { ingress, egress: DirectionProgram::default() };
    let (name, forwarded, untracked) = ("hep".into(), BothWays::default(), BothWays::default());
    let before_nat = DirectionProgram::default();
    let endpoint = HostEndpointProgram { name, interface, local, forwarded, untracked, before_nat };
    PolicyItem::Host(HostProgram { endpoints: vec![endpoint] })
}

fn tier(name: &str, chain: ChainId) -> TierProgram {
    TierProgram { tier: name.into(), chains: vec![chain], end: TierEnd::Deny }
}

fn devices(tables: &mut Tables) {
    let device = |index, is_pods, is_ethernet| Device { index, is_pods, is_ethernet };
    let all = [("eth0", device(20, false, true)), ("cni1", device(1, true, true)), ("wg0", device(30, false, false))];
    tables.set_devices(all.map(|(name, device)| (InterfaceName::new(name).unwrap(), device)).into());
}

fn hosts(writes: &[Write]) -> BTreeMap<u32, usize> {
    let mut counts = BTreeMap::new();
    for write in writes {
        if let Write::Host(key, Some(_)) = write {
            *counts.entry(key.interface).or_default() += 1;
        }
    }
    counts
}

/// Whether what no rule is about may come to the node, and go from it.
fn usual(writes: &[Write]) -> BTreeSet<[bool; 2]> {
    let of = |write: &Write| match write {
        Write::Host(_, Some(at)) => Some([at.ingress, at.egress].map(|program| program.default.allows())),
        _ => None,
    };
    writes.iter().filter_map(of).collect()
}

#[test]
fn the_node_has_entries_at_interfaces_that_its_program_is_about_for_each_address_and_for_none() {
    let mut tables = tables([chain(), host(HostInterface::Others, vec![tier("default", chain_id())])]);
    devices(&mut tables);
    tables.set_node_addresses([IpAddr::from([192, 0, 2, 1])].into());
    // Its address, and of each family that of nobody.
    assert_eq!(hosts(&tables.drain()), [(20, 3)].into());
    assert_eq!(tables.unguarded().map(ToString::to_string).collect::<Vec<_>>(), ["wg0"]);
    tables.set_node_addresses([IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])].into());
    assert_eq!(hosts(&tables.drain()), [(20, 1)].into());
    tables.apply(Change::Put(host(HostInterface::Pods, vec![tier("default", chain_id())])));
    assert_eq!(hosts(&tables.drain()), [(1, 4)].into());
    tables.apply(Change::Remove(PolicyKey::Host));
    assert!(tables.drain().iter().any(|write| matches!(write, Write::Host(_, None))));
    assert_eq!((tables.guarded().count(), tables.whole().hosts.unwrap().len()), (0, 0));
}

#[test]
fn a_program_of_the_node_that_is_not_whole_is_shut_but_for_failsafe_ports_and_one_that_is_tried_shuts_nothing() {
    let missing = ChainId { direction: Direction::Egress, ..chain_id() };
    let mut tables = tables([chain(), host(HostInterface::Others, vec![tier("default", missing.clone())])]);
    devices(&mut tables);
    assert_eq!(usual(&tables.drain()), [[false, true]].into());
    assert!(matches!(tables.host_error(), Some(PolicyError::NoChain { .. })));
    let staged = Some(vec![tier("default", missing.clone())]);
    tables.apply(Change::Put(hosted(HostInterface::Others, DirectionProgram { enforced: Vec::new(), staged })));
    assert_eq!(usual(&tables.drain()), [[true, true]].into());
    assert!(matches!(tables.host_error(), Some(PolicyError::NoChain { .. })));
    let failsafe = TierProgram { end: TierEnd::Pass, ..tier(Failsafe::TIER, chain_id()) };
    tables.apply(Change::Put(host(HostInterface::Others, vec![failsafe, tier("default", missing)])));
    assert_eq!(hosts(&tables.drain()), [(20, 2)].into());
    assert!(tables.host_error().is_some());
    tables.apply(Change::Put(host(HostInterface::Others, vec![tier("default", chain_id())])));
    assert_eq!(hosts(&tables.drain()), [(20, 2)].into());
    assert_eq!(tables.host_error(), None);
}

#[test]
fn whatever_happened_nothing_needless_is_written_and_nothing_is_left() {
    for seed in 0..30 {
        let mut dice = Dice::new(seed);
        let mut scene = Scene::random(&mut dice, 10, 8);
        let mut compiler = Compiler::new(&scene.node);
        scene.load(&mut compiler);
        let (mut tables, mut maps) = (Tables::default(), Maps::default());
        tables.set_node_addresses(Scene::interfaces().into_values().flatten().collect());
        devices(&mut tables);
        for step in 0..20 {
            if step == 19 {
                scene.endpoints.keys().for_each(|id| compiler.remove_endpoint(id));
                tables.set_node_addresses([].into());
            } else {
                let change = match dice.below(2) {
                    0 => scene.workload_change(&mut dice, 10),
                    _ => scene.policy_change(&mut dice, 8, true),
                };
                let before = scene.endpoints.clone();
                scene.apply(change.clone());
                compiler.apply(change);
                for id in before.keys().filter(|id| !scene.endpoints.contains_key(id)) {
                    compiler.remove_endpoint(id);
                }
                scene.endpoints.values().for_each(|endpoint| compiler.put_endpoint(endpoint.clone()));
            }
            for change in compiler.drain() {
                if let Change::Put(PolicyItem::Endpoint(program)) = &change {
                    tables.set_interface(&program.host_interface, Some(1));
                }
                tables.apply(change);
            }
            if step == 19 {
                tables.apply(Change::Remove(PolicyKey::Host));
            }
            maps.write(tables.drain());
            for entry in tables.entries() {
                assert!(maps.0.values().any(|write| *write == entry), "seed {seed}: {entry:?} was never written");
            }
        }
        maps.write(tables.drain());
        // Sets of policies about hosts are still there; endpoints and their programs are not.
        maps.0.retain(|_, write| !matches!(write, Write::Identity(..) | Write::Meaning(Meant::Identity(_), _)));
        assert!(maps.0.is_empty(), "seed {seed}: {:?}", maps.0);
    }
}
