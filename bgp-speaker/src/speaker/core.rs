//! A speaker: what comes in is given to sessions, what sessions say to the tables, and what the tables say to peers and
//! kernel. Never a clock or a socket.

use super::deferral::Deferral;
use super::peer::{Ends, Peer};
use super::peers::Peers;
use super::{Addresses, ConnId, DownReason, Input, Output, PeerEvent, link};
use crate::config::{Config, ListenRange, PeerAddress, PeerName};
use crate::export::{Delivery, Export};
use crate::rib::{PeerFacts, Rib, SlotSet};
use crate::session::{Action, Event, State};
use crate::types::{CeaseSubcode, Family, Negotiated, Notification, PeerId};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// A speaker.
#[derive(Debug)]
pub struct Speaker {
    pub(super) config: Config,
    pub(super) peers: Peers,
    pub(super) rib: Rib,
    pub(super) export: Export,
    /// What this node has on its links, as far as it is known.
    pub(super) addresses: Addresses,
    /// Addresses of configured peers.
    pub(super) neighbours: Arc<BTreeSet<IpAddr>>,
    /// Prefixes that the kernel was told of.
    pub(super) told: [SlotSet; Family::ALL.len()],
    /// Sessions have begun.
    pub(super) begun: bool,
    /// The kernel was told that what it knows is all.
    pub(super) in_sync: bool,
    /// We have restarted, and sessions that begin say so.
    pub(super) restarting: bool,
    /// Families whose routes the kernel has kept since our predecessor.
    pub(super) forwarding_kept: BTreeSet<Family>,
    /// As long as we wait for others after a restart.
    pub(super) deferral: Option<Deferral>,
    /// When something was left to be told to peers or kernel.
    pub(super) pending: Option<Instant>,
    /// Until then changed routes are gathered.
    pub(super) gathers_until: Option<Instant>,
    /// Sessions begun: their connections are told apart by it.
    pub(super) sessions: u32,
    /// For the jitter of timers.
    pub(super) seed: u64,
    /// Room for what is told to peers.
    pub(super) deliveries: Vec<Delivery>,
    /// Actions of the session that is being asked.
    pub(super) actions: Vec<Action>,
}

impl Speaker {
    /// Takes in what happened at `now` and appends what is to be done. Routes are told to peers and kernel with the next
    /// [`Input::Tick`], which is due at once then: what comes in together goes out together.
    pub fn handle(&mut self, now: Instant, input: Input<'_>, out: &mut Vec<Output>) {
        match input {
            Input::Connected { conn, local, remote, interface } => {
                let Some(id) = self.peers.of(conn) else { return out.push(Output::Close { conn }) };
                self.stands(id, Ends { conn, local, remote, interface });
                self.ask(now, id, Event::Connected { conn }, out);
            }
            Input::Accepted { conn, local, remote, interface } => {
                self.accept(now, Ends { conn, local, remote, interface }, out);
            }
            Input::Failed { conn, why } => {
                if let Some(id) = self.gone(conn) {
                    self.ask(now, id, Event::Failed { conn, why }, out);
                }
            }
            Input::Closed { conn, why } => {
                if let Some(id) = self.gone(conn) {
                    self.ask(now, id, Event::Closed { conn, why }, out);
                }
            }
            Input::Received { conn, bytes } => {
                if let Some(id) = self.peers.of(conn) {
                    if let Some(peer) = self.peers.get_mut(id) {
                        peer.counters.bytes_in += bytes.len() as u64;
                    }
                    self.ask(now, id, Event::Received { conn, bytes }, out);
                }
            }
            Input::Sent { conn, bytes } => self.sent(now, conn, bytes, out),
            Input::Resolved { address, ways } => self.rib.resolve(address, ways),
            Input::Bfd { peer, up, independent } => self.bfd(now, peer, up, independent, out),
            Input::Addresses(addresses) => self.has_addresses(addresses),
            Input::Neighbour { interface, address } => self.neighbour(now, &interface, address.map(IpAddr::V6), out),
            Input::Tick => self.tick(now, out),
        }
        self.pending = [self.pending, self.news_due(now)].into_iter().flatten().min();
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let deferral = self.deferral.as_ref().map(|deferral| {
            // The answer is an input of its own.
            if self.rib.awaits_next_hops() { deferral.limit() } else { deferral.deadline() }
        });
        [self.peers.deadline(), self.pending, deferral].into_iter().flatten().min()
    }

