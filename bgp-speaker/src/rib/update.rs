//! Paths come and go. Never from anywhere but one peer, or ourselves, at a time.

use super::import::import;
use super::intern::{Id, NONE};
use super::path::{Flags, Path, Source};
use super::peer::{NearLimit, OverLimit, Peer, PeerFacts};
use super::protected::Protected;
use super::{Rib, decision};
use crate::policy::Policy;
use crate::types::{Attributes, Family, Nlri, PathId, PeerId, Update};
use hashbrown::HashMap;
use ipnet::IpNet;
use std::sync::Arc;

impl Rib {
    /// A session is established, or something of its peer has changed: its paths, should there be any, are looked at again.
    ///
    /// Ids of peers are small numbers; the two greatest of all stand for ourselves.
    pub fn peer_up(&mut self, peer: PeerId, facts: PeerFacts, import: Option<Arc<Policy>>) {
        let facts = Arc::new(facts);
        if let Some(known) = self.peers.get_mut(&peer) {
            let is_same = known.facts == facts && known.import == import;
            known.facts = facts;
            known.import = import;
            if !is_same {
                self.reevaluate(peer);
            }
        } else {
            self.peers.insert(peer, Peer::new(facts, import));
        }
    }

    /// The peer's paths pass another policy from now on, those that are there already too (soft reconfiguration).
    pub fn set_import(&mut self, peer: PeerId, import: Option<Arc<Policy>>) {
        if let Some(known) = self.peers.get_mut(&peer).filter(|known| known.import != import) {
            known.import = import;
            self.reevaluate(peer);
        }
    }

    /// Takes an UPDATE. Nothing for a peer that is not up.
    pub fn update(&mut self, peer: PeerId, update: &Update) -> Result<Option<NearLimit>, OverLimit> {
        for withdrawal in &update.withdrawals {
            for nlri in &withdrawal.nlri {
                self.remove(Source::Peer(peer), withdrawal.family, nlri);
            }
        }
        let mut near = None;
        for announcement in &update.announcements {
            let Some(known) = self.peers.get_mut(&peer) else { return Ok(None) };
            let (facts, policy) = (Arc::clone(&known.facts), known.import.clone());
            let received = self.attributes.intern(Arc::clone(&announcement.attributes));
            let looks_at_prefix = policy.as_ref().is_some_and(|policy| policy.looks_at_prefix());
            let mut last: Option<(Id, Flags)> = None;
            let mut result = Ok(());
            for nlri in &announcement.nlri {
                let protection = self.protected.of(&nlri.prefix);
                let (attributes, flags) = match (protection, last) {
                    (Some(why), _) => (NONE, Flags::new(Some(why.into()), false)),
                    (None, Some(last)) if !looks_at_prefix => last,
                    (None, before) => {
                        let made = import(&self.own, &facts, policy.as_deref(), nlri.prefix, &announcement.attributes);
                        if let Some((attributes, _)) = before {
                            self.attributes.release(attributes);
                        }
                        self.judged(made)
                    }
                };
                if protection.is_none() {
                    last = Some((attributes, flags));
                }
                let path = Path::new(Source::Peer(peer), nlri.path, received, attributes, flags);
                result = self.put(announcement.family, nlri.prefix, path);
                if result.is_err() {
                    break;
                }
            }
            if let Some((attributes, _)) = last {
                self.attributes.release(attributes);
            }
            self.attributes.release(received);
            result?;
            near = self.peers.get_mut(&peer).and_then(|known| known.near_limit(announcement.family)).or(near);
        }
        Ok(near)
    }

    /// Attributes as they count, with a user more, and what is true of the path.
    fn judged(&mut self, made: Result<Arc<Attributes>, super::Refused>) -> (Id, Flags) {
        match made {
            Ok(attributes) => {
                let is_resolved = self.next_hops.is_resolved(&attributes.next_hop);
                (self.attributes.intern(attributes), Flags::new(None, is_resolved))
            }
            Err(refused) => (NONE, Flags::new(Some(refused), false)),
        }
    }

