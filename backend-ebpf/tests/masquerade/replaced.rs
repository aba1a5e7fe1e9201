//! Programs that take the place of others, whose connections are on their way to them. Never a new connection of a packet made by
//! hand that has to pass: its sender sends it again.

use crate::each::at_each_hook;
use crate::frame::{Above, Frame, source_of};
use crate::nodes::{FAR, World};
use crate::put_back::crowd;
use crate::rig::{DROP, FIRST_PORT, NEXT, NODE, OUTSIDE, PODS, Rig, ip, seconds_since_boot};
use backend_ebpf::abi::{Coming, Life, MASQUERADE_VERSION, Masqueraded, Masquerading, Tuple};
use backend_ebpf::kernel::masquerade::Masquerade;
use backend_ebpf::kernel::{Hook, Prior};
use serde_json::json;
use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use testlab::patience::stretched;

at_each_hook! {
    connections_of_another_version_are_not_read_and_programs_are_loaded_anew,
    connections_that_begin_while_programs_are_replaced_are_refused_by_nobody,
}

#[test]
fn what_is_unknown_waits_while_connections_are_on_their_way_and_what_is_known_passes() {
    let mut rig = Rig::new(8);
    for family in 0..2 {
        rig.reset(8);
        let (pod, outside, node) = (ip(PODS[family][0]), ip(OUTSIDE[family][0]), ip(NODE[family]));
        let asks = |port| Frame::new(pod, outside, Above::Udp(port, 443, true));
        let answers = |port| Frame::new(outside, node, Above::Udp(443, port, true));
        let of_node = |port| Frame::new(node, outside, Above::Udp(port, 443, true));
        let known = asks(40_000);
        let (_, port) = source_of(&rig.out(&known).unwrap(), &known.above);
        let all = FIRST_PORT..FIRST_PORT + 8;
        let free: Vec<u16> = all.filter(|other| *other != port).collect();
        rig.set(8, seconds_since_boot() + 100);
        let waiting = rig.count(Masqueraded::HandedOver);
        assert_eq!(source_of(&rig.out(&known).unwrap(), &known.above).1, port);
        assert_eq!(rig.back(&answers(port)), asks_answered(&known).bytes());
        assert_eq!(rig.out(&asks(40_001)), None);
        assert_eq!(rig.out(&of_node(free[0])), None);
        assert_eq!(rig.run(Masquerade::In, &answers(free[1]).bytes()).0, DROP);
        assert_eq!(rig.count(Masqueraded::HandedOver) - waiting, 3);
        for not_ours in [answers(FIRST_PORT - 1), answers(FIRST_PORT + 8)] {
            assert_eq!(rig.run(Masquerade::In, &not_ours.bytes()), (NEXT, not_ours.bytes()));
        }
        assert!(rig.out(&of_node(FIRST_PORT - 1)).is_some());
        let [(tuple, _)] = rig.maps.coming().unwrap().try_into().unwrap();
        assert_eq!(tuple.own_port, port, "nothing was remembered meanwhile");
        // Nobody has ended it, so its time does.
        rig.set(8, seconds_since_boot());
        assert!(rig.out(&asks(40_001)).is_some() && rig.out(&of_node(free[0])).is_some());
    }
}

/// What the pod gets for a question.
fn asks_answered(question: &Frame) -> Frame {
    let (from, to) = question.ports();
    let above = Above::Udp(to, from, true);
    Frame { above, source: question.destination, destination: question.source, ..question.clone() }
}

fn outside(other_port: u16) -> Tuple {
    Tuple { own: [1; 16], other: [2; 16], own_port: FIRST_PORT, other_port, protocol: 17 }
}

fn of_pod(pod: u8, seen_seconds: u32) -> Coming {
    Coming { own: [pod; 16], life: Life::new(seen_seconds, 0), own_port: 7, unused: [0; 3] }
}

#[test]
fn whoever_has_a_port_there_has_it_after_the_connections_were_taken_over() {
    let (mut old, mut new) = (Rig::new(8), Rig::new(8));
    let (tuple, now) = (outside(443), 10_000);
    let coming = |rig: &Rig| rig.maps.coming().unwrap();
    let mut take_over = |there, here: Option<Coming>, prior| {
        old.maps.set_coming(tuple, there).unwrap();
        if let Some(here) = here {
            new.maps.set_coming(tuple, here).unwrap();
        }
        new.maps.take_over(&old.maps, prior, || now).unwrap();
        coming(&new)
    };
    assert_eq!(take_over(of_pod(3, now - 2), None, Prior::There), [(tuple, of_pod(3, now - 2))]);
    // Seen here since, and there not.
    assert_eq!(take_over(of_pod(3, now - 2), Some(of_pod(3, now - 1)), Prior::There), [(tuple, of_pod(3, now - 1))]);
    // Ended there, and its port was given away.
    assert_eq!(take_over(of_pod(4, now - 2), None, Prior::There), [(tuple, of_pod(4, now - 2))]);
    // And the same where ports are given here by now.
    assert_eq!(take_over(of_pod(3, now - 2), None, Prior::Here), [(tuple, of_pod(4, now - 2))]);
    // Ended here, from a time long before.
    assert_eq!(take_over(of_pod(4, now - 2), Some(of_pod(4, now - 1000)), Prior::There), [(tuple, of_pod(4, now - 2))]);
}

