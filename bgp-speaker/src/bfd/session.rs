//! One session: time and packets come in, packets and news go out. Never finds out by itself what time it is.

use super::packet::{Diagnostic, Packet, State};
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

/// The least interval at which a session sends that is not up. RFC 5880, section 6.8.3.
const SLOW: Duration = Duration::from_secs(1);
/// What a field of 32 bits in microseconds can carry, about 71 minutes.
const LONGEST: Duration = Duration::from_micros(u32::MAX as u64);
/// The shortest interval that we ask for: faster than a thread is woken up makes no sense.
const SHORTEST: Duration = Duration::from_millis(1);

/// What is wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    interval: Duration,
    multiplier: NonZeroU8,
}

impl Config {
    /// Send every `interval` and be ready to receive as often; the neighbour takes us for gone after `multiplier` of them.
    /// The interval is brought into 1 ms to 4294 s, a multiplier of 0 is taken for 1.
    #[must_use]
    pub fn new(interval: Duration, multiplier: u8) -> Self {
        let multiplier = NonZeroU8::new(multiplier).unwrap_or(NonZeroU8::MIN);
        Self { interval: interval.clamp(SHORTEST, LONGEST), multiplier }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send a packet to the neighbour.
    Send(Packet),
    /// Both ends hear each other.
    Up,
    /// The path is gone.
    Down(Diagnostic),
    /// Nobody watches the path any more, because the neighbour or we switched BFD off. Not a failure of the path.
    Unwatched,
}

/// Why a packet was not for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Discard {
    /// It has the number of another session.
    #[error("your discriminator {found} is not ours")]
    Discriminator {
        /// What it has.
        found: u32,
    },
    /// We are switched off.
    #[error("switched off")]
    AdminDown,
}

/// What the neighbour said last: the variables `bfd.Remote...` of RFC 5880, section 6.8.1.
#[derive(Debug, Clone, Copy)]
struct Remote {
    /// 0: unknown.
    discriminator: u32,
    state: State,
    min_rx: Duration,
    desired_tx: Duration,
    multiplier: u8,
    demand: bool,
}

/// One session, in the active role.
#[derive(Debug)]
pub struct Session {
    config: Config,
    discriminator: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    remote: Remote,
    /// A poll sequence is under way: P in all that is sent until F comes.
    polling: bool,
    /// What is agreed until the poll sequence ends: the interval at which we send, ...
    tx_in_use: Duration,
    /// ... and the one at which we said that we can receive.
    rx_in_use: Duration,
    last_sent: Instant,
    /// Next periodic packet.
    next_send: Instant,
    last_heard: Option<Instant>,
    /// The C bit of the last packet: needed once the neighbour has fallen silent.
    independent: bool,
    /// For the jitter.
    random: u64,
}

impl Session {
    /// A session that is down and sends its first packet at the next [`tick`](Self::tick). `discriminator` is unique in
    /// this system; `seed` makes the jitter differ between sessions.
    #[must_use]
    pub fn new(now: Instant, config: Config, discriminator: NonZeroU32, seed: u64) -> Self {
        Self {
            config,
            discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            remote: Remote::unknown(),
            polling: false,
            tx_in_use: config.interval.max(SLOW),
            rx_in_use: config.interval,
            last_sent: now,
            next_send: now,
            last_heard: None,
            independent: false,
            random: seed | 1,
        }
    }

    /// Our number for the session.
    #[must_use]
    pub const fn discriminator(&self) -> NonZeroU32 {
        self.discriminator
    }

    /// Our state.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether the neighbour has yet to confirm new intervals.
    #[must_use]
    pub const fn polling(&self) -> bool {
        self.polling
    }

    /// Whether the neighbour's BFD lives on when its control plane dies, as its last packet said: its silence then means that
    /// it forwards nothing (RFC 5882, section 4.3). `false` before anything was heard.
    #[must_use]
    pub const fn control_plane_independent(&self) -> bool {
        self.independent
    }

    /// So long nothing may be heard: the neighbour's multiplier times the slower of what it sends and what we can take.
    /// RFC 5880, section 6.8.4.
    #[must_use]
    pub fn detection_time(&self) -> Duration {
        self.remote.desired_tx.max(self.rx_in_use) * u32::from(self.remote.multiplier)
    }