    /// Puts a path in the place of the one with the same source and id. It gets users of its attributes of its own.
    pub(super) fn put(&mut self, family: Family, prefix: IpNet, path: Path) -> Result<(), OverLimit> {
        let table = &mut self.tables[family.index()];
        let Some(slot) = table.slot(&prefix) else { return Ok(()) };
        if let Some(at) = table.paths(slot).iter().position(|other| other.is(path.source(), path.id)) {
            let other = &mut table.paths_mut(slot).as_mut_slice()[at];
            let old = *other;
            *other = path;
            if old == path {
                return Ok(());
            }
            self.hold(family, slot, &path);
            self.let_go(&old);
            self.choose(family, slot);
            return Ok(());
        }
        if let Some(known) = path.source().peer().and_then(|peer| self.peers.get_mut(&peer)) {
            known.count_up(family).inspect_err(|_| table.abandon(slot))?;
        }
        table.push(slot, path);
        self.hold(family, slot, &path);
        self.choose(family, slot);
        Ok(())
    }

    /// Takes a path out; nothing when there is none.
    pub(super) fn remove(&mut self, source: Source, family: Family, nlri: &Nlri) {
        let table = &mut self.tables[family.index()];
        let Some(slot) = table.seek(&nlri.prefix) else { return };
        if let Some(at) = table.paths(slot).iter().position(|path| path.is(source, nlri.path)) {
            self.remove_at(family, slot, at);
        }
    }

    pub(super) fn remove_at(&mut self, family: Family, slot: u32, at: usize) {
        let Some(path) = self.tables[family.index()].remove(slot, at) else { return };
        self.let_go(&path);
        if let Some(known) = path.source().peer().and_then(|peer| self.peers.get_mut(&peer)) {
            known.count_down(family);
        }
        self.choose(family, slot);
    }

    /// A path that is in its slot already uses its attributes and next hop.
    fn hold(&mut self, family: Family, slot: u32, path: &Path) {
        self.attributes.acquire(path.received);
        self.attributes.acquire(path.attributes);
        if path.attributes == NONE || path.source().peer().is_none() {
            return;
        }
        let next_hop = self.attributes.get(path.attributes).next_hop;
        if self.next_hops.acquire(&next_hop, family, slot) {
            let Self { next_hops, tables, attributes, .. } = self;
            next_hops.clean(&next_hop, family, |slot| {
                let paths = tables[family.index()].paths(slot).iter().filter(|path| path.attributes != NONE);
                paths.clone().any(|path| attributes.get(path.attributes).next_hop.address() == next_hop.address())
            });
        }
    }

    fn let_go(&mut self, path: &Path) {
        if path.attributes != NONE && path.source().peer().is_some() {
            let next_hop = self.attributes.get(path.attributes).next_hop;
            self.next_hops.release(&next_hop);
        }
        self.attributes.release(path.received);
        self.attributes.release(path.attributes);
    }

    /// Looks at all paths of a peer again.
    pub(super) fn reevaluate(&mut self, peer: PeerId) {
        let Some(known) = self.peers.get(&peer) else { return };
        let (facts, policy) = (Arc::clone(&known.facts), known.import.clone());
        let looks_at_prefix = policy.as_ref().is_some_and(|policy| policy.looks_at_prefix());
        let source = Source::Peer(peer);
        // What came of equal attributes; each entry is a user of what came of it.
        let mut cache: HashMap<Id, (Id, Flags)> = HashMap::new();
        for family in Family::ALL {
            for slot in 0..self.tables[family.index()].slots() {
                let mut is_concerned = false;
                for at in 0..self.tables[family.index()].paths(slot).len() {
                    let old = self.tables[family.index()].paths(slot)[at];
                    let prefix = self.tables[family.index()].prefix(slot);
                    let (Some(prefix), true) = (prefix, old.is_of(source)) else { continue };
                    is_concerned = true;
                    // Protection is of the prefix, whoever announces it: it has not changed.
                    if self.protected.of(&prefix).is_some() {
                        continue;
                    }
                    let known = cache.get(&old.received).filter(|_| !looks_at_prefix).copied();
                    let (attributes, flags) = known.unwrap_or_else(|| {
                        let received = Arc::clone(self.attributes.get(old.received));
                        self.judged(import(&self.own, &facts, policy.as_deref(), prefix, &received))
                    });
                    let path = Path::new(source, old.id, old.received, attributes, flags.with_age_of(old.flags));
                    self.replace_at(family, slot, at, path);
                    if looks_at_prefix {
                        self.attributes.release(attributes);
                    } else {
                        cache.insert(old.received, (attributes, flags));
                    }
                }
                // Also where no path has become another one: the facts of its peer take part in the choice.
                if is_concerned {
                    self.choose(family, slot);
                }
            }
        }
        for (attributes, _) in cache.into_values() {
            self.attributes.release(attributes);
        }
    }

