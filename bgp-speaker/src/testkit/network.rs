//! The network between simulated speakers: connections with a delay, cuts, deaths. Never a real clock.

use super::node::{Node, Traffic};
use crate::config::{Config, ConfigError};
use crate::speaker::{
    Addresses, Beginning, ConnId, ConnectFailure, Hop, Input, Output, PeerEvent, Resolution, Speaker, Target, Via,
};
use crate::types::PeerId;
use bytes::Bytes;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A node of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub usize);

#[derive(Debug)]
enum Delivery {
    Tick,
    Connected { conn: ConnId, local: SocketAddr, remote: SocketAddr },
    Accepted { conn: ConnId, local: SocketAddr, remote: SocketAddr },
    Failed { conn: ConnId, why: ConnectFailure },
    Bytes { conn: ConnId, bytes: Bytes },
    Closed { conn: ConnId, why: ConnectFailure },
    Resolve { address: IpAddr },
}

#[derive(Debug, Clone, Copy)]
struct End {
    node: NodeId,
    conn: ConnId,
    /// Bytes arrive in the order in which they were sent.
    last: Instant,
}

/// Speakers and what lies between them.
///
/// A connection that crosses a cut hears nothing of it: its bytes are lost, and only timers tell.
#[derive(Debug)]
pub struct Network {
    now: Instant,
    delay: Duration,
    nodes: Vec<Node>,
    at: HashMap<IpAddr, NodeId>,
    queue: BTreeMap<(Instant, u64), (NodeId, Delivery)>,
    /// From one end of a connection to the other.
    ends: HashMap<(NodeId, ConnId), End>,
    cuts: BTreeSet<(NodeId, NodeId)>,
    count: u64,
    interface: Arc<str>,
}

impl Network {
    /// An empty network whose bytes take `delay` from each node to each other.
    #[must_use]
    pub fn new(delay: Duration) -> Self {
        Self {
            now: Instant::now(),
            delay,
            nodes: Vec::new(),
            at: HashMap::new(),
            queue: BTreeMap::new(),
            ends: HashMap::new(),
            cuts: BTreeSet::new(),
            count: 0,
            interface: "eth0".into(),
        }
    }

