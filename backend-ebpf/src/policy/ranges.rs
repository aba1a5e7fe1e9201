//! 16-bit numbers in ranges, as prefixes. Never which numbers mean what.

/// A prefix of a 16-bit number: its first number and how many bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Prefix16 {
    pub(super) first: u16,
    /// 0 to 16.
    pub(super) length: u32,
}

/// The fewest prefixes that hold a range, both ends included: at most 30.
pub(super) fn prefixes(first: u16, last: u16) -> Vec<Prefix16> {
    let (mut next, end) = (u32::from(first), u32::from(last) + 1);
    let mut prefixes = Vec::new();
    while next < end {
        let aligned = if next == 0 { 16 } else { next.trailing_zeros() };
        let fits = (end - next).ilog2();
        let bits = aligned.min(fits);
        let first = u16::try_from(next).expect("it is below an end of at most 65,536");
        prefixes.push(Prefix16 { first, length: 16 - bits });
        next += 1 << bits;
    }
    prefixes
}

/// The ranges between points: each begins at 0 or at a point and ends before the next.
pub(super) fn between(points: impl IntoIterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut starts: Vec<u16> = points.into_iter().chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    let ends = starts.iter().skip(1).map(|start| start - 1).chain([u16::MAX]);
    starts.iter().copied().zip(ends).collect()
}

/// The points where a range begins and where what follows it begins.
pub(super) fn points(first: u16, last: u16) -> impl Iterator<Item = u16> {
    [Some(first), last.checked_add(1)].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::testkit::dice::Dice;

    fn holds(prefix: Prefix16, number: u16) -> bool {
        u32::from(number ^ prefix.first) >> (16 - prefix.length) == 0
    }

    #[test]
    fn prefixes_hold_the_range_and_nothing_else_once() {
        let mut dice = Dice::new(16);
        let mut random = || u16::try_from(dice.below(65_536)).unwrap();
        let mut cases = vec![(0, 0), (0, u16::MAX), (1, u16::MAX - 1), (80, 80), (u16::MAX, u16::MAX)];
        cases.extend((0..20).map(|_| (random(), random())).map(|(a, b)| (a.min(b), a.max(b))));
        for (first, last) in cases {
            let prefixes = prefixes(first, last);
            assert!(prefixes.len() <= 30, "{first}-{last}: {prefixes:?}");
            for number in 0..=u16::MAX {
                let found = prefixes.iter().filter(|prefix| holds(**prefix, number)).count();
                assert_eq!(found, usize::from((first..=last).contains(&number)), "{number} of {first}-{last}");
            }
        }
    }

    #[test]
    fn ranges_between_points_cover_everything() {
        assert_eq!(between([]), [(0, u16::MAX)]);
        assert_eq!(between([80, 81, 0, 80]), [(0, 79), (80, 80), (81, u16::MAX)]);
        assert_eq!(points(5, u16::MAX).collect::<Vec<_>>(), [5]);
    }
}
