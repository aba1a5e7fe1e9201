//! A frontend that is not for all clients: a set of theirs and a chain, of its own, so that a packet to any other frontend pays
//! nothing, and a change costs one frontend. Pure.
//!
//! ```text
//! frontends ─> sources4-6-192.0.2.1-80: from none of the set of that name? drop
//!                                       choose4-random-3
//! ```

use super::object::{Choice, Frontend, Key, Object};
use super::rules::{choice_of, family, name, table};
use cni_core::policy::model::Protocol;
use ipnet::IpNet;
use net_linux::nft::{
    Batch, Chain, Element, Expr, Field, Key as Clients, Name, Payload, Program, Rule, Set, TableContents, Verdict,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What the names of these sets and chains begin with.
const PREFIX: &str = "sources";

/// The name of a frontend's set and chain. `nft` takes no colon in a name.
pub(super) fn name_of(frontend: &Frontend) -> Name {
    let (address, port) = (frontend.address.ip(), frontend.address.port());
    let family = if address.is_ipv6() { 6 } else { 4 };
    name(&format!("{PREFIX}{family}-{}-{}-{port}", frontend.protocol, address.to_string().replace(':', "_")))
}

/// Whose set or chain this is.
pub(super) fn frontend_of(found: &Name) -> Option<Frontend> {
    let rest = found.as_str().strip_prefix(PREFIX)?;
    let mut parts = rest.get(1..)?.strip_prefix('-')?.splitn(3, '-');
    let (protocol, address, port) = (parts.next()?, parts.next()?, parts.next()?);
    let address: IpAddr = address.replace('_', ":").parse().ok()?;
    let Protocol(protocol) = Protocol(protocol.parse().ok()?);
    let frontend = Frontend { address: SocketAddr::new(address, port.parse().ok()?), protocol };
    Some(frontend).filter(|frontend| name_of(frontend) == *found)
}

/// The set of a frontend's clients.
pub(super) fn set(frontend: &Frontend) -> Set {
    let address = if frontend.address.is_ipv6() { Field::Ipv6Addr } else { Field::Ipv4Addr };
    Set::new(table().set(name_of(frontend)), [address]).interval()
}

/// How its clients come there, as an element's value.
pub(super) fn verdict(frontend: &Frontend) -> Verdict {
    Verdict::Goto(name_of(frontend))
}

/// The chain of a frontend with its rules. Without a choice a client that may goes on, to be refused.
fn chain(frontend: &Frontend, then: Option<Choice>) -> (Chain, Vec<Rule>) {
    let chain = Chain::regular(table().chain(name_of(frontend)));
    let ipv6 = frontend.address.is_ipv6();
    let client = if ipv6 { Payload::IP6_SADDR } else { Payload::IP_SADDR };
    let stranger = family(Program::new(), ipv6).matches_not_in(client, name_of(frontend)).verdict(Verdict::Drop);
    let chosen = then.map(|choice| Program::new().verdict(super::rules::verdict(choice)));
    let rules = std::iter::once(stranger).chain(chosen).map(|program| Rule::new(chain.id.clone(), program)).collect();
    (chain, rules)
}

/// Makes set and chain, or makes them anew.
pub(super) fn put(batch: &mut Batch, frontend: &Frontend, clients: &[IpNet], then: Option<Choice>) {
    let (set, (chain, rules)) = (set(frontend), chain(frontend, then));
    batch.add_set(&set);
    batch.add_chain(&chain);
    batch.flush_chain(&chain.id);
    batch.flush_set(&set.id);
    let elements: Vec<Element> = clients.iter().map(|range| Element::new(Clients::prefix(*range))).collect();
    batch.add_elements(&set, &elements);
    rules.iter().for_each(|rule| batch.add_rule(rule));
}

/// Takes both away; where they are not both known to be there, those that are `there`.
pub(super) fn delete(batch: &mut Batch, frontend: &Frontend, known: bool, there: Option<&TableContents>) {
    let (set, (chain, _)) = (set(frontend), chain(frontend, None));
    if known || there.is_some_and(|there| there.chains.iter().any(|found| found.object.id == chain.id)) {
        batch.flush_chain(&chain.id);
        batch.delete_chain(&chain.id);
    }
    if known || there.is_some_and(|there| there.set(&set.id).is_some()) {
        batch.delete_set(&set.id);
    }
}

/// What is there of all frontends; a set or a chain by itself is not intact.
pub(super) fn read(contents: &TableContents) -> impl Iterator<Item = (Key, Object)> {
    type Found<'a> = (Option<&'a [Element]>, Option<Vec<&'a Rule>>);
    let mut found: BTreeMap<Frontend, Found<'_>> = BTreeMap::new();
    for (set, elements) in contents.sets.iter().zip(&contents.elements) {
        if let Some(frontend) = frontend_of(&set.object.id.name) {
            found.entry(frontend).or_default().0 = Some(elements);
        }
    }
    for chain in &contents.chains {
        if let Some(frontend) = frontend_of(&chain.object.id.name) {
            found.entry(frontend).or_default().1 = Some(Vec::new());
        }
    }
    for rule in &contents.rules {
        if let Some(frontend) = frontend_of(&rule.object.chain.name)
            && let Some((_, Some(rules))) = found.get_mut(&frontend)
        {
            rules.push(&rule.object);
        }
    }
    let object = |frontend: &Frontend, (elements, rules): Found<'_>| {
        let (elements, rules) = (elements?, rules?);
        let then = rules.last().and_then(|rule| match rule.exprs.last() {
            Some(Expr::Verdict(Verdict::Goto(chain))) => choice_of(chain),
            _ => None,
        });
        let mut clients = elements.iter().map(|element| prefix_of(&element.key)).collect::<Option<Vec<_>>>()?;
        clients.sort_unstable();
        let (_, wanted) = chain(frontend, then);
        rules.into_iter().eq(&wanted).then(|| Object::Sources { clients: Arc::from(clients), then })
    };
    found.into_iter().map(move |(frontend, found)| {
        let object = object(&frontend, found).unwrap_or(Object::Rules { intact: false });
        (Key::Sources(frontend), object)
    })
}

