//! Bytes of the kernel and of the network.

use crate::Target;
use backend_vxlan::udp::icmp::{self, Cause};
use backend_vxlan::udp::packet;

/// Answers and events of rtnetlink.
pub(crate) const ROUTE_NETLINK: Target = Target {
    name: "route_netlink",
    run: net_linux::fuzzing::route_netlink,
    seeds: &[
        // RTM_NEWROUTE 10.1.1.0/26 via 192.0.2.11 dev 3, little-endian.
        &[
            52, 0, 0, 0, 24, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 26, 0, 0, 254, 203, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 10,
            1, 1, 0, 8, 0, 5, 0, 192, 0, 2, 11, 8, 0, 4, 0, 3, 0, 0, 0,
        ],
        // RTM_NEWLINK lo.
        &[
            40, 0, 0, 0, 16, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 3, 1, 0, 0, 0, 73, 0, 1, 0, 0, 0, 0, 0, 7, 0, 3,
            0, 108, 111, 0, 0,
        ],
        // RTM_NEWNEIGH 192.0.2.11 lladdr 02:00:00:00:00:01 dev 3 permanent.
        &[
            48, 0, 0, 0, 28, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 128, 0, 0, 1, 8, 0, 1, 0, 192, 0,
            2, 11, 10, 0, 2, 0, 2, 0, 0, 0, 0, 1, 0, 0,
        ],
        // RTM_NEWTFILTER bpf at egress of dev 7, priority 0x636e, handle 1, direct action, program 99.
        &[
            64, 0, 0, 0, 44, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 243, 255, 255, 255,
            0, 3, 110, 99, 8, 0, 1, 0, 98, 112, 102, 0, 20, 0, 2, 0, 8, 0, 8, 0, 1, 0, 0, 0, 8, 0, 11, 0, 99, 0, 0, 0,
        ],
    ],
};

/// Answers and events of nftables.
pub(crate) const NFTABLES: Target = Target {
    name: "nftables",
    run: net_linux::fuzzing::nftables,
    seeds: &[
        // A table: family inet, name "cni", handle 1; numbers in network order.
        &[1, 0, 0, 0, 8, 0, 1, 0, 99, 110, 105, 0, 8, 0, 2, 0, 0, 0, 0, 0, 12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        // A rule with an empty list of expressions.
        &[
            1, 0, 0, 0, 8, 0, 1, 0, 99, 110, 105, 0, 6, 0, 2, 0, 99, 0, 0, 0, 12, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4,
            0, 4, 128,
        ],
        // One with an expression "counter".
        &[
            1, 0, 0, 0, 8, 0, 1, 0, 99, 110, 105, 0, 6, 0, 2, 0, 99, 0, 0, 0, 20, 0, 4, 128, 16, 0, 1, 128, 12, 0, 1,
            0, 99, 111, 117, 110, 116, 101, 114, 0,
        ],
    ],
};

/// Packets that the UDP mode forwards: whoever reaches the port sends them.
pub(crate) const UDP_PACKET: Target = Target {
    name: "udp_packet",
    run: udp_packet,
    seeds: &[
        // IPv4, UDP, 10.1.1.5 to 10.1.2.5, no payload.
        &[0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 1, 5, 10, 1, 2, 5, 0, 53, 0, 53, 0, 8, 0, 0],
        // IPv6 with a fragment header, then ICMPv6.
        &[
            0x60, 0, 0, 0, 0, 16, 44, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xfd, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 2, 58, 0, 0, 1, 0, 0, 0, 1, 128, 0, 0, 0, 0, 0, 0, 0,
        ],
    ],
};

fn udp_packet(bytes: &[u8]) {
    let Ok(inner) = packet::parse(bytes) else { return };
    for cause in [Cause::HopsUsedUp, Cause::NoRoute, Cause::TooBig(1400)] {
        let error = icmp::error(bytes, &inner, cause);
        assert!(error.is_none_or(|error| error.len() <= 1280), "an ICMP error fits the least MTU");
    }
    if inner.ttl > 0 {
        let mut forwarded = bytes.to_vec();
        packet::count_down(&mut forwarded);
        let after = packet::parse(&forwarded).expect("a forwarded packet is a packet");
        assert_eq!(after, packet::Inner { ttl: inner.ttl - 1, ..inner });
    }
}
