//! The state machine of one peer. RFC 4271, section 8. Never the meaning of a message: that is in `receive`.

mod collision;
mod receive;

use super::backoff::{Backoff, Blame, Jitter};
use super::config::{Config, needs_reset};
use super::event::{Action, Event, State};
use super::link::{Expired, Link, Phase};
use super::retain::{hardened, keeps_routes};
use crate::speaker::{ConnId, ConnectFailure, DownReason};
use crate::types::{CeaseSubcode, Negotiated, Notification};
use crate::wire::Encoder;
use std::time::{Duration, Instant};

/// A session that has lasted so long makes up for earlier failures.
const STABLE: Duration = Duration::from_secs(60);
/// The shortest time that a connection may take to come about.
const CONNECT_LEAST: Duration = Duration::from_secs(10);

/// What the session is up to while nothing is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Not started, or stopped.
    Stopped,
    /// Waiting after an error, refusing connections.
    Punished { until: Instant },
    /// Taking connections, asking for one at times.
    Running { retry_at: Option<Instant> },
}

/// A connection that was asked for.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    conn: ConnId,
    until: Instant,
}

/// One configured peer.
#[derive(Debug)]
pub struct Session {
    config: Config,
    number: u32,
    attempts: u32,
    jitter: Jitter,
    backoff: Backoff,
    mode: Mode,
    attempt: Option<Attempt>,
    links: Vec<Link>,
}

impl Session {
    /// A session that was not started. `number` tells its connections from those of other sessions: no two sessions of a
    /// speaker may ever have the same. `seed` gives timers their jitter.
    #[must_use]
    pub fn new(config: Config, number: u32, seed: u64) -> Self {
        Self {
            config,
            number,
            attempts: 0,
            jitter: Jitter::new(seed),
            backoff: Backoff::default(),
            mode: Mode::Stopped,
            attempt: None,
            links: Vec::new(),
        }
    }

    /// Its configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The state of the connection that is farthest.
    #[must_use]
    pub fn state(&self) -> State {
        let links = self.links.iter().map(Link::state).max();
        links.unwrap_or(match (self.mode, self.attempt) {
            (Mode::Running { .. }, Some(_)) => State::Connect,
            (Mode::Running { .. }, None) => State::Active,
            _ => State::Idle,
        })
    }

