//! What others may see of the tables. Never a way to change them.

use super::Rib;
use super::decision::{self, Candidate};
use super::intern::Id;
use super::path::{Path, Refused, Source};
use super::peer::{PeerFacts, PeerKind};
use crate::types::{Attributes, Community, Family, PathId, PeerId};
use ipnet::IpNet;
use std::sync::Arc;

/// The value of a route without LOCAL_PREF. Usual.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// A path that the choice may fall on, or has fallen on.
#[derive(Debug, Clone, Copy)]
pub struct PathView<'a> {
    /// Where it comes from.
    pub source: Source,
    /// Which path of its source.
    pub id: PathId,
    /// Its attributes after the import policy.
    pub attributes: &'a Arc<Attributes>,
    /// Their number.
    pub(crate) attributes_id: Id,
    /// What is known of the peer it comes from.
    pub peer: Option<&'a PeerFacts>,
    /// It is long-lived stale by our own doing; the attributes do not say so.
    pub is_long_lived: bool,
}

impl Rib {
    /// The slot of a prefix.
    #[must_use]
    pub fn slot(&self, prefix: &IpNet) -> Option<u32> {
        self.tables[Family::of(prefix).index()].find(prefix)
    }

    /// The prefix in a slot; `None` for a free one.
    #[must_use]
    pub fn prefix(&self, family: Family, slot: u32) -> Option<IpNet> {
        self.tables[family.index()].prefix(slot)
    }

    /// All slots of a family are below this number.
    #[must_use]
    pub fn slots(&self, family: Family) -> u32 {
        self.tables[family.index()].slots()
    }

    /// Whether a slot has a path, usable or not.
    #[must_use]
    pub fn has_paths(&self, family: Family, slot: u32) -> bool {
        !self.tables[family.index()].paths(slot).is_empty()
    }

    /// Prefixes with a path, usable or not.
    #[must_use]
    pub fn prefixes(&self, family: Family) -> usize {
        self.tables[family.index()].used()
    }

    /// The best path of a slot.
    #[must_use]
    pub fn best(&self, family: Family, slot: u32) -> Option<PathView<'_>> {
        self.tables[family.index()].best(slot).map(|path| self.view(path))
    }

    /// The `most` best paths of a slot, the best first: what is best after the better ones are taken away.
    #[must_use]
    pub fn ranked(&self, family: Family, slot: u32, most: usize) -> Vec<PathView<'_>> {
        let Some(best) = self.best(family, slot).filter(|_| most > 0) else { return Vec::new() };
        let mut ranked = vec![best];
        let paths = self.tables[family.index()].paths(slot);
        if most == 1 || paths.len() == 1 {
            return ranked;
        }
        let mut taken = vec![0];
        while ranked.len() < most {
            let (places, candidates) = self.candidates(family, slot, |at| !taken.contains(&at));
            let Some(best) = decision::choose(&candidates, &self.own.selection).best else { break };
            taken.push(places[best]);
            ranked.push(self.view(&paths[places[best]]));
        }
        ranked
    }

    /// The paths that packets of a prefix take, the best first: several for ECMP, none for a route of our own.
    ///
    /// Beside the best those that are as good up to the metric of the next hop, each with a next hop of its own. External
    /// ones must have the same AS_PATH, unless `as_path_relax` says that the same length is enough.
    #[must_use]
    pub fn forwarding(&self, family: Family, slot: u32) -> Vec<PathView<'_>> {
        let Some(best) = self.best(family, slot).filter(|best| best.source.peer().is_some()) else { return Vec::new() };
        let mut ways = vec![best];
        let paths = self.tables[family.index()].paths(slot);
        let most = usize::from(self.own.selection.max_paths);
        if most == 1 || paths.len() == 1 {
            return ways;
        }
        let (places, candidates) = self.candidates(family, slot, |_| true);
        let mut equal = decision::choose(&candidates, &self.own.selection).equal;
        // The order in which paths came must not say who is left out.
        equal.sort_by_key(|at| (candidates[*at].router_id, candidates[*at].address, candidates[*at].path_id));
        for view in equal.into_iter().map(|at| self.view(&paths[places[at]])) {
            let relaxed = self.own.selection.as_path_relax || best.attributes.as_path == view.attributes.as_path;
            let is_new = !ways.iter().any(|way| way.attributes.next_hop == view.attributes.next_hop);
            if relaxed && is_new && ways.len() < most {
                ways.push(view);
            }
        }
        ways
    }

    /// What a peer announced, as it came (Adj-RIB-In).
    pub fn received_from(
        &self,
        peer: PeerId,
        family: Family,
    ) -> impl Iterator<Item = (IpNet, PathId, &Arc<Attributes>)> {
        let table = &self.tables[family.index()];
        (0..table.slots()).flat_map(move |slot| {
            let paths = table.paths(slot).iter().filter(move |path| path.is_of(Source::Peer(peer)));
            paths.filter_map(move |path| Some((table.prefix(slot)?, path.id, self.attributes.get(path.received))))
        })
    }

    /// Why a path of a peer is not looked at; `None`: it is, or there is none.
    #[must_use]
    pub fn refused(&self, peer: PeerId, prefix: &IpNet, id: PathId) -> Option<Refused> {
        let table = &self.tables[Family::of(prefix).index()];
        let mut paths = table.paths(table.find(prefix)?).iter();
        paths.find(|path| path.is(Source::Peer(peer), id))?.flags.refused()
    }

    /// What is known of a peer.
    #[must_use]
    pub fn peer(&self, peer: PeerId) -> Option<&PeerFacts> {
        self.peers.get(&peer).map(|known| &*known.facts)
    }

    pub(super) fn view(&self, path: &Path) -> PathView<'_> {
        let source = path.source();
        PathView {
            source,
            id: path.id,
            attributes: self.attributes.get(path.attributes),
            attributes_id: path.attributes,
            peer: source.peer().and_then(|peer| self.peer(peer)),
            is_long_lived: path.flags.is_long_lived(),
        }
    }

    /// The paths that can be chosen, with their places in the slot.
    pub(super) fn candidates(
        &self,
        family: Family,
        slot: u32,
        wanted: impl Fn(usize) -> bool,
    ) -> (Vec<usize>, Vec<Candidate>) {
        let paths = self.tables[family.index()].paths(slot).iter().enumerate();
        let usable = paths.filter(|(at, path)| path.flags.is_eligible() && wanted(*at));
        usable.map(|(at, path)| (at, self.candidate(path))).unzip()
    }

    fn candidate(&self, path: &Path) -> Candidate {
        let attributes = self.attributes.get(path.attributes);
        let peer = path.source().peer().and_then(|peer| self.peer(peer));
        let router_id = attributes.originator.or(peer.map(|peer| peer.router_id)).unwrap_or(self.own.router_id);
        Candidate {
            is_long_lived: path.flags.is_long_lived() || attributes.has(Community::LLGR_STALE),
            local_pref: attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF),
            source: match path.source() {
                Source::Local => 0,
                Source::Aggregate => 1,
                Source::Peer(_) => 2,
            },
            hops: attributes.as_path.hops(),
            origin: attributes.origin as u8,
            med: attributes.med,
            neighbour: attributes.as_path.neighbour(),
            is_external: peer.is_some_and(|peer| peer.kind == PeerKind::External),
            metric: if peer.is_some() { self.next_hops.metric(&attributes.next_hop) } else { 0 },
            router_id: router_id.get().into(),
            clusters: attributes.cluster_list.len(),
            address: peer.map(|peer| peer.address),
            path_id: path.id.0,
        }
    }
}
