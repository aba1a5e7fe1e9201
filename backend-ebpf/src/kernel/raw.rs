//! Layouts as plain bytes for the library that talks to the kernel. Never a type with padding: that would leak, and keys would
//! not be equal.
#![expect(unsafe_code, reason = "the library asks for a promise about each type's bytes")]

use aya::Pod;
use backend_ebpf_abi::{
    AddressKey, Affinity, AffinityKey, Coming, ConnectionKey, Endpoint, EndpointKey, FlowsWanted, Frontend,
    FrontendKey, Leaving, Lengths, MaglevTable, Masquerading, MemberKey, PeerClass, PeerKey, RangeKey, ReverseKey,
    Settings, SlotKey, Target, Tracked, Tuple, Verdict, VerdictKey, Way, WayKey,
};

/// A key or value of ours.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Raw<T>(pub(crate) T);

macro_rules! plain {
    ($($type:ty),+) => {$(
        // SAFETY: `repr(C)` of integers without padding, which the layout tests of the crate check: any bytes are one.
        unsafe impl Pod for Raw<$type> {}
    )+};
}

plain!(ConnectionKey, Endpoint, EndpointKey, FlowsWanted, PeerClass, PeerKey, Tracked, Verdict, VerdictKey);
plain!(Coming, Leaving, Masquerading, Tuple);
plain!(Lengths, Settings, Way, WayKey, backend_ebpf_abi::Pod);
plain!(
    Affinity,
    AffinityKey,
    AddressKey,
    Frontend,
    FrontendKey,
    MaglevTable,
    MemberKey,
    RangeKey,
    ReverseKey,
    SlotKey,
    Target,
    u32
);
