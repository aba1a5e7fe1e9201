//! Two sessions and what lies between them: connections with delays, cuts and losses, in virtual time.

use crate::session::{Action, Config, Event, Session, State};
use crate::speaker::{ConnId, ConnectFailure, DownReason};
use crate::types::Family;
use crate::wire::{Encoder, Options};
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Debug)]
enum Delivery {
    Connected(ConnId),
    Failed(ConnId),
    Accepted(ConnId),
    Received(ConnId, Bytes),
    Closed(ConnId, ConnectFailure),
}

/// One end of a connection.
#[derive(Debug, Clone, Copy)]
struct End {
    /// The other end.
    other: ConnId,
    /// When the last thing that was sent from here arrives: nothing overtakes it.
    arrives: Instant,
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) sides: [Session; 2],
    /// How often the session of each side came and went.
    pub(super) ups: [usize; 2],
    pub(super) downs: [usize; 2],
    /// Why attempts of each side came to nothing.
    pub(super) failures: [Vec<DownReason>; 2],
    /// Nothing arrives, nobody is told.
    pub(super) is_silent: bool,
    queue: BTreeMap<(Instant, u64), (usize, Delivery)>,
    ends: BTreeMap<(usize, ConnId), End>,
    count: u64,
    random: u64,
}

impl World {
    pub(super) fn new(sides: [Config; 2], seed: u64) -> Self {
        let [a, b] = sides;
        Self {
            now: Instant::now(),
            sides: [Session::new(a, 1, seed), Session::new(b, 2, seed ^ 0xffff)],
            ups: [0; 2],
            downs: [0; 2],
            failures: [Vec::new(), Vec::new()],
            is_silent: false,
            queue: BTreeMap::new(),
            ends: BTreeMap::new(),
            count: 0,
            random: seed,
        }
    }

    pub(super) fn started(sides: [Config; 2], seed: u64) -> Self {
        let mut world = Self::new(sides, seed);
        world.tell(0, Event::Start);
        world.tell(1, Event::Start);
        world
    }

    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// 1 to 50 ms.
    fn delay(&mut self) -> Duration {
        Duration::from_millis(1 + self.random() % 50)
    }

    fn post(&mut self, at: Instant, side: usize, delivery: Delivery) {
        self.count += 1;
        self.queue.insert((at, self.count), (side, delivery));
    }

    /// Tells one side something and does what it wants.
    pub(super) fn tell(&mut self, side: usize, event: Event<'_>) {
        let mut actions = Vec::new();
        self.sides[side].handle(self.now, event, &mut actions);
        self.act(side, actions);
    }

    fn act(&mut self, side: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Connect { conn } => self.connect(side, conn),
                Action::Send { conn, bytes } => self.send(side, conn, bytes),
                Action::Close { conn } => self.close(side, conn, ConnectFailure::Closed),
                Action::Attempt { reason } => self.failures[side].push(reason),
                Action::Up { conn, .. } => {
                    self.ups[side] += 1;
                    self.routes(side, conn);
                }
                Action::Down { .. } => self.downs[side] += 1,
                _ => {}
            }
        }
    }

    /// A side that is up tells that it has no routes.
    fn routes(&mut self, side: usize, conn: ConnId) {
        let mut bytes = BytesMut::new();
        Encoder::new(Options::before_open()).end_of_rib(Family::Ipv4, &mut bytes);
        self.tell(side, Event::Queued { bytes: bytes.len() });
        self.send(side, conn, bytes.freeze());
    }

    fn connect(&mut self, side: usize, conn: ConnId) {
        if self.is_silent {
            let at = self.now + Duration::from_secs(60);
            return self.post(at, side, Delivery::Failed(conn));
        }
        let (there, back) = (self.now + self.delay(), self.delay());
        self.count += 1;
        let other = ConnId::In(self.count);
        self.ends.insert((side, conn), End { other, arrives: there });
        self.ends.insert((1 - side, other), End { other: conn, arrives: there + back });
        self.post(there, 1 - side, Delivery::Accepted(other));
        self.post(there + back, side, Delivery::Connected(conn));
    }

    fn send(&mut self, side: usize, conn: ConnId, bytes: Bytes) {
        let taken = bytes.len();
        let (delay, cut) = (self.delay(), self.random());
        if let Some(end) = self.ends.get_mut(&(side, conn))
            && !self.is_silent
        {
            end.arrives = end.arrives.max(self.now + delay);
            let End { other, arrives } = *end;
            let cut = usize::try_from(cut).unwrap() % bytes.len();
            self.post(arrives, 1 - side, Delivery::Received(other, bytes.slice(..cut)));
            self.post(arrives, 1 - side, Delivery::Received(other, bytes.slice(cut..)));
        }
        self.tell(side, Event::Sent { conn, bytes: taken });
    }

    fn close(&mut self, side: usize, conn: ConnId, why: ConnectFailure) {
        if let Some(End { other, arrives }) = self.ends.remove(&(side, conn))
            && !self.is_silent
        {
            let at = arrives.max(self.now);
            self.post(at, 1 - side, Delivery::Closed(other, why));
        }
    }

    /// All connections are reset at both ends.
    pub(super) fn cut(&mut self) {
        let ends: Vec<_> = self.ends.keys().copied().collect();
        self.ends.clear();
        for (side, conn) in ends {
            self.post(self.now, side, Delivery::Closed(conn, ConnectFailure::Reset));
        }
    }

    /// All connections are dead and nobody is told.
    pub(super) fn lose(&mut self) {
        self.queue.clear();
        self.ends.clear();
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let arrival = self.queue.first_key_value().map(|((at, _), _)| *at);
            let timers = self.sides.iter().filter_map(Session::deadline);
            let Some(next) = timers.chain(arrival).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if arrival.is_some_and(|at| at <= self.now) {
                let (_, (side, delivery)) = self.queue.pop_first().unwrap();
                self.deliver(side, delivery);
            } else {
                self.tell(0, Event::Tick);
                self.tell(1, Event::Tick);
            }
        }
        self.now = end;
    }

    fn deliver(&mut self, side: usize, delivery: Delivery) {
        match delivery {
            // Closed by this side, or by the other one before this side had it.
            Delivery::Connected(conn) if !self.ends.contains_key(&(side, conn)) => {
                self.tell(side, Event::Failed { conn, why: ConnectFailure::Refused });
            }
            Delivery::Connected(conn) => self.tell(side, Event::Connected { conn }),
            Delivery::Failed(conn) => self.tell(side, Event::Failed { conn, why: ConnectFailure::TimedOut }),
            Delivery::Accepted(conn) => {
                if self.ends.contains_key(&(side, conn)) {
                    self.tell(side, Event::Accepted { conn });
                }
            }
            Delivery::Received(conn, bytes) => {
                if self.ends.contains_key(&(side, conn)) {
                    self.tell(side, Event::Received { conn, bytes: &bytes });
                }
            }
            Delivery::Closed(conn, why) => {
                self.ends.remove(&(side, conn));
                self.tell(side, Event::Closed { conn, why });
            }
        }
    }

    pub(super) fn states(&self) -> [State; 2] {
        [self.sides[0].state(), self.sides[1].state()]
    }

    /// Whether both sides are established over one connection and there is no other.
    pub(super) fn has_converged(&self) -> bool {
        let [Some(a), Some(b)] = [0, 1].map(|side: usize| self.sides[side].connection()) else { return false };
        self.ends.len() == 2 && self.ends.get(&(0, a)).is_some_and(|end| end.other == b)
    }
}
