//! Router advertisements on the wire. Never a default route from one.

use crate::stage::{DEVICE, Event, Node, cable, two_nodes};
use bgp_speaker::transport::{Limits, Setup};
use net_linux::addr::Address;
use net_linux::link::{Link, LinkId};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use net_linux::route::{Route, RouteFilter};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, bind, sendto, setsockopt, socket, sockopt,
};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::Arc;

fn discovering() -> Setup {
    Setup { discover: vec![Arc::from(DEVICE)], ..Setup::default() }
}

fn neighbour(node: &Node) -> Option<Ipv6Addr> {
    node.wait("neighbour", |event| match event {
        Event::Neighbour { interface, address } => {
            assert_eq!(&**interface, DEVICE);
            Some(*address)
        }
        Event::Trouble(trouble) => panic!("{trouble}"),
        _ => None,
    })
}

fn address(text: &str) -> Option<Ipv6Addr> {
    Some(text.parse().unwrap())
}

#[test]
fn two_ends_find_each_other_at_once_and_no_default_route() {
    let nodes = two_nodes();
    for node in &nodes {
        node.set_up(discovering()).unwrap();
    }
    assert_eq!(neighbour(&nodes[0]), address("fe80::2"));
    assert_eq!(neighbour(&nodes[1]), address("fe80::1"));
    for node in &nodes {
        let routes = || Route::dump(&mut Socket::route().unwrap(), &RouteFilter::default()).unwrap();
        let routes = node.namespace.run(routes).unwrap();
        assert!(!routes.iter().any(|route| route.destination.prefix_len() == 0), "{routes:?}");
    }
}

/// Sends an advertisement from an address, as somebody else on the link.
fn forge(namespace: &NetNs, from: &str, hops: i32) {
    let inside = || {
        let mut route = Socket::route().unwrap();
        let index = Link::get(&mut route, &LinkId::Name(DEVICE)).unwrap().unwrap().index;
        let mut batch = Batch::new();
        Address::new(index, format!("{from}/64").parse().unwrap()).replace(&mut batch);
        route.run_all(&mut batch).unwrap();
        let flags = SockFlag::SOCK_CLOEXEC;
        let raw = socket(AddressFamily::Inet6, SockType::Raw, flags, SockProtocol::IcmpV6).unwrap();
        bind(raw.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(from.parse().unwrap(), 0, 0, index))).unwrap();
        setsockopt(&raw, sockopt::Ipv6Ttl, &hops).unwrap();
        // To the neighbour itself: only packets to one address take their hop limit from this option.
        let to = SockaddrIn6::from(SocketAddrV6::new("fe80::2".parse().unwrap(), 0, 0, index));
        sendto(raw.as_raw_fd(), &[134, 0, 0, 0, 0, 0, 0, 30, 0, 0, 0, 0, 0, 0, 0, 0], &to, MsgFlags::empty()).unwrap();
    };
    namespace.run(inside).unwrap();
}

#[test]
fn what_crossed_a_router_or_is_not_link_local_is_not_heard() {
    let ends = cable();
    let node = Node::start(&ends[1], Limits::default());
    node.set_up(discovering()).unwrap();
    forge(&ends[0], "fe80::bad", 254);
    forge(&ends[0], "2001:db8::bad", 255);
    forge(&ends[0], "fe80::600d", 255);
    assert_eq!(neighbour(&node), address("fe80::600d"));
}

#[test]
fn a_device_that_is_not_there_is_reported_once_and_waited_for() {
    let namespace = NetNs::new().unwrap();
    let node = Node::start(&namespace, Limits::default());
    node.set_up(discovering()).unwrap();
    let trouble = node.wait("trouble", |event| match event {
        Event::Trouble(text) => Some(text.clone()),
        _ => None,
    });
    assert!(trouble.contains(DEVICE), "{trouble}");
}
