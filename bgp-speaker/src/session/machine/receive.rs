//! What the messages of a peer do to its session. RFC 4271, sections 6 and 8.2.2.

use super::{Blame, Session};
use crate::session::event::{Action, State};
use crate::session::link::Phase;
use crate::session::negotiate::negotiate;
use crate::speaker::{ConnId, ConnectFailure, DownReason};
use crate::types::{
    Asn, CeaseSubcode, FsmSubcode, Message, Negotiated, Notification, Open, Problem, RefreshKind, Update, Withdrawal,
};
use crate::wire::Options;
use std::time::Instant;

/// AS_PATH, as a problem names it.
const AS_PATH: u8 = 2;

/// Which end of a connection asked for it: that of the higher identifier stays.
fn is_ours(conn: ConnId) -> bool {
    matches!(conn, ConnId::Out(_))
}

impl Session {
    pub(super) fn received(&mut self, now: Instant, conn: ConnId, bytes: &[u8], out: &mut Vec<Action>) {
        let mut input = bytes;
        while let Some(link) = self.link(conn) {
            match link.decoder.next(&mut input) {
                Ok(Some(message)) => self.message(now, conn, message, out),
                Ok(None) => return,
                Err(notification) => return self.fail(now, conn, notification, out),
            }
        }
    }

    fn message(&mut self, now: Instant, conn: ConnId, message: Message, out: &mut Vec<Action>) {
        let Some(link) = self.link(conn) else { return };
        match (link.state(), message) {
            (_, Message::Notification(notification)) => {
                out.push(Action::Close { conn });
                let blame = Blame::of(&notification);
                self.remove(now, conn, DownReason::Received(notification), blame, out);
            }
            (State::OpenSent, Message::Open(open)) => self.open(now, conn, &open, out),
            (State::OpenConfirm, Message::Keepalive) => self.establish(now, conn, out),
            (State::Established, Message::Keepalive) => link.heard(now),
            (State::Established, Message::Update(mut update)) => {
                link.heard(now);
                if let Some(session) = self.negotiated() {
                    let peer_asn = session.peer_asn;
                    if peer_asn != self.config.asn && !self.config.peer.skip_first_asn_check {
                        check_first_asn(&mut update, peer_asn);
                    }
                }
                out.push(Action::Update(update));
            }
            (State::Established, Message::RouteRefresh(refresh)) => {
                let knows = |session: &Negotiated| {
                    let is_marked = refresh.kind == RefreshKind::Request || session.enhanced_route_refresh;
                    is_marked && session.families.contains(&refresh.family)
                };
                if link.session().is_some_and(knows) {
                    out.push(Action::Refresh(refresh));
                }
            }
            // RFC 6608.
            (state, _) => {
                let subcode = match state {
                    State::OpenConfirm => FsmSubcode::InOpenConfirm,
                    State::Established => FsmSubcode::InEstablished,
                    _ => FsmSubcode::InOpenSent,
                };
                self.fail(now, conn, Notification::Fsm(subcode), out);
            }
        }
    }

    /// The peer has introduced itself.
    fn open(&mut self, now: Instant, conn: ConnId, open: &Open, out: &mut Vec<Action>) {
        let session = match negotiate(&self.config, open) {
            Ok(session) => session,
            Err(notification) => return self.fail(now, conn, notification, out),
        };
        if !self.outlives_collision(now, conn, &session, out) {
            return self.fail(now, conn, Notification::Cease(CeaseSubcode::Collision, None), out);
        }
        let options = Options::new(&session, session.peer_asn == self.config.asn);
        let Some(at) = self.links.iter().position(|link| link.conn == conn) else { return };
        let link = &mut self.links[at];
        link.decoder.set_options(options);
        link.confirm(now, session, &mut self.jitter, out);
    }

    /// Whether the connection stays beside the other one; where it does, the other one is closed. RFC 4271, section 6.8;
    /// RFC 6286, section 2.3; RFC 4724, section 4.2.
    fn outlives_collision(&mut self, now: Instant, conn: ConnId, new: &Negotiated, out: &mut Vec<Action>) -> bool {
        let Some(other) = self.links.iter().find(|link| link.conn != conn) else { return true };
        let other_conn = other.conn;
        match &other.phase {
            // Its OPEN will tell.
            Phase::OpenSent => true,
            Phase::Established { session, .. } if session.graceful_restart.is_some() => {
                // The peer has restarted, and its old connection is dead.
                out.push(Action::Close { conn: other_conn });
                let reason = DownReason::Connection(ConnectFailure::Closed);
                self.remove(now, other_conn, reason, Blame::Nobody, out);
                true
            }
            Phase::Established { .. } => false,
            Phase::OpenConfirm(_) => {
                let (own, peer) = ((self.config.router_id, self.config.asn), (new.peer_id, new.peer_asn));
                let stays = is_ours(conn) == (own > peer);
                if stays {
                    self.fail(now, other_conn, Notification::Cease(CeaseSubcode::Collision, None), out);
                }
                stays
            }
        }
    }

    /// The peer has taken our OPEN.
    fn establish(&mut self, now: Instant, conn: ConnId, out: &mut Vec<Action>) {
        if let Some(attempt) = self.attempt.take() {
            out.push(Action::Close { conn: attempt.conn });
        }
        let others: Vec<ConnId> = self.links.iter().map(|link| link.conn).filter(|other| *other != conn).collect();
        for other in others {
            self.fail(now, other, Notification::Cease(CeaseSubcode::Collision, None), out);
        }
        let Some(link) = self.link(conn) else { return };
        if let Phase::OpenConfirm(session) = &link.phase {
            let session = session.clone();
            out.push(Action::Up { conn, session: session.clone() });
            link.phase = Phase::Established { session, since: now };
            link.heard(now);
        }
    }
}

/// Routes of an external peer begin with its own system, else they are treated as withdrawn. RFC 4271, section 6.3; RFC 7606,
/// section 7.2.
fn check_first_asn(update: &mut Update, peer_asn: Asn) {
    let is_wrong = |attributes: &crate::types::Attributes| attributes.as_path.neighbour() != Some(peer_asn);
    if !update.announcements.iter().any(|announcement| is_wrong(&announcement.attributes)) {
        return;
    }
    let announced = std::mem::take(&mut update.announcements);
    for announcement in announced {
        if is_wrong(&announcement.attributes) {
            let what = format!("does not begin with the peer's system {peer_asn}");
            update.problems.push(Problem { attribute: AS_PATH, what, withdrawn: true });
            update.withdrawals.push(Withdrawal { family: announcement.family, nlri: announcement.nlri });
        } else {
            update.announcements.push(announcement);
        }
    }
}
