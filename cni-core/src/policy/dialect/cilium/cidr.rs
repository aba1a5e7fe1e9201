//! Prefixes and groups of prefixes. Never pods or nodes, whatever their addresses: Cilium knows those by labels.

use crate::policy::dialect::Reader;
use crate::policy::dialect::fields::present;
use crate::policy::model::{Attribute, Effect, Kinds, Peer, Selector, WorkloadKind};
use ipnet::IpNet;
use serde_json::{Map, Value};

/// What is wrong with a rule closes it.
const CLOSED: Effect = Effect::RuleClosed;

/// Reads `fromCIDR` or `toCIDR`.
pub(super) fn plain(reader: &mut Reader<'_>, listed: &[Value], path: &str) -> Vec<Peer> {
    vec![Peer::outside(reader.each(listed, path, network))]
}

fn network(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<IpNet> {
    let text = reader.text(CLOSED, value, path)?;
    reader.network(CLOSED, text, path)
}

/// One element of a set.
enum Member {
    Whole(IpNet),
    Other(Peer),
}

/// Reads `fromCIDRSet` or `toCIDRSet`; prefixes without holes become one set.
pub(super) fn set(reader: &mut Reader<'_>, listed: &[Value], path: &str) -> Vec<Peer> {
    let (mut whole, mut peers) = (Vec::new(), Vec::new());
    for member in reader.each(listed, path, member) {
        match member {
            Member::Whole(network) => whole.push(network),
            Member::Other(peer) => peers.push(peer),
        }
    }
    if !whole.is_empty() {
        peers.push(Peer::outside(whole));
    }
    peers
}

fn member(reader: &mut Reader<'_>, value: &Value, path: &str) -> Option<Member> {
    const ONE: [&str; 3] = ["cidr", "cidrGroupRef", "cidrGroupSelector"];
    let map = reader.item(CLOSED, value, path, &[ONE[0], ONE[1], ONE[2], "except"])?;
    let found: Vec<&str> = ONE.into_iter().filter(|key| present(map, key).is_some()).collect();
    let [key] = found[..] else {
        reader.problem(CLOSED, path, format!("write exactly one of {}", ONE.join(", ")));
        return None;
    };
    let (value, at) = (present(map, key)?, format!("{path}.{key}"));
    let group = |selector| Peer::Labelled { kinds: Kinds::of(WorkloadKind::CidrGroup), selector };
    let (networks, cidr) = match key {
        "cidr" => {
            let cidr = network(reader, value, &at)?;
            (Peer::Networks(vec![cidr]), Some(cidr))
        }
        "cidrGroupRef" => {
            let name = reader.text(CLOSED, value, &at)?;
            (group(Selector::Is(Attribute::Name, name.into())), None)
        }
        _ => (group(reader.own_labels(CLOSED, value, &at)?), None),
    };
    let except = except(reader, map, path, cidr);
    match (cidr, except.is_empty()) {
        (Some(cidr), true) => Some(Member::Whole(cidr)),
        (_, empty) => {
            let holes = (!empty).then(|| Peer::Networks(except).negated());
            let all = [networks, Peer::cluster().negated()].into_iter().chain(holes);
            Some(Member::Other(Peer::AllOf(all.collect())))
        }
    }
}

/// Reads `except`; within a prefix, if it stands beside one.
fn except(reader: &mut Reader<'_>, map: &Map<String, Value>, path: &str, cidr: Option<IpNet>) -> Vec<IpNet> {
    let listed = reader.list(CLOSED, map, path, "except").unwrap_or_default();
    reader.each(listed, &format!("{path}.except"), |reader, value, path| {
        let except = network(reader, value, path)?;
        match cidr {
            Some(cidr) if !cidr.contains(&except) => {
                reader.problem(CLOSED, path, format!("{except} is no part of {cidr}; write a prefix within it"));
                None
            }
            _ => Some(except),
        }
    })
}
