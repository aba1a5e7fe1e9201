//! Maglev's table: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, section 3.4. Never a
//! table that depends on more than the backends themselves.

use backend_ebpf_abi::{MAGLEV_ENTRIES, MaglevTable, Target};

/// FNV-1a, of which every version gives the same.
fn hash(seed: u64, target: &Target) -> u64 {
    let bytes = target.address.iter().copied().chain(target.port.to_be_bytes());
    bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// Which slot each hash leads to. All backends have as many entries, within one; of none, all entries are 0.
///
/// A backend's place in the list is only its slot: which entries it has follows from its address and port, and from the others.
pub(super) fn table(backends: &[Target]) -> Box<MaglevTable> {
    let mut table: Box<MaglevTable> = Box::new([0; 1024]);
    let size = MAGLEV_ENTRIES as u64;
    let mut order: Vec<(usize, u64, u64)> = backends
        .iter()
        .enumerate()
        .map(|(slot, target)| {
            let offset = hash(0xcbf2_9ce4_8422_2325, target) % size;
            (slot, offset, hash(0x6c62_272e_07bb_0142, target) % (size - 1) + 1)
        })
        .collect();
    order.sort_unstable_by_key(|(slot, ..)| backends[*slot]);
    let mut taken = [false; MAGLEV_ENTRIES];
    let mut left = if order.is_empty() { 0 } else { MAGLEV_ENTRIES };
    while left > 0 {
        for (slot, next, skip) in order.iter_mut().take(left) {
            let mut at = usize::try_from(*next).unwrap_or(0);
            while taken[at] {
                *next = (*next + *skip) % size;
                at = usize::try_from(*next).unwrap_or(0);
            }
            taken[at] = true;
            table[at] = u16::try_from(*slot).unwrap_or(0);
            left -= 1;
        }
    }
    table.copy_within(..1024 - MAGLEV_ENTRIES, MAGLEV_ENTRIES);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(numbers: impl IntoIterator<Item = u8>) -> Vec<Target> {
        let target = |number| Target { address: backend_ebpf_abi::mapped([10, 0, 0, number]), port: 80, unused: 0 };
        numbers.into_iter().map(target).collect()
    }

    #[test]
    fn every_backend_has_as_many_entries() {
        for count in 1..=40 {
            let table = table(&backends(0..count));
            let of = |slot: u16| table[..MAGLEV_ENTRIES].iter().filter(|entry| **entry == slot).count();
            let counts: Vec<usize> = (0..u16::from(count)).map(of).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 1, "{counts:?}");
        }
    }

    #[test]
    fn few_connections_move_when_a_backend_goes() {
        let all = backends(0..10);
        let fewer: Vec<Target> = all.iter().copied().filter(|target| target.address[15] != 4).collect();
        let (before, after) = (table(&all), table(&fewer));
        let entries = before.iter().zip(after.iter()).take(MAGLEV_ENTRIES);
        let stayed = entries.filter(|(before, _)| all[usize::from(**before)].address[15] != 4);
        let moved = stayed.filter(|(before, after)| all[usize::from(**before)] != fewer[usize::from(**after)]).count();
        assert!(moved < MAGLEV_ENTRIES / 5, "{moved} of {MAGLEV_ENTRIES} moved without need");
    }

    #[test]
    fn the_order_of_a_list_decides_nothing() {
        let mut other = backends(0..7);
        let sorted = other.clone();
        other.reverse();
        let (left, right) = (table(&sorted), table(&other));
        assert!((0..MAGLEV_ENTRIES).all(|at| sorted[usize::from(left[at])] == other[usize::from(right[at])]));
    }
}
