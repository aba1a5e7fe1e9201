//! What peers tell: routes, refreshes, and that they are there at all. Never what is told to them.

use super::core::Speaker;
use super::retention::Due;
use super::{ConnId, Output, PeerEvent};
use crate::config::PeerAddress;
use crate::rib::OverLimit;
use crate::session::{Event, State};
use crate::types::{CeaseSubcode, Family, Notification, PeerId, Refresh, RefreshKind, Update};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

impl Speaker {
    /// Routes came. The limit that they exceed.
    pub(super) fn update(
        &mut self,
        now: Instant,
        id: PeerId,
        update: &Update,
        out: &mut Vec<Output>,
    ) -> Option<OverLimit> {
        let peer = self.peers.get_mut(id)?;
        peer.counters.updates_in += 1;
        peer.counters.mended += update.problems.len() as u64;
        if let Some(deferral) = &mut self.deferral {
            deferral.heard(now, id);
        }
        for problem in &update.problems {
            self.say(id, PeerEvent::Mended(problem.clone()), out);
        }
        match self.rib.update(id, update) {
            Ok(None) => {}
            Ok(Some(near)) => self.say(id, PeerEvent::NearLimit(near), out),
            Err(over) => return Some(over),
        }
        if let Some(family) = update.end_of_rib {
            self.end_of_rib(id, family);
        }
        None
    }

    fn end_of_rib(&mut self, id: PeerId, family: Family) {
        if self.peers.get_mut(id).is_some_and(|peer| peer.retention.end_of_rib(family)) {
            self.rib.sweep(id, family);
        }
        if let Some(deferral) = &mut self.deferral {
            deferral.end_of_rib(id, family);
        }
    }

    /// A peer announced too much: its session ends, for as long as is configured.
    pub(super) fn over_limit(&mut self, now: Instant, id: PeerId, over: OverLimit, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let limit = peer.config.max_prefixes.get(&over.family);
        peer.held = true;
        peer.resume = limit.and_then(|limit| limit.restart_after).map(|wait| now + wait);
        self.stop(now, id, CeaseSubcode::MaxPrefixes, None, out);
    }

    /// The peer wants our routes again, or says where its own turn begins and ends.
    pub(super) fn refresh(&mut self, id: PeerId, refresh: Refresh) {
        let Refresh { family, kind } = refresh;
        match kind {
            RefreshKind::Request => {
                let Some(peer) = self.peers.get_mut(id) else { return };
                peer.counters.refreshes_in += 1;
                let is_enhanced = peer.session.negotiated().is_some_and(|session| session.enhanced_route_refresh);
                self.export.refresh(id, family, is_enhanced);
            }
            RefreshKind::Begin => self.rib.begin_refresh(id, family),
            RefreshKind::End => self.rib.sweep(id, family),
        }
    }

    /// Who is on an unnumbered interface.
    pub(super) fn neighbour(
        &mut self,
        now: Instant,
        interface: &Arc<str>,
        address: Option<IpAddr>,
        out: &mut Vec<Output>,
    ) {
        let is_it = |peer: &&super::peer::Peer| peer.config.address == PeerAddress::Interface(interface.clone());
        let Some(id) = self.peers.iter().find(is_it).map(|peer| peer.id) else { return };
        let Some(peer) = self.peers.get_mut(id) else { return };
        // Silence alone ends nothing: the session's own timers do, and a connection may be all that is left to tell.
        if peer.address == address || address.is_none() {
            return;
        }
        let moved = peer.address.is_some();
        peer.address = address;
        self.peers.moved(id);
        if moved {
            self.stop(now, id, CeaseSubcode::ConfigurationChange, None, out);
        }
        self.start(now, id, out);
    }

    /// The kernel took bytes of a connection.
    pub(super) fn sent(&mut self, now: Instant, conn: ConnId, bytes: usize, out: &mut Vec<Output>) {
        let Some(id) = self.peers.of(conn) else { return };
        if self.peers.get(id).and_then(|peer| peer.session.connection()) == Some(conn) {
            self.relieved(id, bytes);
        }
        self.ask(now, id, Event::Sent { conn, bytes }, out);
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.begun, true) {
            for id in self.peers.ids() {
                self.start(now, id, out);
            }
        }
        for id in self.peers.due(now) {
            let Some(peer) = self.peers.get_mut(id) else { continue };
            let resumes = peer.resume.take_if(|at| *at <= now).is_some();
            for due in peer.retention.tick(now) {
                match due {
                    Due::Drop(family) => self.rib.sweep(id, family),
                    Due::LongLived(family) => self.rib.long_lived(id, family),
                }
            }
            if resumes {
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.held = false;
                }
                self.start(now, id, out);
            }
            self.ask(now, id, Event::Tick, out);
        }
        self.flush(now, out);
    }

    /// Ends a session and begins it again, as an administrator wishes.
    pub fn reset(&mut self, now: Instant, id: PeerId, text: Option<String>, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        (peer.held, peer.resume) = (false, None);
        if peer.session.state() == State::Idle {
            self.start(now, id, out);
        } else {
            let notification = Notification::Cease(CeaseSubcode::AdminReset, text);
            self.ask(now, id, Event::Reset { notification }, out);
        }
    }
}