    /// What holds, while it is established.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.established().and_then(Link::session)
    }

    /// The connection that routes go over, while it is established.
    #[must_use]
    pub fn connection(&self) -> Option<ConnId> {
        self.established().map(|link| link.conn)
    }

    fn established(&self) -> Option<&Link> {
        self.links.iter().find(|link| link.state() == State::Established)
    }

    /// When [`Event::Tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let waiting = match self.mode {
            Mode::Stopped => None,
            Mode::Punished { until } => Some(until),
            Mode::Running { retry_at } => retry_at,
        };
        let attempt = self.attempt.map(|attempt| attempt.until);
        self.links.iter().map(Link::deadline).chain([waiting, attempt]).flatten().min()
    }

    /// Takes a new configuration. Where it [needs a reset](needs_reset), the session ends and begins again.
    pub fn reconfigure(&mut self, now: Instant, config: Config, out: &mut Vec<Action>) {
        let resets = needs_reset(&self.config, &config).is_some();
        let was_passive = std::mem::replace(&mut self.config, config).peer.passive;
        for link in &mut self.links {
            link.set_send_hold(self.config.peer.hold.send_hold);
        }
        if resets {
            self.backoff.forget();
            let notification = Notification::Cease(CeaseSubcode::ConfigurationChange, None);
            self.handle(now, Event::Reset { notification }, out);
        } else if was_passive != self.config.peer.passive && matches!(self.mode, Mode::Running { .. }) {
            self.wait(now, Blame::Nobody);
        }
    }

    /// Takes in what happened at `now` and appends what is to be done.
    pub fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Vec<Action>) {
        match event {
            Event::Start if self.mode == Mode::Stopped => self.connect(now, out),
            Event::Start => {}
            Event::Stop { notification } => {
                self.end(now, notification, out);
                self.mode = Mode::Stopped;
            }
            Event::Reset { notification } => {
                self.end(now, Some(notification), out);
                if self.mode != Mode::Stopped {
                    self.wait(now, Blame::Nobody);
                }
            }
            Event::Connected { conn } => match self.attempt.take_if(|attempt| attempt.conn == conn) {
                Some(_) => self.opened(now, conn, out),
                None => out.push(Action::Close { conn }),
            },
            Event::Accepted { conn } => self.accepted(now, conn, out),
            Event::Failed { conn, why } => {
                if self.attempt.take_if(|attempt| attempt.conn == conn).is_some() {
                    self.attempt_ended(now, DownReason::Connection(why), Blame::Absent, out);
                }
            }
            Event::Closed { conn, why } => self.lost(now, conn, why, out),
            Event::Received { conn, bytes } => self.received(now, conn, bytes, out),
            Event::Queued { bytes } => {
                if let Some(link) = self.links.iter_mut().find(|link| link.state() == State::Established) {
                    link.queued(now, bytes);
                }
            }
            Event::Sent { conn, bytes } => {
                if let Some(link) = self.link(conn) {
                    link.sent(now, bytes);
                }
            }
            Event::BfdDown => {
                if let Some(conn) = self.connection() {
                    self.fail(now, conn, Notification::Cease(CeaseSubcode::BfdDown, None), out);
                }
            }
            Event::Tick => self.tick(now, out),
        }
    }

    fn link(&mut self, conn: ConnId) -> Option<&mut Link> {
        self.links.iter_mut().find(|link| link.conn == conn)
    }

    /// Begins to connect, or to wait for the peer where it has to.
    fn connect(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.mode = Mode::Running { retry_at: None };
        if self.config.peer.passive {
            return;
        }
        let conn = ConnId::Out(u64::from(self.number) << 32 | u64::from(self.attempts));
        self.attempts = self.attempts.wrapping_add(1);
        self.attempt = Some(Attempt { conn, until: now + self.config.peer.hold.connect_retry.max(CONNECT_LEAST) });
        out.push(Action::Connect { conn });
    }

    /// Waits until the next attempt, where nothing stands that an attempt could come of.
    fn wait(&mut self, now: Instant, blame: Blame) {
        if !self.links.is_empty() || self.attempt.is_some() {
            return;
        }
        let until = now + self.backoff.wait(blame, self.config.peer.hold.connect_retry, &mut self.jitter);
        self.mode = match blame {
            Blame::Error => Mode::Punished { until },
            _ => Mode::Running { retry_at: Some(until).filter(|_| !self.config.peer.passive) },
        };
    }

    fn attempt_ended(&mut self, now: Instant, reason: DownReason, blame: Blame, out: &mut Vec<Action>) {
        out.push(Action::Attempt { reason });
        self.wait(now, blame);
    }

    /// A connection stands: our OPEN goes out, or waits for the peer's where a session stands.
    fn opened(&mut self, now: Instant, conn: ConnId, out: &mut Vec<Action>) {
        self.mode = Mode::Running { retry_at: None };
        let is_first = self.established().is_none();
        self.links.push(Link::new(now, conn, self.config.peer.hold.send_hold));
        if is_first {
            self.introduce(now, out);
        }
    }

    /// Sends our OPEN on every connection that lacks it.
    fn introduce(&mut self, now: Instant, out: &mut Vec<Action>) {
        for link in self.links.iter_mut().filter(|link| matches!(link.phase, Phase::Unopened)) {
            link.phase = Phase::OpenSent;
            link.send(now, Encoder::open(&self.config.open()), out);
        }
    }

    fn accepted(&mut self, now: Instant, conn: ConnId, out: &mut Vec<Action>) {
        if !matches!(self.mode, Mode::Running { .. }) {
            out.push(Action::Close { conn });
            return;
        }
        // The peer asks for one at a time: it has given up the one before.
        let old = |link: &&Link| matches!(link.conn, ConnId::In(_)) && link.state() != State::Established;
        if let Some(old) = self.links.iter().find(old).map(|link| link.conn) {
            self.links.retain(|link| link.conn != old);
            out.push(Action::Close { conn: old });
        }
        self.opened(now, conn, out);
    }

    fn lost(&mut self, now: Instant, conn: ConnId, why: ConnectFailure, out: &mut Vec<Action>) {
        self.remove(now, conn, DownReason::Connection(why), Blame::Absent, out);
    }

    /// Sends the reason and closes.
    fn fail(&mut self, now: Instant, conn: ConnId, notification: Notification, out: &mut Vec<Action>) {
        let blame = Blame::of(&notification);
        out.push(Action::Send { conn, bytes: Encoder::notification(&notification) });
        out.push(Action::Close { conn });
        self.remove(now, conn, DownReason::Sent(notification), blame, out);
    }

    /// Forgets a connection that is closed.
    fn remove(&mut self, now: Instant, conn: ConnId, reason: DownReason, blame: Blame, out: &mut Vec<Action>) {
        let Some(at) = self.links.iter().position(|link| link.conn == conn) else { return };
        let link = self.links.remove(at);
        match link.phase {
            Phase::Established { session, since } => {
                let keep_routes = keeps_routes(&session, &reason);
                out.push(Action::Down { reason, keep_routes });
                let has_lasted = now.saturating_duration_since(since) >= STABLE;
                if has_lasted {
                    self.backoff.forget();
                }
                let blame = if has_lasted && blame == Blame::Absent { Blame::Nobody } else { blame };
                self.introduce(now, out);
                self.wait(now, blame);
            }
            _ => {
                self.attempt_ended(now, reason, blame, out);
                self.settle(now, out);
            }
        }
    }

    /// Ends everything that stands.
    fn end(&mut self, now: Instant, notification: Option<Notification>, out: &mut Vec<Action>) {
        if let Some(attempt) = self.attempt.take() {
            out.push(Action::Close { conn: attempt.conn });
        }
        while let Some(link) = self.links.pop() {
            let conn = link.conn;
            let notification = notification.clone().map(|notification| match link.session() {
                Some(session) => hardened(notification, session),
                None => notification,
            });
            if let Some(notification) = &notification {
                out.push(Action::Send { conn, bytes: Encoder::notification(notification) });
            }
            out.push(Action::Close { conn });
            if let Phase::Established { session, since } = link.phase {
                let reason = notification.map_or(DownReason::Idle, DownReason::Sent);
                let keep_routes = keeps_routes(&session, &reason);
                out.push(Action::Down { reason, keep_routes });
                if now.saturating_duration_since(since) >= STABLE {
                    self.backoff.forget();
                }
            }
        }
    }

    fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        match self.mode {
            Mode::Punished { until } if until <= now => self.connect(now, out),
            Mode::Running { retry_at: Some(at) } if at <= now => {
                self.mode = Mode::Running { retry_at: None };
                if self.links.is_empty() && self.attempt.is_none() {
                    self.connect(now, out);
                }
            }
            _ => {}
        }
        if let Some(attempt) = self.attempt.take_if(|attempt| attempt.until <= now) {
            out.push(Action::Close { conn: attempt.conn });
            self.attempt_ended(now, DownReason::Connection(ConnectFailure::TimedOut), Blame::Absent, out);
        }
        let mut expired = Vec::new();
        for link in &mut self.links {
            expired.extend(link.tick(now, &mut self.jitter, out).map(|what| (link.conn, what)));
        }
        for (conn, what) in expired {
            let notification = match what {
                Expired::Hold => Notification::HoldTimerExpired,
                Expired::SendHold => Notification::SendHoldTimerExpired,
            };
            self.fail(now, conn, notification, out);
        }
        self.settle(now, out);
    }
}
