//! The laws of records, filters, rings, and of reading headers.

use super::*;
use crate::policy::model::{Direction, Protocol};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

fn sample() -> Flow {
    let label = BTreeMap::from([(Arc::from("app"), Arc::from("web"))]);
    let end = |address: &str, port, name: &str| End {
        address: Some(address.parse().unwrap()),
        port: Some(port),
        kind: Some(Kind::Pod),
        namespace: Some("shop".into()),
        name: Some(name.into()),
        labels: Arc::new(label.clone()),
        identity: None,
    };
    Flow {
        time_unix_us: 1_795_000_000_123_456,
        node: "n1".into(),
        direction: Some(Direction::Ingress),
        verdict: Verdict::Denied,
        reason: Some(Reason::Rule),
        source: end("10.42.0.7", 40_000, "load"),
        destination: end("10.42.0.9", 80, "web"),
        protocol: Some(Protocol::TCP),
        icmp: None,
        tcp_flags: Some(TcpFlags(2)),
        by: By {
            tier: Some("default".into()),
            policy: Some("NetworkPolicy shop/web".into()),
            rule: "spec.ingress[0]".into(),
        },
        translated: None,
        ended: None,
        sampled: None,
        packets: 1,
        bytes: 60,
    }
}

/// The form of docs/formats/flow.md.
#[test]
fn the_json_form_of_a_record_stays_what_it_is() {
    let form = json!({
        "timeUnixUs": 1_795_000_000_123_456_u64, "node": "n1", "direction": "ingress", "verdict": "denied", "reason": "rule",
        "source": {"address": "10.42.0.7", "port": 40_000, "kind": "pod", "namespace": "shop", "name": "load",
            "labels": {"app": "web"}},
        "destination": {"address": "10.42.0.9", "port": 80, "kind": "pod", "namespace": "shop", "name": "web",
            "labels": {"app": "web"}},
        "protocol": "TCP", "tcpFlags": ["syn"],
        "by": {"tier": "default", "policy": "NetworkPolicy shop/web", "rule": "spec.ingress[0]"},
        "packets": 1, "bytes": 60,
    });
    assert_eq!(serde_json::to_value(sample()).unwrap(), form);
    assert_eq!(serde_json::from_value::<Flow>(form).unwrap(), sample());
}

/// As docs/formats/flow.md has it.
#[test]
fn the_json_form_of_the_end_of_a_connection_stays_what_it_is() {
    let traffic = |packets, bytes| Traffic { packets, bytes };
    let ended = Ended { why: Ending::TimedOut, seconds: 31, sent: traffic(5, 400), received: traffic(4, 1000) };
    let flow = Flow { verdict: Verdict::Allowed, reason: None, ended: Some(ended), ..sample() };
    let form = serde_json::to_value(&flow).unwrap();
    let ended = json!({"why": "timed-out", "seconds": 31, "sent": {"packets": 5, "bytes": 400},
        "received": {"packets": 4, "bytes": 1000}});
    assert_eq!(form["ended"], ended);
    assert_eq!(serde_json::from_value::<Flow>(form).unwrap(), flow);
}

#[test]
fn only_decisions_are_counted_and_what_passed_in_a_connection_is_added_when_it_is_over() {
    let ended = Ended { why: Ending::Closed, seconds: 1, sent: Traffic::default(), received: Traffic::default() };
    let over = Flow { ended: Some(ended), packets: 7, bytes: 700, ..sample() };
    let chosen = Flow { sampled: Some(100), ..sample() };
    let (mut summary, mut tally) = (Summary::default(), Tally::default());
    for flow in [sample(), chosen, over] {
        summary.add(&flow);
        tally.add(&flow);
    }
    let pairs = summary.by_volume();
    let volumes: Vec<_> = pairs.iter().map(|(_, volume)| (volume.flows, volume.packets, volume.bytes)).collect();
    assert_eq!(volumes, [(1, 8, 760), (0, 1, 60)], "what was chosen by chance stands apart");
    assert_eq!(tally.flows.into_values().collect::<Vec<_>>(), [1]);
}

