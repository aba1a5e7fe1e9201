//! The maps. Never filled here, but for what clients did: affinity, what sockets were led to, and whose turn it is. Who loads
//! the programs says how large they are.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{HashMap, LpmTrie, LruHashMap};
use backend_ebpf_abi::{
    AddressKey, Affinity, AffinityKey, Frontend, FrontendKey, MaglevTable, MemberKey, RANGE_BITS, RangeKey, ReverseKey,
    SlotKey, Target,
};

/// Whoever loads the object sets the numbers of entries.
const SOME: u32 = 1024;

#[map]
static CLIENTS: HashMap<u64, u32> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
/// Of clients, for frontends that are not for all of them.
#[map]
static ADDRESSES: HashMap<AddressKey, [u8; 16]> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
#[map]
static RANGES: LpmTrie<RangeKey, u32> = LpmTrie::with_max_entries(SOME, BPF_F_NO_PREALLOC);
#[map]
static FRONTENDS: HashMap<FrontendKey, Frontend> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
#[map]
static SLOTS: HashMap<SlotKey, Target> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
#[map]
static TABLES: HashMap<FrontendKey, MaglevTable> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
#[map]
static MEMBERS: HashMap<MemberKey, u32> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
#[map]
static AFFINITY: LruHashMap<AffinityKey, Affinity> = LruHashMap::with_max_entries(SOME, 0);
#[map]
static REVERSE: LruHashMap<ReverseKey, Target> = LruHashMap::with_max_entries(SOME, 0);

/// Whether sockets of this network namespace see our services.
#[inline(always)]
pub fn is_client(netns_cookie: u64) -> bool {
    // SAFETY: nothing of the entry is read.
    unsafe { CLIENTS.get(&netns_cookie) }.is_some()
}

/// Whether a client's address of this version is in a range of a frontend's. Whose address nobody told is in none.
#[inline(always)]
pub fn is_in_a_range(frontend: &FrontendKey, version: u32, netns_cookie: u64) -> bool {
    // SAFETY: entries are replaced whole, and freed after the program ended.
    let Some(client) = (unsafe { ADDRESSES.get(&AddressKey { client: netns_cookie, version, unused: 0 }) }) else {
        return false;
    };
    let key = RangeKey { frontend: *frontend, client: *client };
    RANGES.get(&Key::new(RANGE_BITS + 128, key)).is_some()
}

#[inline(always)]
pub fn frontend(key: &FrontendKey) -> Option<*mut Frontend> {
    FRONTENDS.get_ptr_mut(key)
}

#[inline(always)]
pub fn slot(key: &SlotKey) -> Option<&'static Target> {
    // SAFETY: entries are replaced whole, and freed after the program ended.
    unsafe { SLOTS.get(key) }
}

#[inline(always)]
pub fn table(key: &FrontendKey) -> Option<&'static MaglevTable> {
    // SAFETY: as above.
    unsafe { TABLES.get(key) }
}

#[inline(always)]
pub fn is_member(key: &MemberKey) -> bool {
    // SAFETY: as above.
    unsafe { MEMBERS.get(key) }.is_some()
}

#[inline(always)]
pub fn affinity(key: &AffinityKey) -> Option<Affinity> {
    // SAFETY: an entry that is reused while it is read is of another client; what it says is looked for among the members.
    unsafe { AFFINITY.get(key) }.copied()
}

#[inline(always)]
pub fn remember_affinity(key: &AffinityKey, affinity: &Affinity) {
    // Without an entry the next connection is one for itself.
    let _ = AFFINITY.insert(key, affinity, 0);
}

#[inline(always)]
pub fn reverse(key: &ReverseKey) -> Option<Target> {
    // SAFETY: as for affinity; the answer then shows another service's address, to who asks in that instant.
    unsafe { REVERSE.get(key) }.copied()
}

#[inline(always)]
pub fn remember_reverse(key: &ReverseKey, service: &Target) {
    // Without an entry the socket's owner sees the backend's address.
    let _ = REVERSE.insert(key, service, 0);
}
