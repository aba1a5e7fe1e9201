//! Layouts byte for byte: a change here is a change of the part's version (`VERSION`, `FORWARD_VERSION`, ..). Never a behaviour.

use backend_ebpf_abi::{
    AddressKey, Affinity, AffinityKey, Coming, Connection, ConnectionKey, Count, Ended, Endpoint, EndpointKey,
    FlowEvent, FlowsWanted, Fragment, FragmentKey, Frontend, FrontendKey, Leaving, Lengths, MAGLEV_ENTRIES,
    MaglevTable, Masquerading, MemberKey, PeerClass, PeerKey, Pod, ProgramRef, RANGE_BITS, RangeKey, Reason,
    ReverseKey, Settings, SlotKey, Target, Tracked, Tuple, Verdict, VerdictKey, Way, WayKey, mapped, source_key,
    traffic_key,
};
use std::mem::{align_of, offset_of, size_of};

/// No padding: the fields fill the type.
macro_rules! layout {
    ($type:ty, $size:expr, { $($field:ident: $offset:expr, $bytes:expr);+ $(;)? }) => {
        assert_eq!(size_of::<$type>(), $size, stringify!($type));
        assert!(align_of::<$type>() <= 8, stringify!($type));
        let mut next = 0;
        $(
            assert_eq!(offset_of!($type, $field), $offset, stringify!($type.$field));
            assert_eq!(offset_of!($type, $field), next, "a hole before {}", stringify!($type.$field));
            next += $bytes;
        )+
        assert_eq!(next, $size, "a hole at the end of {}", stringify!($type));
    };
}

#[test]
fn keys_and_values_have_these_bytes_and_no_padding() {
    layout!(EndpointKey, 20, { interface: 0, 4; address: 4, 16 });
    layout!(Verdict, 8, { enforced: 0, 4; staged: 4, 4 });
    layout!(ProgramRef, 16, { program: 0, 4; flags: 4, 4; default: 8, 8 });
    layout!(Endpoint, 36, { id: 0, 4; ingress: 4, 16; egress: 20, 16 });
    layout!(PeerKey, 8, { program: 0, 4; identity: 4, 4 });
    layout!(PeerClass, 12, { class: 0, 4; default: 4, 8 });
    layout!(VerdictKey, 12, { program: 0, 4; peer: 4, 4; traffic: 8, 2; source: 10, 2 });
    layout!(ConnectionKey, 44, {
        interface: 0, 4; own: 4, 16; other: 20, 16; own_port: 36, 2; other_port: 38, 2; protocol: 40, 4
    });
    layout!(Connection, 24, { seen_seconds: 0, 4; state: 4, 4; judged: 8, 8; staged: 16, 4; opened_seconds: 20, 4 });
    layout!(Count, 16, { packets: 0, 8; bytes: 8, 8 });
    layout!(Tracked, 64, { connection: 0, 24; sent: 24, 16; received: 40, 16; opening_bytes: 56, 4; unused: 60, 4 });
    layout!(Ended, 112, { key: 0, 44; unused: 44, 4; tracked: 48, 64 });
    layout!(FlowsWanted, 12, { decisions: 0, 4; one_of: 4, 4; at_most: 8, 4 });
    layout!(FragmentKey, 44, { source: 0, 16; destination: 16, 16; id: 32, 4; interface: 36, 4; protocol: 40, 4 });
    layout!(Settings, 36, { version: 0, 4; local: 4, 16; vni: 20, 4; tunnel: 24, 4; underlay: 28, 4; flags: 32, 4 });
    layout!(Way, 20, { node: 0, 16; kind: 16, 4 });
    layout!(WayKey, 20, { bits: 0, 4; address: 4, 16 });
    layout!(Lengths, 256, { shorter: 0, 256 });
    layout!(Pod, 16, { interface: 0, 4; addresses: 4, 12 });
    layout!(FlowEvent, 80, {
        time_ns: 0, 8; source: 8, 16; destination: 24, 16; interface: 40, 4; reason: 44, 4; enforced: 48, 4; staged: 52, 4;
        identity: 56, 4; bytes: 60, 4; source_port: 64, 2; detail: 66, 2; protocol: 68, 1; flags: 69, 1; v4: 70, 1;
        marks: 71, 1; one_of: 72, 4; epoch: 76, 4
    });
    layout!(Masquerading, 56, {
        version: 0, 4; handed_over_seconds: 4, 4; v4: 8, 16; v6: 24, 16; salt: 40, 8; first_port: 48, 2; ports: 50, 2;
        unused: 52, 4
    });
    layout!(Tuple, 40, { own: 0, 16; other: 16, 16; own_port: 32, 2; other_port: 34, 2; protocol: 36, 4 });
    layout!(Leaving, 16, { life: 0, 8; port: 8, 2; flags: 10, 2; unused: 12, 4 });
    layout!(Coming, 32, { own: 0, 16; life: 16, 8; own_port: 24, 2; unused: 26, 6 });
    layout!(Fragment, 8, { detail: 0, 2; source_port: 2, 2; protocol: 4, 4 });
}

