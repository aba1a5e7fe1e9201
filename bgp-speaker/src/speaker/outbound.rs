//! What is told to peers, and to the kernel. Never what they told us.

use super::Output;
use super::core::Speaker;
use crate::types::{Family, Negotiated, PeerId};
use std::time::Instant;

impl Speaker {
    /// Whether something is left to be told.
    pub(super) fn has_news(&self) -> bool {
        false
    }

    pub(super) fn join(&mut self, id: PeerId, session: &Negotiated) {
        let _ = (id, session);
    }

    pub(super) fn leave(&mut self, id: PeerId) {
        let _ = id;
    }

    pub(super) fn start_bfd(&mut self, id: PeerId, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let (Some(bfd), Some(ends)) = (peer.config.bfd.clone(), peer.established().cloned()) else { return };
        let is_direct = peer.config.is_direct(self.config.asn);
        let interface = ends.interface.or_else(|| peer.interface().cloned()).filter(|_| is_direct);
        // A session that goes on with other timers is still known to be up.
        let before = peer.bfd;
        peer.bfd = before.or(Some(false));
        out.push(Output::StartBfd {
            peer: id,
            remote: ends.remote.ip(),
            local: Some(ends.local.ip()),
            interface,
            interval: bfd.interval,
            multiplier: bfd.multiplier,
        });
    }

    /// Bytes of a session go to the transport.
    pub(super) fn queued(&mut self, id: PeerId, conn: super::ConnId, bytes: usize) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.counters.bytes_out += bytes as u64;
        if peer.session.connection() == Some(conn) {
            peer.queued_bytes += bytes;
        }
    }

    /// Tells peers and kernel what has changed.
    pub(super) fn flush(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.pending = None;
        self.tell_next_hops(out);
        if self.deferral.as_ref().is_some_and(|deferral| !deferral.is_over(now)) {
            return;
        }
        if self.deferral.take().is_some() {
            self.restarted(now, out);
        }
        let changes = self.rib.take_changes();
        for family in Family::ALL {
            self.tell_routes(family, &changes[family.index()], out);
        }
        if !self.in_sync {
            self.in_sync = true;
            out.extend(Family::ALL.map(|family| Output::InSync { family }));
        }
    }
}