    /// Other prefixes are protected from now on. Only those for which that makes a difference are looked at again.
    pub fn protect(&mut self, protected: Protected) {
        let old = std::mem::replace(&mut self.protected, protected);
        for family in Family::ALL {
            let slots: Vec<u32> = match self.protected.changed_since(&old) {
                Some(prefixes) => {
                    let of_family = prefixes.iter().filter(|prefix| Family::of(prefix) == family);
                    of_family.filter_map(|prefix| self.slot(prefix)).collect()
                }
                None => (0..self.slots(family)).collect(),
            };
            for slot in slots {
                let Some(prefix) = self.prefix(family, slot) else { continue };
                if old.of(&prefix) != self.protected.of(&prefix) {
                    self.judge_again(family, slot, prefix);
                }
            }
        }
    }

    /// Looks at all paths of peers in a slot again.
    fn judge_again(&mut self, family: Family, slot: u32, prefix: IpNet) {
        for at in 0..self.tables[family.index()].paths(slot).len() {
            let old = self.tables[family.index()].paths(slot)[at];
            let Some(known) = old.source().peer().and_then(|peer| self.peers.get(&peer)) else { continue };
            let made = match self.protected.of(&prefix) {
                Some(why) => Err(why.into()),
                None => {
                    let received = self.attributes.get(old.received);
                    import(&self.own, &known.facts, known.import.as_deref(), prefix, received)
                }
            };
            let (attributes, flags) = self.judged(made);
            let path = Path::new(old.source(), old.id, old.received, attributes, flags.with_age_of(old.flags));
            self.replace_at(family, slot, at, path);
            self.attributes.release(attributes);
        }
        self.choose(family, slot);
    }

    /// Puts what a path has become in its place. It gets users of its attributes of its own.
    fn replace_at(&mut self, family: Family, slot: u32, at: usize, path: Path) {
        let old = std::mem::replace(&mut self.tables[family.index()].paths_mut(slot).as_mut_slice()[at], path);
        if path != old {
            self.hold(family, slot, &path);
            self.let_go(&old);
        }
    }

    /// The best path of a slot comes first, and the slot counts as changed.
    pub(super) fn choose(&mut self, family: Family, slot: u32) {
        if self.tables[family.index()].paths(slot).len() > 1 {
            let (places, candidates) = self.candidates(family, slot, |_| true);
            let choice = decision::choose(&candidates, &self.own.selection);
            if let Some(best) = choice.best {
                self.tables[family.index()].paths_mut(slot).as_mut_slice().swap(0, places[best]);
            }
        }
        self.tables[family.index()].changed.insert(slot);
    }

    /// How many paths a peer has in a family, refused ones included.
    #[must_use]
    pub fn received(&self, peer: PeerId, family: Family) -> u32 {
        self.peers.get(&peer).map_or(0, |known| known.counts[family.index()])
    }

    /// A path of our own. See [`Rib::originate`].
    pub(super) fn put_own(&mut self, source: Source, family: Family, prefix: IpNet, attributes: Arc<Attributes>) {
        let id = self.attributes.intern(attributes);
        let path = Path::new(source, PathId::default(), id, id, Flags::new(None, true));
        // Only peers have limits.
        let _ = self.put(family, prefix, path);
        self.attributes.release(id);
    }
}
