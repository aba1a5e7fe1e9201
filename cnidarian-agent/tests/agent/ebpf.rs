//! The life of policy and forwarding in eBPF: switched, killed, and tampered with, beside packets. Never a look into maps: what
//! counts is what passes.

use crate::policy::{Member, SetAtEnd, connect, echoes, flood, heard, opens, resync, three};
use crate::world::{World, until};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A configuration with the backend `ebpf`.
pub(crate) fn config(world: &World, policy: &str, mode: &str, fast_path: bool) -> Value {
    let mut config = world.config();
    config["backend"] = json!("ebpf");
    config["ebpf"] = json!({"mode": mode, "fastPath": fast_path});
    config["policy"] = json!(policy);
    config
}

/// The folder of this node's pins.
pub(crate) fn pins(world: &World) -> PathBuf {
    PathBuf::from(format!("/sys/fs/bpf/cnidarian/{}", world.netns.cookie().unwrap()))
}

/// Asserts that nothing is heard of a flood, before now and of packets that are sent from now on.
pub(crate) fn is_calm(member: &Member, sent: &AtomicUsize, when: &str) {
    const PACKETS: usize = 3000;
    let wanted = sent.load(Ordering::Relaxed) + PACKETS;
    until("more is sent", || if sent.load(Ordering::Relaxed) >= wanted { Ok(()) } else { Err("less".to_owned()) });
    let words = heard(&member.ear).iter().filter(|word| *word == b"race").count();
    assert_eq!(words, 0, "{when}: denied packets came through");
}

/// Engines, and whether packets skip the host's stack.
const SWITCHES: [(&str, bool); 5] =
    [("nftables", false), ("ebpf", true), ("ebpf", false), ("ebpf", true), ("nftables", false)];

#[test]
fn from_the_fast_path_to_the_stack_and_back_no_packet_passes_that_both_engines_deny() {
    for mode in ["native", "vxlan"] {
        let mut world = World::new();
        world.start_with(&config(&world, "ebpf", mode, true));
        let [a, b, c] = three(&world);
        let mut open = connect(&a, &b);
        let (stop, denied) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let _stopped = SetAtEnd(&stop);
            scope.spawn(|| flood(&c.pod.netns, || vec![b.address], &stop, &denied));
            for (engine, fast_path) in SWITCHES {
                world.kill();
                world.start_with(&config(&world, engine, mode, fast_path));
                let now = format!("{mode}, {engine}, fast path {fast_path}");
                is_calm(&b, &denied, &now);
                assert!(echoes(&mut open), "{now}");
            }
        });
        opens(&a.pod.netns, &b);
        assert!(!pins(&world).exists(), "nothing of the engine before is left");
    }
}

#[test]
fn pins_that_somebody_removes_open_nothing_whether_an_agent_runs_or_not() {
    let mut world = World::enforcing("ebpf");
    let [a, b, c] = three(&world);
    let mut open = connect(&a, &b);
    let (stop, denied) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stopped = SetAtEnd(&stop);
        scope.spawn(|| flood(&c.pod.netns, || vec![b.address], &stop, &denied));
        std::fs::remove_dir_all(pins(&world)).unwrap();
        is_calm(&b, &denied, "an agent runs");
        resync(&world);
        is_calm(&b, &denied, "after a resync");
        assert!(pins(&world).join("policy").is_dir(), "a resync puts them back");
        assert!(echoes(&mut open));
        std::fs::remove_dir_all(pins(&world)).unwrap();
        for restart in ["killed", "killed again"] {
            world.kill();
            is_calm(&b, &denied, restart);
            world.start();
            is_calm(&b, &denied, "started again");
            assert!(echoes(&mut open), "{restart}");
        }
        world.kill();
        std::fs::remove_dir_all(pins(&world)).unwrap();
        is_calm(&b, &denied, "while nobody runs");
    });
    world.policy = "none".to_owned();
    world.start();
    opens(&c.pod.netns, &b);
    assert!(!pins(&world).exists());
}

#[test]
fn a_first_engine_without_room_leaves_no_pod_open_behind_an_agent_that_says_it_is_ready() {
    let mut world = World::enforcing("none");
    let [_, b, c] = three(&world);
    opens(&c.pod.netns, &b);
    world.kill();
    let mut small = world.config();
    small["policy"] = json!({"engine": "ebpf", "maps": {"endpoints": 1}});
    // Also the next start finds nothing that was in force.
    for _ in 0..2 {
        world.spawn(&small);
        assert!(!world.wait_for_end().success(), "it started");
        let log = world.log();
        assert!(log.contains("ENDPOINTS is full") && log.contains("would stay open"), "{log}");
        assert!(!pins(&world).exists());
    }
    world.policy = "ebpf".to_owned();
    world.start();
}

#[test]
fn an_engine_without_room_beside_the_rules_of_another_one_ends_the_start_and_opens_nothing() {
    let mut world = World::new();
    world.start_with(&config(&world, "nftables", "native", false));
    let [a, b, c] = three(&world);
    let (stop, denied) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _stopped = SetAtEnd(&stop);
        scope.spawn(|| flood(&c.pod.netns, || vec![b.address], &stop, &denied));
        world.kill();
        let mut small = config(&world, "ebpf", "native", true);
        small["policy"] = json!({"engine": "ebpf", "maps": {"identities": 1}});
        world.spawn(&small);
        assert!(!world.wait_for_end().success(), "it started");
        let log = world.log();
        assert!(log.contains("MEANINGS is full") && log.contains("policy nftables is there"), "{log}");
        is_calm(&b, &denied, "after a start that failed");
        world.start_with(&config(&world, "nftables", "native", false));
        is_calm(&b, &denied, "as before");
    });
    opens(&a.pod.netns, &b);
    assert!(!pins(&world).exists());
}
