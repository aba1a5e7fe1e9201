//! Backends that are taken away under connections. Never by a clock: what the kernel counts decides.

use crate::bed::{Bed, block_on, echoes, has_ipvs};
use crate::items::{PODS, item, over};
use crate::packets::{engine, put};
use cni_core::model::FrontendKind;
use cni_core::policy::model::Protocol;
use net_linux::ipvs::{Ipvs, ServiceId};
use net_linux::netns::NetNs;
use nix::sys::socket::{setsockopt, sockopt};
use std::time::Duration;
use testlab::bed::wait_for;

fn weights(node: &NetNs, protocol: u8, service: &str) -> Vec<(String, u32)> {
    let id = ServiceId::address(protocol, service.parse().unwrap());
    let found = node.run(|| Ipvs::open().unwrap().destinations(&id).unwrap()).unwrap();
    let mut found: Vec<(String, u32)> =
        found.into_iter().map(|(destination, ..)| (destination.to_string(), destination.weight)).collect();
    found.sort();
    found
}

#[test]
fn a_backend_that_goes_keeps_its_connections_gets_no_new_ones_and_goes_when_they_are_over() {
    if !has_ipvs() {
        return;
    }
    let bed = Bed::new();
    let mut engine = engine(&bed.node.netns);
    put(&mut *engine, [item(FrontendKind::ClusterIp, "10.96.0.10:80", &PODS)]);
    let (mut stream, name) = bed.client.open("10.96.0.10:80");
    echoes(&mut stream);
    let going = PODS[usize::from(name) - 1];
    let rest: Vec<&str> = PODS.into_iter().filter(|pod| *pod != going).collect();
    put(&mut *engine, [item(FrontendKind::ClusterIp, "10.96.0.10:80", &rest)]);
    let found = weights(&bed.node.netns, 6, "10.96.0.10:80");
    assert!(found.contains(&(going.to_owned(), 0)), "{found:?}");
    echoes(&mut stream);
    let counts = bed.client.count("10.96.0.10:80", 12);
    assert_eq!(counts[usize::from(name) - 1], 0, "{counts:?}");
    // A restart in between neither ends it nor forgets it.
    drop(engine);
    let mut engine = self::engine(&bed.node.netns);
    put(&mut *engine, [item(FrontendKind::ClusterIp, "10.96.0.10:80", &rest)]);
    echoes(&mut stream);
    let drift = block_on(engine.resync()).unwrap();
    assert!(drift.is_none(), "{drift:?}");
    // Reset, so that the kernel does not remember it for minutes.
    setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    drop(stream);
    wait_for("the backend is gone", Duration::from_secs(30), || {
        block_on(engine.commit());
        weights(&bed.node.netns, 6, "10.96.0.10:80").iter().all(|(place, _)| place != going)
    });
}

#[test]
fn a_backend_that_comes_back_while_it_drains_is_used_again() {
    if !has_ipvs() {
        return;
    }
    let bed = Bed::new();
    let mut engine = engine(&bed.node.netns);
    let with = |pods: &[&str]| item(FrontendKind::ClusterIp, "10.96.0.10:80", pods);
    put(&mut *engine, [with(&PODS[..1])]);
    let (mut stream, _) = bed.client.open("10.96.0.10:80");
    put(&mut *engine, [with(&[])]);
    assert_eq!(weights(&bed.node.netns, 6, "10.96.0.10:80"), [(PODS[0].to_owned(), 0)]);
    put(&mut *engine, [with(&PODS[..1])]);
    assert_eq!(weights(&bed.node.netns, 6, "10.96.0.10:80"), [(PODS[0].to_owned(), 1)]);
    echoes(&mut stream);
    assert_eq!(bed.client.ask("10.96.0.10:80").unwrap().0, 1);
}

#[test]
fn datagrams_go_elsewhere_at_once() {
    if !has_ipvs() {
        return;
    }
    let bed = Bed::new();
    let mut engine = engine(&bed.node.netns);
    let with = |pods: &[&str]| over(Protocol::UDP, item(FrontendKind::ClusterIp, "10.96.0.10:53", pods));
    put(&mut *engine, [with(&PODS[..1])]);
    assert_eq!(bed.client.ask_by_datagram("10.96.0.10:53").unwrap().0, 1);
    put(&mut *engine, [with(&PODS[1..2])]);
    assert_eq!(weights(&bed.node.netns, 17, "10.96.0.10:53"), [(PODS[1].to_owned(), 1)]);
    assert_eq!(bed.client.ask_by_datagram("10.96.0.10:53").unwrap().0, 2);
}
