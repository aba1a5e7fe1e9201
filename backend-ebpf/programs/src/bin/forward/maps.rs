//! The maps. Never filled here, but for counters; who loads the programs says how large they are.

use crate::headers::Address;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, PerCpuArray};
use backend_ebpf_abi::{Forwarded, Pod, Settings, Way};

/// Whoever loads the object sets the numbers of entries.
const SOME: u32 = 1024;

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static WAYS: LpmTrie<Address, Way> = LpmTrie::with_max_entries(SOME, 0);
#[map]
static PODS: HashMap<Address, Pod> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
/// By what became of them.
#[map]
static FORWARDED: PerCpuArray<u64> = PerCpuArray::with_max_entries(Forwarded::COUNT, 0);

#[inline(always)]
pub fn count(forwarded: Forwarded) {
    if let Some(counter) = FORWARDED.get_ptr_mut(forwarded as u32) {
        // SAFETY: this CPU's own counter, and programs are not interrupted by themselves.
        unsafe { *counter += 1 };
    }
}

#[inline(always)]
pub fn settings() -> Option<&'static Settings> {
    SETTINGS.get(0)
}

#[inline(always)]
pub fn way(address: &Address) -> Option<&'static Way> {
    let key = AlignedKey { bits: Way::BITS, address: *address };
    // SAFETY: the same bytes in the same order; the library's own key is packed, so any alignment will do for it.
    WAYS.get(unsafe { &*(&raw const key).cast::<Key<Address>>() })
}

/// A key that is written word by word.
#[repr(C)]
struct AlignedKey {
    bits: u32,
    address: Address,
}

#[inline(always)]
pub fn pod(address: &Address) -> Option<&'static Pod> {
    // SAFETY: entries are replaced whole, and freed after the program ended.
    unsafe { PODS.get(address) }
}
