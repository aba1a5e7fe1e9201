//! Packets out and back against the model. Never an ICMP error: those are in `errors`.

use crate::frame::{ACK, Above, FIN, Frame, SYN, TCP, source_of};
use crate::model::{Model, Tuple};
use crate::rig::{DROP, FIRST_PORT, KEPT, NEXT, NODE, OUTSIDE, PODS, Rig, ip, seconds_since_boot};
use backend_ebpf::abi::{Coming, Life, Masqueraded, mapped};
use backend_ebpf::kernel::masquerade::Masquerade;
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestRunner};
use std::cell::RefCell;

/// Ports that pods and others have.
const POD_PORTS: [u16; 3] = [40_000, 61_001, 7];
const OTHER_PORTS: [u16; 2] = [53, 443];

fn above(kind: u8, from: u16, to: u16) -> Above {
    match kind {
        0 => Above::Tcp(from, to, SYN),
        1 => Above::Tcp(from, to, ACK),
        2 => Above::Udp(from, to, true),
        3 => Above::Udp(from, to, false),
        4 => Above::UdpLite(from, to),
        _ => Above::Echo(true, from),
    }
}

/// A packet of a pod to the outside.
fn packet() -> impl Strategy<Value = Frame> {
    let ends = (0..2_usize, 0..2_usize, 0..2_usize, 0..3_usize, 0..2_usize);
    (ends, 0..6_u8, prop::collection::vec(any::<u8>(), 0..60), 0..3_usize).prop_map(
        |((family, pod, other, port, to), kind, payload, options)| {
            let above = above(kind, POD_PORTS[port], OTHER_PORTS[to]);
            let frame = Frame::new(ip(PODS[family][pod]), ip(OUTSIDE[family][other]), above);
            Frame { payload, options, ..frame }
        },
    )
}

fn inside_of(frame: &Frame) -> Tuple {
    let (from, to) = frame.ports();
    (frame.protocol(), (frame.source, from), (frame.destination, to))
}

/// What answers a packet that left with this source.
fn answer(frame: &Frame, source: (std::net::IpAddr, u16)) -> Frame {
    let to = frame.ports().1;
    let above = match frame.above {
        Above::Echo(..) => Above::Echo(false, source.1),
        Above::Tcp(..) => Above::Tcp(to, source.1, SYN | ACK),
        Above::Udp(_, _, sum) => Above::Udp(to, source.1, sum),
        _ => Above::UdpLite(to, source.1),
    };
    Frame { above, source: frame.destination, destination: source.0, ..frame.clone() }
}

/// As often as `PROPTEST_CASES` says, else so often, on programs that are loaded once.
fn for_all<S: Strategy>(cases: u32, strategy: S, law: impl Fn(&mut Rig, S::Value) -> Result<(), TestCaseError>) {
    let config = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { cases };
    let rig = RefCell::new(Rig::new(8));
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..config });
    runner.run(&strategy, |value| law(&mut rig.borrow_mut(), value)).unwrap();
}

/// No two connections share a tuple outside, each keeps its own, what answers it comes back to it, and nothing of a packet but
/// address, port and checksums is changed: the frame is compared whole with one that was made anew.
#[test]
fn packets_leave_and_come_back_as_in_the_model() {
    for_all(128, (prop::collection::vec(packet(), 1..120), 1..9_u16), |rig, (frames, ports)| {
        rig.reset(ports);
        let mut model = Model::default();
        for frame in frames {
            let (family, inside) = (usize::from(frame.source.is_ipv6()), inside_of(&frame));
            let node = ip(NODE[family]);
            let Some(after) = rig.out(&frame) else {
                prop_assert!(model.outside(&inside).is_none(), "{frame:?} has a port and is dropped");
                let taken = model.taken(inside.0, node, inside.2);
                prop_assert_eq!(taken, usize::from(ports), "dropped though ports are free: {:?}", frame);
                continue;
            };
            let source = source_of(&after, &frame.above);
            prop_assert_eq!(source.0, node);
            prop_assert!((FIRST_PORT..FIRST_PORT + ports).contains(&source.1), "{}", source.1);
            let outside = (inside.0, source, inside.2);
            prop_assert!(model.outside(&inside).is_none_or(|known| known == outside), "{frame:?} has changed its port");
            model.add(inside, outside);
            let wanted = frame.with(source, (frame.destination, frame.ports().1));
            prop_assert_eq!(&after, &wanted.bytes(), "{:?}", &frame);
            let answer = answer(&frame, source);
            let wanted = answer.with((answer.source, answer.ports().0), (inside.1.0, inside.1.1));
            prop_assert_eq!(rig.back(&answer), wanted.bytes(), "the answer to {:?}", &frame);
        }
        Ok(())
    });
}

