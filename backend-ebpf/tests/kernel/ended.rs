//! Connections that are over are told once, with all that passed in them, or counted as lost. Never a verdict.

use crate::attached::{CLIENT, SERVER, pod};
use crate::bed::judge;
use crate::conformance::{config, place};
use crate::flows::{OPEN, enforcing, telling, told};
use crate::frames::Frame;
use crate::place::{block_on, in_own_place, run};
use crate::pod::ADDRESSES;
use backend_ebpf::abi::{Connection, ConnectionKey, FlowsWanted, Reason, Tracked};
use backend_ebpf::engine::{self, BPFFS, Config};
use backend_ebpf::kernel::{Object, Pins, Sizes, Sweep, UsedMaps, Way};
use cni_core::backend::{Change, Meter, PolicyParts};
use cni_core::flow::{Ended, Ending, Event, Traffic, Verdict, Wanted};
use cni_core::policy::model::Direction;
use net_linux::netns::NetNs;
use serde_json::json;
use std::fs::{DirEntry, read_dir};
use std::net::UdpSocket;
use std::path::Path;
use tokio::runtime::Runtime;

const TCP: u8 = 6;
const UDP: u8 = 17;
const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
const OTHER: &str = "192.0.2.1";
/// A segment's headers, RFC 791 and RFC 9293: 20 and 20 bytes.
const HEADERS: u64 = 40;

/// A segment between a peer and the pod's port 53 with so many bytes in it.
fn segment(way: Way, flags: u8, bytes: usize) -> Vec<u8> {
    let (pod, other) = (ADDRESSES[0].parse().unwrap(), OTHER.parse().unwrap());
    let ((from, from_port), (to, to_port)) =
        if way == Way::FromPod { ((pod, 53_u16), (other, 40_000_u16)) } else { ((other, 40_000), (pod, 53)) };
    let mut payload = [&from_port.to_be_bytes()[..], &to_port.to_be_bytes(), &[0; 16], &vec![7; bytes]].concat();
    (payload[12], payload[13]) = (0x50, flags);
    Frame::new(from, to, TCP, payload).bytes()
}

fn traffic(packets: u64, bytes: u64) -> Traffic {
    Traffic { packets, bytes }
}

fn ended(events: &[Event]) -> Vec<Ended> {
    events.iter().filter_map(|event| event.ended).collect()
}

#[test]
fn what_passed_in_a_connection_is_told_when_another_one_takes_its_place_and_each_packet_once() {
    let (enforcer, mut source, runtime) = telling(FlowsWanted::ALL, &[(TCP, 53)]);
    let pass = |way, flags, bytes| {
        let expected = if way == Way::ToPod { Reason::Allowed } else { Reason::Established };
        assert_eq!(judge(&enforcer, way, &segment(way, flags, bytes)).0, expected, "{way:?} {flags}");
    };
    let (into, out) = (Way::ToPod, Way::FromPod);
    pass(into, SYN, 0);
    // Seen again it begins no other connection.
    pass(into, SYN, 0);
    for (way, flags, bytes) in [(out, SYN | ACK, 0), (into, ACK, 100), (out, ACK, 1000), (out, FIN | ACK, 0)] {
        pass(way, flags, bytes);
    }
    pass(into, FIN | ACK, 0);
    let (events, _) = told(&runtime, &mut source);
    assert_eq!((events.len(), ended(&events)), (1, Vec::new()), "it may not be over yet: {events:?}");
    pass(into, SYN, 0);
    let (after, lost) = told(&runtime, &mut source);
    let (sent, received) = (traffic(4, 4 * HEADERS + 100), traffic(3, 3 * HEADERS + 1000));
    let found = ended(&after);
    assert_eq!((found.len(), lost), (1, 0), "{after:?}");
    assert_eq!((found[0].why, found[0].sent, found[0].received), (Ending::Closed, sent, received));
    let [over, begun] = &after[..] else { panic!("{after:?}") };
    assert_eq!((begun.verdict, begun.packets), (Verdict::Allowed, 1), "what took its place is told as well");
    assert_eq!((over.direction, &*over.by.rule), (Some(Direction::Ingress), "TCP 53"));
    let all = |of: fn(&Event) -> u64| events.iter().chain([over]).map(of).sum::<u64>();
    let whole = (sent.packets + received.packets, sent.bytes + received.bytes);
    assert_eq!((all(|event| event.packets), all(|event| event.bytes)), whole);
    pass(out, RST, 0);
    pass(into, SYN, 0);
    let why: Vec<Ending> = ended(&told(&runtime, &mut source).0).iter().map(|ended| ended.why).collect();
    assert_eq!(why, [Ending::Reset]);
}

