//! Laws of the tables: what changes is all that is written, nothing is left behind, and what is not whole is closed. Never a
//! kernel.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use backend_ebpf::policy::{Meant, PolicyError, Tables, Write};
use cni_core::backend::Change;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::compile::Compiler;
use cni_core::policy::model::{Action, Direction, Family, PolicyId, Stage, TierEnd};
use cni_core::policy::program::{
    Chain, ChainId, Clause, DirectionProgram, EndpointProgram, HostProgram, Member, PolicyItem, PolicyKey, ProgramRule,
    Set, SetId, SetKind, SetMatch, Side, TierProgram,
};
use cni_core::store::{Kind, ObjectKey};
use cni_core::testkit::dice::Dice;
use cni_core::testkit::policy::Scene;
use std::collections::BTreeMap;
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
    items.into_iter().for_each(|item| tables.apply(Change::Put(item)).unwrap());
    tables
}

#[test]
fn one_more_address_behind_a_rule_is_one_write() {
    let mut tables =
        tables([PolicyItem::Set(set("friends")), friend([192, 0, 2, 1]), chain(), endpoint(1), endpoint(2)]);
    let _ = tables.drain();
    tables.apply(Change::Put(friend([192, 0, 2, 2]))).unwrap();
    tables.apply(Change::Put(friend([192, 0, 2, 2]))).unwrap();
    let writes = tables.drain();
    assert!(matches!(writes[..], [Write::Identity(_, Some(1)), Write::Advance]), "{writes:?}");
    assert_eq!(tables.drain(), []);
}

#[test]
fn endpoints_with_one_policy_share_a_program() {
    let mut tables = tables([PolicyItem::Set(set("friends")), friend([192, 0, 2, 1]), chain(), endpoint(1)]);
    let _ = tables.drain();
    tables.apply(Change::Put(endpoint(2))).unwrap();
    let writes = tables.drain();
    assert!(matches!(writes[..], [Write::Endpoint(_, Some(_)), Write::Advance]), "{writes:?}");
}

#[test]
fn an_endpoint_without_its_chain_or_its_interface_has_no_entry() {
    let mut tables = tables([PolicyItem::Set(set("friends")), endpoint(1)]);
    let writes = tables.drain();
    assert!(!writes.iter().any(|write| matches!(write, Write::Endpoint(..))), "{writes:?}");
    assert!(matches!(tables.closed().next(), Some((_, PolicyError::NoChain { .. }))));
    tables.apply(Change::Put(chain())).unwrap();
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

#[test]
fn policy_of_the_node_itself_is_refused() {
    let host = PolicyItem::Host(HostProgram::default());
    assert_eq!(Tables::default().apply(Change::Put(host)), Err(PolicyError::HostProgram));
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
                if !matches!(change, Change::Put(PolicyItem::Host(_)) | Change::Remove(PolicyKey::Host)) {
                    tables.apply(change).unwrap();
                }
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