#[test]
fn words_are_the_same_everywhere_and_a_newer_reason_is_read() {
    for verdict in Verdict::ALL {
        assert_eq!(serde_json::to_value(verdict).unwrap(), json!(verdict.as_str()));
    }
    for reason in Reason::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), json!(reason.as_str()));
        assert_eq!(serde_json::from_value::<Reason>(json!(reason.as_str())).unwrap(), reason);
    }
    assert_eq!(serde_json::from_value::<Reason>(json!("eaten-by-a-grue")).unwrap(), Reason::Other);
    for ending in Ending::ALL {
        assert_eq!(serde_json::to_value(ending).unwrap(), json!(ending.as_str()));
        assert_eq!(serde_json::from_value::<Ending>(json!(ending.as_str())).unwrap(), ending);
    }
    assert_eq!(serde_json::from_value::<Ending>(json!("eaten-by-a-grue")).unwrap(), Ending::Other);
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0_u8..3).prop_map(|last| IpAddr::from([10, 42, 0, last])),
        (0_u16..3).prop_map(|last| IpAddr::from([0xfd42, 0, 0, 0, 0, 0, 0, last])),
    ]
}

fn word() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![Just("web"), Just("shop"), Just("n1")].prop_map(Arc::from)
}

fn end() -> impl Strategy<Value = End> {
    let kind = prop_oneof![Just(Kind::Pod), Just(Kind::Node), Just(Kind::Container)];
    let labels = proptest::collection::btree_map(word(), word(), 0..2).prop_map(Arc::new);
    let option = proptest::option::of::<BoxedStrategy<Arc<str>>>;
    let (namespace, name) = (option(word().boxed()), option(word().boxed()));
    let numbers = (proptest::option::of(78_u16..82), proptest::option::of(0_u32..3));
    (proptest::option::of(address()), proptest::option::of(kind), namespace, name, labels, numbers).prop_map(
        |(address, kind, namespace, name, labels, (port, identity))| End {
            address,
            port,
            kind,
            namespace,
            name,
            labels,
            identity,
        },
    )
}

fn flow() -> impl Strategy<Value = Flow> {
    let reason =
        prop_oneof![Just(Reason::Rule), Just(Reason::EndOfTier), Just(Reason::SpoofedSource), Just(Reason::Other)];
    let verdict = proptest::sample::select(Verdict::ALL.to_vec());
    let direction = proptest::option::of(prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)]);
    let icmp = proptest::option::of((any::<u8>(), any::<u8>()).prop_map(|(kind, code)| Icmp { kind, code }));
    let flags = proptest::option::of(any::<u8>().prop_map(TcpFlags));
    let translated = proptest::option::of(
        (proptest::option::of(word()), address(), any::<u16>()).prop_map(|(service, address, port)| Translated {
            service,
            address,
            port,
        }),
    );
    let by = (proptest::option::of(word()), proptest::option::of(word()), word()).prop_map(|(tier, policy, rule)| By {
        tier,
        policy,
        rule,
    });
    let decided = (direction, verdict, proptest::option::of(reason), by);
    let traffic = || (any::<u64>(), any::<u64>()).prop_map(|(packets, bytes)| Traffic { packets, bytes });
    let ending = proptest::sample::select(Ending::ALL.to_vec());
    let ended = (ending, any::<u32>(), traffic(), traffic()).prop_map(|(why, seconds, sent, received)| Ended {
        why,
        seconds,
        sent,
        received,
    });
    let more = (proptest::option::of(ended), proptest::option::of(any::<u32>()));
    let seen = (proptest::option::of(any::<u8>().prop_map(Protocol)), icmp, flags, translated, more);
    (any::<u64>(), word(), decided, end(), end(), seen, (any::<u32>(), any::<u32>())).prop_map(
        |(time_unix_us, node, decided, source, destination, seen, (packets, bytes))| {
            let (direction, verdict, reason, by) = decided;
            let (protocol, icmp, tcp_flags, translated, (ended, sampled)) = seen;
            let (packets, bytes) = (packets.into(), bytes.into());
            Flow {
                time_unix_us,
                node,
                direction,
                verdict,
                reason,
                source,
                destination,
                protocol,
                icmp,
                tcp_flags,
                by,
                translated,
                ended,
                sampled,
                packets,
                bytes,
            }
        },
    )
}

fn end_filter() -> impl Strategy<Value = EndFilter> {
    let option = proptest::option::of::<BoxedStrategy<Arc<str>>>;
    prop_oneof![
        (word(), option(word().boxed()))
            .prop_map(|(namespace, name)| EndFilter::Pod { namespace: Some(namespace), name }),
        word().prop_map(|name| EndFilter::Pod { namespace: None, name: Some(name) }),
        word().prop_map(EndFilter::Node),
        (address(), 0_u8..=32)
            .prop_map(|(address, length)| { EndFilter::Network(ipnet::IpNet::new(address, length).unwrap().trunc()) }),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    fn few<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
        proptest::collection::vec(strategy, 0..2)
    }
    let verdict = proptest::sample::select(Verdict::ALL.to_vec());
    let direction = prop_oneof![Just(Direction::Ingress), Just(Direction::Egress)];
    let numbers = (few(any::<u8>()), few(78_u16..82));
    (few(end_filter()), few(end_filter()), few(word()), few(verdict), few(Just(Reason::Rule)), few(direction), numbers)
        .prop_map(|(from, to, namespaces, verdicts, reasons, directions, (protocols, ports))| Filter {
            from,
            to,
            namespaces,
            verdicts,
            reasons,
            directions,
            protocols,
            ports,
        })
}