    /// What its configuration is.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    fn stands(&mut self, id: PeerId, ends: Ends) {
        self.peers.connect(ends.conn, id);
        if let Some(peer) = self.peers.get_mut(id) {
            peer.ends.push(ends);
        }
    }

    /// A connection is no more. Whose it was.
    fn gone(&mut self, conn: ConnId) -> Option<PeerId> {
        let id = self.peers.of(conn)?;
        self.peers.disconnect(conn);
        let peer = self.peers.get_mut(id)?;
        peer.ends.retain(|ends| ends.conn != conn);
        Some(id)
    }

    /// Somebody connected: a peer we know, one of an unnumbered interface, or one of a range.
    fn accept(&mut self, now: Instant, ends: Ends, out: &mut Vec<Output>) {
        let conn = ends.conn;
        let known = self.peers.at(ends.remote, ends.interface.as_ref());
        let known = known.or_else(|| self.on_unnumbered(&ends)).or_else(|| self.newcomer(now, ends.remote));
        let Some(id) = known else { return out.push(Output::Close { conn }) };
        self.stands(id, ends);
        // Nothing new to a session that was started.
        self.start(now, id, out);
        self.ask(now, id, Event::Accepted { conn }, out);
    }

    /// The peer of an unnumbered interface may be heard by TCP before its router advertisement is.
    fn on_unnumbered(&mut self, ends: &Ends) -> Option<PeerId> {
        let interface = ends.interface.as_ref()?;
        let is_it =
            |peer: &&Peer| peer.address.is_none() && peer.config.address == PeerAddress::Interface(interface.clone());
        let id = self.peers.iter().find(is_it)?.id;
        self.peers.get_mut(id)?.address = Some(ends.remote.ip());
        self.peers.moved(id);
        Some(id)
    }

    fn newcomer(&mut self, now: Instant, remote: SocketAddr) -> Option<PeerId> {
        let address = remote.ip().to_canonical();
        let fits = |(_, listen): &(&PeerName, &ListenRange)| listen.range.contains(&address);
        let (range, listen) = self.config.ranges.iter().find(fits)?;
        let there = self.peers.iter().filter(|peer| peer.range.as_ref() == Some(range)).count();
        if there >= listen.limit as usize {
            return None;
        }
        let range = range.clone();
        let mut config = listen.template.clone();
        config.address = PeerAddress::Ip(address);
        config.passive = true;
        Some(self.add_peer(now, format!("{range}/{address}").into(), config, Some(range)))
    }

    /// Begins a session where the peer may have one and it is known where it is.
    pub(super) fn start(&mut self, now: Instant, id: PeerId, out: &mut Vec<Output>) {
        let Some(peer) = self.peers.get_mut(id) else { return };
        let may = peer.config.shutdown.is_none() && !peer.held;
        if may && peer.address.is_some() {
            self.ask(now, id, Event::Start, out);
        }
    }

    /// Ends a session until the next start.
    pub(super) fn stop(
        &mut self,
        now: Instant,
        id: PeerId,
        subcode: CeaseSubcode,
        text: Option<String>,
        out: &mut Vec<Output>,
    ) {
        let notification = Some(Notification::Cease(subcode, text));
        self.ask(now, id, Event::Stop { notification }, out);
    }

    /// Tells a session what happened and does what it says.
    pub(super) fn ask(&mut self, now: Instant, id: PeerId, event: Event<'_>, out: &mut Vec<Output>) {
        let mut actions = std::mem::take(&mut self.actions);
        if let Some(peer) = self.peers.get_mut(id) {
            peer.session.handle(now, event, &mut actions);
        }
        self.carry_out(now, id, &mut actions, out);
        self.actions = actions;
    }

    /// Does what a session says.
    pub(super) fn carry_out(&mut self, now: Instant, id: PeerId, actions: &mut Vec<Action>, out: &mut Vec<Output>) {
        let mut over = None;
        for action in actions.drain(..) {
            match action {
                Action::Connect { conn } => self.connect(conn, id, out),
                Action::Send { conn, bytes } => {
                    self.queued(id, conn, bytes.len());
                    out.push(Output::Send { conn, bytes });
                }
                Action::Close { conn } => {
                    self.gone(conn);
                    out.push(Output::Close { conn });
                }
                Action::Up { session, .. } => self.up(now, id, &session, out),
                Action::Down { reason, keep_routes } => self.down(now, id, reason, keep_routes, out),
                Action::Attempt { reason } => {
                    if let Some(peer) = self.peers.get_mut(id) {
                        peer.last = Some(reason);
                    }
                }
                Action::Update(update) => over = over.or(self.update(now, id, &update, out)),
                Action::Refresh(refresh) => self.refresh(id, refresh),
            }
        }
        if let Some(limit) = over {
            self.over_limit(now, id, limit, out);
        }
        self.after(id, out);
    }

    fn connect(&mut self, conn: ConnId, id: PeerId, out: &mut Vec<Output>) {
        self.peers.connect(conn, id);
        let target = self.peers.get(id).and_then(|peer| peer.target(self.config.asn));
        if let Some(target) = target {
            out.push(Output::Connect { conn, target });
        }
    }

    /// Looks after timers; a peer of a range that has nothing any more is forgotten.
    fn after(&mut self, id: PeerId, out: &mut Vec<Output>) {
        self.peers.set_timer(id);
        self.end_watch(id, out);
        let Some(peer) = self.peers.get(id) else { return };
        let idle = peer.range.is_some() && peer.ends.is_empty() && !peer.retention.keeps();
        if idle && peer.session.state() < State::OpenSent {
            self.forget(id);
        }
    }

    fn up(&mut self, now: Instant, id: PeerId, session: &Negotiated, out: &mut Vec<Output>) {
        let stale_time = self.config.restart.stale_time;
        let Some(facts) = self.facts(id, session) else { return };
        let Some(peer) = self.peers.get_mut(id) else { return };
        (peer.since, peer.last) = (now, None);
        peer.agreed = Some(session.clone());
        (peer.queued_bytes, peer.is_full) = (0, false);
        peer.counters.sessions += 1;
        let lost = peer.retention.up(now, session, stale_time);
        let import = peer.config.import.clone();
        for family in lost {
            self.rib.sweep(id, family);
        }
        self.rib.peer_up(id, facts, import);
        if let Some(deferral) = &mut self.deferral {
            deferral.up(now, id, session);
        }
        self.join(id, session);
        self.renew(now, id, out);
        self.start_bfd(id, out);
        self.say(id, PeerEvent::Up, out);
    }

    /// A peer as the tables see it.
    pub(super) fn facts(&self, id: PeerId, session: &Negotiated) -> Option<PeerFacts> {
        let peer = self.peers.get(id)?;
        let kind = self.kind(&peer.config, session);
        let ends = peer.established();
        let is_one_hop = kind.is_external() && peer.config.is_direct(self.config.asn);
        let remote = ends.map(|ends| ends.remote.ip()).filter(|_| is_one_hop);
        Some(PeerFacts {
            name: peer.name.clone(),
            kind,
            asn: session.peer_asn,
            router_id: session.peer_id,
            address: ends.map(|ends| ends.remote.ip()).or(peer.address)?,
            local: ends.map(|ends| ends.local.ip()),
            link: remote.map(|remote| link::networks(&self.addresses, remote)).unwrap_or_default(),
            interface: ends.and_then(|ends| ends.interface.clone()).or_else(|| peer.interface().cloned()),
            allow_own_asn: peer.config.allow_own_asn,
            skip_first_asn_check: peer.config.skip_first_asn_check,
            role: session.role,
            max_prefixes: peer.config.max_prefixes.clone(),
        })
    }

    fn down(&mut self, now: Instant, id: PeerId, reason: DownReason, keep_routes: bool, out: &mut Vec<Output>) {
        let stale_time = self.config.restart.stale_time;
        let Some(peer) = self.peers.get_mut(id) else { return };
        let long_lived = peer.config.long_lived.is_some();
        let kept = match peer.agreed.take() {
            Some(session) if keep_routes => peer.retention.down(now, &session, long_lived, stale_time),
            _ => {
                peer.retention.forget();
                Vec::new()
            }
        };
        (peer.since, peer.last) = (now, Some(reason.clone()));
        let comes_back = peer.config.shutdown.is_none() && peer.range.is_none();
        // RFC 5882, section 4.3: BFD that outlives the peer's control plane says whether it still forwards. Other BFD may go
        // down with it, and says nothing.
        peer.bfd.take_if(|bfd| kept.is_empty() || !bfd.up || !bfd.independent).inspect(|_| {
            out.push(Output::StopBfd { peer: id });
        });
        self.rib.peer_down(id, &kept);
        self.export.leave(id);
        if let Some(deferral) = &mut self.deferral {
            deferral.down(id, comes_back);
        }
        self.say(id, PeerEvent::Down(reason), out);
    }

    /// For the log.
    pub(super) fn say(&self, id: PeerId, event: PeerEvent, out: &mut Vec<Output>) {
        if let Some(peer) = self.peers.get(id) {
            out.push(Output::Peer { peer: id, name: peer.name.clone(), event });
        }
    }
}