/// Both halves of a connection: it is `COMING` that says whether a pod's is alive.
#[test]
fn what_has_ended_is_not_taken_over() {
    let rig = Rig::new(8);
    let mut new = Rig::new(8);
    let ask = |port| Frame::new(ip(PODS[0][0]), ip(OUTSIDE[0][0]), Above::Udp(port, 443, true));
    let known = Frame::new(ip(OUTSIDE[0][0]), ip(PODS[0][0]), Above::Udp(443, 50_000, true));
    assert!(rig.out(&ask(40_000)).is_some());
    // Somebody outside, who knows the pod's own address.
    assert_eq!(rig.back(&known), known.bytes());
    assert_eq!((rig.maps.coming().unwrap().len(), rig.maps.leaving().unwrap().len()), (1, 2));
    let now = seconds_since_boot();
    new.maps.take_over(&rig.maps, Prior::There, || now + 1000).unwrap();
    assert_eq!((new.maps.coming().unwrap(), new.maps.leaving().unwrap()), (Vec::new(), Vec::new()));
    new.maps.take_over(&rig.maps, Prior::There, || now).unwrap();
    assert_eq!((new.maps.coming().unwrap().len(), new.maps.leaving().unwrap().len()), (1, 2));
}

#[test]
fn programs_wait_for_as_long_as_entries_are_taken_over_and_then_ten_seconds() {
    let (mut old, mut new) = (Rig::new(8), Rig::new(8));
    let start = seconds_since_boot();
    for other_port in 1..=3000 {
        old.maps.set_coming(outside(other_port), of_pod(3, start)).unwrap();
    }
    // Each look at the clock is a second later.
    let clock = Cell::new(start);
    let tick = || clock.replace(clock.get() + 1);
    new.maps.take_over(&old.maps, Prior::There, tick).unwrap();
    assert!(clock.get() - start >= 4, "{}", clock.get() - start);
    assert_eq!(new.maps.settings().unwrap().handed_over_seconds, clock.get() - 1 + 10);
    assert_eq!(new.maps.coming().unwrap().len(), old.maps.coming().unwrap().len());
}

fn connections_of_another_version_are_not_read_and_programs_are_loaded_anew(hook: Hook) {
    let section = json!({ "mode": "native", "masquerade": "ebpf" });
    let mut world = World::new(hook, &section);
    world.pod().talks_to(ip(FAR[0]));
    for other in [MASQUERADE_VERSION + 1, MASQUERADE_VERSION - 1] {
        let mut old = world.maps();
        let settings = old.settings().unwrap();
        old.set_settings(Masquerading { version: other, ..settings }).unwrap();
        assert!(!world.has_maps());
        world.restart(&section);
        let new = world.maps();
        assert_eq!(new.settings().unwrap().version, MASQUERADE_VERSION);
        assert_ne!(new.settings().unwrap().salt, settings.salt, "nothing of it was read");
        world.pod().talks_to(ip(FAR[0]));
    }
}

/// Where the far host takes its time to answer.
const SLOW: u16 = 4001;
const WORKERS: usize = 8;

/// Segments by which the node's own stack refused a connection.
fn resets_sent(world: &World) -> u64 {
    let text = world.node().netns.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap()).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, figures) = (lines.next().unwrap().split(' '), lines.next().unwrap().split(' '));
    names.zip(figures).find(|(name, _)| *name == "OutRsts").unwrap().1.parse().unwrap()
}

/// What begins while programs are replaced is sent again after 1, 3 and 7 s, and each of these may meet another replacement.
const THREE_TIMES_SENT: Duration = Duration::from_secs(15);

/// One question and its answer, which comes when the question has long passed.
fn asks_slowly(to: SocketAddr) -> std::io::Result<()> {
    let patience = stretched(THREE_TIMES_SENT);
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

/// Connections that began just before programs were replaced are answered just after that. Other sizes are another load; there are
/// so many connections that to take them over takes a while.
fn connections_that_begin_while_programs_are_replaced_are_refused_by_nobody(hook: Hook) {
    let section = |room: u32| json!({ "mode": "native", "masquerade": "ebpf", "maxMasqueraded": room });
    let mut world = World::new(hook, &section(60_000));
    crowd(&mut world.maps(), 20_000);
    let listener = world.far.netns.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, SLOW)).unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let answer = || -> std::io::Result<()> {
                let mut stream = stream?;
                stream.read_exact(&mut [0])?;
                std::thread::sleep(Duration::from_millis(10));
                stream.write_all(b"!")
            };
            std::thread::spawn(answer);
        }
    });
    let before = resets_sent(&world);
    let (stop, came, refused) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let (pod, to) = (world.pod().netns.clone(), SocketAddr::new(FAR[0].parse().unwrap(), SLOW));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                let ask = || {
                    while !stop.load(Relaxed) {
                        let counter = if asks_slowly(to).is_ok() { &came } else { &refused };
                        counter.fetch_add(1, Relaxed);
                    }
                };
                pod.run(ask).unwrap();
            });
        }
        for room in 60_001..60_005 {
            world.restart(&section(room));
        }
        stop.store(true, Relaxed);
    });
    let (came, refused) = (came.into_inner(), refused.into_inner());
    println!("{came} came, {refused} did not");
    assert_eq!((refused, resets_sent(&world) - before), (0, 0), "{came} came");
    assert!(came > 0);
}
