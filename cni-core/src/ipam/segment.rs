//! Addresses in a row that this node may give without asking anybody: a bitmap, a cursor that goes round, and the
//! addresses that cool. Never the disk, never an owner.

use super::address::{from_bits, to_bits};
use super::{AddressRange, Family, UnixMillis};
use ipnet::IpNet;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The most addresses that one segment holds: a bitmap of 8 KiB. Of a longer range the first ones are used.
pub(super) const MOST_ADDRESSES: u32 = 1 << 16;

/// What a segment is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SegmentSpec {
    /// The pool it belongs to.
    pub(super) pool: Arc<str>,
    /// The block or prefix it lies in.
    pub(super) subnet: IpNet,
    /// The addresses.
    pub(super) range: AddressRange,
    /// Addresses that are never given; also such outside of the range.
    pub(super) reserved: Arc<[AddressRange]>,
    /// Gives no new addresses: its pool is disabled.
    pub(super) closed: bool,
}

/// One row of addresses.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) spec: SegmentSpec,
    family: Family,
    first: u128,
    size: u32,
    /// A set bit is an address that cannot be given: leased, cooling or reserved.
    taken: Vec<u64>,
    reserved: u32,
    leased: u32,
    free: u32,
    cursor: u32,
    /// Oldest first.
    cooling: VecDeque<(UnixMillis, u32)>,
}

impl Segment {
    pub(super) fn new(spec: SegmentSpec) -> Self {
        let size = u32::try_from(spec.range.count()).unwrap_or(u32::MAX).min(MOST_ADDRESSES);
        let mut segment = Self {
            family: spec.range.family(),
            first: to_bits(spec.range.first()),
            size,
            taken: vec![0; size.div_ceil(64) as usize],
            reserved: 0,
            leased: 0,
            free: size,
            cursor: 0,
            cooling: VecDeque::new(),
            spec,
        };
        let reserved = segment.spec.reserved.clone();
        let whole = segment.range();
        for part in reserved.iter().filter_map(|reserved| reserved.intersection(&whole)) {
            for bits in to_bits(part.first())..=to_bits(part.last()) {
                let slot = u32::try_from(bits - segment.first).unwrap_or(u32::MAX);
                if segment.set(slot) {
                    segment.reserved += 1;
                }
            }
        }
        segment
    }

    pub(super) fn range(&self) -> AddressRange {
        let (first, last) = (self.address(0), self.address(self.size - 1));
        AddressRange::new(first, last).expect("a segment holds at least one address and they are in a row")
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.slot(address).is_some()
    }

    pub(super) fn free(&self) -> u32 {
        self.free
    }

    pub(super) fn leased(&self) -> u32 {
        self.leased
    }

    pub(super) fn cooling(&self) -> usize {
        self.cooling.len()
    }

    pub(super) fn reserved(&self) -> u32 {
        self.reserved
    }

    /// Nothing is leased and nothing cools.
    pub(super) fn is_idle(&self) -> bool {
        self.leased() == 0 && self.cooling.is_empty()
    }

    fn address(&self, slot: u32) -> IpAddr {
        from_bits(self.family, self.first + u128::from(slot))
    }

    fn slot(&self, address: IpAddr) -> Option<u32> {
        if Family::of(address) != self.family {
            return None;
        }
        let slot = u32::try_from(to_bits(address).checked_sub(self.first)?).ok()?;
        (slot < self.size).then_some(slot)
    }

    fn is_set(&self, slot: u32) -> bool {
        self.taken[(slot / 64) as usize] & (1 << (slot % 64)) != 0
    }

    /// Whether the bit was clear.
    fn set(&mut self, slot: u32) -> bool {
        let clear = !self.is_set(slot);
        self.taken[(slot / 64) as usize] |= 1 << (slot % 64);
        self.free -= u32::from(clear);
        clear
    }

    fn clear(&mut self, slot: u32) {
        self.free += u32::from(self.is_set(slot));
        self.taken[(slot / 64) as usize] &= !(1 << (slot % 64));
    }

