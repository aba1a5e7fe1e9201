//! Killed at any moment, the agent restarts to the same state.

use crate::world::{Pod, World, until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

#[test]
fn established_tcp_outlives_the_agent() {
    let mut world = World::started();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    world.cni("ADD", &a).ok();
    let added = world.cni("ADD", &b).ok();
    let address: Ipv4Addr = added["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap();
    let listen = || TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
    let listener = b.netns.run(listen).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client = a.netns.run(|| TcpStream::connect((address, port)).unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut echo = |text: &[u8]| {
        client.write_all(text).unwrap();
        let mut bytes = vec![0; text.len()];
        server.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, text);
    };
    echo(b"before");
    world.kill();
    echo(b"while nobody is there");
    world.start();
    echo(b"after");
    world.stop();
    echo(b"after the end");
    world.start();
    assert!(world.check(&b, &added).success);
    for pod in [&a, &b] {
        world.cni("DEL", pod).ok();
    }
    world.assert_empty();
}

#[test]
fn a_del_without_agent_is_done_when_it_comes_back() {
    let mut world = World::started();
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    world.cni("ADD", &a).ok();
    world.cni("ADD", &b).ok();
    world.kill();
    world.cni("DEL", &a).ok();
    world.cni("DEL", &a).ok();
    let tombstones = world.state().join("tombstones");
    assert_eq!(std::fs::read_dir(&tombstones).unwrap().count(), 1);
    assert_eq!(world.cni("ADD", &a).code(), 11);
    assert_eq!(world.cni("STATUS", &a).code(), 50);
    world.start();
    until("the tombstone is gone", || match std::fs::read_dir(&tombstones).unwrap().count() {
        0 => Ok(()),
        count => Err(format!("{count} left")),
    });
    assert_eq!(world.leases().len(), 1);
    assert_eq!(world.routes().len(), 1);
    world.cni("ADD", &a).ok();
    for pod in [&a, &b] {
        world.cni("DEL", pod).ok();
    }
    world.assert_empty();
}

#[test]
fn a_namespace_that_vanishes_while_the_agent_is_away_is_cleared_at_the_start() {
    let mut world = World::started();
    let pod = Pod::new("a");
    world.cni("ADD", &pod).ok();
    world.kill();
    drop(pod);
    until("the veth is gone with its namespace", || {
        if world.veths().is_empty() { Ok(()) } else { Err("it is there".to_owned()) }
    });
    world.start();
    world.assert_empty();
}

#[test]
fn a_second_agent_of_the_same_state_is_refused() {
    let mut world = World::started();
    let config = world.config();
    let first = std::mem::replace(&mut world, World::new());
    // The second one, in another namespace, with the first one's state.
    let mut second = std::mem::replace(&mut world, World::new());
    second.spawn(&config);
    assert_eq!(second.wait_for_end().code(), Some(1));
    assert!(second.log().contains("process"), "{}", second.log());
    assert!(first.cni("STATUS", &Pod::new("a")).success);
}

/// 200 operations under `kill -9`: afterwards exactly what was added and not deleted is there.
#[test]
fn killed_again_and_again_it_loses_and_leaks_nothing() {
    const PODS: usize = 10;
    const ROUNDS: usize = 20;
    let mut world = World::started();
    let pods: Vec<Pod> = (0..PODS).map(|index| Pod::new(&format!("pod-{index}"))).collect();
    let (working, done) = (AtomicBool::new(true), AtomicUsize::new(0));
    let mut kills = 0;
    let config = world.config();
    let world_ref = std::sync::RwLock::new(&mut world);
    let attached: Vec<bool> = std::thread::scope(|scope| {
        let workers: Vec<_> = pods
            .chunks(PODS / 2)
            .map(|pods| {
                let (world, done) = (&world_ref, &done);
                scope.spawn(move || {
                    let mut attached = vec![false; pods.len()];
                    for round in 0..ROUNDS {
                        for (index, pod) in pods.iter().enumerate() {
                            let verb = if attached[index] || (round + index) % 7 == 6 { "DEL" } else { "ADD" };
                            let answer = world.read().unwrap().cni(verb, pod);
                            if verb == "ADD" {
                                attached[index] = answer.success;
                                if !answer.success {
                                    // As a runtime does after an ADD that failed. Without agent this leaves a tombstone.
                                    let undone = world.read().unwrap().cni("DEL", pod);
                                    assert!(undone.success, "{}", undone.json);
                                }
                            } else {
                                assert!(answer.success, "{}", answer.json);
                                attached[index] = false;
                            }
                            done.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    attached
                })
            })
            .collect();
        let killer = scope.spawn(|| {
            let mut next = 5;
            while working.load(Ordering::SeqCst) {
                if done.load(Ordering::SeqCst) >= next {
                    next = done.load(Ordering::SeqCst) + 12;
                    // Killed without waiting for anybody; only the handle is locked, for the new process.
                    let pid = world_ref.read().unwrap().pid();
                    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
                    kills += 1;
                    let mut world = world_ref.write().unwrap();
                    world.kill();
                    world.spawn(&config);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let attached = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        working.store(false, Ordering::SeqCst);
        killer.join().unwrap();
        attached
    });
    world.kill();
    world.start();
    assert!(kills >= 5, "{kills} kills");
    let expected = attached.iter().filter(|attached| **attached).count();
    until("exactly what was added is there", || {
        let (leases, veths, routes) = (world.leases(), world.veths(), world.routes());
        if [leases.len(), veths.len(), routes.len()] == [expected; 3] {
            Ok(())
        } else {
            Err(format!("{expected} expected: {leases:?} {veths:?} {routes:?}\n{}", world.log()))
        }
    });
    assert!(world.ask(&["ipam", "check"]).0);
    for pod in &pods {
        world.cni("DEL", pod).ok();
    }
    world.assert_empty();
}
