//! Which of two connections stays. RFC 4271, section 6.8; RFC 6286, section 2.3; RFC 4724, section 4.2. Never the meaning of
//! a message.
//!
//! Both ends keep the connection of the higher identifier, and both know it only once an OPEN has come. An end that
//! established the other one first would close what its peer keeps, and lose the one when the peer closes it: the session
//! would come, go and come again. So a confirmed connection waits for the preferred one where that is under way, and an end
//! that has established one says nothing on a new one before its peer does. Then one end alone decides:
//!
//! - an OPEN on the preferred connection says that its sender has established no other: the other one is closed;
//! - the end of the preferred connection, or a route on the other one, says that the other one stays.

use super::{Blame, Session};
use crate::session::event::Action;
use crate::session::link::{Link, Phase};
use crate::speaker::{ConnId, ConnectFailure, DownReason};
use crate::types::{CeaseSubcode, Negotiated, Notification};
use std::time::{Duration, Instant};

/// So long a confirmed connection waits for the preferred one, whose peer may never answer.
const RIVAL: Duration = Duration::from_secs(3);

impl Session {
    /// Whether both sides keep this connection rather than another one: that of the side with the higher identifier.
    fn is_preferred(&self, conn: ConnId, session: &Negotiated) -> bool {
        let (own, peer) = ((self.config.router_id, self.config.asn), (session.peer_id, session.peer_asn));
        matches!(conn, ConnId::Out(_)) == (own > peer)
    }

    /// Whether the connection stays beside the other one once its OPEN is in; where it does, the other one is closed.
    pub(super) fn outlives_collision(
        &mut self,
        now: Instant,
        conn: ConnId,
        new: &Negotiated,
        out: &mut Vec<Action>,
    ) -> bool {
        let Some(other) = self.links.iter().find(|link| link.conn != conn) else { return true };
        let other_conn = other.conn;
        match &other.phase {
            // Its OPEN will tell.
            Phase::Unopened | Phase::OpenSent => true,
            Phase::Established { session, since } if session.graceful_restart.is_some() => {
                // Both sides began at once, and the peer has not seen yet that the session stands.
                let has_just_begun = !other.is_mutual && now.saturating_duration_since(*since) < RIVAL;
                if has_just_begun {
                    return false;
                }
                // The peer has restarted, and its old connection is dead.
                out.push(Action::Close { conn: other_conn });
                let reason = DownReason::Connection(ConnectFailure::Closed);
                self.remove(now, other_conn, reason, Blame::Nobody, out);
                true
            }
            Phase::Established { .. } => false,
            Phase::OpenConfirm(_) | Phase::Confirmed { .. } => {
                let stays = self.is_preferred(conn, new);
                if stays {
                    self.fail(now, other_conn, Notification::Cease(CeaseSubcode::Collision, None), out);
                }
                stays
            }
        }
    }

    /// The peer has taken our OPEN: the session stands, unless the preferred connection is under way.
    pub(super) fn confirmed(&mut self, now: Instant, conn: ConnId, out: &mut Vec<Action>) {
        let Some(Link { phase: Phase::OpenConfirm(session), .. }) = self.links.iter().find(|link| link.conn == conn)
        else {
            return;
        };
        let session = session.clone();
        let has_rival = self.links.len() > 1 && !self.is_preferred(conn, &session);
        if let Some(link) = self.link(conn) {
            link.heard(now);
            link.phase = Phase::Confirmed { session, until: if has_rival { now + RIVAL } else { now } };
        }
        self.settle(now, out);
    }

    /// The peer has established this connection: so do we.
    pub(super) fn routes_came(&mut self, now: Instant, conn: ConnId, out: &mut Vec<Action>) {
        if let Some(link) = self.link(conn) {
            link.is_mutual = true;
            if matches!(link.phase, Phase::Confirmed { .. }) {
                self.establish(now, conn, out);
            }
        }
    }

    /// Establishes the confirmed connection that is alone, or has waited long enough.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Vec<Action>) {
        let is_alone = self.links.len() == 1;
        let is_due = |link: &&Link| matches!(link.phase, Phase::Confirmed { .. }) && (is_alone || link.has_waited(now));
        if let Some(conn) = self.links.iter().find(is_due).map(|link| link.conn) {
            self.establish(now, conn, out);
        }
    }

    fn establish(&mut self, now: Instant, conn: ConnId, out: &mut Vec<Action>) {
        let Some(link) = self.link(conn) else { return };
        if let Phase::Confirmed { session, .. } = &link.phase {
            let session = session.clone();
            out.push(Action::Up { conn, session: session.clone() });
            link.phase = Phase::Established { session, since: now };
            link.heard(now);
        }
        if let Some(attempt) = self.attempt.take() {
            out.push(Action::Close { conn: attempt.conn });
        }
        let others: Vec<ConnId> = self.links.iter().map(|link| link.conn).filter(|other| *other != conn).collect();
        for other in others {
            self.fail(now, other, Notification::Cease(CeaseSubcode::Collision, None), out);
        }
    }
}