#[test]
fn keys_and_values_of_services_have_these_bytes_and_no_padding() {
    layout!(FrontendKey, 20, { address: 0, 16; port: 16, 2; protocol: 18, 2 });
    layout!(Frontend, 20, { count: 0, 4; affinity_seconds: 4, 4; choice: 8, 4; turn: 12, 4; limited: 16, 4 });
    layout!(SlotKey, 24, { frontend: 0, 20; slot: 20, 4 });
    layout!(Target, 20, { address: 0, 16; port: 16, 2; unused: 18, 2 });
    layout!(MemberKey, 40, { frontend: 0, 20; backend: 20, 20 });
    layout!(AffinityKey, 32, { client: 0, 8; frontend: 8, 20; unused: 28, 4 });
    layout!(Affinity, 24, { backend: 0, 20; seen_seconds: 20, 4 });
    layout!(RangeKey, 36, { frontend: 0, 20; client: 20, 16 });
    layout!(AddressKey, 16, { client: 0, 8; version: 8, 4; unused: 12, 4 });
    layout!(ReverseKey, 32, { socket: 0, 8; backend: 8, 20; protocol: 28, 4 });
    assert_eq!(offset_of!(RangeKey, client) * 8, RANGE_BITS as usize);
    assert_eq!(size_of::<MaglevTable>(), 2048);
    assert!(MAGLEV_ENTRIES <= 1024 && !(2..32).any(|divisor| MAGLEV_ENTRIES.is_multiple_of(divisor)), "a prime");
}

#[test]
fn keys_of_tries_are_in_network_order() {
    assert_eq!(traffic_key(0x0102_0304, 6, 0x1f90), [1, 2, 3, 4, 6, 0x1f, 0x90]);
    assert_eq!(source_key(0x0102_0304, 53), [1, 2, 3, 4, 0, 53]);
    assert_eq!(mapped([192, 0, 2, 1]), "::ffff:192.0.2.1".parse::<std::net::Ipv6Addr>().unwrap().octets());
}

/// Each field from its own place: no byte stands for two.
#[test]
fn an_event_is_read_from_its_bytes() {
    let bytes: Vec<u8> = (0..80).collect();
    let event = FlowEvent::read(&bytes).unwrap();
    assert_eq!(event.time_ns.to_ne_bytes(), bytes[..8]);
    assert_eq!((&event.source[..], &event.destination[..]), (&bytes[8..24], &bytes[24..40]));
    let words = [event.interface, event.reason, event.enforced, event.staged, event.identity, event.bytes];
    assert_eq!(words.map(u32::to_ne_bytes).concat(), bytes[40..64]);
    assert_eq!([event.source_port, event.detail].map(u16::to_ne_bytes).concat(), bytes[64..68]);
    assert_eq!([event.protocol, event.flags, event.v4, event.marks], bytes[68..72]);
    assert_eq!([event.one_of, event.epoch].map(u32::to_ne_bytes).concat(), bytes[72..80]);
    assert_eq!((FlowEvent::read(&bytes[1..]), FlowEvent::read(&[0; 81])), (None, None));
}