/// Whoever is no connection's other end does not get in.
#[test]
fn what_answers_nobody_stays_as_it_is() {
    let values = (prop::collection::vec(packet(), 1..20), any::<u16>(), 0..2_usize);
    for_all(64, values, |rig, (frames, port, other)| {
        rig.reset(8);
        let mut model = Model::default();
        for frame in frames {
            let family = usize::from(frame.source.is_ipv6());
            if let Some(after) = rig.out(&frame) {
                let inside = inside_of(&frame);
                model.add(inside, (inside.0, source_of(&after, &frame.above), inside.2));
            }
            for port in [port, FIRST_PORT + port % 8] {
                let answer = Frame { destination: ip(OUTSIDE[family][other]), ..frame.clone() };
                let answer = self::answer(&answer, (ip(NODE[family]), port));
                let (from, to) = answer.ports();
                let outside = (answer.protocol(), (answer.destination, to), (answer.source, from));
                if model.inside(&outside).is_none() {
                    prop_assert_eq!(rig.back(&answer), answer.bytes());
                }
            }
        }
        Ok(())
    });
}

fn frames() -> impl Iterator<Item = Frame> {
    (0..2).flat_map(|family| {
        (0..6).flat_map(move |kind| {
            [0, 1].map(|options| {
                let frame = Frame::new(ip(PODS[family][0]), ip(OUTSIDE[family][0]), above(kind, 40_000, 443));
                Frame { options, ..frame }
            })
        })
    })
}

/// The kernel itself refuses to try a frame without a whole IP header.
fn shortest(frame: &Frame) -> usize {
    if frame.source.is_ipv4() { 34 } else { 54 }
}

#[test]
fn a_packet_cut_before_its_checksum_ends_is_dropped_or_stays_as_it_is() {
    let rig = Rig::new(8);
    for frame in frames() {
        let whole = frame.bytes();
        for length in shortest(&frame)..frame.sum_ends() {
            let (action, _) = rig.run(Masquerade::Out, &whole[..length]);
            assert_eq!(action, DROP, "{length} bytes of {frame:?}");
        }
        assert_eq!(rig.count(Masqueraded::Out), 0, "{frame:?}");
    }
    assert!(rig.maps.coming().unwrap().is_empty(), "what is dropped takes no port");
    for frame in frames() {
        let out = rig.out(&frame).unwrap();
        let answer = answer(&frame, source_of(&out, &frame.above));
        let whole = answer.bytes();
        for length in shortest(&answer)..answer.sum_ends() {
            let (action, after) = rig.run(Masquerade::In, &whole[..length]);
            assert_eq!((action, &after[..]), (NEXT, &whole[..length]), "{length} bytes of {answer:?}");
        }
    }
}

#[test]
fn pods_among_themselves_kept_destinations_multicast_and_others_packets_stay_as_they_are() {
    let rig = Rig::new(8);
    let multicast = ["224.0.0.5", "ff02::5"];
    for family in 0..2 {
        let pod = ip(PODS[family][0]);
        let node = ip(NODE[family]);
        let outside = ip(OUTSIDE[family][0]);
        for (from, to) in [
            (pod, ip(PODS[family][1])),
            (pod, ip(KEPT[family])),
            (pod, ip(multicast[family])),
            (node, outside),
            (outside, ip(OUTSIDE[family][1])),
        ] {
            for kind in 0..6 {
                let frame = Frame::new(from, to, above(kind, 40_000, 443));
                assert_eq!(rig.out(&frame), Some(frame.bytes()), "{frame:?}");
                assert_eq!(rig.back(&frame), frame.bytes(), "{frame:?}");
            }
        }
    }
    assert!(rig.maps.coming().unwrap().is_empty());
}

