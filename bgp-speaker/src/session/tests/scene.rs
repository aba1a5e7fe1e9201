//! One session and a peer that says exactly what a test wants.

use super::side;
use crate::session::{Action, Config, Event, Session};
use crate::speaker::{ConnId, DownReason};
use crate::types::{
    AsPath, Asn, Attributes, Capabilities, Family, GracefulRestart, Message, Negotiated, NextHop, Nlri, Notification,
    Open, PathId, RestartFamily, RouterId,
};
use crate::wire::{Decoder, Encoder, Options};
use bytes::{Bytes, BytesMut};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

pub(super) const OWN: u32 = 64_512;
pub(super) const PEER: u32 = 64_513;

/// The session is of 192.0.2.2 in 64512, its peer of 64513.
pub(super) fn config() -> Config {
    side(2, OWN, PEER)
}

pub(super) fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

/// The peer's OPEN: 192.0.2.`id` in 64513 with both families and what a test adds.
pub(super) fn open(id: u8, change: impl FnOnce(&mut Open)) -> Open {
    let mut open = Open {
        asn: 64_513,
        hold_time_seconds: 90,
        id: RouterId::new(Ipv4Addr::new(192, 0, 2, id)).unwrap(),
        capabilities: Capabilities {
            families: Family::ALL.into(),
            asn: Some(asn(PEER)),
            route_refresh: true,
            ..Capabilities::default()
        },
    };
    change(&mut open);
    open
}

/// The peer keeps the routes of both families while it restarts.
pub(super) fn restarts(notification: bool) -> Option<GracefulRestart> {
    let families = Family::ALL.map(|family| RestartFamily { family, forwarding_kept: true });
    Some(GracefulRestart { restarting: false, notification, restart_time_seconds: 120, families: families.into() })
}

pub(super) struct Scene {
    pub(super) now: Instant,
    pub(super) session: Session,
    /// All that came of the last thing that happened.
    pub(super) out: Vec<Action>,
}

impl Scene {
    pub(super) fn new(config: Config) -> Self {
        Self { now: Instant::now(), session: Session::new(config, 7, 1), out: Vec::new() }
    }

    pub(super) fn tell(&mut self, event: Event<'_>) -> &mut Self {
        self.out.clear();
        self.session.handle(self.now, event, &mut self.out);
        self
    }

    pub(super) fn wait(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self.tell(Event::Tick)
    }

    /// Ticks when the session wants to, for so long; all that came of it stays in `out`.
    pub(super) fn pass(&mut self, time: Duration) -> &mut Self {
        let (end, mut all) = (self.now + time, Vec::new());
        while let Some(next) = self.session.deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            all.append(&mut self.tell(Event::Tick).out);
        }
        (self.now, self.out) = (end, all);
        self
    }

    /// Starts, and lets the connection stand that is asked for.
    pub(super) fn connected(config: Config) -> (Self, ConnId) {
        let mut scene = Self::new(config);
        scene.tell(Event::Start);
        let conn = scene.asked().expect("it connects");
        scene.tell(Event::Connected { conn });
        (scene, conn)
    }

    pub(super) fn established(config: Config, open: &Open) -> (Self, ConnId) {
        let (mut scene, conn) = Self::connected(config);
        scene.hear(conn, Encoder::open(open)).hear(conn, Encoder::keepalive());
        assert!(scene.up().is_some(), "{:?}", scene.out);
        (scene, conn)
    }

    pub(super) fn hear(&mut self, conn: ConnId, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.tell(Event::Received { conn, bytes: bytes.as_ref() })
    }

    /// An IPv4 route with a path.
    pub(super) fn hear_route(&mut self, conn: ConnId, path: &[u32]) -> &mut Self {
        let path = AsPath::sequence(path.iter().copied().map(asn).collect());
        let next_hop = NextHop::V4(Ipv4Addr::new(192, 0, 2, 99));
        let attributes = Attributes { as_path: path, ..Attributes::own(next_hop) };
        let route = Nlri { prefix: "10.0.0.0/8".parse().unwrap(), path: PathId::default() };
        let options = Options { four_octet_asn: true, ..Options::before_open() };
        let mut bytes = BytesMut::new();
        Encoder::new(options).updates(Family::Ipv4, &attributes, [route], &mut bytes).unwrap();
        self.hear(conn, bytes)
    }

    pub(super) fn asked(&self) -> Option<ConnId> {
        self.out.iter().find_map(|action| match action {
            Action::Connect { conn } => Some(*conn),
            _ => None,
        })
    }

    pub(super) fn up(&self) -> Option<&Negotiated> {
        self.out.iter().find_map(|action| match action {
            Action::Up { session, .. } => Some(&**session),
            _ => None,
        })
    }

    /// Why the session ended, and whether routes stay.
    pub(super) fn down(&self) -> Option<(&DownReason, bool)> {
        self.out.iter().find_map(|action| match action {
            Action::Down { reason, keep_routes } => Some((reason, *keep_routes)),
            _ => None,
        })
    }

    pub(super) fn is_closed(&self, conn: ConnId) -> bool {
        self.out.contains(&Action::Close { conn })
    }

    pub(super) fn sent(&self, conn: ConnId) -> Vec<Message> {
        let bytes = self.out.iter().filter_map(|action| match action {
            Action::Send { conn: on, bytes } if *on == conn => Some(bytes.clone()),
            _ => None,
        });
        let read = |bytes: Bytes| Decoder::default().next(&mut &bytes[..]).unwrap().unwrap();
        bytes.map(read).collect()
    }

    /// The NOTIFICATION that went out, after which the connection was closed.
    pub(super) fn refused(&self, conn: ConnId) -> Option<Notification> {
        let sent = self.sent(conn).into_iter().find_map(|message| match message {
            Message::Notification(notification) => Some(notification),
            _ => None,
        });
        assert!(sent.is_none() || self.is_closed(conn), "a NOTIFICATION is the last message");
        sent
    }
}