/// What happens to a ring.
#[derive(Debug, Clone)]
enum Happening {
    Push,
    Lose(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![3 => Just(Happening::Push), 1 => (0_u64..5).prop_map(Happening::Lose)]
}

/// A record that tells its own number.
fn numbered(number: u64) -> Flow {
    Flow {
        time_unix_us: number,
        verdict: if number.is_multiple_of(3) { Verdict::Denied } else { Verdict::Allowed },
        ..sample()
    }
}

/// A ring after all of it, and the numbers of events that were not lost on their way to it.
fn ring(capacity: usize, happenings: &[Happening]) -> (Ring, Vec<u64>, u64) {
    let (mut ring, mut told, mut next) = (Ring::new(7, NonZeroUsize::new(capacity).unwrap()), Vec::new(), 0);
    for happening in happenings {
        match happening {
            Happening::Push => {
                ring.push(numbered(next));
                told.push(next);
                next += 1;
            }
            Happening::Lose(events) => {
                ring.lose(*events);
                next += events;
            }
        }
    }
    (ring, told, next)
}

proptest! {
    #[test]
    fn a_record_reads_back_as_it_was_written(flow in flow()) {
        let text = serde_json::to_string(&flow).unwrap();
        prop_assert_eq!(serde_json::from_str::<Flow>(&text).unwrap(), flow);
    }

    #[test]
    fn a_filter_reads_back_as_it_was_written(filter in filter()) {
        let text = serde_json::to_string(&filter).unwrap();
        prop_assert_eq!(serde_json::from_str::<Filter>(&text).unwrap(), filter);
    }

    #[test]
    fn the_empty_filter_has_every_record(flow in flow()) {
        prop_assert!(Filter::default().has(&flow));
    }

    #[test]
    fn one_more_value_widens_and_one_more_condition_narrows(flow in flow(), one in filter(), other in filter()) {
        macro_rules! law {
            ($($field:ident),*) => {$({
                let mut both = one.clone();
                both.$field.extend(other.$field.clone());
                if one.$field.is_empty() {
                    prop_assert!(one.has(&flow) || !both.has(&flow), "{}: a condition brought a record", stringify!($field));
                } else {
                    prop_assert!(both.has(&flow) || !one.has(&flow), "{}: a value lost a record", stringify!($field));
                }
            })*};
        }
        law!(from, to, namespaces, verdicts, reasons, directions, protocols, ports);
    }

    /// Whoever follows from the beginning gets each record that is still there once, in order, and is told how many are not.
    #[test]
    fn a_ring_never_lies_about_loss(
        capacity in 1_usize..8,
        happenings in proptest::collection::vec(happening(), 0..40),
        most in 1_usize..5,
        begin in 0_u64..20,
        only_denied: bool,
    ) {
        let (ring, told, end) = ring(capacity, &happenings);
        let held: Vec<u64> = told[told.len().saturating_sub(capacity)..].to_vec();
        let verdicts = if only_denied { vec![Verdict::Denied] } else { Vec::new() };
        let filter = Filter { verdicts, ..Filter::default() };
        let (mut got, mut lost, mut place) = (Vec::new(), 0, Place { ring: 7, number: begin });
        loop {
            let page = ring.page(&Query { filter: filter.clone(), from: Some(place), most });
            prop_assert!(page.flows.len() <= most && page.next.number >= place.number.min(end));
            got.extend(page.flows.iter().map(|flow| flow.time_unix_us));
            lost += page.lost;
            place = page.next;
            if !page.more {
                break;
            }
        }
        prop_assert_eq!(place.number, end);
        let after: Vec<u64> = held.iter().copied().filter(|number| *number >= begin).collect();
        prop_assert_eq!(lost, (end - begin.min(end)) - after.len() as u64);
        let wanted: Vec<u64> = after.into_iter().filter(|number| !only_denied || number.is_multiple_of(3)).collect();
        prop_assert_eq!(got, wanted);
    }

    #[test]
    fn the_newest_that_are_wanted_are_the_last_and_tell_what_is_missing_among_them(
        capacity in 1_usize..8,
        happenings in proptest::collection::vec(happening(), 0..40),
        most in 1_usize..5,
    ) {
        let (ring, told, end) = ring(capacity, &happenings);
        let page = ring.page(&Query { most, ..Query::default() });
        let wanted = &told[told.len().saturating_sub(most.min(capacity))..];
        prop_assert_eq!(page.flows.iter().map(|flow| flow.time_unix_us).collect::<Vec<_>>(), wanted);
        let first = wanted.first().copied().unwrap_or(end);
        prop_assert_eq!(page.lost, end - first - wanted.len() as u64);
        prop_assert_eq!(page.next.number, end);
    }

    #[test]
    fn reading_headers_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120), version in 4_u8..7) {
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = version << 4 | *first & 0xf;
        }
        let _ = Packet::read(&bytes);
    }
}

