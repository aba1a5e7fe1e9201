//! Keys and values of the eBPF maps, shared by the programs in the kernel and by who fills the maps. Never a lookup, and
//! never anything that needs an allocator or a kernel.
//!
//! ```text
//! packet ─> Endpoint (interface, own address) ─> ProgramRef ──┐
//!        └> identity (other address, longest prefix) ─────────┼─> PeerClass ────┐
//!           protocol, destination port or ICMP message ───────┼─> traffic class ├─> Verdict
//!           source port ──────────────────────────────────────┴─> source class ─┘
//! ```
//!
//! An answer is looked up as the packet that it answers: [`ConnectionKey`].
//!
//! Numbers are in the machine's order, but for what stands in keys of longest-prefix tries: those compare bits, so there
//! they are in network order. No type has padding: the kernel compares keys by their bytes.

#![no_std]
#![forbid(unsafe_code)]

mod connection;
mod flow;
mod forward;
mod fragment;
mod masquerade;
mod policy;
mod reason;
mod service;

pub use connection::{Connection, ConnectionKey, Count, Judged, Tracked};
pub use flow::{Ended, FlowEvent, FlowsWanted};
pub use forward::{FORWARD_VERSION, Forwarded, Lengths, Pod, Settings, Way, WayKey};
pub use fragment::{Fragment, FragmentKey};
pub use masquerade::{Coming, Leaving, Life, MASQUERADE_VERSION, Masqueraded, Masquerading, Tuple};
pub use policy::{
    Endpoint, EndpointKey, IDENTITY_NONE, OF_NODE, PeerClass, PeerKey, ProgramRef, SOURCE_BITS, TRAFFIC_BITS, Verdict,
    VerdictKey, mapped, nobodys, source_key, traffic_key,
};
pub use reason::Reason;
pub use service::{
    AddressKey, Affinity, AffinityKey, Frontend, FrontendKey, MAGLEV_BITS, MAGLEV_ENTRIES, MaglevTable, MemberKey,
    RANGE_BITS, RangeKey, ReverseKey, SERVICE_VERSION, SlotKey, Target,
};

/// The version of the layouts of policy. Maps of another one are not read.
pub const VERSION: u32 = 4;