    /// The next free address after the one given last, so that an address rests as long as possible.
    pub(super) fn take_next(&mut self) -> Option<IpAddr> {
        if self.free == 0 || self.spec.closed {
            return None;
        }
        let words = self.taken.len();
        let start = (self.cursor / 64) as usize;
        // The word of the cursor comes twice: first only what is behind the cursor, at last all of it.
        for step in 0..=words {
            let word = (start + step) % words;
            let mut free = !self.taken[word];
            if step == 0 {
                free &= u64::MAX << (self.cursor % 64);
            }
            let slot = u32::try_from(word).unwrap_or(u32::MAX) * 64 + free.trailing_zeros();
            if free != 0 && slot < self.size {
                self.set(slot);
                self.leased += 1;
                self.cursor = (slot + 1) % self.size;
                return Some(self.address(slot));
            }
        }
        None
    }

    /// Takes one address, free or cooling. `false` when it is leased or reserved, or not in this segment.
    pub(super) fn take(&mut self, address: IpAddr) -> bool {
        let Some(slot) = self.slot(address) else { return false };
        let cooled = self.cooling.len();
        self.cooling.retain(|(_, cooling)| *cooling != slot);
        if self.set(slot) || self.cooling.len() < cooled {
            self.leased += 1;
            return true;
        }
        false
    }

    /// Marks an address as leased that the journal says is leased, even a reserved one.
    pub(super) fn restore(&mut self, address: IpAddr) {
        let Some(slot) = self.slot(address) else { return };
        if !self.take(address) {
            // Reserved after it was given: it stays with its owner, and is reserved again afterwards.
            self.set(slot);
            self.leased += 1;
        }
    }

    /// Since when the address cools that has cooled longest.
    pub(super) fn longest_cooling(&self) -> Option<(UnixMillis, IpAddr)> {
        if self.spec.closed {
            return None;
        }
        self.cooling.front().map(|(since, slot)| (*since, self.address(*slot)))
    }

    /// Ends a lease; the address cools from then on.
    pub(super) fn release(&mut self, address: IpAddr, at: UnixMillis) {
        if let Some(slot) = self.slot(address) {
            self.leased = self.leased.saturating_sub(1);
            self.cool(slot, at);
        }
    }

    /// Marks an address as cooling that the journal says is cooling.
    pub(super) fn restore_cooling(&mut self, address: IpAddr, since: UnixMillis) {
        if let Some(slot) = self.slot(address)
            && self.set(slot)
        {
            self.cool(slot, since);
        }
    }

    fn cool(&mut self, slot: u32, since: UnixMillis) {
        // Nearly always at the end; elsewhere only after the clock was set back.
        let place = self.cooling.partition_point(|(at, _)| *at <= since);
        self.cooling.insert(place, (since, slot));
    }

    /// Takes back what was taken and never told to anybody: it needs no cooling.
    pub(super) fn put_back(&mut self, address: IpAddr, cooling_since: Option<UnixMillis>) {
        let Some(slot) = self.slot(address) else { return };
        self.leased = self.leased.saturating_sub(1);
        match cooling_since {
            Some(since) => self.cool(slot, since),
            None => self.clear(slot),
        }
    }

    /// Goes on where an older form of this segment was, so that addresses keep their turn.
    pub(super) fn resume(&mut self, old: &Self) {
        self.cursor = old.cursor % self.size;
    }

