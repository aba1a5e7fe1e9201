//! A rule that logs, a packet, and its record, on the real kernel in a namespace of the test's own.

use super::reader::Numbers;
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

/// Longer than the kernel gathers records.
const AGAIN: Duration = Duration::from_secs(3);

#[test]
fn a_reader_that_is_too_slow_is_told_exactly_how_many_it_lost() {
    NetNs::new()
        .unwrap()
        .run(|| {
            prepare();
            let mut reader = LogReader::open(GROUP, 64).unwrap();
            let voice = UdpSocket::bind("127.0.0.1:0").unwrap();
            let end = Instant::now() + Duration::from_secs(60);
            let (mut sent, mut heard, mut lost) = (0_u64, 0_u64, 0_u64);
            let mut send = |packets: u64| {
                for _ in 0..packets {
                    sent += u64::from(voice.send_to(b"flood", "127.0.0.1:9").is_ok());
                }
                sent
            };
            let mut hear = |reader: &mut LogReader| {
                for event in reader.read().unwrap() {
                    match event {
                        LogEvent::Packet(_) => heard += 1,
                        LogEvent::Lost(records) => lost += u64::from(records),
                    }
                }
                (heard, lost)
            };
            while hear(&mut reader).1 == 0 {
                send(100_000);
                assert!(Instant::now() < end, "none is lost");
            }
            // The packets after the loss tell its size. The last ones wait for the kernel to have gathered them, and may be lost
            // themselves while the buffer is full, so now and then there is one more.
            let (mut sent, mut again) = (send(64), Instant::now() + AGAIN);
            loop {
                let (heard, lost) = hear(&mut reader);
                if heard + lost >= sent {
                    break;
                }
                assert!(Instant::now() < end, "{sent} sent, {heard} heard, {lost} lost");
                if Instant::now() > again {
                    (sent, again) = (send(1), Instant::now() + AGAIN);
                }
            }
            let (heard, lost) = hear(&mut reader);
            assert_eq!(heard + lost, sent);
            assert!(heard > 1000 && lost > 1000, "{heard} heard, {lost} lost");
        })
        .unwrap();
}

#[test]
fn what_a_full_buffer_told_is_not_told_again_by_the_numbers() {
    let mut numbers = Numbers::default();
    assert_eq!([numbers.heard(0), numbers.heard(1)], [0, 0]);
    assert_eq!(
        [numbers.full(), numbers.full(), numbers.heard(2), numbers.heard(12), numbers.heard(13)],
        [1, 0, 0, 8, 0]
    );
    assert_eq!(numbers.heard(15), 1, "a gap alone tells, too");
    let mut at_the_end = Numbers::default();
    assert_eq!([at_the_end.heard(u32::MAX), at_the_end.heard(0)], [u32::MAX, 0], "numbers begin again after the last");
}

proptest! {
    #[test]
    fn reading_a_record_never_panics(payload: Vec<u8>) {
        let _ = read(&Message { kind: 0x0400, flags: 0, sequence: 0, port: 0, payload: &payload });
    }
}
