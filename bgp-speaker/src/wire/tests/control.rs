//! Messages without routes, and headers that cannot be.

use super::{decode_one, external, hex, message};
use crate::types::{
    AddPathMode, Asn, Capabilities, CeaseSubcode, Family, GracefulRestart, HeaderSubcode, LongLivedFamily, Message,
    Notification, Open, OpenSubcode, Refresh, RefreshKind, RefreshSubcode, RestartFamily, Role, RouterId,
};
use crate::wire::{Decoder, Encoder, Options};
use bytes::Bytes;

fn open() -> Open {
    Open {
        asn: 23_456,
        hold_time_seconds: 90,
        id: RouterId::new([192, 0, 2, 1].into()).unwrap(),
        capabilities: Capabilities {
            families: Family::ALL.into(),
            asn: Asn::new(4_200_000_000),
            route_refresh: true,
            enhanced_route_refresh: true,
            extended_message: true,
            extended_next_hop: [Family::Ipv4].into(),
            add_path: [(Family::Ipv4, AddPathMode::Both)].into(),
            graceful_restart: Some(GracefulRestart {
                restarting: true,
                notification: true,
                restart_time_seconds: 120,
                families: vec![RestartFamily { family: Family::Ipv6, forwarding_kept: true }],
            }),
            long_lived: vec![LongLivedFamily {
                family: Family::Ipv4,
                forwarding_kept: false,
                stale_time_seconds: 0x01_0203,
            }],
            role: Some(Role::Customer),
            unknown: Vec::new(),
        },
    }
}

/// RFC 4271, section 4.2; RFC 5492, section 4, with capabilities 1, 2, 5, 6, 9, 64, 65, 69, 70, 71 in that order.
const OPEN: &str =
    "04 5ba0 005a c0000201 3c 02 3a 0104 0001 00 01 0104 0002 00 01 0200 0506 0001 0001 0002 0600 0901 03
    4006 c078 0002 01 80 4104 fa56ea00 4504 0001 01 03 4600 4707 0001 01 00 010203";

#[test]
fn an_open_stands_as_its_rfcs_say() {
    assert_eq!(Encoder::open(&open()), message(1, &hex(OPEN)));
    assert_eq!(decode_one(&message(1, &hex(OPEN)), Options::before_open()), Ok(Message::Open(open())));
}

/// RFC 5492, section 4: one parameter each, or all in one; RFC 9072: lengths of two bytes.
#[test]
fn capabilities_may_be_spread_and_lengths_may_be_long() {
    let plain = Capabilities { families: [Family::Ipv4].into(), route_refresh: true, ..Capabilities::default() };
    let spread = "04 fde9 005a c0000201 0c 0206 0104 0001 00 01 0202 0200";
    let long = "04 fde9 005a c0000201 ff ff 000b 02 0008 0104 0001 00 01 0200";
    for body in [spread, long] {
        let Ok(Message::Open(open)) = decode_one(&message(1, &hex(body)), Options::before_open()) else {
            panic!("{body}")
        };
        assert_eq!(open.capabilities, plain, "{body}");
    }
}

/// RFC 5492, section 3: what is unknown or malformed says nothing. 64 of one byte, 128, and a role that there is not.
#[test]
fn a_capability_that_cannot_be_read_is_as_good_as_none() {
    let body = hex("04 fde9 005a c0000201 0c 02 0a 4001 00 8002 abcd 0901 63");
    let Ok(Message::Open(open)) = decode_one(&message(1, &body), Options::before_open()) else { panic!() };
    assert_eq!(open.capabilities, Capabilities { unknown: vec![64, 128, 9], ..Capabilities::default() });
}

/// RFC 4271, section 6.2.
#[test]
fn an_open_that_cannot_be_is_refused_with_its_subcode() {
    for (body, subcode, data) in [
        ("03 fde9 005a c0000201 00", OpenSubcode::UnsupportedVersion, "0004"),
        ("04 fde9 005a 00000000 00", OpenSubcode::BadIdentifier, ""),
        ("04 fde9 005a c0000201 03 010100", OpenSubcode::UnsupportedParameter, ""),
        ("04 fde9 005a c0000201 03 0202 02", OpenSubcode::Other(0), ""),
        ("04 fde9 005a c0000201 04 0202 0201", OpenSubcode::Other(0), ""),
        ("04 fde9 005a c0000201 05 0202 0200", OpenSubcode::Other(0), ""),
    ] {
        let expected = Err(Notification::Open(subcode, hex(data).into()));
        assert_eq!(decode_one(&message(1, &hex(body)), Options::before_open()), expected, "{body}");
    }
}