    /// When to call [`tick`](Self::tick) next; `None` when nothing but a packet can change anything.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        [self.sends().then_some(self.next_send), self.expiry()].into_iter().flatten().min()
    }

    /// When the neighbour is given up.
    fn expiry(&self) -> Option<Instant> {
        self.last_heard.map(|heard| heard + self.detection_time())
    }

    /// Whether periodic packets are sent: not to a neighbour that wants none (RFC 5880, section 6.8.7).
    fn sends(&self) -> bool {
        let asleep = self.remote.demand && self.state == State::Up && self.remote.state == State::Up;
        !self.remote.min_rx.is_zero() && (!asleep || self.polling)
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.expiry().is_some_and(|expiry| expiry <= now) {
            // Section 6.8.1: what was learned from a neighbour that has fallen silent is forgotten.
            self.last_heard = None;
            self.remote = Remote { min_rx: self.remote.min_rx, ..Remote::unknown() };
            if matches!(self.state, State::Init | State::Up) {
                self.enter(State::Down, Diagnostic::EXPIRED, out);
                // Told at once, as every change.
                self.next_send = now;
            }
        }
        if self.sends() && self.next_send <= now {
            self.send_periodic(now, out);
        }
    }

    /// A packet came, whose sender and TTL were checked. RFC 5880, section 6.8.6. What waits in a socket is given before
    /// the next [`tick`](Self::tick): the neighbour was not silent because we were busy.
    ///
    /// # Errors
    /// [`Discard`]: the packet changed nothing.
    pub fn receive(&mut self, now: Instant, packet: &Packet, out: &mut Vec<Action>) -> Result<(), Discard> {
        if packet.your_discriminator != 0 && packet.your_discriminator != self.discriminator.get() {
            return Err(Discard::Discriminator { found: packet.your_discriminator });
        }
        if self.state == State::AdminDown {
            return Err(Discard::AdminDown);
        }
        self.remote = Remote {
            discriminator: packet.my_discriminator.get(),
            state: packet.state,
            min_rx: Duration::from_micros(packet.required_min_rx_micros.into()),
            desired_tx: Duration::from_micros(packet.desired_min_tx_micros.into()),
            multiplier: packet.multiplier.get(),
            demand: packet.demand,
        };
        self.last_heard = Some(now);
        self.independent = packet.control_plane_independent;
        if self.polling && packet.is_final {
            self.polling = false;
            self.settle();
        }
        let before = self.state;
        match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) => self.enter(State::Down, Diagnostic::NEIGHBOR_DOWN, out),
            (State::Down, State::Down) => self.enter(State::Init, Diagnostic::NONE, out),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.enter(State::Up, Diagnostic::NONE, out);
            }
            (State::Up, State::Down) => self.enter(State::Down, Diagnostic::NEIGHBOR_DOWN, out),
            _ => {}
        }
        if packet.poll {
            out.push(Action::Send(Packet { poll: false, is_final: true, ..self.packet() }));
        }
        if self.state != before && self.sends() {
            // Section 6.8.7: what has changed is told at once.
            self.send_periodic(now, out);
        } else {
            self.schedule();
        }
        Ok(())
    }

    /// Other wishes. A live session agrees on them with a poll sequence and never goes down for it. RFC 5880, section 6.8.3.
    pub fn reconfigure(&mut self, config: Config) {
        let timing = config.interval != self.config.interval;
        self.config = config;
        if self.state != State::Up {
            self.settle();
        } else if timing {
            self.polling = true;
            // Slower sending and faster receiving wait until the neighbour knows; the opposite holds at once.
            self.tx_in_use = self.tx_in_use.min(config.interval);
            self.rx_in_use = self.rx_in_use.max(config.interval);
        }
        self.schedule();
    }

    /// Switches the session off, or on again. The neighbour should be told for one detection time. RFC 5880, section
    /// 6.8.16.
    pub fn set_admin_down(&mut self, now: Instant, down: bool, out: &mut Vec<Action>) {
        match (down, self.state) {
            (true, State::AdminDown) => {}
            (true, _) => self.enter(State::AdminDown, Diagnostic::ADMIN_DOWN, out),
            (false, State::AdminDown) => self.enter(State::Down, Diagnostic::NONE, out),
            (false, _) => return,
        }
        self.send_periodic(now, out);
    }

    fn enter(&mut self, state: State, diagnostic: Diagnostic, out: &mut Vec<Action>) {
        let before = std::mem::replace(&mut self.state, state);
        self.diagnostic = diagnostic;
        match state {
            State::Up => {
                out.push(Action::Up);
                // From the slow interval to the configured one: a change that wants a poll sequence.
                self.polling = self.config.interval < SLOW;
            }
            State::AdminDown => {
                self.polling = false;
                self.last_heard = None;
                if before == State::Up {
                    out.push(Action::Unwatched);
                }
            }
            State::Down if before == State::Up => {
                let unwatched = diagnostic == Diagnostic::NEIGHBOR_DOWN && self.remote.state == State::AdminDown;
                out.push(if unwatched { Action::Unwatched } else { Action::Down(diagnostic) });
            }
            State::Down | State::Init => {}
        }
        if state != State::Up {
            self.polling = false;
        }
        self.settle();
    }

    /// What is wished for holds from now on.
    fn settle(&mut self) {
        self.tx_in_use = self.desired_tx();
        self.rx_in_use = self.config.interval;
    }

    /// `bfd.DesiredMinTxInterval`.
    fn desired_tx(&self) -> Duration {
        if self.state == State::Up { self.config.interval } else { self.config.interval.max(SLOW) }
    }

    fn send_periodic(&mut self, now: Instant, out: &mut Vec<Action>) {
        out.push(Action::Send(self.packet()));
        self.last_sent = now;
        self.random = xorshift(self.random);
        self.schedule();
    }

    /// 75 to 100 % of the agreed interval after the last packet; 75 to 90 % where one missed packet is too many.
    /// RFC 5880, section 6.8.7.
    fn schedule(&mut self) {
        let interval = self.tx_in_use.max(self.remote.min_rx);
        let span = if self.config.multiplier.get() == 1 { 150 } else { 250 };
        let thousandths = 750 + u32::try_from(self.random % (span + 1)).unwrap_or(0);
        self.next_send = self.last_sent + interval * thousandths / 1000;
    }

    fn packet(&self) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.polling,
            is_final: false,
            // We live and die with the process that speaks BGP.
            control_plane_independent: false,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx_micros: micros(self.desired_tx()),
            required_min_rx_micros: micros(self.config.interval),
            required_min_echo_rx_micros: 0,
        }
    }
}

impl Remote {
    /// Before anything was heard. `bfd.RemoteMinRxInterval` begins with 1 (RFC 5880, section 6.8.1).
    const fn unknown() -> Self {
        Self {
            discriminator: 0,
            state: State::Down,
            min_rx: Duration::from_micros(1),
            desired_tx: Duration::ZERO,
            multiplier: 0,
            demand: false,
        }
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// Marsaglia's xorshift64: jitter needs no better one.
const fn xorshift(mut x: u64) -> u64 {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    x
}
