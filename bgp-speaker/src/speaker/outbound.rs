//! What is told to peers. Never what they told us.

use super::core::Speaker;
use super::{ConnId, Output, link};
use crate::export::{Advertisement, Encode, GroupFacts};
use crate::rib::PeerKind;
use crate::session::Event;
use crate::types::{Attributes, CeaseSubcode, Family, Negotiated, Nlri, Notification, PeerId, Refresh};
use crate::wire::{Encoder, Options};
use bytes::BytesMut;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Bytes that may wait on a connection before its peer is told nothing more until some are gone.
const MOST_QUEUED_BYTES: usize = 256 * 1024;
/// A peer that was full is told more when no more than this waits.
const FEW_QUEUED_BYTES: usize = 64 * 1024;
/// After changes were told, those that come are gathered for so long. A first one goes out at once; when thousands of peers
/// speak at the same time, each of them is told of all others in a few messages.
const GATHERING: Duration = Duration::from_millis(10);
/// ... or for so long for each piece that had to be sent, which is a few times what the sending takes: so a speaker with
/// thousands of peers still gathers.
const GATHERING_A_PIECE: Duration = Duration::from_micros(25);
/// Prefixes told in one go, so that sessions get their turn in between.
const PREFIXES_AT_ONCE: usize = 16_384;

/// The wire, as groups of peers use it.
#[derive(Debug, Clone, Copy)]
struct Wire;

impl Wire {
    fn encoder(to: &GroupFacts) -> Encoder {
        let add_path = Family::ALL.map(|family| to.add_path.contains_key(&family));
        Encoder::new(Options {
            four_octet_asn: to.four_octet_asn,
            internal: !to.kind.is_external(),
            max_message_bytes: to.max_message_bytes,
            families: [true; Family::ALL.len()],
            add_path_in: [false; Family::ALL.len()],
            add_path_out: add_path,
            extended_next_hop: Family::ALL.map(|family| to.extended_next_hop.contains(&family)),
        })
    }
}

impl Encode for Wire {
    fn announce(&self, to: &GroupFacts, family: Family, attributes: &Attributes, nlri: &[Nlri], out: &mut BytesMut) {
        if Self::encoder(to).updates(family, attributes, nlri.iter().copied(), out).is_err() {
            // RFC 4271, section 9.2: a route that no message can hold is not announced. What was told before has to go.
            self.withdraw(to, family, nlri, out);
        }
    }

    fn withdraw(&self, to: &GroupFacts, family: Family, nlri: &[Nlri], out: &mut BytesMut) {
        Self::encoder(to).withdrawals(family, nlri.iter().copied(), out);
    }

    fn end_of_rib(&self, to: &GroupFacts, family: Family, out: &mut BytesMut) {
        Self::encoder(to).end_of_rib(family, out);
    }

    fn refresh(&self, _: &GroupFacts, refresh: Refresh, out: &mut BytesMut) {
        out.extend_from_slice(&Encoder::refresh(refresh));
    }
}

impl Speaker {
    /// When there is something to tell to somebody who can take it.
    pub(super) fn news_due(&self, now: Instant) -> Option<Instant> {
        let is_free = self.deferral.is_none();
        let ends = !is_free && !self.is_deferred(now);
        if self.rib.has_next_hop_changes() || ends || is_free && self.export.has_work() {
            return Some(now);
        }
        (is_free && self.rib.has_changes()).then(|| self.gathers_until.map_or(now, |until| until.max(now)))
    }

    /// Whether we have restarted and do not know enough yet to say anything: somebody owes us routes, or the kernel the way
    /// to their next hops. Without those we would call the kernel's routes gone.
    fn is_deferred(&self, now: Instant) -> bool {
        self.deferral
            .as_ref()
            .is_some_and(|deferral| now < deferral.limit() && (!deferral.is_over(now) || self.rib.awaits_next_hops()))
    }

    /// A session is established: its peer is told everything.
    pub(super) fn join(&mut self, id: PeerId, session: &Negotiated) {
        if let Some(facts) = self.group_facts(id, session) {
            self.export.join(&self.rib, id, facts, session.families.clone());
        }
    }

    /// What a peer with a session is to be told has changed.
    pub(super) fn tell_anew(&mut self, id: PeerId, session: &Negotiated) {
        if let Some(facts) = self.group_facts(id, session)
            && !self.export.change(&self.rib, id, facts.clone())
        {
            self.export.join(&self.rib, id, facts, session.families.clone());
        }
    }