/// RFC 4271, section 6.1; RFC 8654, section 4.
#[test]
fn a_header_that_cannot_be_is_refused_with_its_subcode() {
    let with = |kind: u8, length: u16| {
        let mut bytes = message(kind, &[]);
        bytes[16..18].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let refused = |bytes: Vec<u8>, options: Options| match Decoder::new(options).next(&mut &bytes[..]) {
        Err(Notification::Header(subcode, data)) => Some((subcode, data.to_vec())),
        _ => None,
    };
    let length = |length: u16| Some((HeaderSubcode::BadLength, length.to_be_bytes().to_vec()));
    for (kind, bytes) in [(1, 28), (1, 4097), (2, 22), (2, 4097), (3, 20), (4, 20), (4, 18), (5, 22)] {
        assert_eq!(refused(with(kind, bytes), external()), length(bytes), "type {kind}, {bytes} bytes");
    }
    for kind in [0, 6, 255] {
        assert_eq!(refused(with(kind, 23), external()), Some((HeaderSubcode::BadType, vec![kind])));
    }
    let mut marker = message(4, &[]);
    marker[3] = 0;
    assert_eq!(refused(marker, external()), Some((HeaderSubcode::NotSynchronized, Vec::new())));
    let long = Options { max_message_bytes: 65_535, ..external() };
    assert_eq!(refused(with(2, 4097), long.clone()), None);
    assert_eq!(refused(with(1, 4097), long), length(4097), "an OPEN never");
}

/// RFC 9003, section 2: subcodes 2 and 4, a byte of length, UTF-8; RFC 8538, section 3.1 for what is inside a hard reset.
#[test]
fn a_shutdown_has_a_text() {
    let shutdown = |subcode, text: &str| Notification::Cease(subcode, Some(text.to_owned()));
    for (body, notification) in [
        ("0602 03 627965", shutdown(CeaseSubcode::AdminShutdown, "bye")),
        ("0604 03 627965", shutdown(CeaseSubcode::AdminReset, "bye")),
        ("0609 0602 03 627965", Notification::HardReset(Box::new(shutdown(CeaseSubcode::AdminShutdown, "bye")))),
        ("0609 0601", Notification::HardReset(Box::new(Notification::Cease(CeaseSubcode::MaxPrefixes, None)))),
        ("0609", Notification::Cease(CeaseSubcode::HardReset, None)),
        ("0602", Notification::Cease(CeaseSubcode::AdminShutdown, None)),
        ("060a", Notification::Cease(CeaseSubcode::BfdDown, None)),
        ("0400", Notification::HoldTimerExpired),
        ("0800", Notification::SendHoldTimerExpired),
        ("0102 1234", Notification::Header(HeaderSubcode::BadLength, Bytes::from_static(&[0x12, 0x34]))),
        ("6301 ab", Notification::Other { code: 99, subcode: 1, data: Bytes::from_static(&[0xab]) }),
    ] {
        let bytes = message(3, &hex(body));
        assert_eq!(Encoder::notification(&notification), bytes, "{notification}");
        assert_eq!(decode_one(&bytes, external()), Ok(Message::Notification(notification)));
    }
    let nested = message(3, &hex(&"0609".repeat(2000)));
    let hard = Notification::Cease(CeaseSubcode::HardReset, None);
    assert_eq!(decode_one(&nested, external()), Ok(Message::Notification(hard)));
    // Longer than it is, and no UTF-8: no text, and no reason to fail.
    for body in ["0602 04 627965", "0602 01 ff"] {
        let none = Notification::Cease(CeaseSubcode::AdminShutdown, None);
        assert_eq!(decode_one(&message(3, &hex(body)), external()), Ok(Message::Notification(none)));
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_between_characters() {
    let long = Notification::Cease(CeaseSubcode::AdminShutdown, Some("ü".repeat(200)));
    let bytes = Encoder::notification(&long);
    let read = Notification::Cease(CeaseSubcode::AdminShutdown, Some("ü".repeat(127)));
    assert_eq!(decode_one(&bytes, external()), Ok(Message::Notification(read)));
}

/// RFC 2918, section 3; RFC 7313, sections 3.2 and 5.
#[test]
fn a_refresh_names_its_family_and_where_it_stands() {
    for (body, family, kind) in [
        ("0001 00 01", Family::Ipv4, RefreshKind::Request),
        ("0002 01 01", Family::Ipv6, RefreshKind::Begin),
        ("0002 02 01", Family::Ipv6, RefreshKind::End),
    ] {
        let bytes = message(5, &hex(body));
        assert_eq!(Encoder::refresh(Refresh { family, kind }), bytes);
        assert_eq!(decode_one(&bytes, external()), Ok(Message::RouteRefresh(Refresh { family, kind })));
    }
    // Another family, an unknown subtype: passed over, and the KEEPALIVE behind them is read.
    for body in ["0019 00 46", "0001 63 01"] {
        let bytes = [message(5, &hex(body)), Encoder::keepalive().to_vec()].concat();
        assert_eq!(decode_one(&bytes, external()), Ok(Message::Keepalive));
    }
    let long = message(5, &hex("0001 01 01 00"));
    let expected = Notification::Refresh(RefreshSubcode::BadLength, long.clone().into());
    assert_eq!(decode_one(&long, external()), Err(expected));
}
