//! Two segments with a router between them, in a namespace of their own. Never a node: those are plugged in.
//!
//! ```text
//!   segment A 192.0.2.0/24, 2001:db8:a::/64        segment B 198.51.100.0/24, 2001:db8:b::/64
//!     node 1   node 2   ..            router              node 9   (numbers from 9 up)
//! ```

use super::shell::ip_batch;
use net_linux::netns::NetNs;
use std::any::Any;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The segments and their router.
pub struct Underlays {
    router: NetNs,
    /// Instead of a bridge, this carries frames between the ports of nodes.
    carrier: Option<Box<dyn Any + Send + Sync>>,
}

impl Underlays {
    /// Segments that are bridges.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes namespaces")]
    pub fn new() -> Self {
        let router = NetNs::new().expect("the tests need root, to make network namespaces");
        router
            .run(|| {
                let lines = [
                    "link set lo up",
                    "link add seg-a type bridge",
                    "link add seg-b type bridge",
                    "address add 192.0.2.254/24 dev seg-a",
                    "address add 198.51.100.254/24 dev seg-b",
                    "address add 2001:db8:a::fe/64 dev seg-a nodad",
                    "address add 2001:db8:b::fe/64 dev seg-b nodad",
                    "link set seg-a up",
                    "link set seg-b up",
                ];
                ip_batch(&lines.map(str::to_owned));
                std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
                std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            })
            .unwrap();
        Self { router, carrier: None }
    }

    /// One segment, on which what `start` makes carries frames between the ports of its namespace, for as long as it
    /// lives.
    pub fn carried_by<C: Send + Sync + 'static>(start: impl FnOnce() -> C + Send) -> Self {
        let underlays = Self::new();
        let carrier = underlays.router.run(start).unwrap();
        Self { carrier: Some(Box::new(carrier)), ..underlays }
    }

    /// Plugs a node in, or what is to be beside nodes; then its addresses and its way out.
    pub fn plug(&self, number: u8, node: &NetNs) {
        let port = port(number);
        cable((&self.router, &port), (node, "eth0"));
        let (segment, gateway_v4, gateway_v6) = if number < 9 {
            ("seg-a", "192.0.2.254", "2001:db8:a::fe")
        } else {
            ("seg-b", "198.51.100.254", "2001:db8:b::fe")
        };
        let master = if self.carrier.is_some() { String::new() } else { format!("master {segment}") };
        self.router.run(|| ip_batch(&[format!("link set {port} {master} up")])).unwrap();
        node.run(|| {
            ip_batch(&[
                "link set lo up".to_owned(),
                "link set eth0 up".to_owned(),
                format!("address add {}/24 dev eth0", v4_of(number)),
                format!("address add {}/64 dev eth0 nodad", v6_of(number)),
                format!("route add default via {gateway_v4}"),
                format!("route add ::/0 via {gateway_v6}"),
            ]);
        })
        .unwrap();
    }

    /// Cuts the cable of what is plugged in there, at the segment's end: nobody else's carrier changes.
    pub fn cut(&self, number: u8) {
        self.router.run(|| ip_batch(&[format!("link set {} down", port(number))])).unwrap();
    }
}

fn port(number: u8) -> String {
    format!("port{number}")
}

/// A veth between two namespaces, by the names of its ends, both down; handed over by a pinned name of the test's own.
pub fn cable((near, near_name): (&NetNs, &str), (far, far_name): (&NetNs, &str)) {
    let pin = std::env::temp_dir().join(format!("cnidarian-test-{}-{}", std::process::id(), far.id().inode));
    far.pin(&pin).unwrap();
    let path = pin.display();
    near.run(|| ip_batch(&[format!("link add {near_name} type veth peer name {far_name} netns {path}")])).unwrap();
    NetNs::unpin(&pin).unwrap();
}

/// A node's IPv4 address in the underlay.
#[must_use]
pub fn v4_of(number: u8) -> Ipv4Addr {
    if number < 9 { Ipv4Addr::new(192, 0, 2, number) } else { Ipv4Addr::new(198, 51, 100, number) }
}

/// A node's IPv6 address in the underlay.
#[must_use]
pub fn v6_of(number: u8) -> Ipv6Addr {
    let segment = if number < 9 { 0xa } else { 0xb };
    Ipv6Addr::new(0x2001, 0xdb8, segment, 0, 0, 0, 0, number.into())
}
