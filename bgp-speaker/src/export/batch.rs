//! Changes for many peers, packed once. Never what the changes are.
//!
//! Peers of a group differ in one thing: none is told of its own routes. So the bytes for all of them stand in one buffer,
//! ordered by source, and each peer gets the buffer without the parts that are its own:
//!
//! ```text
//!  | only 3 | only 8 |  from 1  |  from 2  |  from 3  | from us |      peer 3 gets
//!  |========|        |=====================|          |=========|
//! ```

use super::facts::{Delivery, Encode, GroupFacts};
use super::outs::OutRoute;
use crate::rib::{Id, Interner, Rib};
use crate::types::{Family, Nlri, PathId, PeerId};
use bytes::BytesMut;
use hashbrown::HashMap;
use std::ops::Range;

/// One path of one slot: the number of its path, from 0, within the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) slot: u32,
    pub(super) at: u16,
}

/// Changes that go out together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    announced: Vec<(Id, Place)>,
    /// For all but one.
    withdrawn: Vec<(Option<PeerId>, Place)>,
    /// For one.
    withdrawn_from: Vec<(PeerId, Place)>,
}

impl Batch {
    /// For all but the source of the route.
    pub(super) fn announce(&mut self, route: Id, place: Place) {
        self.announced.push((route, place));
    }

    pub(super) fn withdraw(&mut self, from_all_but: Option<PeerId>, place: Place) {
        self.withdrawn.push((from_all_but, place));
    }

    pub(super) fn withdraw_from(&mut self, peer: PeerId, place: Place) {
        self.withdrawn_from.push((peer, place));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.announced.is_empty() && self.withdrawn.is_empty() && self.withdrawn_from.is_empty()
    }

    /// Packs all and hands it to `members`.
    pub(super) fn send(mut self, to: &Packing<'_>, members: &[PeerId], out: &mut Vec<Delivery>) {
        if self.is_empty() || members.is_empty() {
            return;
        }
        let mut buffer = BytesMut::new();
        let mut own: HashMap<PeerId, Vec<Range<usize>>> = HashMap::new();
        let mut excluded: HashMap<PeerId, Vec<Range<usize>>> = HashMap::new();
        let mut nlri = Vec::new();
        self.withdrawn_from.sort_unstable();
        for run in self.withdrawn_from.chunk_by(|one, other| one.0 == other.0) {
            to.nlri(run, &mut nlri);
            let start = buffer.len();
            to.encoder.withdraw(to.facts, to.family, &nlri, &mut buffer);
            own.entry(run[0].0).or_default().push(start..buffer.len());
        }
        let shared = buffer.len();
        self.withdrawn.sort_unstable();
        for run in self.withdrawn.chunk_by(|one, other| one.0 == other.0) {
            to.nlri(run, &mut nlri);
            let start = buffer.len();
            to.encoder.withdraw(to.facts, to.family, &nlri, &mut buffer);
            if let Some(peer) = run[0].0 {
                excluded.entry(peer).or_default().push(start..buffer.len());
            }
        }
        self.announced.sort_unstable();
        for run in self.announced.chunk_by(|one, other| one.0 == other.0) {
            let route = to.routes.get(run[0].0);
            to.nlri(run, &mut nlri);
            let start = buffer.len();
            to.encoder.announce(to.facts, to.family, &route.attributes, &nlri, &mut buffer);
            if let Some(peer) = route.source.peer() {
                excluded.entry(peer).or_default().push(start..buffer.len());
            }
        }
        let bytes = buffer.freeze();
        for member in members {
            let mut deliver = |range: Range<usize>| {
                if !range.is_empty() {
                    out.push(Delivery { peer: *member, bytes: bytes.slice(range) });
                }
            };
            for range in own.get(member).into_iter().flatten() {
                deliver(range.clone());
            }
            let mut from = shared;
            for range in excluded.get(member).into_iter().flatten() {
                deliver(from..range.start);
                from = range.end;
            }
            deliver(from..bytes.len());
        }
    }
}

/// What is needed to make messages of places.
pub(super) struct Packing<'a> {
    pub(super) rib: &'a Rib,
    pub(super) encoder: &'a dyn Encode,
    pub(super) facts: &'a GroupFacts,
    pub(super) family: Family,
    pub(super) routes: &'a Interner<OutRoute>,
    /// NLRI have path ids.
    pub(super) has_ids: bool,
}

impl Packing<'_> {
    fn nlri<T>(&self, places: &[(T, Place)], nlri: &mut Vec<Nlri>) {
        nlri.clear();
        nlri.extend(places.iter().filter_map(|(_, place)| {
            // A slot that somebody has yet to be told of is not freed.
            let prefix = self.rib.prefix(self.family, place.slot)?;
            let path = PathId(if self.has_ids { u32::from(place.at) + 1 } else { 0 });
            Some(Nlri { prefix, path })
        }));
    }
}