#[test]
fn what_has_no_port_is_dropped_and_counted() {
    let rig = Rig::new(8);
    for family in 0..2 {
        let frame = |above| Frame::new(ip(PODS[family][0]), ip(OUTSIDE[family][0]), above);
        for above in [Above::Other(47), Above::Other(50), Above::Other(132), Above::Echo(false, 9)] {
            assert_eq!(rig.out(&frame(above)), None);
        }
    }
    assert_eq!(rig.count(Masqueraded::Protocol), 8);
}

#[test]
fn later_fragments_follow_the_first_and_nothing_else() {
    let rig = Rig::new(8);
    for family in 0..2 {
        for kind in [0, 2, 5] {
            let id = u16::from(kind) + 100;
            let frame = Frame::new(ip(PODS[family][0]), ip(OUTSIDE[family][0]), above(kind, 40_000, 443));
            let first = Frame { fragment: Some((0, true, id)), payload: vec![7; 16], ..frame.clone() };
            let later = Frame { fragment: Some((4, false, id)), payload: vec![8; 13], ..frame.clone() };
            assert_eq!(rig.out(&later), None, "before the first: {later:?}");
            let after = rig.out(&first).unwrap();
            let source = source_of(&after, &frame.above);
            let translated = |frame: &Frame| frame.with(source, (frame.destination, frame.ports().1)).bytes();
            assert_eq!(after, translated(&first));
            assert_eq!(rig.out(&later), Some(translated(&later)));
            assert_eq!(rig.out(&Frame { fragment: Some((4, false, id + 1)), ..later.clone() }), None);
            let back = |fragment: &Frame| answer(fragment, source);
            let (back_first, back_later) = (back(&first), back(&later));
            // It may be the node's own.
            assert_eq!(rig.back(&back_later), back_later.bytes(), "before the first");
            let pod = (frame.source, frame.ports().0);
            let to_pod = |frame: &Frame| frame.with((frame.source, frame.ports().0), pod).bytes();
            assert_eq!(rig.back(&back_first), to_pod(&back_first));
            assert_eq!(rig.back(&back_later), to_pod(&back_later));
        }
    }
    assert_eq!(rig.count(Masqueraded::UnknownFragment), 12);
}

#[test]
fn who_begins_outside_with_a_pods_own_address_is_answered_by_it() {
    let rig = Rig::new(8);
    for family in 0..2 {
        for kind in 0..6 {
            let (pod, other) = (ip(PODS[family][0]), ip(OUTSIDE[family][0]));
            let asked = Frame::new(other, pod, above(kind, 5555, 8080));
            assert_eq!(rig.back(&asked), asked.bytes());
            let answered = Frame { source: pod, destination: other, ..answer(&asked, (other, asked.ports().0)) };
            assert_eq!(rig.out(&answered), Some(answered.bytes()), "{answered:?}");
        }
    }
    assert_eq!(rig.count(Masqueraded::Out), 0);
}

#[test]
fn the_nodes_own_connections_from_ports_of_ours_take_them_as_pods_do() {
    let rig = Rig::new(2);
    for family in 0..2 {
        let (node, other) = (ip(NODE[family]), ip(OUTSIDE[family][0]));
        for kind in [0, 2, 5] {
            let own = Frame::new(node, other, above(kind, FIRST_PORT, 443));
            assert_eq!(rig.out(&own), Some(own.bytes()));
            let pod = |port| Frame::new(ip(PODS[family][0]), other, above(kind, port, 443));
            let left = rig.out(&pod(40_000)).unwrap();
            assert_eq!(source_of(&left, &own.above).1, FIRST_PORT + 1, "the node's own port is taken");
            assert_eq!(rig.out(&pod(40_001)), None, "none is left");
            let back = answer(&own, (node, FIRST_PORT));
            assert_eq!(rig.back(&back), back.bytes(), "the answer is the node's");
            // The other way round the pod was first.
            assert_eq!(rig.out(&Frame::new(node, other, above(kind, FIRST_PORT + 1, 443))), None);
        }
    }
    assert_eq!(rig.count(Masqueraded::PortOfPod), 6);
    assert_eq!(rig.count(Masqueraded::NoPort), 6);
}

