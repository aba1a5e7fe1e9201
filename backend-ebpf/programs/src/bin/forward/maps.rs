//! The maps. Never filled here, but for counters; who loads the programs says how large they are.

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
static WAYS: LpmTrie<[u8; 16], Way> = LpmTrie::with_max_entries(SOME, 0);
#[map]
static PODS: HashMap<[u8; 16], Pod> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
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
pub fn way(address: &[u8; 16]) -> Option<&'static Way> {
    WAYS.get(&Key::new(Way::BITS, *address))
}

#[inline(always)]
pub fn pod(address: &[u8; 16]) -> Option<&'static Pod> {
    // SAFETY: entries are replaced whole, and freed after the program ended.
    unsafe { PODS.get(address) }
}
