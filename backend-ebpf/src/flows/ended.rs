//! Connections that are over, as events: why, and what passed. Pure: never asks what is in a map.

use super::{address, decided_in};
use crate::engine::OwnEpoch;
use crate::policy::RuleNames;
use backend_ebpf_abi::{Connection, ConnectionKey, Count, Ended as Replaced, Judged, OF_NODE, Tracked};
use cni_core::flow::{Ended as Record, Ending, Event, Icmp, Packet, Traffic, Verdict};
use cni_core::policy::model::{Direction, Protocol};
use std::sync::Arc;

/// What echo requests have as their type: RFC 792, and RFC 4443, section 4.1.
const ECHO: u8 = 8;
const ECHO_V6: u8 = 128;

/// A connection that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub(super) key: ConnectionKey,
    tracked: Tracked,
    why: Ending,
}

/// One that was found to be over.
pub(super) fn swept(key: ConnectionKey, tracked: Tracked, endpoint_gone: bool) -> Ended {
    let why = match why(tracked.connection) {
        None if endpoint_gone => Ending::EndpointGone,
        closed => closed.unwrap_or(Ending::TimedOut),
    };
    Ended { key, tracked, why }
}

/// One whose entry another one took.
pub(super) fn taken_place_of(&Replaced { key, tracked, .. }: &Replaced) -> Ended {
    let half = tracked.connection.is_closing();
    let why = why(tracked.connection).unwrap_or(if half { Ending::Replaced } else { Ending::TimedOut });
    Ended { key, tracked, why }
}

/// What its ends said; `None`: nothing, or one of them.
fn why(connection: Connection) -> Option<Ending> {
    let both = Connection::FIN | Connection::ANSWER_FIN;
    if connection.state & Connection::RESET != 0 {
        Some(Ending::Reset)
    } else {
        (connection.state & both == both).then_some(Ending::Closed)
    }
}

/// The index of the interface that its packets passed, where it is known.
pub(super) fn interface(key: &ConnectionKey) -> Option<u32> {
    Some(key.interface & !OF_NODE).filter(|index| *index != 0)
}

/// `None`: nobody was told that it began.
pub(super) fn event_of(
    &Ended { key, tracked, why }: &Ended,
    rules: &RuleNames,
    own_epoch: &OwnEpoch,
    interface: Option<Arc<str>>,
    offset_ns: i128,
) -> Option<Event> {
    let connection = tracked.connection;
    let Judged(judged) = connection.judged;
    if connection.judged == Judged::NEVER {
        return None;
    }
    let by_pod = key.protocol & ConnectionKey::BY_POD != 0;
    let own = if by_pod { Direction::Egress } else { Direction::Ingress };
    let by = decided_in(rules, own_epoch, (judged >> 32) as u32, judged as u32, own);
    let (sent, received) = (traffic(tracked.sent), traffic(tracked.received));
    // Its first packet has a record of its own.
    let opening = (tracked.opening_bytes != 0).into();
    let packets = (sent.packets + received.packets).saturating_sub(opening);
    let bytes = (sent.bytes + received.bytes).saturating_sub(tracked.opening_bytes.into());
    // A pod sends into the host's end of its veth; the node sends out at an interface.
    let comes_in = by_pod != (key.interface & OF_NODE != 0);
    let (input, output) = if comes_in { (interface, None) } else { (None, interface) };
    let time = (i128::from(connection.seen_seconds) * 1_000_000_000 + offset_ns) / 1000;
    Some(Event {
        time_unix_us: u64::try_from(time).ok(),
        direction: Some(own),
        verdict: Verdict::Allowed,
        reason: None,
        packet: Some(packet(&key, by_pod, tracked.opening_bytes)),
        input,
        output,
        identities: [None, None],
        by,
        translated: None,
        sampled: None,
        ended: Some(Record {
            why,
            seconds: connection.seen_seconds.saturating_sub(connection.opened_seconds),
            sent,
            received,
        }),
        packets,
        bytes,
    })
}

const fn traffic(Count { packets, bytes }: Count) -> Traffic {
    Traffic { packets, bytes }
}

