//! The peers of a speaker: by id, by name, by where they are, by their connections and by their next timer. Never what is
//! done with them.

use super::ConnId;
use super::peer::Peer;
use crate::config::PeerName;
use crate::types::PeerId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// Where packets of a peer come from: link-local addresses mean something on their link only.
type Place = (IpAddr, Option<Arc<str>>);

/// Where a connection is.
pub(crate) fn place(address: IpAddr, interface: Option<&Arc<str>>) -> Place {
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    (address.to_canonical(), interface.filter(|_| link_local).cloned())
}

/// All peers.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    slots: Vec<Option<Box<Peer>>>,
    free: BTreeSet<u32>,
    by_name: BTreeMap<PeerName, PeerId>,
    by_place: HashMap<Place, PeerId>,
    by_conn: HashMap<ConnId, PeerId>,
    timers: BTreeSet<(Instant, PeerId)>,
}

impl Peers {
    /// An id that nobody has.
    pub(crate) fn next_id(&self) -> PeerId {
        let next = u32::try_from(self.slots.len()).expect("peers are configured one by one, fewer than 2^32");
        PeerId(self.free.first().copied().unwrap_or(next))
    }

    /// Takes a peer in, under its own id, which [`Self::next_id`] gave.
    pub(crate) fn insert(&mut self, peer: Peer) {
        let id = peer.id;
        self.by_name.insert(peer.name.clone(), id);
        if let Some(place) = peer.place() {
            self.by_place.insert(place, id);
        }
        let at = id.0 as usize;
        if at == self.slots.len() {
            self.slots.push(None);
        }
        self.free.remove(&id.0);
        self.slots[at] = Some(Box::new(peer));
    }

    /// Forgets a peer.
    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Peer> {
        let peer = *self.slots.get_mut(id.0 as usize)?.take()?;
        self.free.insert(id.0);
        self.by_name.remove(&peer.name);
        self.by_place.retain(|_, at| *at != id);
        self.by_conn.retain(|_, at| *at != id);
        if let Some(timer) = peer.timer {
            self.timers.remove(&(timer, id));
        }
        Some(peer)
    }

    /// A peer of an unnumbered interface is somewhere else now, or nowhere.
    pub(crate) fn moved(&mut self, id: PeerId) {
        self.by_place.retain(|_, at| *at != id);
        if let Some(place) = self.get(id).and_then(Peer::place) {
            self.by_place.insert(place, id);
        }
    }

    /// One peer.
    pub(crate) fn get(&self, id: PeerId) -> Option<&Peer> {
        self.slots.get(id.0 as usize)?.as_deref()
    }

    /// One peer, to change it. Its timer has to be set after that.
    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        self.slots.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// All, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slots.iter().flatten().map(|peer| &**peer)
    }

    /// The ids of all.
    pub(crate) fn ids(&self) -> Vec<PeerId> {
        self.iter().map(|peer| peer.id).collect()
    }

    /// By what people call it.
    pub(crate) fn named(&self, name: &str) -> Option<PeerId> {
        self.by_name.get(name).copied()
    }

    /// By where a connection comes from.
    pub(crate) fn at(&self, remote: SocketAddr, interface: Option<&Arc<str>>) -> Option<PeerId> {
        self.by_place.get(&place(remote.ip(), interface)).copied()
    }

    /// By a connection.
    pub(crate) fn of(&self, conn: ConnId) -> Option<PeerId> {
        self.by_conn.get(&conn).copied()
    }

    /// A connection is this peer's.
    pub(crate) fn connect(&mut self, conn: ConnId, id: PeerId) {
        self.by_conn.insert(conn, id);
    }

    /// A connection is nobody's any more.
    pub(crate) fn disconnect(&mut self, conn: ConnId) {
        self.by_conn.remove(&conn);
    }

    /// Looks again when a peer wants to be asked.
    pub(crate) fn set_timer(&mut self, id: PeerId) {
        let Some(peer) = self.slots.get_mut(id.0 as usize).and_then(Option::as_deref_mut) else { return };
        let (before, now) = (peer.timer, peer.deadline());
        if before == now {
            return;
        }
        peer.timer = now;
        if let Some(before) = before {
            self.timers.remove(&(before, id));
        }
        if let Some(now) = now {
            self.timers.insert((now, id));
        }
    }

    /// Who wants to be asked by now.
    pub(crate) fn due(&self, now: Instant) -> Vec<PeerId> {
        self.timers.range(..=(now, PeerId(u32::MAX))).map(|(_, id)| *id).collect()
    }

    /// When the first one wants to be asked.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|(timer, _)| *timer)
    }
}
