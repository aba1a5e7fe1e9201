//! The `udp` mode: packets of a TUN device in UDP datagrams, one per packet, for places where VXLAN is not possible.
//! Never a kernel tunnel, and never slower than needed: packets move in batches.
//!
//! ```text
//!  pod -> route -> TUN -> Pump: look up, count the TTL down -> sendmmsg -> peer:8285
//!  pod <- route <- TUN <- Pump: known peer? a whole packet? <- recvmmsg <- peer:8285
//! ```
//! The datagram's payload is the IP packet as it is, as in Flannel's `udp` backend.

pub mod icmp;
pub mod packet;
mod pump;
mod rate;
mod table;

pub use pump::{Pump, PumpError, Stats};
pub use table::Table;
