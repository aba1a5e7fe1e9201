//! All BFD sessions and their sockets: which packet belongs to which session. Never blocks, never decides about BGP.

use super::socket::{self, DATAGRAM_BYTES, Origin};
use super::{News, Wish};
use crate::bfd::{Action, PORT_MULTIHOP, PORT_SINGLE_HOP, Packet, Session, State, TTL};
use crate::transport::{Trouble, tcp};
use crate::types::PeerId;
use nix::net::if_::if_nametoindex;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::net::{SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

/// Packets of one socket that are read before timers have their turn.
const TURN_PACKETS: usize = 1024;
/// How often the last word is said, for nothing answers to it.
const FAREWELLS: usize = 3;

struct Entry {
    wish: Wish,
    session: Session,
    /// Opened when it is needed and again after an error: an address or a device may come later.
    sender: Option<UdpSocket>,
    /// Index of the device when the sender was opened; 0 for several hops.
    interface: u32,
    /// The C bit as it was told last.
    independent: bool,
    /// Where it stands in the order of deadlines.
    scheduled: Option<Instant>,
}

/// A socket that hears a port.
struct Hearing {
    port: u16,
    v6: bool,
    socket: UdpSocket,
}

pub(super) struct Engine {
    sessions: HashMap<PeerId, Entry>,
    by_discriminator: HashMap<u32, PeerId>,
    by_remote: HashMap<std::net::IpAddr, Vec<PeerId>>,
    deadlines: BTreeSet<(Instant, PeerId)>,
    hearing: Vec<Hearing>,
    random: RandomState,
    drawn: u64,
}

impl Engine {
    pub(super) fn new() -> Self {
        Self {
            sessions: HashMap::new(),
            by_discriminator: HashMap::new(),
            by_remote: HashMap::new(),
            deadlines: BTreeSet::new(),
            hearing: Vec::new(),
            random: RandomState::new(),
            drawn: 0,
        }
    }

    pub(super) fn sockets(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.hearing.iter().map(|hearing| hearing.socket.as_fd())
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// A number that nobody can guess: from the keys that the standard library draws for its maps.
    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        self.random.hash_one(self.drawn)
    }

    /// Begins a session, or changes its pace. Another address or device is another session.
    pub(super) fn start(&mut self, now: Instant, peer: PeerId, wish: Wish, news: &mut Vec<News>) {
        if let Some(entry) = self.sessions.get_mut(&peer) {
            let place = |wish: &Wish| (wish.remote, wish.local, wish.single_hop, wish.interface.clone());
            if place(&entry.wish) == place(&wish) {
                entry.session.reconfigure(wish.config);
                entry.wish = wish;
                return self.schedule(peer);
            }
            self.stop(now, peer);
        }
        let single = wish.single_hop;
        let (port, v6) = (if single { PORT_SINGLE_HOP } else { PORT_MULTIHOP }, wish.remote.is_ipv6());
        if !self.hearing.iter().any(|hearing| (hearing.port, hearing.v6) == (port, v6)) {
            match socket::receiver(port, v6) {
                Ok(socket) => self.hearing.push(Hearing { port, v6, socket }),
                // The session stays down; whoever reads the log can free the port and start it again.
                Err(source) => news.push(News::Trouble(Trouble::BfdPort { port, source })),
            }
        }
        let discriminator = loop {
            // Truncated on purpose.
            let drawn = NonZeroU32::new(self.draw() as u32);
            if let Some(drawn) = drawn.filter(|drawn| !self.by_discriminator.contains_key(&drawn.get())) {
                break drawn;
            }
        };
        let session = Session::new(now, wish.config, discriminator, self.draw());
        self.by_discriminator.insert(discriminator.get(), peer);
        self.by_remote.entry(wish.remote).or_default().push(peer);
        self.sessions
            .insert(peer, Entry { wish, session, sender: None, interface: 0, independent: false, scheduled: None });
        self.schedule(peer);
    }

    /// Ends a session and tells the neighbour, so that it does not take us for dead.
    pub(super) fn stop(&mut self, now: Instant, peer: PeerId) {
        let Some(mut entry) = self.sessions.remove(&peer) else { return };
        if let Some(at) = entry.scheduled {
            self.deadlines.remove(&(at, peer));
        }
        self.by_discriminator.remove(&entry.session.discriminator().get());
        if let Some(peers) = self.by_remote.get_mut(&entry.wish.remote) {
            peers.retain(|other| *other != peer);
            if peers.is_empty() {
                self.by_remote.remove(&entry.wish.remote);
            }
        }
        let mut out = Vec::new();
        entry.session.set_admin_down(now, true, &mut out);
        for action in out {
            if let Action::Send(packet) = action {
                for _ in 0..FAREWELLS {
                    entry.send(&packet, 0);
                }
            }
        }
    }

    /// Ends all.
    pub(super) fn end(&mut self, now: Instant) {
        let peers: Vec<PeerId> = self.sessions.keys().copied().collect();
        for peer in peers {
            self.stop(now, peer);
        }
    }

    pub(super) fn receive(&mut self, news: &mut Vec<News>) {
        let mut buffer = [0; DATAGRAM_BYTES];
        for at in 0..self.hearing.len() {
            for _ in 0..TURN_PACKETS {
                // An error of the socket is about a packet of the past; there may be more.
                let Ok(Some((bytes, origin))) = socket::receive(&self.hearing[at].socket, &mut buffer) else { break };
                let single = self.hearing[at].port == PORT_SINGLE_HOP;
                self.datagram(&buffer[..bytes], origin, single, news);
            }
        }
    }

    /// What is wrong is dropped without a word: anybody may send to the port.
    fn datagram(&mut self, bytes: &[u8], origin: Origin, single: bool, news: &mut Vec<News>) {
        if single && origin.ttl != TTL {
            return;
        }
        let Ok(packet) = Packet::decode(bytes) else { return };
        let Some(peer) = self.owner(&packet, origin, single) else { return };
        let mut out = Vec::new();
        if let Some(entry) = self.sessions.get_mut(&peer)
            && entry.session.receive(Instant::now(), &packet, &mut out).is_ok()
        {
            self.act(peer, out, news);
        }
    }

    /// RFC 5880, section 6.8.6: by our number, and before the neighbour knows it by addresses and device.
    fn owner(&self, packet: &Packet, origin: Origin, single: bool) -> Option<PeerId> {
        let fits = |peer: &PeerId| self.sessions.get(peer).is_some_and(|entry| entry.fits(origin, single));
        if packet.your_discriminator == 0 {
            return self.by_remote.get(&origin.remote)?.iter().copied().find(|peer| fits(peer));
        }
        self.by_discriminator.get(&packet.your_discriminator).copied().filter(|peer| fits(peer))
    }

    pub(super) fn tick(&mut self, now: Instant, news: &mut Vec<News>) {
        while let Some((at, peer)) = self.deadlines.first().copied()
            && at <= now
        {
            let mut out = Vec::new();
            if let Some(entry) = self.sessions.get_mut(&peer) {
                entry.session.tick(now, &mut out);
            }
            self.act(peer, out, news);
        }
    }

    fn act(&mut self, peer: PeerId, actions: Vec<Action>, news: &mut Vec<News>) {
        let start = self.draw();
        if let Some(entry) = self.sessions.get_mut(&peer) {
            for action in actions {
                match action {
                    Action::Send(packet) => entry.send(&packet, start),
                    Action::Up => news.push(entry.news(peer, true)),
                    Action::Down(_) => news.push(entry.news(peer, false)),
                    // The path has not failed: RFC 5882, section 3.2.
                    Action::Unwatched => {}
                }
            }
            // It may change at any time, with no other news.
            if entry.session.state() == State::Up && entry.session.control_plane_independent() != entry.independent {
                news.push(entry.news(peer, true));
            }
        }
        self.schedule(peer);
    }

    fn schedule(&mut self, peer: PeerId) {
        let Some(entry) = self.sessions.get_mut(&peer) else { return };
        let next = entry.session.deadline();
        if let Some(before) = std::mem::replace(&mut entry.scheduled, next) {
            self.deadlines.remove(&(before, peer));
        }
        if let Some(next) = next {
            self.deadlines.insert((next, peer));
        }
    }
}

impl Entry {
    fn news(&mut self, peer: PeerId, up: bool) -> News {
        self.independent = self.session.control_plane_independent();
        News::Reachable { peer, epoch: self.wish.epoch, up, independent: self.independent }
    }

    fn fits(&self, origin: Origin, single: bool) -> bool {
        self.wish.remote == origin.remote
            && self.wish.single_hop == single
            && (!single || self.interface == 0 || self.interface == origin.interface)
            && self.wish.local.is_none_or(|local| origin.local.is_none_or(|to| to == local))
    }

    /// A packet that can't be sent is as lost as one on the wire; the socket is opened again for the next.
    fn send(&mut self, packet: &Packet, start: u64) {
        let interface = self.wish.interface.as_deref();
        let remote = self.wish.remote;
        if self.sender.is_none() {
            self.interface = interface.and_then(|name| if_nametoindex(name).ok()).unwrap_or(0);
            self.sender = socket::sender(remote, self.wish.local, interface, start).ok();
        }
        let port = if self.wish.single_hop { PORT_SINGLE_HOP } else { PORT_MULTIHOP };
        let sent = self.sender.as_ref().is_some_and(|sender| {
            let to = tcp::scoped(SocketAddr::new(remote, port), interface);
            to.is_ok_and(|to| sender.send_to(&packet.encode(), to).is_ok())
        });
        if !sent {
            self.sender = None;
        }
    }
}