#[test]
fn who_does_not_want_all_decisions_hears_of_no_end_and_nothing_is_counted() {
    let (enforcer, mut source, runtime) = telling(FlowsWanted::DENIED, &[(TCP, 53)]);
    for flags in [SYN, ACK, RST, SYN] {
        judge(&enforcer, Way::ToPod, &segment(Way::ToPod, flags, 0));
    }
    assert_eq!(told(&runtime, &mut source).0, []);
    let [(_, tracked)] = enforcer.object.connections().unwrap()[..] else { panic!("one connection") };
    assert_eq!((tracked.sent.packets, tracked.opening_bytes), (0, 0));
}

/// Takes what is over at a time; answers ports, and how many are there afterwards.
fn swept(maps: &UsedMaps, now: u32, most: usize, gone: u32) -> (Vec<u16>, u64) {
    let mut is_gone = |interface| interface == gone;
    let mut sweep = Sweep::new(most, &mut is_gone);
    maps.used(now, Some(&mut sweep)).unwrap();
    let mut ports: Vec<u16> = sweep.over.iter().map(|over| over.key.own_port).collect();
    ports.sort_unstable();
    (ports, sweep.present)
}

#[test]
fn a_sweep_takes_what_is_over_and_no_more_than_is_asked_for() {
    in_own_place(|| {
        let [policy, kept, flows] = ["policy", "kept", "flows"].map(|name| Path::new(BPFFS).join(name));
        [&policy, &kept, &flows].into_iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
        let pins = Pins { kept: &kept, flows: &flows };
        let mut object = Object::load_pinned(&config().maps, &pins).unwrap();
        object.pin(&policy).unwrap();
        let maps = UsedMaps::pinned(&policy, &pins).unwrap();
        for (port, interface, seen) in [(1, 1, 100), (2, 1, 100), (3, 1, 120), (4, 2, 130)] {
            let (own, other, protocol) = ([1; 16], [2; 16], UDP.into());
            let key = ConnectionKey { interface, own, other, own_port: port, other_port: 4, protocol };
            object.set_connection(key, Some(Tracked::opened(Connection::seen(seen, 0), 60))).unwrap();
        }
        assert_eq!(swept(&maps, 130, 9, 9), (vec![], 4), "thirty seconds are not over");
        assert_eq!(swept(&maps, 131, 0, 9), (vec![], 4), "nobody has room for one");
        assert_eq!(swept(&maps, 131, 1, 9).0.len(), 1);
        assert_eq!(swept(&maps, 131, 9, 9).1, 2);
        assert_eq!(swept(&maps, 131, 9, 2), (vec![4], 1), "its interface is gone");
        assert_eq!(swept(&maps, 151, 9, 9), (vec![3], 0));
    });
}

fn commit(parts: &mut PolicyParts) {
    let report = block_on(parts.engine.commit());
    assert!(report.is_complete(), "{report:?}");
}

/// Two pods, the engine at one of them, its meter, and a runtime; all is told.
fn between_pods(connections: u32, work: impl FnOnce(&NetNs, &NetNs, &mut PolicyParts, &dyn Meter, &Runtime) + Send) {
    in_own_place(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        let node = NetNs::current().unwrap();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        let (client, server) = (pod(&node, CLIENT), pod(&node, SERVER));
        let maps = Sizes { connections, ..config().maps };
        let mut parts = enforcing(&Config { flows: Wanted::All, maps, ..config() }, &[OPEN]);
        let meter = parts.meter.take().unwrap();
        commit(&mut parts);
        work(&client, &server, &mut parts, &*meter, &runtime);
        engine::clear().unwrap();
    });
}

