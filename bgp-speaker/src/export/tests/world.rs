//! A speaker's tables with peers that come, go, and announce, beside what they have announced in plain maps.

use super::listeners::{Listeners, Paper, hear};
use crate::config::Aggregate;
use crate::export::{Export, GroupFacts};
use crate::policy::{Policy, RawPolicy};
use crate::rib::tests::ways;
pub(super) use crate::rib::tests::{OWN, announce, asn, facts, nlri, own, withdraw};
use crate::rib::{NextHopChange, PeerKind, Rib};
use crate::types::{AsPath, Attributes, Community, Family, NextHop, Nlri, Origin, PeerId, SelfNextHop};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

pub(super) fn group(kind: PeerKind) -> GroupFacts {
    let v6 = NextHop::V6 { global: "2001:db8::fe".parse().unwrap(), link_local: None };
    let next_hop = SelfNextHop { v4: Some(NextHop::V4(Ipv4Addr::new(192, 0, 2, 254))), v6: Some(v6) };
    GroupFacts::new(kind, next_hop)
}

pub(super) fn prefix(number: u8) -> IpNet {
    let texts = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.0/24", "198.51.100.0/24", "2001:db8:1::/48"];
    texts[usize::from(number) % texts.len()].parse().unwrap()
}

/// A few attributes of a peer, so that ties and differences are both frequent.
pub(super) fn attributes(peer: u32, number: u8) -> Attributes {
    let facts = facts(peer);
    let mut path = vec![asn(65_010 + u32::from(number & 1))];
    if facts.kind.is_external() {
        path.insert(0, facts.asn);
    }
    let mut made = Attributes::own(NextHop::V4(Ipv4Addr::new(203, 0, 113, 1 + (number >> 1 & 1))));
    made.as_path = AsPath::sequence(path);
    made.med = (number & 4 != 0).then_some(u32::from(number & 1) * 10);
    made.local_pref = (number & 8 != 0).then_some(90);
    made.origin = if number & 16 != 0 { Origin::Incomplete } else { Origin::Igp };
    made.communities = match number >> 5 & 7 {
        0 => vec![Community::NO_EXPORT],
        1 => vec![Community::NO_LLGR],
        2 => vec![Community(65_001 << 16 | 7)],
        _ => Vec::new(),
    };
    made
}

pub(super) fn policy(number: u8, is_export: bool) -> Option<Arc<Policy>> {
    let texts = [
        r#"{"statements": [{"if": {"communities": {"any": ["65001:7"]}}, "then": "reject"}], "default": "accept"}"#,
        r#"{"statements": [{"if": {"prefixes": [{"prefix": "10.0.0.0/8", "at-least": 9}]},
            "set": {"local-pref": 300, "med": 7, "communities": {"add": ["65001:7"]}}}], "default": "accept"}"#,
        r#"{"statements": [{"if": {"sources": ["ibgp"]}, "set": {"med-add": 3}, "then": "accept"}], "default": "reject"}"#,
    ];
    let raw: RawPolicy = serde_json::from_str(texts.get(usize::from(number) % (texts.len() + 1))?).unwrap();
    let policy = if is_export { Policy::export(&raw) } else { Policy::import(&raw) };
    Some(Arc::new(policy.unwrap()))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) attributes: Attributes,
    pub(super) is_stale: bool,
    pub(super) is_long_lived: bool,
}

/// What a peer has announced, by hand.
#[derive(Debug, Clone, Default)]
pub(super) struct Plain {
    pub(super) is_up: bool,
    pub(super) import: u8,
    pub(super) export: Option<GroupFacts>,
    pub(super) routes: BTreeMap<Nlri, Held>,
}

/// Everything that counts, by hand.
#[derive(Debug, Clone, Default)]
pub(super) struct Book {
    pub(super) peers: BTreeMap<u32, Plain>,
    pub(super) own: BTreeSet<u8>,
    pub(super) aggregates: BTreeMap<IpNet, Aggregate>,
    pub(super) ways: BTreeMap<u8, u32>,
}

pub(super) struct World {
    pub(super) rib: Rib,
    pub(super) export: Export,
    pub(super) paper: Paper,
    pub(super) listeners: Listeners,
}

impl World {
    pub(super) fn new() -> Self {
        let (rib, export) = (Rib::new(own()), Export::default());
        Self { rib, export, paper: Paper::default(), listeners: Listeners::new() }
    }

    pub(super) fn join(&mut self, peer: u32, facts: GroupFacts) {
        self.listeners.insert(PeerId(peer), Default::default());
        self.export.join(&self.rib, PeerId(peer), facts, Family::ALL.into());
    }

    pub(super) fn leave(&mut self, peer: u32) {
        self.listeners.remove(&PeerId(peer));
        self.export.leave(PeerId(peer));
    }

    /// One round.
    pub(super) fn flush(&mut self, budget: usize) -> bool {
        let changes = self.rib.take_changes();
        self.export.mark(&changes);
        let mut out = Vec::new();
        let more = self.export.flush(&self.rib, &self.paper, budget, &mut out);
        hear(&mut self.listeners, &self.paper, out);
        more
    }

    /// Rounds until nobody has anything more to be told.
    pub(super) fn settle(&mut self) {
        for peer in self.listeners.keys() {
            self.export.set_ready(*peer, true);
        }
        let mut rounds = 0;
        while self.flush(5) {
            rounds += 1;
            assert!(rounds < 10_000, "it never ends");
        }
        self.export.reclaim(&mut self.rib);
    }

    /// Next hops of the test: 203.0.113.1 and .2.
    pub(super) fn resolve(&mut self, last: u8, metric: Option<u32>) {
        self.rib.resolve(Ipv4Addr::new(203, 0, 113, last).into(), ways(metric));
    }

    /// What the watcher of the kernel does: tells of what it begins to watch.
    pub(super) fn watch(&mut self, known: &BTreeMap<u8, u32>) {
        for change in self.rib.take_next_hops() {
            if let NextHopChange::Track(IpAddr::V4(address)) = change {
                let last = address.octets()[3];
                self.resolve(last, known.get(&last).copied());
            }
        }
    }

    /// From what stands in the book, as if it had come in one go.
    pub(super) fn fresh(book: &Book) -> Self {
        let mut world = Self::new();
        for (peer, plain) in &book.peers {
            let id = PeerId(*peer);
            world.rib.peer_up(id, facts(*peer), policy(plain.import, false));
            let put = |world: &mut Self, wanted: &dyn Fn(&Held) -> bool| {
                for (nlri, held) in plain.routes.iter().filter(|(_, held)| wanted(held)) {
                    world.rib.update(id, &announce(*nlri, &held.attributes)).unwrap();
                }
            };
            put(&mut world, &|held| held.is_long_lived);
            for family in Family::ALL {
                world.rib.begin_refresh(id, family);
                world.rib.long_lived(id, family);
            }
            put(&mut world, &|held| held.is_stale && !held.is_long_lived);
            for family in Family::ALL {
                world.rib.begin_refresh(id, family);
            }
            put(&mut world, &|held| !held.is_stale);
        }
        for number in &book.own {
            world.rib.originate(prefix(*number), Arc::new(attributes(9, *number)));
        }
        world.rib.set_aggregates(book.aggregates.clone());
        world.watch(&book.ways);
        for (peer, plain) in &book.peers {
            if let Some(facts) = &plain.export {
                world.join(*peer, facts.clone());
            }
        }
        world.settle();
        world
    }
}