    /// The virtual time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// A node with addresses and no speaker.
    pub fn add(&mut self, addresses: &[IpAddr]) -> NodeId {
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node::new(addresses.to_vec()));
        self.at.extend(addresses.iter().map(|address| (*address, id)));
        id
    }

    /// Begins a speaker on a node.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn start(&mut self, id: NodeId, config: Config, beginning: &Beginning) -> Result<(), ConfigError> {
        let speaker = Speaker::new(self.now, config, beginning, id.0 as u64 + 1)?;
        let node = &mut self.nodes[id.0];
        node.told.clear();
        node.tracked.clear();
        node.in_sync = false;
        node.speaker = Some(speaker);
        self.tell_networks(id);
        self.schedule(id);
        Ok(())
    }

    /// Says which networks a node is on: addresses on its one device, with the lengths of their networks. None at first.
    pub fn attach(&mut self, id: NodeId, addresses: impl IntoIterator<Item = IpNet>) {
        self.nodes[id.0].networks = Addresses::from([(self.interface.clone(), addresses.into_iter().collect())]);
        self.tell_networks(id);
    }

    fn tell_networks(&mut self, id: NodeId) {
        let networks = self.nodes[id.0].networks.clone();
        self.with(id, |speaker, now, out| speaker.handle(now, Input::Addresses(networks), out));
    }

    /// Ends a speaker without a word: the kernel closes its connections, and keeps its routes.
    pub fn kill(&mut self, id: NodeId) {
        self.nodes[id.0].speaker = None;
        self.nodes[id.0].tick = None;
        let conns: Vec<ConnId> = self.ends.keys().filter(|(node, _)| *node == id).map(|(_, conn)| *conn).collect();
        for conn in conns {
            self.close(id, conn, ConnectFailure::Reset);
        }
    }

    /// Lets nothing pass between two nodes.
    pub fn cut(&mut self, one: NodeId, other: NodeId) {
        self.cuts.insert((one.min(other), one.max(other)));
    }

    /// Lets everything pass again that is sent from now on. What was lost in between is lost, so connections that carried
    /// something in between end.
    pub fn mend(&mut self, one: NodeId, other: NodeId) {
        self.cuts.remove(&(one.min(other), one.max(other)));
    }

    /// Says of an address whether a node reaches it as a next hop. All are reached at first.
    pub fn reach(&mut self, id: NodeId, address: IpAddr, reachable: bool) {
        let node = &mut self.nodes[id.0];
        let changed = if reachable { node.unreachable.remove(&address) } else { node.unreachable.insert(address) };
        if changed && node.tracked.contains(&address) && !node.is_mute {
            self.post(self.now, id, Delivery::Resolve { address });
        }
    }

    /// Lets the kernel of a node say nothing of next hops, or again: then it says all that it was asked for.
    pub fn mute(&mut self, id: NodeId, is_mute: bool) {
        self.nodes[id.0].is_mute = is_mute;
        if !is_mute {
            for address in self.nodes[id.0].tracked.clone() {
                self.post(self.now, id, Delivery::Resolve { address });
            }
        }
    }

    /// Does something with a node's speaker, and what it says then.
    pub fn with<T>(
        &mut self,
        id: NodeId,
        work: impl FnOnce(&mut Speaker, Instant, &mut Vec<Output>) -> T,
    ) -> Option<T> {
        let mut out = Vec::new();
        let result = work(self.nodes[id.0].speaker.as_mut()?, self.now, &mut out);
        self.carry_out(id, out);
        self.schedule(id);
        Some(result)
    }

    /// A node's speaker; `None` while it is dead.
    #[must_use]
    pub fn speaker(&self, id: NodeId) -> Option<&Speaker> {
        self.nodes[id.0].speaker.as_ref()
    }

    /// The routes in a node's kernel.
    #[must_use]
    pub fn fib(&self, id: NodeId) -> &BTreeMap<IpNet, Vec<Hop>> {
        &self.nodes[id.0].fib
    }

    /// Whether a node's speaker has said that the kernel knows all.
    #[must_use]
    pub fn is_in_sync(&self, id: NodeId) -> bool {
        self.nodes[id.0].in_sync
    }

    /// What a node sent and took in.
    #[must_use]
    pub fn traffic(&self, id: NodeId) -> Traffic {
        self.nodes[id.0].traffic
    }

    /// What a node's speaker said of its peers.
    #[must_use]
    pub fn events(&self, id: NodeId) -> &[(Instant, PeerId, PeerEvent)] {
        &self.nodes[id.0].events
    }

    /// Lets time pass.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
    }

    /// Lets time pass until something holds; at most `limit`. How long it took.
    ///
    /// The condition is asked once for each moment at which something happens.
    pub fn run_until(&mut self, limit: Duration, mut holds: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let (began, until) = (self.now, self.now + limit);
        loop {
            if holds(self) {
                return Some(self.now - began);
            }
            let moment = self.queue.first_key_value()?.0.0;
            if moment > until {
                return None;
            }
            while self.step(moment) {}
        }
    }

    /// Delivers the next thing that is due by `until`. Whether there was one.
    fn step(&mut self, until: Instant) -> bool {
        let Some(entry) = self.queue.first_entry() else { return false };
        if entry.key().0 > until {
            return false;
        }
        let ((at, _), (id, delivery)) = entry.remove_entry();
        self.now = self.now.max(at);
        self.deliver(id, delivery);
        true
    }

    fn deliver(&mut self, id: NodeId, delivery: Delivery) {
        let now = self.now;
        if matches!(delivery, Delivery::Tick) {
            let node = &mut self.nodes[id.0];
            // An earlier one has taken its place, or the speaker has died.
            if node.tick != Some(now) {
                return;
            }
            node.tick = None;
        }
        let node = &mut self.nodes[id.0];
        let Some(speaker) = &mut node.speaker else {
            if let Delivery::Accepted { conn, .. } = delivery {
                self.close(id, conn, ConnectFailure::Refused);
            }
            return;
        };
        let mut out = Vec::new();
        let input = match &delivery {
            Delivery::Tick => Input::Tick,
            Delivery::Connected { conn, local, remote } => Input::Connected {
                conn: *conn,
                local: *local,
                remote: *remote,
                interface: Some(self.interface.clone()),
            },
            Delivery::Accepted { conn, local, remote } => {
                Input::Accepted { conn: *conn, local: *local, remote: *remote, interface: Some(self.interface.clone()) }
            }
            Delivery::Failed { conn, why } => Input::Failed { conn: *conn, why: why.clone() },
            Delivery::Bytes { conn, bytes } => {
                node.traffic.bytes_in += bytes.len() as u64;
                Input::Received { conn: *conn, bytes }
            }
            Delivery::Closed { conn, why } => Input::Closed { conn: *conn, why: why.clone() },
            Delivery::Resolve { address } => {
                let via = Via { interface: self.interface.clone(), gateway: None };
                let ways = Some(Resolution { metric: 0, via }).filter(|_| !node.unreachable.contains(address));
                Input::Resolved { address: *address, ways: ways.into_iter().collect() }
            }
        };
        speaker.handle(now, input, &mut out);
        self.carry_out(id, out);
        self.schedule(id);
    }

    fn carry_out(&mut self, id: NodeId, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Connect { conn, target } => self.connect(id, conn, &target),
                Output::Send { conn, bytes } => self.send(id, conn, bytes),
                Output::Close { conn } => self.close(id, conn, ConnectFailure::Closed),
                Output::Track { address } => {
                    let node = &mut self.nodes[id.0];
                    node.tracked.insert(address);
                    if !node.is_mute {
                        self.post(self.now, id, Delivery::Resolve { address });
                    }
                }
                Output::Untrack { address } => {
                    self.nodes[id.0].tracked.remove(&address);
                }
                other => self.nodes[id.0].host(self.now, other),
            }
        }
    }

    fn post(&mut self, at: Instant, id: NodeId, delivery: Delivery) {
        self.count += 1;
        self.queue.insert((at, self.count), (id, delivery));
    }

    fn schedule(&mut self, id: NodeId) {
        let Some(due) = self.nodes[id.0].speaker.as_ref().and_then(Speaker::deadline) else { return };
        let due = due.max(self.now);
        if self.nodes[id.0].tick.is_none_or(|tick| due < tick) {
            self.nodes[id.0].tick = Some(due);
            self.post(due, id, Delivery::Tick);
        }
    }

    fn is_cut(&self, one: NodeId, other: NodeId) -> bool {
        self.cuts.contains(&(one.min(other), one.max(other)))
    }

    fn connect(&mut self, id: NodeId, conn: ConnId, target: &Target) {
        let there = self.at.get(&target.remote.ip()).copied();
        let Some(there) = there.filter(|there| !self.is_cut(id, *there)) else {
            let at = self.now + Duration::from_secs(30);
            return self.post(at, id, Delivery::Failed { conn, why: ConnectFailure::TimedOut });
        };
        if self.nodes[there.0].speaker.is_none() {
            let at = self.now + 2 * self.delay;
            return self.post(at, id, Delivery::Failed { conn, why: ConnectFailure::Refused });
        }
        let same = |address: &&IpAddr| address.is_ipv4() == target.remote.is_ipv4();
        let local = target.local.or_else(|| self.nodes[id.0].addresses.iter().find(same).copied());
        let Some(local) = local else {
            return self.post(self.now, id, Delivery::Failed { conn, why: ConnectFailure::Unreachable });
        };
        self.count += 1;
        let other = ConnId::In(self.count);
        let local = SocketAddr::new(local, u16::try_from(32_768 + self.count % 28_000).unwrap_or(32_768));
        let (arrives, back) = (self.now + self.delay, self.now + 2 * self.delay);
        self.ends.insert((id, conn), End { node: there, conn: other, last: arrives });
        self.ends.insert((there, other), End { node: id, conn, last: back });
        self.post(arrives, there, Delivery::Accepted { conn: other, local: target.remote, remote: local });
        self.post(back, id, Delivery::Connected { conn, local, remote: target.remote });
    }

    fn send(&mut self, id: NodeId, conn: ConnId, bytes: Bytes) {
        let traffic = &mut self.nodes[id.0].traffic;
        traffic.sends += 1;
        traffic.bytes_out += bytes.len() as u64;
        let taken = bytes.len();
        let Some(end) = self.ends.get_mut(&(id, conn)) else { return };
        let at = end.last.max(self.now + self.delay);
        end.last = at;
        let end = *end;
        if self.is_cut(id, end.node) {
            return;
        }
        self.post(at, end.node, Delivery::Bytes { conn: end.conn, bytes });
        // The kernel takes all there is: who has to wait is tested elsewhere.
        let mut out = Vec::new();
        if let Some(speaker) = &mut self.nodes[id.0].speaker {
            speaker.handle(self.now, Input::Sent { conn, bytes: taken }, &mut out);
        }
        self.carry_out(id, out);
    }

    fn close(&mut self, id: NodeId, conn: ConnId, why: ConnectFailure) {
        let Some(end) = self.ends.remove(&(id, conn)) else { return };
        if self.is_cut(id, end.node) {
            return;
        }
        self.ends.remove(&(end.node, end.conn));
        let at = end.last.max(self.now + self.delay);
        let delivery = match (why, end.conn) {
            (ConnectFailure::Refused, conn) => Delivery::Failed { conn, why: ConnectFailure::Refused },
            (why, conn) => Delivery::Closed { conn, why },
        };
        self.post(at, end.node, delivery);
    }
}
