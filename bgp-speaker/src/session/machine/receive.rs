//! What the messages of a peer do to its session. RFC 4271, sections 6 and 8.2.2.

use super::{Blame, Session};
use crate::session::event::{Action, State};
use crate::session::negotiate::negotiate;
use crate::speaker::{ConnId, DownReason};
use crate::types::{
    Asn, CeaseSubcode, FsmSubcode, Message, Negotiated, Notification, Open, Problem, RefreshKind, Update, Withdrawal,
};
use crate::wire::Options;
use std::time::Instant;

/// AS_PATH, as a problem names it.
const AS_PATH: u8 = 2;

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
        if matches!(message, Message::Update(_) | Message::RouteRefresh(_)) {
            self.routes_came(now, conn, out);
        }
        let Some(link) = self.link(conn) else { return };
        match (link.state(), message) {
            (_, Message::Notification(notification)) => {
                out.push(Action::Close { conn });
                let blame = Blame::of(&notification);
                self.remove(now, conn, DownReason::Received(notification), blame, out);
            }
            (State::Active | State::OpenSent, Message::Open(open)) => self.open(now, conn, &open, out),
            (State::OpenConfirm, Message::Keepalive) => self.confirmed(now, conn, out),
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
