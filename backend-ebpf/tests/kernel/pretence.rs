//! Packets that pretend to be another's: with addresses that maps have for others, with the node's own, or with one segment that ends
//! a connection. Never sent.

use crate::bed::{INTERFACE, enforcer, judge};
use crate::frames::Frame;
use crate::pod::{ADDRESSES as POD, Pod, open_ports};
use backend_ebpf::abi::Reason;
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::Way;
use std::net::{IpAddr, Ipv4Addr};

const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// As IPv6 has it where IPv4 is meant.
fn mapped(address: &str) -> IpAddr {
    address.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped().into()
}

fn datagram(source: IpAddr, destination: IpAddr, [from, to]: [u16; 2]) -> Frame {
    Frame::new(source, destination, UDP, [&from.to_be_bytes()[..], &to.to_be_bytes(), &[0; 8]].concat())
}

#[test]
fn an_ipv4_address_in_an_ipv6_header_is_malformed_and_opens_nothing() {
    let enforcer = open_ports(&Pod { ingress: Some(&[]), egress: Some(&[(UDP, 53)]) });
    let (own, other): (IpAddr, IpAddr) = (POD[0].parse().unwrap(), "203.0.113.1".parse().unwrap());
    let real = datagram(own, other, [4000, 54]).bytes();
    assert_eq!(judge(&enforcer, Way::FromPod, &real).0, Reason::Denied);
    let (v6_own, v6_other) = (POD[1].parse::<IpAddr>().unwrap(), "2001:db8::9".parse::<IpAddr>().unwrap());
    for port in [53, 54] {
        for (source, destination) in
            [(mapped(POD[0]), mapped("203.0.113.1")), (mapped(POD[0]), v6_other), (v6_own, mapped("203.0.113.1"))]
        {
            let there = datagram(source, destination, [4000, port]).bytes();
            assert_eq!(judge(&enforcer, Way::FromPod, &there).0, Reason::Malformed, "{source} > {destination}");
            let back = datagram(destination, source, [port, 4000]).bytes();
            assert_eq!(judge(&enforcer, Way::ToPod, &back).0, Reason::Malformed, "{destination} > {source}");
        }
    }
    assert_eq!(judge(&enforcer, Way::FromPod, &real).0, Reason::Denied);
}

/// A pod on a node with addresses of its own.
fn on_a_node(pod: &Pod<'_>) -> Enforcer {
    let mut enforcer = enforcer();
    enforcer.tables.set_node_addresses(NODE.map(|address| address.parse().unwrap()).into());
    pod.stage(&mut enforcer);
    enforcer.commit().unwrap();
    enforcer
}

/// What becomes of a frame to the pod that came in by an interface; 0: the node made it.
fn passing(enforcer: &Enforcer, came_by: u32, frame: &Frame) -> Reason {
    let judged = enforcer.object.judge_passing(Way::ToPod, [came_by, INTERFACE], &frame.bytes(), 1).unwrap();
    judged.reason.unwrap()
}

#[test]
fn only_what_the_node_makes_itself_is_let_in_as_its_own() {
    for (node, pod) in NODE.into_iter().zip(POD) {
        let (node, pod) = (node.parse().unwrap(), pod.parse().unwrap());
        let to = |port, from| datagram(node, pod, [from, port]);
        let closed = on_a_node(&Pod { ingress: Some(&[(UDP, 53)]), egress: None });
        // Each from a port of its own, so that none belongs to what another one opened.
        assert_eq!(passing(&closed, 7, &to(54, 4001)), Reason::Denied);
        assert_eq!(passing(&closed, 7, &to(53, 4002)), Reason::Allowed);
        assert_eq!(passing(&closed, 0, &to(54, 4003)), Reason::Allowed);
        let answer = datagram(pod, node, [54, 4003]).bytes();
        assert_eq!(judge(&closed, Way::FromPod, &answer).0, Reason::Established);
        let open = on_a_node(&Pod { ingress: None, egress: None });
        assert_eq!(passing(&open, 7, &to(54, 4001)), Reason::Allowed);
        assert_eq!(passing(&open, 0, &to(54, 4002)), Reason::Allowed);
    }
}

#[test]
fn a_denied_connection_from_the_nodes_address_is_not_opened_again_by_an_answer() {
    let (node, pod) = (NODE[0].parse().unwrap(), POD[0].parse().unwrap());
    let mut enforcer = on_a_node(&Pod { ingress: Some(&[(UDP, 53)]), egress: Some(&[]) });
    let to = |from| datagram(node, pod, [from, 53]);
    let back = |from| datagram(pod, node, [53, from]).bytes();
    let [others, own] = [4001, 4002];
    assert_eq!(passing(&enforcer, 7, &to(others)), Reason::Allowed);
    assert_eq!(passing(&enforcer, 0, &to(own)), Reason::Allowed);
    Pod { ingress: Some(&[]), egress: Some(&[]) }.stage(&mut enforcer);
    enforcer.commit().unwrap();
    // Isolation does not keep a pod from its node, but this is no packet of its own.
    assert_eq!(judge(&enforcer, Way::FromPod, &back(others)).0, Reason::Denied);
    assert_eq!(passing(&enforcer, 7, &to(others)), Reason::Denied);
    assert_eq!(judge(&enforcer, Way::FromPod, &back(own)).0, Reason::Established);
    assert_eq!(passing(&enforcer, 0, &to(own)), Reason::Allowed);
}

#[test]
fn a_pod_offers_itself_as_a_router_only_where_policy_lets_it() {
    let enforcer = open_ports(&Pod { ingress: None, egress: Some(&[]) });
    for (kind, wanted) in [(133, Reason::NeighbourDiscovery), (134, Reason::Denied), (135, Reason::NeighbourDiscovery)]
    {
        let payload = [&[kind][..], &[0; 15]].concat();
        let (source, destination) = (POD[1].parse().unwrap(), "ff02::1".parse().unwrap());
        let frame = Frame { hop_limit: 255, ..Frame::new(source, destination, ICMPV6, payload) };
        assert_eq!(judge(&enforcer, Way::FromPod, &frame.bytes()).0, wanted, "{kind}");
    }
}

#[test]
fn a_connection_that_goes_on_after_a_reset_was_not_broken() {
    let enforcer = open_ports(&Pod { ingress: Some(&[(TCP, 80)]), egress: Some(&[]) });
    let (pod, peer): (IpAddr, IpAddr) = (POD[0].parse().unwrap(), "203.0.113.1".parse().unwrap());
    let segment = |flags: u8, way| {
        let (from, to) = if way == Way::ToPod { (4000_u16, 80_u16) } else { (80, 4000) };
        let ends = [from.to_be_bytes(), to.to_be_bytes()].concat();
        let payload = [&ends[..], &[0; 8], &[0x50, flags], &[0; 6]].concat();
        let (source, destination) = if way == Way::ToPod { (peer, pod) } else { (pod, peer) };
        judge(&enforcer, way, &Frame::new(source, destination, TCP, payload).bytes()).0
    };
    assert_eq!(segment(SYN, Way::ToPod), Reason::Allowed);
    assert_eq!(segment(SYN | ACK, Way::FromPod), Reason::Established);
    let life = || {
        let all = enforcer.object.connections().unwrap();
        let [(_, tracked)] = all.as_slice() else { panic!("{all:?}") };
        tracked.connection.timeout_seconds(TCP)
    };
    let whole = life();
    segment(RST, Way::ToPod);
    assert!(life() < whole);
    assert_eq!(segment(ACK, Way::FromPod), Reason::Established);
    assert_eq!(life(), whole);
}
