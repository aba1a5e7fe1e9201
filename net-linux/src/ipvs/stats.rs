//! What has passed a service or a destination. Never its connections of now.

use crate::netlink::{Attr, Attrs};

const STATS_CONNS: u16 = 1;
const STATS_INPKTS: u16 = 2;
const STATS_OUTPKTS: u16 = 3;
const STATS_INBYTES: u16 = 4;
const STATS_OUTBYTES: u16 = 5;
const STATS_CPS: u16 = 6;
const STATS_INPPS: u16 = 7;
const STATS_OUTPPS: u16 = 8;
const STATS_INBPS: u16 = 9;
const STATS_OUTBPS: u16 = 10;

/// Counters since the object was made, and rates that the kernel averages over some seconds. `out` is masqueraded replies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that were scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes from clients, with IP headers.
    pub bytes_in: u64,
    /// Bytes to clients, with IP headers.
    pub bytes_out: u64,
    /// Connections per second.
    pub connections_per_second: u64,
    /// Packets per second from clients.
    pub packets_in_per_second: u64,
    /// Packets per second to clients.
    pub packets_out_per_second: u64,
    /// Bytes per second from clients.
    pub bytes_in_per_second: u64,
    /// Bytes per second to clients.
    pub bytes_out_per_second: u64,
}

/// The counters of 64 bits, or those of 32 of a kernel before 4.1. What is not there counts as zero.
pub(super) fn of(attributes: Attrs<'_>, wide: u16, narrow: u16) -> Stats {
    let Some(nest) = attributes.get(wide).or_else(|| attributes.get(narrow)) else { return Stats::default() };
    let number = |attribute: Attr<'_>| attribute.u64().or_else(|| attribute.u32().map(u64::from));
    let of = |kind| nest.nested().get(kind).and_then(number).unwrap_or(0);
    Stats {
        connections: of(STATS_CONNS),
        packets_in: of(STATS_INPKTS),
        packets_out: of(STATS_OUTPKTS),
        bytes_in: of(STATS_INBYTES),
        bytes_out: of(STATS_OUTBYTES),
        connections_per_second: of(STATS_CPS),
        packets_in_per_second: of(STATS_INPPS),
        packets_out_per_second: of(STATS_OUTPPS),
        bytes_in_per_second: of(STATS_INBPS),
        bytes_out_per_second: of(STATS_OUTBPS),
    }
}