/// Timeouts are those of the policy's connections: TCP that was closed 10 s, that was answered 8000 s; UDP 30 s.
#[test]
fn a_port_is_free_again_when_its_connection_has_ended_and_not_before() {
    let rig = Rig::new(1);
    let (pods, other) = (PODS[0], ip(OUTSIDE[0][0]));
    let send = |pod: usize, kind| rig.out(&Frame::new(ip(pods[pod]), other, above(kind, 40_000, 443)));
    for (kind, state, seconds) in [(2, 0, 30), (2, 1, 180), (1, 0, 60), (1, 1, 8000), (1, 1 | 2 | 4, 10), (1, 8, 10)] {
        // The clock of programs begins with the machine.
        if seconds_since_boot() <= seconds {
            println!("skipped: this machine has not run for {seconds} s");
            continue;
        }
        let mut rig_maps = rig.loaded.maps().unwrap();
        let set_age = |maps: &mut backend_ebpf::kernel::MasqueradeMaps, age: u32| {
            for (tuple, coming) in rig.maps.coming().unwrap() {
                maps.set_coming(tuple, Coming { life: Life::new(seconds_since_boot() - age, state), ..coming })
                    .unwrap();
            }
        };
        // Whoever had it.
        rig.maps.coming().unwrap().iter().for_each(|(tuple, _)| rig_maps.forget(tuple).unwrap());
        assert!(send(0, kind).is_some());
        set_age(&mut rig_maps, seconds - 2);
        assert!(send(1, kind).is_none(), "{kind} {state} after {} s", seconds - 2);
        set_age(&mut rig_maps, seconds + 1);
        assert!(send(1, kind).is_some(), "{kind} {state} after {} s", seconds + 1);
        assert!(send(0, kind).is_none(), "the port is another pod's now");
    }
}

/// Either table may have forgotten it, or both.
#[test]
fn a_connection_that_had_to_make_room_keeps_its_port_while_nobody_has_taken_it() {
    let rig = Rig::new(64);
    let frame = Frame::new(ip(PODS[0][0]), ip(OUTSIDE[0][0]), above(2, 40_000, 443));
    let first = rig.out(&frame).unwrap();
    let mut maps = rig.loaded.maps().unwrap();
    let [(inside, _)] = rig.maps.leaving().unwrap().try_into().unwrap();
    let [(outside, coming)] = rig.maps.coming().unwrap().try_into().unwrap();
    for (leaving_goes, coming_goes) in [(false, true), (true, false), (true, true)] {
        if leaving_goes {
            maps.forget_leaving(&inside).unwrap();
        }
        if coming_goes {
            maps.forget(&outside).unwrap();
        }
        assert_eq!(rig.out(&frame), Some(first.clone()), "{leaving_goes} {coming_goes}");
    }
    let other_pod = Coming { own: mapped([10, 42, 0, 6]), ..coming };
    maps.set_coming(outside, other_pod).unwrap();
    let moved = rig.out(&frame).unwrap();
    assert_ne!(source_of(&moved, &frame.above), source_of(&first, &frame.above), "the tuple is another pod's");
}

#[test]
fn a_closed_connection_that_is_opened_again_lives_on() {
    let rig = Rig::new(1);
    let tcp = |flags| Frame::new(ip(PODS[0][0]), ip(OUTSIDE[0][0]), Above::Tcp(40_000, 443, flags));
    let source = source_of(&rig.out(&tcp(SYN)).unwrap(), &tcp(SYN).above);
    let state = || rig.maps.coming().unwrap()[0].1.life.state();
    rig.out(&tcp(FIN | ACK)).unwrap();
    let closing = Frame { above: Above::Tcp(443, source.1, FIN | ACK), ..answer(&tcp(FIN), source) };
    rig.back(&closing);
    assert_eq!(state(), 1 | 2 | 4, "answered, and closed by both");
    rig.out(&tcp(SYN)).unwrap();
    assert_eq!(state(), 0);
    assert_eq!(closing.protocol(), TCP);
}
