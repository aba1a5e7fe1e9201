//! One connection of a session: its phase, its timers, what is not yet out. Never the decision which connection stays.

use super::backoff::Jitter;
use super::event::{Action, State};
use crate::speaker::ConnId;
use crate::types::Negotiated;
use crate::wire::{Decoder, Encoder};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// How long a peer may take to send its OPEN. RFC 4271, section 8.2.2 suggests four minutes.
const OPEN_HOLD: Duration = Duration::from_secs(240);

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Phase {
    /// The peer has connected beside a session that stands, and speaks first. RFC 4271, section 8.1.1, `DelayOpen`.
    Unopened,
    /// Our OPEN is out.
    OpenSent,
    /// The peer's OPEN is in and good.
    OpenConfirm(Box<Negotiated>),
    /// The peer has taken our OPEN too, and the connection that both sides would rather keep is under way.
    Confirmed {
        /// What will hold.
        session: Box<Negotiated>,
        /// So long the other one may take.
        until: Instant,
    },
    /// The session.
    Established {
        /// What holds.
        session: Box<Negotiated>,
        /// Since when.
        since: Instant,
    },
}

/// What a timer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expired {
    /// The peer has said nothing for too long.
    Hold,
    /// The peer has taken nothing for too long. RFC 9687.
    SendHold,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) conn: ConnId,
    pub(super) phase: Phase,
    pub(super) decoder: Decoder,
    /// The peer has established the session too: an UPDATE came.
    pub(super) is_mutual: bool,
    hold_at: Option<Instant>,
    keepalive_at: Option<Instant>,
    send_hold: Option<Duration>,
    unsent_bytes: usize,
    stalled_at: Option<Instant>,
}

impl Link {
    pub(super) fn new(now: Instant, conn: ConnId, send_hold: Option<Duration>) -> Self {
        Self {
            conn,
            phase: Phase::Unopened,
            decoder: Decoder::default(),
            is_mutual: false,
            hold_at: Some(now + OPEN_HOLD),
            keepalive_at: None,
            send_hold,
            unsent_bytes: 0,
            stalled_at: None,
        }
    }

    pub(super) const fn state(&self) -> State {
        match self.phase {
            Phase::Unopened => State::Active,
            Phase::OpenSent => State::OpenSent,
            Phase::OpenConfirm(_) | Phase::Confirmed { .. } => State::OpenConfirm,
            Phase::Established { .. } => State::Established,
        }
    }

    /// What was agreed on, once the peer's OPEN is in.
    pub(super) const fn session(&self) -> Option<&Negotiated> {
        match &self.phase {
            Phase::Unopened | Phase::OpenSent => None,
            Phase::OpenConfirm(session) | Phase::Confirmed { session, .. } | Phase::Established { session, .. } => {
                Some(session)
            }
        }
    }

    /// Sends a message.
    pub(super) fn send(&mut self, now: Instant, bytes: Bytes, out: &mut Vec<Action>) {
        self.queued(now, bytes.len());
        out.push(Action::Send { conn: self.conn, bytes });
    }

    /// Bytes are on their way.
    pub(super) fn queued(&mut self, now: Instant, bytes: usize) {
        self.unsent_bytes = self.unsent_bytes.saturating_add(bytes);
        if self.stalled_at.is_none() {
            self.stalled_at = self.send_hold.map(|time| now + time);
        }
    }

    /// Bytes are out.
    pub(super) fn sent(&mut self, now: Instant, bytes: usize) {
        self.unsent_bytes = self.unsent_bytes.saturating_sub(bytes);
        self.stalled_at = self.send_hold.filter(|_| self.unsent_bytes > 0).map(|time| now + time);
    }

    /// Another send hold time, from the next progress on.
    pub(super) const fn set_send_hold(&mut self, send_hold: Option<Duration>) {
        self.send_hold = send_hold;
        if send_hold.is_none() {
            self.stalled_at = None;
        }
    }

    /// The peer lives: a KEEPALIVE or an UPDATE came. RFC 4271, section 8.2.2.
    pub(super) fn heard(&mut self, now: Instant) {
        let hold = self.session().map_or(OPEN_HOLD, |session| session.hold_time);
        self.hold_at = match self.phase {
            Phase::Established { .. } => (!hold.is_zero()).then(|| now + hold),
            // Without a hold time, a peer that never confirms would stay for ever.
            _ => Some(now + if hold.is_zero() { OPEN_HOLD } else { hold }),
        };
    }

    /// Answers the peer's OPEN and runs the timers that were agreed on.
    pub(super) fn confirm(&mut self, now: Instant, session: Negotiated, jitter: &mut Jitter, out: &mut Vec<Action>) {
        self.phase = Phase::OpenConfirm(Box::new(session));
        self.heard(now);
        self.keepalive(now, jitter, out);
    }

    fn keepalive(&mut self, now: Instant, jitter: &mut Jitter, out: &mut Vec<Action>) {
        self.send(now, Encoder::keepalive(), out);
        // RFC 4271, sections 4.4 and 10: a third of the hold time, with jitter.
        let hold = self.session().map_or(Duration::ZERO, |session| session.hold_time);
        self.keepalive_at = (!hold.is_zero()).then(|| now + jitter.of(hold / 3));
    }

    /// What time has brought: a KEEPALIVE, or an end.
    pub(super) fn tick(&mut self, now: Instant, jitter: &mut Jitter, out: &mut Vec<Action>) -> Option<Expired> {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.stalled_at) {
            return Some(Expired::SendHold);
        }
        if is_due(self.hold_at) {
            return Some(Expired::Hold);
        }
        if is_due(self.keepalive_at) {
            self.keepalive(now, jitter, out);
        }
        None
    }

    /// Whether it has waited long enough for the other one.
    pub(super) fn has_waited(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Confirmed { until, .. } if until <= now)
    }

    /// When to tick.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let waits = match self.phase {
            Phase::Confirmed { until, .. } => Some(until),
            _ => None,
        };
        [self.hold_at, self.keepalive_at, self.stalled_at, waits].into_iter().flatten().min()
    }
}