    fn group_facts(&self, id: PeerId, session: &Negotiated) -> Option<GroupFacts> {
        let peer = self.peers.get(id)?;
        let config = &peer.config;
        let kind = self.kind(config, session);
        let ends = peer.established()?;
        let sends = config.add_path.iter().filter(|(family, _)| session.add_path_out.contains(family));
        let link = if kind.is_external() { link::shared(&self.addresses, ends.remote.ip()) } else { BTreeSet::new() };
        let neighbours = if link.is_empty() { Arc::default() } else { self.neighbours.clone() };
        Some(GroupFacts {
            kind,
            next_hop: self.own_next_hop(ends, config.mapped_next_hop),
            link,
            neighbours,
            next_hop_self: config.next_hop_self,
            private_asns: config.private_asns,
            role: session.role,
            default_originate: config.default_originate.clone(),
            drain: config.drain,
            long_lived: !session.long_lived.is_empty(),
            policy: config.export.clone(),
            add_path: sends.map(|(family, add_path)| (*family, add_path.send_max)).collect(),
            four_octet_asn: session.four_octet_asn,
            extended_next_hop: session.extended_next_hop.clone(),
            max_message_bytes: session.max_message_bytes,
        })
    }

    /// What a peer is to us.
    pub(super) fn kind(&self, config: &crate::config::PeerConfig, session: &Negotiated) -> PeerKind {
        match () {
            () if session.peer_asn != self.config.asn => PeerKind::External,
            () if config.reflector_client => PeerKind::Client,
            () => PeerKind::Internal,
        }
    }

    /// Bytes of a session go to the transport.
    pub(super) fn queued(&mut self, id: PeerId, conn: ConnId, bytes: usize) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.counters.bytes_out += bytes as u64;
        if peer.session.connection() == Some(conn) {
            peer.queued_bytes += bytes;
            if peer.queued_bytes > MOST_QUEUED_BYTES && !peer.is_full {
                peer.is_full = true;
                self.export.set_ready(id, false);
            }
        }
    }

    /// The transport has got rid of bytes of a peer.
    pub(super) fn relieved(&mut self, id: PeerId, bytes: usize) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        peer.queued_bytes = peer.queued_bytes.saturating_sub(bytes);
        if peer.is_full && peer.queued_bytes <= FEW_QUEUED_BYTES {
            peer.is_full = false;
            self.export.set_ready(id, true);
        }
    }

    /// Tells peers and kernel what has changed, some of it if it is much.
    pub(super) fn flush(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.pending = None;
        self.tell_next_hops(out);
        if self.is_deferred(now) {
            return;
        }
        self.deferral = None;
        if self.gathers_until.is_none_or(|until| now >= until) {
            self.tell_changes(now, out);
        } else {
            // Those that are behind.
            self.tell_peers(now, out);
        }
        self.export.reclaim(&mut self.rib);
        for id in self.export.hoarders(&self.rib) {
            let notification = Notification::Cease(CeaseSubcode::OutOfResources, None);
            self.ask(now, id, Event::Reset { notification }, out);
        }
    }

    fn tell_changes(&mut self, now: Instant, out: &mut Vec<Output>) {
        let (is_beginning, before) = (!self.in_sync, out.len());
        let changes = self.rib.take_changes();
        for family in Family::ALL {
            self.tell_routes(family, &changes[family.index()], out);
        }
        self.export.mark(&changes);
        if is_beginning {
            out.extend(Family::ALL.map(|family| Output::InSync { family }));
            self.settled(now, out);
        }
        let pieces = self.tell_peers(now, out);
        // What a beginning or a restart has to say is not held up, nor what waits for a next hop.
        if !is_beginning && out.len() > before {
            self.gathers_until = Some(now + GATHERING.max(GATHERING_A_PIECE * pieces));
        }
    }

    /// How many pieces it was.
    fn tell_peers(&mut self, now: Instant, out: &mut Vec<Output>) -> u32 {
        let mut deliveries = std::mem::take(&mut self.deliveries);
        self.export.flush(&self.rib, &Wire, PREFIXES_AT_ONCE, &mut deliveries);
        let pieces = u32::try_from(deliveries.len()).unwrap_or(u32::MAX);
        for delivery in deliveries.drain(..) {
            let id = delivery.peer;
            let Some(conn) = self.peers.get(id).and_then(|peer| peer.session.connection()) else { continue };
            let bytes = delivery.bytes.len();
            self.queued(id, conn, bytes);
            out.push(Output::Send { conn, bytes: delivery.bytes });
            self.ask(now, id, Event::Queued { bytes }, out);
        }
        self.deliveries = deliveries;
        pieces
    }

    /// What a peer is told, as far as it could take it.
    #[must_use]
    pub fn advertised(&self, peer: PeerId, family: Family) -> Vec<(Nlri, Arc<Attributes>)> {
        self.export.advertised(&self.rib, peer, family)
    }

    /// Why a peer is told of a prefix, or not.
    #[must_use]
    pub fn explain_to(&self, peer: PeerId, prefix: &IpNet) -> Advertisement {
        self.export.explain(&self.rib, &Wire, peer, &prefix.trunc())
    }
}
