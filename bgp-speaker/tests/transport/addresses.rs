//! What a transport tells of the addresses of its node. Never what becomes of it.

use crate::stage::{DEVICE, Event, Node, cable};
use bgp_speaker::speaker::Addresses;
use bgp_speaker::transport::Limits;
use net_linux::addr::Address;
use net_linux::link::{Link, LinkId};
use net_linux::netlink::{Batch, Socket};

fn told(node: &Node, wanted: impl Fn(&Addresses) -> bool) {
    node.wait("addresses", |event| match event {
        Event::Addresses(addresses) => wanted(addresses).then_some(()),
        Event::Trouble(trouble) => panic!("{trouble}"),
        _ => None,
    });
}

#[test]
fn addresses_are_told_with_their_devices_and_networks_and_again_when_they_change() {
    let ends = cable();
    let node = Node::start(&ends[0], Limits::default());
    let has = |addresses: &Addresses, address: &str| {
        addresses.get(DEVICE).is_some_and(|all| all.contains(&address.parse().unwrap()))
    };
    told(&node, |all| ["10.9.0.1/24", "2001:db8::1/64", "fe80::1/64"].iter().all(|address| has(all, address)));
    let change = |change: fn(&Address, &mut Batch)| {
        let inside = || {
            let mut socket = Socket::route().unwrap();
            let index = Link::get(&mut socket, &LinkId::Name(DEVICE)).unwrap().unwrap().index;
            let mut batch = Batch::new();
            change(&Address::new(index, "10.10.0.1/16".parse().unwrap()), &mut batch);
            socket.run_all(&mut batch).unwrap();
        };
        ends[0].run(inside).unwrap();
    };
    change(Address::create);
    told(&node, |all| has(all, "10.10.0.1/16") && has(all, "10.9.0.1/24"));
    change(Address::delete);
    told(&node, |all| !has(all, "10.10.0.1/16") && has(all, "10.9.0.1/24"));
}