/// The prefix that an element is, where it is one.
fn prefix_of(key: &Clients) -> Option<IpNet> {
    let address = |bytes: &[u8]| match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        _ => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
    };
    match key {
        Clients::One(only) => address(only).map(IpNet::from),
        Clients::Range(first, last) => {
            let (first, last) = (address(first)?, address(last)?);
            let equal = match (first, last) {
                (IpAddr::V4(first), IpAddr::V4(last)) => (u32::from(first) ^ u32::from(last)).leading_zeros(),
                (IpAddr::V6(first), IpAddr::V6(last)) => (u128::from(first) ^ u128::from(last)).leading_zeros(),
                _ => return None,
            };
            let prefix = IpNet::new(first, u8::try_from(equal).ok()?).ok()?;
            (prefix.network() == first && prefix.broadcast() == last).then_some(prefix)
        }
        Clients::CatchAll => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_that_we_would_not_give_is_somebody_else_s() {
        let ours = ["sources4-6-192.0.2.1-80", "sources6-17-2001_db8__1-53"];
        assert!(ours.iter().all(|ours| frontend_of(&name(ours)).is_some()));
        let others = [
            "sources4-6-192.0.2.1-080",
            "sources4-06-192.0.2.1-80",
            "sources6-6-192.0.2.1-80",
            "sources4-6-192.0.2.1-80-",
            "sources4-6-192.0.2.1",
            "sources6-17-2001_db8_0__1-53",
            "sources4-300-192.0.2.1-80",
            "sources",
        ];
        assert!(others.iter().all(|other| frontend_of(&name(other)).is_none()));
    }

    proptest! {
        #[test]
        fn a_name_tells_its_frontend(address in any::<IpAddr>(), port in any::<u16>(), protocol in any::<u8>()) {
            let frontend = Frontend { address: SocketAddr::new(address, port), protocol };
            let named = name_of(&frontend);
            prop_assert_eq!(frontend_of(&named), Some(frontend));
            prop_assert!(!named.as_str().contains(':'), "nft would not take it");
        }

        #[test]
        fn an_element_tells_its_prefix(address in any::<IpAddr>(), bits in 0_u8..=128) {
            let bits = if address.is_ipv4() { bits % 33 } else { bits };
            let prefix = IpNet::new(address, bits).unwrap().trunc();
            prop_assert_eq!(prefix_of(&Clients::prefix(prefix)), Some(prefix));
        }
    }
}