#[test]
fn a_place_in_another_ring_is_before_all_of_this_one() {
    let (ring, ..) = ring(4, &[Happening::Push, Happening::Push]);
    let page = ring.page(&Query { from: Some(Place { ring: 6, number: 1000 }), most: 9, ..Query::default() });
    assert_eq!((page.flows.len(), page.lost, page.next), (2, 0, Place { ring: 7, number: 2 }));
}

#[test]
fn each_condition_is_asked_of_what_it_names() {
    let has = |filter: &Filter| filter.has(&sample());
    let end = |text: &str| vec![text.parse().unwrap()];
    let none = Filter::default();
    for (from, wanted) in [("load", true), ("shop/load", true), ("shop/*", true), ("*", true), ("web", false)] {
        assert_eq!(has(&Filter { from: end(from), ..none.clone() }), wanted, "from {from}");
    }
    for (to, wanted) in
        [("web", true), ("10.42.0.8/31", true), ("10.42.0.7", false), ("other/web", false), ("node/web", false)]
    {
        assert_eq!(has(&Filter { to: end(to), ..none.clone() }), wanted, "to {to}");
    }
    for (port, wanted) in [(80, true), (40_000, true), (81, false)] {
        assert_eq!(has(&Filter { ports: vec![port], ..none.clone() }), wanted, "port {port}");
    }
    for (namespace, wanted) in [("shop", true), ("web", false)] {
        assert_eq!(
            has(&Filter { namespaces: vec![namespace.into()], ..none.clone() }),
            wanted,
            "namespace {namespace}"
        );
    }
    assert!(has(&Filter { verdicts: vec![Verdict::Denied], reasons: vec![Reason::Rule], ..none.clone() }));
    assert!(!has(&Filter { verdicts: vec![Verdict::WouldDeny], ..none.clone() }));
    assert!(!has(&Filter { reasons: vec![Reason::EndOfTier], ..none.clone() }));
    assert!(has(&Filter { directions: vec![Direction::Ingress], protocols: vec![6], ..none.clone() }));
    assert!(!has(&Filter { directions: vec![Direction::Egress], ..none.clone() }));
    assert!(!has(&Filter { protocols: vec![17], ..none }));
}

#[test]
fn ends_are_read_as_people_write_them() {
    for text in ["web", "shop/web", "shop/*", "*", "node/n1", "10.42.0.0/16", "fd42::/64"] {
        assert_eq!(text.parse::<EndFilter>().unwrap().to_string(), text);
    }
    assert_eq!("10.42.0.7/16".parse::<EndFilter>().unwrap().to_string(), "10.42.0.0/16");
    assert_eq!("10.42.0.7".parse::<EndFilter>().unwrap().to_string(), "10.42.0.7/32");
    for text in ["", "/", "shop/", "/web", "a/b/c", "10.42.0.0/33", "we b", "*/web"] {
        assert!(text.parse::<EndFilter>().is_err(), "{text}");
    }
}

/// A TCP SYN over IPv4 and a UDP datagram over IPv6 behind a hop-by-hop header, written by hand from RFC 791, 9293, 8200, 768.
#[test]
fn headers_are_read_where_the_standards_put_them() {
    let mut tcp = vec![0x45, 0, 0, 44, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 42, 0, 7, 10, 42, 0, 9];
    tcp.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 0x02, 0xff, 0xff]);
    let packet = Packet::read(&tcp).unwrap();
    assert_eq!((packet.source, packet.destination), (IpAddr::from([10, 42, 0, 7]), IpAddr::from([10, 42, 0, 9])));
    assert_eq!(
        (packet.protocol, packet.ports, packet.tcp_flags),
        (Protocol::TCP, Some((40_000, 80)), Some(TcpFlags(2)))
    );
    assert_eq!(packet.bytes, 44);
    tcp[6..8].copy_from_slice(&[0, 1]);
    assert_eq!(Packet::read(&tcp).unwrap().ports, None, "a later fragment begins with no header");
    let mut udp = vec![0x60, 0, 0, 0, 0, 16, 0, 64];
    udp.extend([[0xfd; 16], [0xfe; 16]].concat());
    udp.extend([17, 0, 0, 0, 0, 0, 0, 0, 0, 53, 0x30, 0x39, 0, 8, 0, 0]);
    let packet = Packet::read(&udp).unwrap();
    assert_eq!((packet.protocol, packet.ports, packet.bytes), (Protocol::UDP, Some((53, 12_345)), 56));
    let echo = [&[0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 10, 42, 0, 7, 10, 42, 0, 9][..], &[8, 0]].concat();
    assert_eq!(Packet::read(&echo).unwrap().icmp, Some(Icmp { kind: 8, code: 0 }));
}

