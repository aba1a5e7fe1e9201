//! The maps. Settings and prefixes are never filled here; who loads the programs says how large they are.

use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, LpmTrie, LruHashMap, PerCpuArray};
use backend_ebpf_abi::{Coming, Fragment, FragmentKey, Leaving, Masqueraded, Masquerading, Tuple, Way as Prefix};
use backend_ebpf_programs::packet::Fragments;

/// Whoever loads the object sets the numbers of entries.
const SOME: u32 = 1024;

/// `BPF_NOEXIST` of `include/uapi/linux/bpf.h`.
const NO_EXIST: u64 = 1;

#[map]
static MASQUERADING: Array<Masquerading> = Array::with_max_entries(1, 0);
/// Prefixes of pods.
#[map]
static MASQ_SOURCES: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(SOME, 0);
/// Destinations that see a pod's own address.
#[map]
static MASQ_KEEP: LpmTrie<[u8; 16], u32> = LpmTrie::with_max_entries(SOME, 0);
#[map]
static LEAVING: LruHashMap<Tuple, Leaving> = LruHashMap::with_max_entries(SOME, 0);
#[map]
static COMING: LruHashMap<Tuple, Coming> = LruHashMap::with_max_entries(SOME, 0);
#[map]
static MASQ_FRAGMENTS: LruHashMap<FragmentKey, Fragment> = LruHashMap::with_max_entries(SOME, 0);
/// By what became of them.
#[map]
static MASQUERADED: PerCpuArray<u64> = PerCpuArray::with_max_entries(Masqueraded::COUNT, 0);

#[inline(always)]
pub fn count(done: Masqueraded) {
    if let Some(counter) = MASQUERADED.get_ptr_mut(done as u32) {
        // SAFETY: this CPU's own counter, and programs are not interrupted by themselves.
        unsafe { *counter += 1 };
    }
}

/// `None`: nobody has written them yet.
#[inline(always)]
pub fn settings() -> Option<&'static Masquerading> {
    MASQUERADING.get(0).filter(|settings| settings.ports != 0)
}

#[inline(always)]
pub fn is_pod(address: &[u8; 16]) -> bool {
    MASQ_SOURCES.get(&Key::new(Prefix::BITS, *address)).is_some()
}

#[inline(always)]
pub fn keeps(address: &[u8; 16]) -> bool {
    MASQ_KEEP.get(&Key::new(Prefix::BITS, *address)).is_some()
}

#[inline(always)]
pub fn leaving(inside: &Tuple) -> Option<*mut Leaving> {
    LEAVING.get_ptr_mut(inside)
}

#[inline(always)]
pub fn set_leaving(inside: &Tuple, leaving: &Leaving) {
    // Without an entry the next packet gets another port.
    let _ = LEAVING.insert(inside, leaving, 0);
}

#[inline(always)]
pub fn coming(outside: &Tuple) -> Option<*mut Coming> {
    COMING.get_ptr_mut(outside)
}

/// Takes the place of what nobody else has. Whether it was free.
#[inline(always)]
pub fn claim(outside: &Tuple, coming: &Coming) -> bool {
    COMING.insert(outside, coming, NO_EXIST).is_ok()
}

/// In the place of one that we have won.
#[inline(always)]
pub fn set_coming(outside: &Tuple, coming: &Coming) -> bool {
    COMING.insert(outside, coming, 0).is_ok()
}

/// Ports of first fragments.
pub struct Kept;

impl Fragments for Kept {
    #[inline(always)]
    fn first(key: &FragmentKey) -> Option<Fragment> {
        // SAFETY: an entry that is reused while it is read has the ports of another packet; such a fragment goes nowhere, because
        // its identification is not that packet's.
        unsafe { MASQ_FRAGMENTS.get(key) }.copied()
    }

    #[inline(always)]
    fn remember(key: &FragmentKey, first: &Fragment) {
        let _ = MASQ_FRAGMENTS.insert(key, first, 0);
    }
}
