//! The maps. Never filled here, but for counters; who loads the programs says how large they are.

use crate::headers::Address;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray};
use backend_ebpf_abi::{Forwarded, Lengths, Pod, Settings, Way};

/// Whoever loads the object sets the numbers of entries.
const SOME: u32 = 1024;

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
#[map]
static WAYS: HashMap<WayKey, Way> = HashMap::with_max_entries(SOME, BPF_F_NO_PREALLOC);
/// Which lengths the prefixes of `WAYS` have; more perhaps, never less.
#[map]
static LENGTHS: Array<Lengths> = Array::with_max_entries(Lengths::COUNT, 0);
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

/// [`backend_ebpf_abi::WayKey`], written word by word.
#[repr(C)]
struct WayKey {
    bits: u32,
    address: Address,
}

/// What counts of an address, by the place of a length.
static MASKS: [Address; 256] = {
    let mut masks = [[0; 4]; 256];
    let mut bits = 0;
    while bits <= Way::BITS {
        masks[Lengths::place(bits) as usize] = Way::mask(bits);
        bits += 1;
    }
    masks
};

/// That of the longest prefix that there is: one lookup for each length that is longer or equal.
#[inline(always)]
pub fn way(v4: bool, address: &Address) -> Option<&'static Way> {
    let lengths = LENGTHS.get(if v4 { Lengths::V4 } else { Lengths::V6 })?;
    let mut place = lengths.shorter[0];
    for _ in 0..Lengths::MOST {
        if place == 0 {
            return None;
        }
        let mask = &MASKS[place as usize];
        let masked = [address[0] & mask[0], address[1] & mask[1], address[2] & mask[2], address[3] & mask[3]];
        let key = WayKey { bits: place as u32 - 1, address: masked };
        // SAFETY: the map's own entry, of words that the writer replaces. One that is reused while it is read is another prefix's, which has
        // just taken this one's room: at worst a packet goes to a node that is not its own, and is dropped there or by the stack.
        if let Some(way) = unsafe { WAYS.get(&key) } {
            return Some(way);
        }
        place = lengths.shorter[place as usize];
    }
    None
}

#[inline(always)]
pub fn pod(address: &Address) -> Option<&'static Pod> {
    // SAFETY: the map's own entry; of one that is reused while it is read the same holds as of ways.
    unsafe { PODS.get(address) }
}

const _: () = assert!(core::mem::size_of::<WayKey>() == core::mem::size_of::<backend_ebpf_abi::WayKey>());
const _: () =
    assert!(core::mem::offset_of!(WayKey, address) == core::mem::offset_of!(backend_ebpf_abi::WayKey, address));
