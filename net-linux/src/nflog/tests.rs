//! A rule that logs, a packet, and its record, on the real kernel in a namespace of the test's own.

use super::record::read;
use super::*;
use crate::netns::NetNs;
use crate::nfnetlink::Message;
use crate::nft::{
    BaseChain, Batch, Chain, ChainType, Family, Hook, Log, LogTarget, Name, Nft, Policy, Program, Rule, Table, TableId,
};
use crate::{link, netlink};
use proptest::prelude::*;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

const GROUP: u16 = 77;

/// Every datagram over the loopback is logged.
fn prepare() {
    let mut socket = netlink::Socket::route().unwrap();
    let mut batch = netlink::Batch::new();
    link::LinkChange { up: Some(true), ..Default::default() }.add(&mut batch, &link::LinkId::Name("lo"));
    socket.run_all(&mut batch).unwrap();
    let name = |text: &str| Name::new(text).unwrap();
    let table = TableId::new(Family::Inet, name("logs"));
    let chain = table.chain(name("in"));
    let mut batch = Batch::new();
    batch.add_table(&Table::new(table));
    let base = BaseChain { kind: ChainType::Filter, hook: Hook::Input, priority: 0, policy: Policy::Accept };
    batch.add_chain(&Chain { id: chain.clone(), base: Some(base), comment: None });
    let target = LogTarget::Group { group: GROUP, snap_bytes: 30, queue_threshold: 0 };
    let program = Program::new().l4proto(17).log(Log { prefix: Some("deny that".to_owned()), target });
    batch.add_rule(&Rule::new(chain, program));
    Nft::open().unwrap().commit(&batch).unwrap();
}

#[test]
fn a_logged_packet_is_heard_with_the_rules_words_and_a_group_has_one_reader() {
    NetNs::new()
        .unwrap()
        .run(|| {
            prepare();
            let mut reader = LogReader::open(GROUP, 128).unwrap();
            assert!(matches!(LogReader::open(GROUP, 128), Err(LogError::Denied { group: GROUP })));
            assert!(reader.read().unwrap().is_empty());
            let voice = UdpSocket::bind("127.0.0.1:0").unwrap();
            voice.send_to(b"hello", "127.0.0.1:9").unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let waited = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), reader.next()).await });
            let events = waited.expect("it is heard").unwrap();
            let LogEvent::Packet(record) = &events[0] else { panic!("{events:?}") };
            assert_eq!((&*record.prefix, record.protocol, record.hook), ("deny that", 0x0800, 1));
            assert_eq!((record.input, record.output), (Some(1), None));
            // The rule copies 30 bytes: the header of IPv4, that of UDP, two letters.
            assert_eq!((record.packet.len(), record.packet[9], &record.packet[28..]), (30, 17, &b"he"[..]));
            drop(reader);
            LogReader::open(GROUP, 128).unwrap();
        })
        .unwrap();
}

#[test]
fn a_reader_that_is_too_slow_is_told_that_it_lost_some() {
    NetNs::new()
        .unwrap()
        .run(|| {
            prepare();
            let mut reader = LogReader::open(GROUP, 64).unwrap();
            let voice = UdpSocket::bind("127.0.0.1:0").unwrap();
            let end = Instant::now() + Duration::from_secs(60);
            let mut events = Vec::new();
            while !events.contains(&LogEvent::Lost) {
                for _ in 0..100_000 {
                    let _ = voice.send_to(b"flood", "127.0.0.1:9");
                }
                events = reader.read().unwrap();
                assert!(Instant::now() < end, "{} packets and none lost", events.len());
            }
            assert!(events.len() > 1000, "what fits is heard");
        })
        .unwrap();
}

proptest! {
    #[test]
    fn reading_a_record_never_panics(payload: Vec<u8>) {
        let _ = read(&Message { kind: 0x0400, flags: 0, sequence: 0, port: 0, payload: &payload });
    }
}
