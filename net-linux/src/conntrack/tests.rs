//! Connections over loopback in fresh namespaces; both ways to forget them must agree with the filter.

use super::*;
use crate::netns::NetNs;
use crate::nft::{BaseChain, Batch, Chain, ChainId, ChainType, CtKey, CtState, Expr, Family, Hook, Name, Nft, Policy};
use crate::nft::{Program, Reg, Rule, Table, TableId, Verdict, priority};
use proptest::prelude::*;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;

/// Makes the kernel track connections: it does only where a rule asks.
fn track() -> ChainId {
    let table = TableId::new(Family::Inet, Name::new("tracking").unwrap());
    let chain = table.chain(Name::new("out").unwrap());
    let (kind, hook, policy) = (ChainType::Filter, Hook::Output, Policy::Accept);
    let mut batch = Batch::new();
    batch.add_table(&Table::new(table));
    batch.add_chain(&Chain::base(chain.clone(), BaseChain { kind, hook, priority: 0, policy }));
    batch.add_rule(&Rule::new(chain.clone(), Program::new().ct_state(CtState::ESTABLISHED).verdict(Verdict::Accept)));
    Nft::open().unwrap().commit(&batch).unwrap();
    chain
}

/// Opens UDP connections between loopback addresses.
fn connect(pairs: &[(&str, &str)]) {
    for (from, to) in pairs {
        let client = UdpSocket::bind(from).unwrap();
        client.send_to(b"x", to).unwrap();
    }
}

const PAIRS: [(&str, &str); 6] = [
    ("127.0.0.2:1001", "127.0.0.3:2001"),
    ("127.0.0.2:1002", "127.0.0.4:2001"),
    ("127.0.0.5:1001", "127.0.0.2:2002"),
    ("127.0.0.6:1003", "127.0.0.7:2001"),
    ("[::1]:1001", "[::1]:2001"),
    ("[fd00::1]:1001", "[::1]:2001"),
];

fn in_tracking_namespace(test: impl FnOnce(&mut Conntrack) + Send) {
    let inside = || {
        for arguments in ["link set lo up", "address add fd00::1/128 dev lo nodad"] {
            assert!(Command::new("ip").args(arguments.split(' ')).status().expect("iproute2").success());
        }
        track();
        connect(&PAIRS);
        test(&mut Conntrack::open().unwrap());
    };
    NetNs::new().unwrap().run(inside).unwrap();
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn filters() -> Vec<FlowFilter> {
    let tuple = TupleFilter { protocol: Some(17), destination_port: Some(2001), ..TupleFilter::default() };
    vec![
        FlowFilter::opened_by(ip("127.0.0.2")),
        FlowFilter::answered_by(ip("127.0.0.2")),
        FlowFilter::opened_by(ip("::1")),
        FlowFilter { original: TupleFilter { source: Some(ip("127.0.0.2")), ..tuple }, ..FlowFilter::default() },
        FlowFilter { original: TupleFilter { destination: Some(ip("127.0.0.7")), ..tuple }, ..FlowFilter::default() },
        FlowFilter { mark: Some((1, 1)), ..FlowFilter::default() },
        FlowFilter::opened_by(ip("192.0.2.1")),
    ]
}

fn originals(flows: &[Flow]) -> Vec<Tuple> {
    let mut tuples: Vec<_> = flows.iter().map(|flow| flow.original.clone()).collect();
    tuples.sort();
    tuples
}

#[test]
fn what_is_tracked_is_read() {
    in_tracking_namespace(|conntrack| {
        let flows = conntrack.list().unwrap();
        let udp: Vec<_> = flows.into_iter().filter(|flow| flow.original.protocol == 17).collect();
        assert_eq!(udp.len(), PAIRS.len());
        assert_eq!(conntrack.count().unwrap() as usize, conntrack.list().unwrap().len());
        let first = udp.iter().find(|flow| flow.original.destination == ip("127.0.0.3")).unwrap();
        assert_eq!(first.original.ports, Some((1001, 2001)));
        assert_eq!((first.reply.source, first.reply.ports), (ip("127.0.0.3"), Some((2001, 1001))));
    });
}

#[test]
fn both_ways_forget_what_the_filter_matches_and_nothing_else() {
    for filter in filters() {
        // By the kernel's filter where there is one that can be trusted, and one by one.
        for as_it_likes in [true, false] {
            in_tracking_namespace(|conntrack| {
                let before = conntrack.list().unwrap();
                let (doomed, kept): (Vec<_>, Vec<_>) = before.into_iter().partition(|flow| filter.matches(flow));
                if as_it_likes {
                    conntrack.flush(&filter).unwrap();
                } else {
                    assert_eq!(conntrack.flush_one_by_one(&filter).unwrap(), doomed.len());
                }
                assert_eq!(
                    originals(&conntrack.list().unwrap()),
                    originals(&kept),
                    "{filter:?} as it likes: {as_it_likes}"
                );
                conntrack.flush(&filter).unwrap();
            });
        }
    }
}

#[test]
fn a_connection_of_another_zone_is_forgotten_too() {
    let inside = || {
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("iproute2").success());
        let chain = track();
        let zone = Expr::Immediate { dreg: Reg::A, value: 7u16.to_ne_bytes().to_vec() };
        let set = Expr::CtSet { key: CtKey::Zone, sreg: Reg::A, direction: None };
        let mut batch = Batch::new();
        let (kind, hook, policy) = (ChainType::Filter, Hook::Output, Policy::Accept);
        let raw = chain.table.chain(Name::new("raw").unwrap());
        batch.add_chain(&Chain::base(raw.clone(), BaseChain { kind, hook, priority: priority::RAW, policy }));
        batch.add_rule(&Rule::new(raw, [zone, set]));
        Nft::open().unwrap().commit(&batch).unwrap();
        let mut conntrack = Conntrack::open().unwrap();
        for one_by_one in [true, false] {
            connect(&PAIRS[..1]);
            let filter = FlowFilter::opened_by(ip("127.0.0.2"));
            assert!(conntrack.list().unwrap().iter().any(|flow| filter.matches(flow)));
            if one_by_one {
                assert_eq!(conntrack.flush_one_by_one(&filter).unwrap(), 1);
            } else {
                conntrack.flush(&filter).unwrap();
            }
            assert!(!conntrack.list().unwrap().iter().any(|flow| filter.matches(flow)));
        }
    };
    NetNs::new().unwrap().run(inside).unwrap();
}