#[test]
fn a_connection_of_a_pod_that_is_gone_is_told_once_with_all_that_passed_and_by_which_rule() {
    between_pods(1024, |client, server, parts, meter, runtime| {
        let mut source = parts.flows.take().unwrap();
        let voice = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        let ear = server.run(|| UdpSocket::bind((SERVER.1[0], OPEN)).unwrap()).unwrap();
        let mut bytes = [0; 8];
        for _ in 0..3 {
            voice.send_to(b"four", (SERVER.1[0], OPEN)).unwrap();
            let (length, from) = ear.recv_from(&mut bytes).unwrap();
            ear.send_to(&bytes[..length / 2], from).unwrap();
            voice.recv(&mut bytes).unwrap();
        }
        meter.tables().unwrap();
        let (events, _) = told(runtime, &mut *source);
        assert_eq!(ended(&events), [], "it goes on");
        run(&format!("ip link delete {}", SERVER.0));
        meter.tables().unwrap();
        let (events, lost) = told(runtime, &mut *source);
        let over: Vec<&Event> = events.iter().filter(|event| event.ended.is_some()).collect();
        let [event] = over[..] else { panic!("{events:?}") };
        let Ended { why, sent, received, .. } = event.ended.unwrap();
        // IPv4's and UDP's headers are 28 bytes.
        assert_eq!((why, sent, received, lost), (Ending::EndpointGone, traffic(3, 96), traffic(3, 90), 0));
        assert_eq!((event.packets, event.bytes), (5, 154), "the first has its own record");
        assert_eq!((event.verdict, &*event.by.rule), (Verdict::Allowed, "spec.rules[0]"));
        meter.tables().unwrap();
        assert_eq!(ended(&told(runtime, &mut *source).0), []);
    });
}

#[test]
fn in_maps_of_other_sizes_rules_are_named_from_the_beginning_and_the_former_ones_are_not_kept() {
    between_pods(1024, |client, _, parts, _, runtime| {
        let config = Config { flows: Wanted::All, ..config() };
        // Each successor goes on with what is kept, so epochs are many by now.
        for _ in 0..3 {
            *parts = enforcing(&config, &[OPEN]);
            commit(parts);
        }
        let meter = parts.meter.take().unwrap();
        let mut source = parts.flows.take().unwrap();
        let maps = json!({ "connections": 2048, "fragments": 64, "verdicts": 4096 });
        parts.engine.stage(Change::Config(json!({ "flows": "all", "maps": maps }))).unwrap();
        commit(parts);
        let kept = |file: &DirEntry| file.file_name().to_str().unwrap().starts_with("kept-");
        let folders = read_dir(place()).unwrap().map(Result::unwrap).filter(kept).count();
        assert_eq!(folders, 1, "what no program goes on with");
        let voice = client.run(|| UdpSocket::bind("0.0.0.0:0").unwrap()).unwrap();
        voice.send_to(b"x", (SERVER.1[0], OPEN)).unwrap();
        run(&format!("ip link delete {}", SERVER.0));
        meter.tables().unwrap();
        let (events, _) = told(runtime, &mut *source);
        let by: Vec<&str> = events.iter().filter(|event| event.ended.is_some()).map(|event| &*event.by.rule).collect();
        assert_eq!(by, ["spec.rules[0]"], "{events:?}");
    });
}

#[test]
fn what_had_to_make_room_before_it_was_read_is_counted_as_lost() {
    const BEGUN: u16 = 3000;
    between_pods(256, |client, _, parts, meter, runtime| {
        let mut source = parts.flows.take().unwrap();
        meter.tables().unwrap();
        for port in 20_000..20_000 + BEGUN {
            let voice = client.run(|| UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
            voice.send_to(b"x", (SERVER.1[0], OPEN)).unwrap();
        }
        let tables = meter.tables().unwrap();
        let open = tables.iter().find(|table| table.table == "CONNECTIONS").unwrap().entries.unwrap();
        let (events, lost) = told(runtime, &mut *source);
        let over = u64::try_from(ended(&events).len()).unwrap();
        // On a slow machine some are over meanwhile.
        assert!(open > 0 && lost > u64::from(BEGUN) / 2, "{open} are open, {lost} lost");
        assert_eq!(lost + over + open, u64::from(BEGUN));
        meter.tables().unwrap();
        assert_eq!(told(runtime, &mut *source).1, 0, "it is said once");
    });
}

#[test]
fn all_that_is_over_is_told_after_one_look_where_it_is_twice_what_the_agent_hears_in_a_second() {
    const BEGUN: u16 = 20_000;
    between_pods(65_536, |client, _, parts, meter, runtime| {
        let mut source = parts.flows.take().unwrap();
        meter.tables().unwrap();
        let mut lost = 0;
        for port in 20_000..20_000 + BEGUN {
            let voice = client.run(|| UdpSocket::bind(("0.0.0.0", port)).unwrap()).unwrap();
            voice.send_to(b"x", (SERVER.1[0], OPEN)).unwrap();
            if port % 500 == 0 {
                lost += told(runtime, &mut *source).1;
            }
        }
        run(&format!("ip link delete {}", SERVER.0));
        meter.tables().unwrap();
        let (events, more) = told(runtime, &mut *source);
        assert_eq!((ended(&events).len(), lost + more), (BEGUN.into(), 0));
    });
}