    /// All cooling addresses, oldest first.
    pub(super) fn cooling_addresses(&self) -> impl Iterator<Item = (IpAddr, UnixMillis)> + '_ {
        self.cooling.iter().map(|(since, slot)| (self.address(*slot), *since))
    }

    /// Since when an address cools.
    pub(super) fn cooling_since(&self, address: IpAddr) -> Option<UnixMillis> {
        let slot = self.slot(address)?;
        self.cooling.iter().find(|(_, cooling)| *cooling == slot).map(|(since, _)| *since)
    }

    /// Frees what has cooled long enough, and returns it.
    pub(super) fn thaw(&mut self, now: UnixMillis, cool_down: Duration) -> Vec<IpAddr> {
        let mut thawed = Vec::new();
        while let Some((_, slot)) = self.cooling.front().filter(|(since, _)| now.since(*since) >= cool_down).copied() {
            self.cooling.pop_front();
            let address = self.address(slot);
            if !self.spec.reserved.iter().any(|range| range.contains(address)) {
                self.clear(slot);
            }
            thawed.push(address);
        }
        thawed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn segment(range: &str, reserved: &[&str]) -> Segment {
        let reserved: Vec<AddressRange> = reserved.iter().map(|range| range.parse().unwrap()).collect();
        let range: AddressRange = range.parse().unwrap();
        let subnet = IpNet::from(range.first());
        Segment::new(SegmentSpec { pool: "pool".into(), subnet, range, reserved: reserved.into(), closed: false })
    }

    #[test]
    fn a_segment_gives_every_address_once_in_turn_and_no_reserved_one() {
        for (range, reserved, count) in [
            ("10.0.0.0/26", vec!["10.0.0.0/30"], 60),
            ("10.0.0.0-10.0.0.0", vec![], 1),
            ("10.0.0.3-10.0.0.9", vec!["10.0.0.9"], 6),
            ("fd00::/122", vec!["fd00::1", "fd01::/16"], 63),
            ("10.0.0.0/24", vec![], 256),
        ] {
            let mut segment = segment(range, &reserved);
            let given: BTreeSet<_> = std::iter::from_fn(|| segment.take_next()).collect();
            assert_eq!(given.len(), count, "{range}");
            assert_eq!((segment.free(), segment.leased() as usize), (0, count));
        }
    }

    #[test]
    fn an_address_comes_again_only_after_all_others() {
        let mut segment = segment("10.0.0.0/26", &[]);
        let first = segment.take_next().unwrap();
        segment.release(first, UnixMillis(0));
        segment.thaw(UnixMillis(1), Duration::ZERO);
        let order: Vec<_> = std::iter::from_fn(|| segment.take_next()).collect();
        assert_eq!((order.len(), order.last()), (64, Some(&first)));
    }

    proptest! {
        #[test]
        fn the_numbers_always_agree_with_a_plain_set(steps: Vec<(u8, u8)>) {
            let mut segment = segment("10.0.0.0-10.0.0.99", &["10.0.0.4/30"]);
            let address = |slot: u8| IpAddr::from([10, 0, 0, slot % 100]);
            let (mut leased, mut cooling) = (BTreeSet::new(), BTreeSet::new());
            for (now, (step, slot)) in steps.into_iter().enumerate() {
                let now = UnixMillis(now as u64);
                match step % 4 {
                    0 => if let Some(given) = segment.take_next() {
                        prop_assert!(!cooling.contains(&given) && leased.insert(given));
                    },
                    1 => {
                        let wanted = address(slot);
                        let reserved = (4..8).contains(&(slot % 100));
                        let expected = !reserved && !leased.contains(&wanted);
                        prop_assert_eq!(segment.take(wanted), expected);
                        if expected {
                            cooling.remove(&wanted);
                            leased.insert(wanted);
                        }
                    }
                    2 => if let Some(held) = leased.iter().nth(slot as usize % leased.len().max(1)).copied() {
                        leased.remove(&held);
                        cooling.insert(held);
                        segment.release(held, now);
                    },
                    _ => for thawed in segment.thaw(now, Duration::from_millis(10)) {
                        prop_assert!(cooling.remove(&thawed));
                    },
                }
                prop_assert_eq!(segment.leased() as usize, leased.len());
                prop_assert_eq!(segment.cooling(), cooling.len());
                prop_assert_eq!(segment.free() as usize, 96 - leased.len() - cooling.len());
            }
        }
    }
}
