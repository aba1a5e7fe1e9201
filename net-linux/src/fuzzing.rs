//! Doors for fuzzers to the parsers of what the kernel sends. Never used by anything else.

use crate::netlink::wire::messages;
use crate::{addr, fdb, link, neigh, nexthop, nft, route, tc};

/// Reads bytes as a datagram of rtnetlink. Each message goes to every parser, whatever kind it says it is.
pub fn route_netlink(bytes: &[u8]) {
    for (header, payload) in messages(bytes) {
        let _link = link::read::parse(header, payload);
        let _address = addr::parse(header, payload);
        let _route = route::read::parse(header, payload);
        let _neighbour = neigh::parse(header, payload);
        let _entry = fdb::parse(header, payload);
        let _next_hop = nexthop::parse(header, payload);
        let _filter = tc::parse(header, payload);
    }
}

/// Reads bytes as the payload of a message of nftables, with every parser.
pub fn nftables(bytes: &[u8]) {
    nft::parse_anything(bytes);
}
