//! What a BGP peer sends: whoever reaches the port.

use crate::Target;
use bgp_speaker::config::{PeerAddress, PeerConfig, RemoteAsn, Restart};
use bgp_speaker::session::{Action, Config, Event, Session, State};
use bgp_speaker::speaker::{ConnId, ConnectFailure};
use bgp_speaker::types::{Asn, CeaseSubcode, Message, Notification, RouterId, Update};
use bgp_speaker::wire::{Decoder, Encoder, Options};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// UPDATEs and whatever else stands in a stream.
pub(crate) const STREAM: Target = Target {
    name: "bgp_stream",
    run: stream,
    seeds: &[
        // Options, then an UPDATE: 10.0.0.0/8 by way of 65001 and 192.0.2.1, with a community; then a KEEPALIVE.
        b"\x0f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x34\x02\x00\x00\x00\x1b\x40\x01\x01\x00\
          \x40\x02\x06\x02\x01\x00\x00\xfd\xe9\x40\x03\x04\xc0\x00\x02\x01\xc0\x08\x04\xfd\xe9\x00\x01\x08\x0a\
          \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x13\x04",
        // MP_REACH_NLRI 2001:db8::/32 and MP_UNREACH_NLRI.
        b"\x0f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x4a\x02\x00\x00\x00\x33\
          \x80\x0e\x1a\x00\x02\x01\x10\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x20\x20\x01\x0d\xb8\
          \x80\x0f\x05\x00\x02\x01\x08\x20\x40\x01\x01\x00\x40\x02\x06\x02\x01\x00\x00\xfd\xe9",
        // Two-byte numbers, AS4_PATH.
        b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x34\x02\x00\x00\x00\x1b\x40\x01\x01\x00\
          \x40\x02\x04\x02\x01\x5b\xa0\x40\x03\x04\xc0\x00\x02\x01\xc0\x11\x06\x02\x01\xfa\x56\xea\x00\x08\x0a",
        // NOTIFICATION and ROUTE-REFRESH.
        b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x19\x03\x06\x02\x03bye\
          \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x17\x05\x00\x01\x00\x01",
    ],
};

fn options(bits: u8) -> Options {
    let bit = |at: u8| bits >> at & 1 == 1;
    Options {
        four_octet_asn: bit(0),
        internal: bit(1),
        max_message_bytes: if bit(2) { 65_535 } else { 4096 },
        families: [true; 2],
        add_path_in: [bit(4), bit(5)],
        add_path_out: [bit(4), bit(5)],
        extended_next_hop: [bit(6), bit(7)],
    }
}

fn stream(bytes: &[u8]) {
    let Some((bits, mut input)) = bytes.split_first() else { return };
    let options = options(*bits);
    let mut decoder = Decoder::new(options.clone());
    while let Ok(Some(message)) = decoder.next(&mut input) {
        if let Message::Update(update) = message {
            rewrite(&update, &options);
        }
    }
    assert!(decoder.kept_bytes() <= usize::from(options.max_message_bytes));
}

/// What was read can be written, and is read as the same, but for paths that were put together from two attributes.
fn rewrite(update: &Update, options: &Options) {
    let (encoder, mut written) = (Encoder::new(options.clone()), bytes::BytesMut::new());
    let mut routes = 0;
    for withdrawal in &update.withdrawals {
        encoder.withdrawals(withdrawal.family, withdrawal.nlri.iter().copied(), &mut written);
        routes += withdrawal.nlri.len();
    }
    for announced in &update.announcements {
        let nlri = announced.nlri.iter().copied();
        // Attributes may be too long for a message once they are written the long way.
        if encoder.updates(announced.family, &announced.attributes, nlri, &mut written).is_ok() {
            routes += announced.nlri.len();
        }
    }
    let (mut decoder, mut input, mut again) = (Decoder::new(options.clone()), &written[..], 0);
    while let Some(message) = decoder.next(&mut input).expect("what was written can be read") {
        let Message::Update(read) = message else { panic!("only UPDATEs were written") };
        assert!(read.problems.is_empty(), "{:?}", read.problems);
        if let (true, [one]) = (options.four_octet_asn, &read.announcements[..]) {
            assert!(update.announcements.iter().any(|before| before.attributes == one.attributes));
        }
        again += read.withdrawals.iter().map(|routes| routes.nlri.len()).sum::<usize>();
        again += read.announcements.iter().map(|routes| routes.nlri.len()).sum::<usize>();
    }
    assert_eq!(again, routes);
}

/// A whole session: bytes and everything else that can happen to it, in any order.
pub(crate) const SESSION: Target = Target {
    name: "bgp_session",
    run: session,
    seeds: &[
        // Start, connect, OPEN, KEEPALIVE, four seconds.
        b"\x00\x01\x08\x00\x09\x00\x05\x04",
        // Both connections.
        b"\x00\x02\x01\x08\x00\x08\x01\x09\x00\x05\xff\x05\xff",
        // A stop, a reset, BFD.
        b"\x00\x01\x08\x00\x09\x00\x07\x00\x00\x01\x08\x00\x09\x00\x07\x02\x05\x10\x01\x08\x00\x09\x00\x07\x01",
        // Nineteen bytes of a header that cannot be.
        b"\x00\x01\x03\x00\x13\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x05\xff",
    ],
};