/// A cluster of one pod behind an interface.
struct OnePod;

impl Names for OnePod {
    fn behind(&self, interface: &str) -> Option<Who> {
        let labels = BTreeMap::from([(Arc::from("app"), Arc::from("a"))]);
        (interface == "cni1").then(|| Who {
            kind: Kind::Pod,
            namespace: Some("shop".into()),
            name: Some("a".into()),
            labels: Arc::new(labels),
        })
    }

    fn at(&self, address: IpAddr) -> Option<Who> {
        (address == IpAddr::from([192, 0, 2, 1])).then(|| Who {
            kind: Kind::Node,
            namespace: None,
            name: Some("n1".into()),
            labels: Arc::default(),
        })
    }

    /// Another one has come to all addresses.
    fn had(&self, _: IpAddr) -> Option<Who> {
        None
    }

    fn tier_of(&self, policy: &str) -> Option<Arc<str>> {
        (policy == "NetworkPolicy shop/a").then(|| "default".into())
    }
}

#[test]
fn the_interface_says_who_sent_it_even_when_the_address_lies() {
    let syn =
        [&[0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 203, 0, 113, 9][..], &[0, 7, 0, 80]].concat();
    let event = Event {
        time_unix_us: None,
        direction: Some(Direction::Egress),
        verdict: Verdict::Denied,
        reason: Some(Reason::SpoofedSource),
        packet: Packet::read(&syn),
        input: Some("cni1".into()),
        output: Some("eth0".into()),
        identities: [None, None],
        by: By { policy: Some("NetworkPolicy shop/a".into()), ..By::default() },
        translated: None,
        ended: None,
        sampled: None,
        packets: 1,
        bytes: 40,
    };
    let flow = name(event.clone(), &"n1".into(), 5, &OnePod);
    assert_eq!((flow.source.kind, flow.source.name.as_deref()), (Some(Kind::Pod), Some("a")));
    assert_eq!((flow.destination.kind, flow.destination.port, flow.time_unix_us), (None, Some(80), 5));
    assert_eq!(flow.by.tier.as_deref(), Some("default"));
    let from_node = Event { input: Some("eth0".into()), time_unix_us: Some(3), ..event };
    let named = |event: &Event| {
        let flow = name(event.clone(), &"n1".into(), 5, &OnePod);
        (flow.source.kind, flow.time_unix_us)
    };
    assert_eq!(named(&from_node), (Some(Kind::Node), 3));
    let (sent, received) = (Traffic { packets: 1, bytes: 40 }, Traffic::default());
    let ended = Some(Ended { why: Ending::EndpointGone, seconds: 1, sent, received });
    let over = Event { input: None, ended, ..from_node };
    assert_eq!(named(&over), (None, 3), "who has its address now came later");
    let to_it = Event { direction: Some(Direction::Ingress), ..over };
    assert_eq!(named(&to_it), (Some(Kind::Node), 3), "of the other end nothing else is known");
}

#[test]
fn a_summary_and_a_tally_add_up_to_the_records() {
    let (mut summary, mut tally) = (Summary::default(), Tally::default());
    let others = [sample(), sample(), Flow { verdict: Verdict::Allowed, reason: None, packets: 3, ..sample() }];
    for flow in &others {
        summary.add(flow);
        tally.add(flow);
    }
    tally.lose(4);
    let pairs = summary.by_volume();
    let shown: Vec<_> =
        pairs.iter().map(|(pair, volume)| (&*pair.from, &*pair.to, volume.flows, volume.packets)).collect();
    assert_eq!(shown, [("shop/load", "shop/web", 2, 2), ("shop/load", "shop/web", 1, 3)]);
    assert_eq!((tally.flows.values().sum::<u64>(), tally.lost), (3, 4));
}
