//! Peers go away, and their routes with them, at once or later. Never how much later: the speaker's retention says so.

use super::Rib;
use super::path::Source;
use crate::types::{Community, Family, PathId, PeerId};

impl Rib {
    /// A session has ended. Routes of the families in `keep` become stale, but for those that were stale already (RFC 4724,
    /// section 4.2); the others go.
    pub fn peer_down(&mut self, peer: PeerId, keep: &[Family]) {
        for family in Family::ALL {
            let stays = keep.contains(&family);
            self.each_of(peer, family, |rib, slot, at| {
                let path = &mut rib.tables[family.index()].paths_mut(slot).as_mut_slice()[at];
                let goes = !stays || path.flags.is_stale();
                path.flags = path.flags.with_stale();
                goes
            });
        }
        self.forget_if_empty(peer);
    }

    /// The peer begins to send its whole table again (RFC 7313): what it does not send until [`Rib::sweep`] goes.
    pub fn begin_refresh(&mut self, peer: PeerId, family: Family) {
        self.each_of(peer, family, |rib, slot, at| {
            let path = &mut rib.tables[family.index()].paths_mut(slot).as_mut_slice()[at];
            path.flags = path.flags.with_stale();
            false
        });
    }

    /// Routes that are still stale go: the peer has sent its whole table, or its time is over.
    pub fn sweep(&mut self, peer: PeerId, family: Family) {
        self.each_of(peer, family, |rib, slot, at| rib.tables[family.index()].paths(slot)[at].flags.is_stale());
    }

    /// Stale routes are used last from now on; those that must not be kept long (NO_LLGR) go. RFC 9494, section 4.2.
    pub fn long_lived(&mut self, peer: PeerId, family: Family) {
        self.each_of(peer, family, |rib, slot, at| {
            let path = rib.tables[family.index()].paths(slot)[at];
            if !path.flags.is_stale() {
                return false;
            }
            if rib.attributes.get(path.received).has(Community::NO_LLGR) {
                return true;
            }
            rib.tables[family.index()].paths_mut(slot).as_mut_slice()[at].flags = path.flags.with_long_lived();
            rib.tables[family.index()].changed.insert(slot);
            false
        });
        for slot in self.tables[family.index()].changed.iter().collect::<Vec<_>>() {
            self.choose(family, slot);
        }
    }

    /// Everything of a peer goes, for it is no longer one.
    pub fn forget(&mut self, peer: PeerId) {
        self.peer_down(peer, &[]);
    }

    /// For each path of a peer: whether it goes.
    fn each_of(&mut self, peer: PeerId, family: Family, mut goes: impl FnMut(&mut Self, u32, usize) -> bool) {
        if self.received(peer, family) == 0 {
            return;
        }
        let source = Source::Peer(peer);
        for slot in 0..self.tables[family.index()].slots() {
            // By id: removing one chooses anew, and that moves others.
            let paths = self.tables[family.index()].paths(slot).iter();
            let ids: Vec<PathId> = paths.filter(|path| path.is_of(source)).map(|path| path.id).collect();
            for id in ids {
                let at = self.tables[family.index()].paths(slot).iter().position(|path| path.is(source, id));
                if let Some(at) = at.filter(|at| goes(self, slot, *at)) {
                    self.remove_at(family, slot, at);
                }
            }
        }
    }

    fn forget_if_empty(&mut self, peer: PeerId) {
        if self.peers.get(&peer).is_some_and(|known| known.counts == [0; Family::ALL.len()]) {
            self.peers.remove(&peer);
        }
    }

    /// How many different attributes there are, for the status page.
    #[must_use]
    pub fn distinct_attributes(&self) -> usize {
        self.attributes.len()
    }
}