/// What its first packet was like.
fn packet(key: &ConnectionKey, by_pod: bool, bytes: u32) -> Packet {
    // The lower byte; above it is who began.
    let protocol = Protocol(key.protocol.to_le_bytes()[0]);
    // A packet of IPv6 has no mapped address: RFC 4291, section 2.5.5.2.
    let v4 = protocol != Protocol::ICMPV6;
    let own = (address(key.own, v4), key.own_port);
    let other = (address(key.other, v4), key.other_port);
    let (source, destination) = if by_pod { (own, other) } else { (other, own) };
    let echo = match protocol {
        Protocol::ICMP => Some(ECHO),
        Protocol::ICMPV6 => Some(ECHO_V6),
        _ => None,
    };
    Packet {
        source: source.0,
        destination: destination.0,
        protocol,
        ports: protocol.has_ports().then_some((source.1, destination.1)),
        icmp: echo.map(|kind| Icmp { kind, code: 0 }),
        tcp_flags: None,
        bytes: bytes.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backend_ebpf_abi::mapped;
    use proptest::prelude::*;

    fn key(protocol: u32) -> ConnectionKey {
        let (own, other) = (mapped([10, 0, 0, 1]), mapped([192, 0, 2, 1]));
        ConnectionKey { interface: 7, own, other, own_port: 80, other_port: 40_000, protocol }
    }

    fn tracked(state: u32) -> Tracked {
        let connection = Connection { judged: Judged::new(5, 1 << 31), ..Connection::seen(100, state) };
        Tracked::opened(connection, 60)
    }

    fn told(over: &Ended, own_epoch: &OwnEpoch) -> Option<Event> {
        event_of(over, &RuleNames::default(), own_epoch, Some("cni7".into()), 0)
    }

    #[test]
    fn why_it_is_over_follows_from_what_its_ends_said() {
        let (fin, answer, reset) = (Connection::FIN, Connection::ANSWER_FIN, Connection::RESET);
        for (state, gone, why) in [
            (0, false, Ending::TimedOut),
            (fin, false, Ending::TimedOut),
            (fin | answer, false, Ending::Closed),
            (fin | reset, false, Ending::Reset),
            (0, true, Ending::EndpointGone),
            (fin | answer, true, Ending::Closed),
        ] {
            assert_eq!(swept(key(6), tracked(state), gone).why, why, "{state} {gone}");
        }
        let replaced = |state| taken_place_of(&Replaced { key: key(6), unused: 0, tracked: tracked(state) }).why;
        let all = [0, fin, fin | answer, reset].map(replaced);
        assert_eq!(all, [Ending::TimedOut, Ending::Replaced, Ending::Closed, Ending::Reset]);
    }

    #[test]
    fn who_began_is_the_source_and_the_direction_is_that_of_the_end_that_decided() {
        for (protocol, direction, source, port) in [
            (6, Direction::Ingress, "192.0.2.1", 40_000),
            (6 | ConnectionKey::BY_POD, Direction::Egress, "10.0.0.1", 80),
        ] {
            let event = told(&swept(key(protocol), tracked(0), false), &OwnEpoch::all()).unwrap();
            let packet = event.packet.unwrap();
            assert_eq!((event.direction, packet.source.to_string()), (Some(direction), source.to_owned()));
            assert_eq!(packet.ports.unwrap().0, port);
            let ends = [event.input, event.output].map(|end| end.is_some());
            assert_eq!(ends, [direction == Direction::Egress, direction == Direction::Ingress]);
        }
    }

    #[test]
    fn of_what_was_never_told_to_begin_no_end_is_told() {
        let connection = Connection { judged: Judged::NEVER, ..tracked(0).connection };
        let over = swept(key(6), Tracked { connection, ..tracked(0) }, false);
        assert_eq!(told(&over, &OwnEpoch::all()), None);
    }

    #[test]
    fn numbers_of_a_predecessors_rules_are_not_taken_for_ours() {
        let since = |epoch| {
            let own_epoch = OwnEpoch::all();
            own_epoch.set(epoch);
            told(&swept(key(6), tracked(0), false), &own_epoch).unwrap().by.rule.to_string()
        };
        assert_eq!([since(5), since(6)], ["no tier decides", "decided before this agent was started"]);
    }

    proptest! {
        /// The first packet is in the record of the decision, all others in this one.
        #[test]
        fn each_packet_is_in_one_record(
            sent in 1_u64..1 << 40, received in 0_u64..1 << 40, opening in 20_u32..65_536, counted: bool,
        ) {
            let first = if counted { opening } else { 0 };
            let mut over = tracked(0);
            over.opening_bytes = first;
            over.sent = Count { packets: sent, bytes: u64::from(opening) + sent };
            over.received = Count { packets: received, bytes: received * 40 };
            let event = told(&swept(key(17), over, false), &OwnEpoch::all()).unwrap();
            let ended = event.ended.unwrap();
            prop_assert_eq!(event.packets + u64::from(counted), ended.sent.packets + ended.received.packets);
            prop_assert_eq!(event.bytes + u64::from(first), ended.sent.bytes + ended.received.bytes);
        }
    }
}