#[test]
fn a_filter_that_says_nothing_or_contradicts_itself_flushes_nothing() {
    in_tracking_namespace(|conntrack| {
        let port = TupleFilter { destination_port: Some(53), ..TupleFilter::default() };
        let mixed =
            FlowFilter { reply: FlowFilter::answered_by(ip("::1")).reply, ..FlowFilter::opened_by(ip("127.0.0.2")) };
        for filter in [
            FlowFilter::default(),
            FlowFilter { original: port, ..FlowFilter::default() },
            FlowFilter { mark: Some((2, 1)), ..FlowFilter::default() },
            mixed,
        ] {
            assert!(matches!(conntrack.flush(&filter), Err(crate::netlink::Error::Invalid { .. })), "{filter:?}");
        }
        assert!(conntrack.list().unwrap().len() >= PAIRS.len());
    });
}

#[test]
fn a_mark_is_set_under_its_mask_on_the_connections_named_and_on_no_other() {
    in_tracking_namespace(|conntrack| {
        let chosen = |flow: &Flow| {
            FlowFilter::opened_by(ip("127.0.0.2")).matches(flow) || FlowFilter::opened_by(ip("::1")).matches(flow)
        };
        let all = conntrack.list().unwrap();
        let some: Vec<Flow> = all.into_iter().filter(chosen).collect();
        assert_eq!(conntrack.set_mark(&some, 0b101, 0b111).unwrap(), some.len());
        assert_eq!(conntrack.set_mark(&some, 0, 0b100).unwrap(), some.len());
        for flow in conntrack.list().unwrap() {
            assert_eq!(flow.mark, if chosen(&flow) { 0b001 } else { 0 }, "{flow:?}");
        }
        assert_eq!(conntrack.forget(&some).unwrap(), some.len());
        assert_eq!(conntrack.forget(&some).unwrap() + conntrack.set_mark(&some, 1, 1).unwrap(), 0);
    });
}

proptest! {
    #[test]
    fn reading_a_connection_never_panics(payload: Vec<u8>) {
        let _ = kernel::read(&payload);
    }
}