fn configured() -> Option<Config> {
    let address = PeerAddress::Ip(Ipv4Addr::new(192, 0, 2, 1).into());
    Some(Config {
        asn: Asn::new(64_512)?,
        router_id: RouterId::new(Ipv4Addr::new(192, 0, 2, 2))?,
        peer: PeerConfig::new(address, RemoteAsn::External),
        restart: Restart::default(),
        restarting: false,
        forwarding_kept: BTreeSet::new(),
    })
}

/// What a session has asked for, seen from outside.
struct Outside {
    now: Instant,
    session: Session,
    /// Connections that stand.
    open: Vec<ConnId>,
    asked: Option<ConnId>,
    accepted: u64,
    is_up: bool,
}

impl Outside {
    fn tell(&mut self, event: Event<'_>) {
        let mut out = Vec::new();
        self.session.handle(self.now, event, &mut out);
        for action in out {
            match action {
                Action::Connect { conn } => assert!(self.asked.replace(conn).is_none(), "one attempt at a time"),
                Action::Send { conn, .. } => assert!(self.open.contains(&conn), "only on what stands"),
                Action::Close { conn } => {
                    let was_open = self.open.iter().position(|open| *open == conn).map(|at| self.open.remove(at));
                    assert!(was_open.is_some() || self.asked.take_if(|asked| *asked == conn).is_some());
                }
                Action::Up { .. } => assert!(!std::mem::replace(&mut self.is_up, true), "up once"),
                Action::Down { .. } => assert!(std::mem::replace(&mut self.is_up, false), "down once"),
                Action::Update(_) | Action::Refresh(_) => assert!(self.is_up, "only while it is up"),
                Action::Attempt { .. } => {}
            }
        }
        assert!(self.open.len() <= 2, "two connections at most");
        assert_eq!(self.is_up, self.session.state() == State::Established);
        assert_eq!(self.is_up, self.session.negotiated().is_some());
        assert!(self.session.deadline().is_none_or(|at| at > self.now) || self.session.state() != State::Idle);
    }

    fn hear(&mut self, conn: Option<ConnId>, bytes: &[u8]) {
        if let Some(conn) = conn {
            self.tell(Event::Received { conn, bytes });
        }
    }
}

fn session(bytes: &[u8]) {
    let Some(config) = configured() else { return };
    let mut peer = config.open();
    peer.asn = 64_513;
    peer.capabilities.asn = Asn::new(64_513);
    let mut outside = Outside {
        now: Instant::now(),
        session: Session::new(config, 1, 1),
        open: Vec::new(),
        asked: None,
        accepted: 0,
        is_up: false,
    };
    let mut bytes = bytes.iter().copied();
    while let Some(what) = bytes.next() {
        let mut number = || bytes.next().unwrap_or(0);
        let pick = |open: &[ConnId], at: u8| open.get(usize::from(at) % open.len().max(1)).copied();
        match what % 10 {
            0 => outside.tell(Event::Start),
            1 => {
                if let Some(conn) = outside.asked.take() {
                    outside.open.push(conn);
                    outside.tell(Event::Connected { conn });
                }
            }
            2 => {
                outside.accepted += 1;
                let conn = ConnId::In(outside.accepted);
                outside.open.push(conn);
                outside.tell(Event::Accepted { conn });
            }
            3 => {
                let (at, count) = (number(), number());
                let heard: Vec<u8> = bytes.by_ref().take(count.into()).collect();
                outside.hear(pick(&outside.open, at), &heard);
            }
            4 => {
                let at = number();
                if let Some(conn) = pick(&outside.open, at) {
                    outside.open.retain(|open| *open != conn);
                    outside.tell(Event::Closed { conn, why: ConnectFailure::Reset });
                }
            }
            5 => {
                outside.now += Duration::from_secs(number().into());
                outside.tell(Event::Tick);
            }
            6 => {
                let at = number();
                if let Some(conn) = pick(&outside.open, at) {
                    outside.tell(Event::Sent { conn, bytes: 100 });
                }
            }
            7 => {
                let notification = Notification::Cease(CeaseSubcode::AdminShutdown, None);
                match number() % 4 {
                    0 => outside.tell(Event::Stop { notification: Some(notification) }),
                    1 => outside.tell(Event::BfdDown),
                    2 => outside.tell(Event::Reset { notification }),
                    _ => outside.tell(Event::Queued { bytes: 100 }),
                }
            }
            8 => {
                let at = number();
                outside.hear(pick(&outside.open, at), &Encoder::open(&peer));
            }
            _ => {
                let at = number();
                outside.hear(pick(&outside.open, at), &Encoder::keepalive());
            }
        }
    }
}