#[test]
fn the_end_of_a_connection_is_read_from_its_bytes() {
    let bytes: Vec<u8> = (0..112).collect();
    let Ended { key, tracked, .. } = Ended::read(&bytes).unwrap();
    assert_eq!([key.interface, key.protocol].map(u32::to_ne_bytes), [[0, 1, 2, 3], [40, 41, 42, 43]]);
    assert_eq!((&key.own[..], &key.other[..]), (&bytes[4..20], &bytes[20..36]));
    assert_eq!([key.own_port, key.other_port].map(u16::to_ne_bytes).concat(), bytes[36..40]);
    let Connection { seen_seconds, state, judged, staged, opened_seconds } = tracked.connection;
    assert_eq!([seen_seconds, state].map(u32::to_ne_bytes).concat(), bytes[48..56]);
    assert_eq!((judged.0.to_ne_bytes(), [staged, opened_seconds].map(u32::to_ne_bytes).concat()), {
        let eight: [u8; 8] = bytes[56..64].try_into().unwrap();
        (eight, bytes[64..72].to_vec())
    });
    let counts = [tracked.sent, tracked.received].map(|count| [count.packets, count.bytes]);
    assert_eq!(counts.concat().into_iter().flat_map(u64::to_ne_bytes).collect::<Vec<_>>(), bytes[72..104]);
    assert_eq!(tracked.opening_bytes.to_ne_bytes(), bytes[104..108]);
    assert_eq!((Ended::read(&bytes[1..]), Ended::read(&[0; 113])), (None, None));
}

#[test]
fn of_so_many_packets_one_is_chosen() {
    for one_of in [1, 2, 3, 1000, u32::MAX] {
        let wanted = FlowsWanted::of(FlowsWanted::DENIED).sampled(std::num::NonZeroU32::new(one_of));
        let chosen = (f64::from(wanted.at_most) + 1.0) / f64::from(u32::MAX);
        assert!((chosen * f64::from(one_of) - 1.0).abs() < 1e-6 || one_of == u32::MAX, "one of {one_of}: {chosen}");
        assert_eq!(wanted.one_of, one_of);
    }
    assert_eq!(FlowsWanted::of(1).sampled(None), FlowsWanted::of(1));
}

#[test]
fn a_reason_is_its_number() {
    for number in 0..Reason::COUNT {
        assert_eq!(Reason::of(number).map(|reason| reason as u32), Some(number));
    }
    assert_eq!(Reason::of(Reason::COUNT), None);
}

#[test]
fn a_connection_lives_longer_when_it_was_answered_and_shortly_when_it_is_closed() {
    let alive = |protocol, state, after: u32| Connection::seen(100, state).is_alive(protocol, 100 + after);
    let (answered, closed) = (Connection::ANSWERED, Connection::FIN | Connection::ANSWER_FIN);
    assert!(alive(6, 0, 60) && !alive(6, 0, 61));
    assert!(alive(6, answered, 7200) && !alive(6, answered, 8001));
    assert!(alive(6, answered | Connection::FIN, 7200), "half of it is closed");
    assert!(alive(6, answered | closed, 10) && !alive(6, answered | closed, 11));
    assert!(!alive(6, answered | Connection::RESET, 11));
    assert!(alive(17, 0, 30) && !alive(17, 0, 31) && alive(17, answered, 180));
    assert!(!Connection::seen(u32::MAX, 0).is_alive(17, 40), "also when the seconds wrap");
}
