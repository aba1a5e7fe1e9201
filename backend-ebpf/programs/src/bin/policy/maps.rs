//! The maps. Never filled here, but for fragments and counters; who loads the programs says how large they are.

use aya_ebpf::bindings::{BPF_ANY, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use backend_ebpf_abi::{
    ConnectionKey, Endpoint, EndpointKey, Fragment, FragmentKey, IDENTITY_NONE, PeerClass, PeerKey, ProgramRef, Reason,
    SOURCE_BITS, TRAFFIC_BITS, Tracked, Verdict, VerdictKey, source_key, traffic_key,
};
use backend_ebpf_programs::Way;
use backend_ebpf_programs::packet::Fragments;

/// Whoever loads the object sets the numbers of entries.
const SOME: u32 = 1024;

#[map]
static ENDPOINTS: HashMap<EndpointKey, Endpoint> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
/// The same of the node itself: its own addresses, at each interface where something is enforced of it.
#[map]
static HOSTS: HashMap<EndpointKey, Endpoint> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
#[map]
static IDENTITIES_V4: LpmTrie<[u8; 4], u32> = LpmTrie::with_max_entries(SOME, 0);
#[map]
static IDENTITIES_V6: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(SOME, 0);
#[map]
static PEERS: HashMap<PeerKey, PeerClass> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
#[map]
static TRAFFIC: LpmTrie<[u8; 7], u32> = LpmTrie::with_max_entries(SOME, 0);
#[map]
static SOURCES: LpmTrie<[u8; 6], u32> = LpmTrie::with_max_entries(SOME, 0);
#[map]
static VERDICTS: HashMap<VerdictKey, Verdict> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
#[map]
static FRAGMENTS: LruHashMap<FragmentKey, Fragment> = LruHashMap::with_max_entries(SOME, 0);
#[map]
static CONNECTIONS: LruHashMap<ConnectionKey, Tracked> = LruHashMap::with_max_entries(SOME, 0);
/// So many got an entry that had none: who counts entries knows from it how many had to make room.
#[map]
static CONNECTIONS_BEGUN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// What numbers of identities and programs stand for. Nothing here asks: it is for who comes after the one that wrote it.
#[map]
static MEANINGS: HashMap<u64, [u8; 16]> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
/// Of the policy that is in force; see [`backend_ebpf_abi::Judged`].
#[map]
static EPOCH: Array<u32> = Array::with_max_entries(1, 0);
/// By reason, first of what comes from pods.
#[map]
static PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(2 * Reason::COUNT, 0);
/// The same of the node itself, first of what goes from it.
#[map]
static HOST_PACKETS: PerCpuArray<u64> = PerCpuArray::with_max_entries(2 * Reason::COUNT, 0);

#[inline(always)]
pub fn count(reason: Reason, way: Way) {
    add(&PACKETS, reason, way);
}

#[inline(always)]
pub fn count_host(reason: Reason, way: Way) {
    add(&HOST_PACKETS, reason, way);
}

#[inline(always)]
fn add(counters: &PerCpuArray<u64>, reason: Reason, way: Way) {
    let first = if let Way::FromPod = way { 0 } else { Reason::COUNT };
    if let Some(counter) = counters.get_ptr_mut(first + reason as u32) {
        // SAFETY: this CPU's own counter, and programs are not interrupted by themselves.
        unsafe { *counter += 1 };
    }
}

/// 0: none is.
#[inline(always)]
pub fn epoch() -> u32 {
    match EPOCH.get(0) {
        Some(epoch) => *epoch,
        None => 0,
    }
}

#[inline(always)]
pub fn endpoint(interface: u32, address: [u8; 16]) -> Option<&'static Endpoint> {
    // SAFETY: entries are replaced whole, and freed after the program ended.
    unsafe { ENDPOINTS.get(&EndpointKey { interface, address }) }
}

#[inline(always)]
pub fn host(interface: u32, address: [u8; 16]) -> Option<&'static Endpoint> {
    // SAFETY: as above.
    unsafe { HOSTS.get(&EndpointKey { interface, address }) }
}

#[inline(always)]
pub fn identity(v4: bool, address: &[u8; 16]) -> u32 {
    let found = if v4 {
        IDENTITIES_V4.get(&Key::new(32, [address[12], address[13], address[14], address[15]]))
    } else {
        IDENTITIES_V6.get(&Key::new(128, *address))
    };
    match found {
        Some(identity) => *identity,
        None => IDENTITY_NONE,
    }
}

#[inline(always)]
pub fn peer_class(program: &ProgramRef, identity: u32) -> PeerClass {
    // SAFETY: as above.
    match unsafe { PEERS.get(&PeerKey { program: program.program, identity }) } {
        Some(class) => *class,
        None => PeerClass { class: 0, default: program.default },
    }
}

#[inline(always)]
pub fn traffic_class(program: u32, protocol: u8, detail: u16) -> Option<u32> {
    TRAFFIC.get(&Key::new(TRAFFIC_BITS, traffic_key(program, protocol, detail))).copied()
}

#[inline(always)]
pub fn source_class(program: u32, port: u16) -> Option<u32> {
    SOURCES.get(&Key::new(SOURCE_BITS, source_key(program, port))).copied()
}

#[inline(always)]
pub fn verdict(key: &VerdictKey) -> Option<Verdict> {
    // SAFETY: as above.
    unsafe { VERDICTS.get(key) }.copied()
}

/// Ports of first fragments.
pub struct Kept;

impl Fragments for Kept {
    #[inline(always)]
    fn first(key: &FragmentKey) -> Option<Fragment> {
        // SAFETY: an entry that is reused while it is read has the ports of another packet, which policy allowed or not by
        // them; what is put together from such fragments was none of the sender's choice.
        unsafe { FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember(key: &FragmentKey, first: &Fragment) {
        // Full or not, later fragments without an entry are dropped.
        let _ = FRAGMENTS.insert(key, first, 0);
    }
}

#[inline(always)]
pub fn connection(key: &ConnectionKey) -> Option<*mut Tracked> {
    CONNECTIONS.get_ptr_mut(key)
}

/// The entry of one that is over is replaced, where there is one. Where there is none it is made and counted, unless another CPU makes
/// it meanwhile: then that one stays.
#[inline(always)]
pub fn remember_connection(key: &ConnectionKey, tracked: &Tracked) {
    // Looked for again, because callers have no stack to remember it.
    let is_new = connection(key).is_none();
    let flags = if is_new { BPF_NOEXIST } else { BPF_ANY };
    // Without an entry its answers are judged like new connections.
    if CONNECTIONS.insert(key, tracked, flags as u64).is_ok() && is_new {
        count_begun();
    }
}

#[inline(always)]
fn count_begun() {
    if let Some(counter) = CONNECTIONS_BEGUN.get_ptr_mut(0) {
        // SAFETY: this CPU's own counter, and programs are not interrupted by themselves.
        unsafe { *counter += 1 };
    }
}
