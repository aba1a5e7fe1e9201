//! BFD with peers: begun, listened to, ended. Never a packet of it.
//!
//! What its failure means depends on who shares its fate (RFC 5882, section 4.3):
//!
//! | the peer | C bit set: its BFD outlives its control plane | C bit clear |
//! |---|---|---|
//! | has a session | it forwards nothing: the session ends, no route is kept | the same (4.3.2.2) |
//! | is restarting gracefully | it forwards nothing: what was kept goes at once (4.3.1) | it is part of the restart (4.3.2) |
//!
//! Our own BFD dies with us. That says nothing here: while we can ask, we live.

use super::Output;
use super::core::Speaker;
use super::peer::Bfd;
use crate::config;
use crate::session::Event;
use crate::types::PeerId;
use std::time::Instant;

impl Speaker {
    /// Begins BFD with a peer that has a session, or changes its pace.
    pub(super) fn start_bfd(&mut self, id: PeerId, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let (Some(bfd), Some(ends)) = (peer.config.bfd.clone(), peer.established().cloned()) else { return };
        let single_hop = peer.config.is_direct(self.config.asn);
        let interface = ends.interface.or_else(|| peer.interface().cloned()).filter(|_| single_hop);
        let (remote, local) = (ends.remote.ip(), ends.local.ip());
        // A session that goes on, perhaps with other timers, is still known to be up.
        let place = (remote, local, interface.clone());
        if peer.bfd.as_ref().is_none_or(|bfd| bfd.place != place) {
            peer.bfd = Some(Bfd { place, up: false, independent: false });
        }
        out.push(Output::StartBfd {
            peer: id,
            remote,
            local: Some(local),
            single_hop,
            interface,
            interval: bfd.interval,
            multiplier: bfd.multiplier,
        });
    }

    /// The configuration of BFD has changed.
    pub(super) fn change_bfd(&mut self, id: PeerId, old: Option<&config::Bfd>, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        if peer.config.bfd.as_ref() == old {
            return;
        }
        if peer.config.bfd.is_none() && peer.bfd.take().is_some() {
            out.push(Output::StopBfd { peer: id });
        }
        self.start_bfd(id, out);
    }

    /// Ends BFD that nobody needs any more: there is no session, and nothing is kept that it could end.
    pub(super) fn end_watch(&mut self, id: PeerId, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(id).filter(|peer| peer.bfd.is_some()) else { return };
        if peer.session.connection().is_none() && !peer.retention.keeps() {
            peer.bfd = None;
            out.push(Output::StopBfd { peer: id });
        }
    }

    /// BFD's word on a peer. Only one that was there can be lost: a peer without BFD keeps its session (RFC 5882,
    /// section 4.3).
    pub(super) fn bfd(&mut self, now: Instant, id: PeerId, up: bool, independent: bool, out: &mut Vec<Output>) {
        // `None`: it was stopped meanwhile.
        let Some(peer) = self.peers.get_mut(id) else { return };
        let Some(bfd) = &mut peer.bfd else { return };
        let was_up = std::mem::replace(&mut bfd.up, up);
        bfd.independent = independent;
        let restarts = peer.retention.keeps();
        if up || !was_up || restarts && !independent {
            return;
        }
        for family in peer.retention.forget() {
            self.rib.sweep(id, family);
        }
        self.ask(now, id, Event::BfdDown, out);
    }
}
