//! What the core wants done. Never changes its order.

use super::bfd::{Bfd, Wish};
use super::connection::{Connection, Phase};
use super::driver::{Driver, Report};
use super::poller::Token;
use super::{Core, Host, Trouble, tcp};
use crate::bfd::Config;
use crate::speaker::{ConnId, ConnectFailure, Input, Output, Target};
use bytes::Bytes;
use std::io::ErrorKind;
use std::time::Instant;

impl<C: Core, H: Host> Driver<C, H> {
    /// Gives the core something and does what it answers.
    pub(super) fn feed(&mut self, now: Instant, input: Input<'_>) {
        let mut out = std::mem::take(&mut self.out);
        self.core.handle(now, input, &mut out);
        self.carry_out(now, &mut out);
        self.out = out;
    }

    pub(super) fn carry_out(&mut self, now: Instant, out: &mut Vec<Output>) {
        for output in out.drain(..) {
            match output {
                Output::Connect { conn, target } => self.connect(now, conn, &target),
                Output::Send { conn, bytes } => self.send(now, conn, bytes),
                Output::Close { conn } => self.close(now, conn),
                Output::StartBfd { peer, remote, local, single_hop, interface, interval, multiplier } => {
                    let config = Config::new(interval, multiplier);
                    if self.bfd.is_none() {
                        match Bfd::spawn() {
                            Ok(bfd) => self.bfd = Some(bfd),
                            Err(error) => self.host.trouble(Trouble::BfdThread(error)),
                        }
                    }
                    if let Some(bfd) = &self.bfd {
                        self.epochs += 1;
                        let epoch = *self.watched.entry(peer).or_insert(self.epochs);
                        bfd.start(peer, Wish { remote, local, single_hop, interface, config, epoch });
                    }
                }
                Output::StopBfd { peer } => {
                    self.watched.remove(&peer);
                    if let Some(bfd) = &self.bfd {
                        bfd.stop(peer);
                    }
                }
                Output::Track { .. }
                | Output::Untrack { .. }
                | Output::Route { .. }
                | Output::InSync { .. }
                | Output::Peer { .. } => self.host.output(output),
            }
        }
    }

    fn connect(&mut self, now: Instant, conn: ConnId, target: &Target) {
        let opened = tcp::connect(target)
            .and_then(|stream| self.insert(conn, Connection::new(stream, Phase::Connecting, target.interface.clone())));
        match opened {
            Ok(()) => self.set_deadline(conn, Some(now + self.limits.connect)),
            // Told at the next turn: a core that connects again at once must not keep this one for ever.
            Err(error) => self.reports.push_back(Report::Failed(conn, tcp::failure(&error))),
        }
    }

    fn send(&mut self, now: Instant, conn: ConnId, bytes: Bytes) {
        let most = self.limits.queue_bytes;
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if connection.phase != Phase::Open {
            return;
        }
        connection.queue(bytes);
        if connection.queued_bytes() > most {
            self.drop_connection(now, conn, Some(ConnectFailure::Local(ErrorKind::OutOfMemory)));
            return;
        }
        if connection.can_send() && !std::mem::replace(&mut connection.listed, true) {
            self.sending.push(conn);
        }
        if std::mem::take(&mut connection.stranger) {
            self.strangers -= 1;
            self.set_deadline(conn, None);
        }
    }

    fn close(&mut self, now: Instant, conn: ConnId) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        match connection.phase {
            Phase::Connecting => self.drop_connection(now, conn, Some(ConnectFailure::Closed)),
            Phase::Open => {
                connection.phase = Phase::Flushing;
                // Also when nothing is queued: then the end is.
                if !std::mem::replace(&mut connection.listed, true) {
                    self.sending.push(conn);
                }
                self.set_deadline(conn, Some(now + self.limits.close));
            }
            Phase::Flushing | Phase::Ending => {}
        }
    }

    pub(super) fn insert(&mut self, conn: ConnId, connection: Connection) -> std::io::Result<()> {
        self.poller.add(&connection.stream, Token::Connection(conn), connection.interest)?;
        self.connections.insert(conn, connection);
        Ok(())
    }

    /// Ends a connection at once. The kernel still sends what it has, unless time is up with bytes of ours unsent.
    pub(super) fn drop_connection(&mut self, now: Instant, conn: ConnId, why: Option<ConnectFailure>) {
        self.set_deadline(conn, None);
        let Some(connection) = self.connections.remove(&conn) else { return };
        if connection.stranger {
            self.strangers -= 1;
        }
        if connection.queued_bytes() > 0 {
            connection.abort();
        }
        if let Some(why) = why {
            self.reports.push_back(match connection.phase {
                Phase::Connecting => Report::Failed(conn, why),
                Phase::Open => Report::Closed(conn, why),
                Phase::Flushing | Phase::Ending => Report::Closed(conn, ConnectFailure::Closed),
            });
        }
        self.accept_if_room(now);
    }

    pub(super) fn set_deadline(&mut self, conn: ConnId, deadline: Option<Instant>) {
        let Some(connection) = self.connections.get_mut(&conn) else { return };
        if let Some(before) = std::mem::replace(&mut connection.deadline, deadline) {
            self.deadlines.remove(&(before, conn));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, conn));
        }
    }
}
