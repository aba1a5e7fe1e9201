//! The path of autonomous systems. Never two-byte numbers: the wire merges them (RFC 6793, section 4.2.3).

use super::Asn;
use std::fmt;

/// What the numbers of a segment are to each other. RFC 4271, section 4.3; RFC 5065, section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SegmentKind {
    /// AS_SET (1): in no order.
    Set,
    /// AS_SEQUENCE (2): the last one added first.
    Sequence,
    /// AS_CONFED_SEQUENCE (3).
    ConfederationSequence,
    /// AS_CONFED_SET (4).
    ConfederationSet,
}

impl SegmentKind {
    /// As on the wire.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Set => 1,
            Self::Sequence => 2,
            Self::ConfederationSequence => 3,
            Self::ConfederationSet => 4,
        }
    }

    /// Of the code on the wire.
    pub(crate) const fn of_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Set),
            2 => Some(Self::Sequence),
            3 => Some(Self::ConfederationSequence),
            4 => Some(Self::ConfederationSet),
            _ => None,
        }
    }

    /// Only inside of a confederation.
    #[must_use]
    pub const fn is_confederation(self) -> bool {
        matches!(self, Self::ConfederationSequence | Self::ConfederationSet)
    }
}

/// A part of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// What its numbers are to each other.
    pub kind: SegmentKind,
    /// At least one number; the wire cuts those of more than 255. An AS 0 of a peer never gets here (RFC 7607).
    pub asns: &'a [Asn],
}

/// The AS_PATH of a route, the nearest system first; empty for routes of our own system.
///
/// A table has hundreds of thousands of them, so all is in one piece of memory: of each segment a word with kind and count,
/// which no zero ever is, and then its numbers.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AsPath(Box<[Asn]>);

/// Bits of the first word of a segment that hold its count.
const COUNT_BITS: u32 = 24;

/// The segments of a path.
#[derive(Debug, Clone)]
pub struct Segments<'a>(&'a [Asn]);

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        let (head, rest) = self.0.split_first()?;
        // Four codes, and a count that was a length in memory.
        let kind = SegmentKind::of_code((head.get() >> COUNT_BITS) as u8)?;
        let (asns, rest) = rest.split_at_checked((head.get() & ((1 << COUNT_BITS) - 1)) as usize)?;
        self.0 = rest;
        Some(Segment { kind, asns })
    }
}

impl fmt::Debug for AsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsPath({self})")
    }
}

/// Makes a path, number by number.
#[derive(Debug, Default)]
pub(crate) struct Builder(Vec<Asn>);

impl Builder {
    /// A segment of so many numbers begins, 1 to 255; all of them have to follow.
    pub(crate) fn begin(&mut self, kind: SegmentKind, count: u8) {
        if let Some(head) = head(kind, count.into()) {
            self.0.reserve_exact(1 + usize::from(count));
            self.0.push(head);
        }
    }

    /// The next number of the segment.
    pub(crate) fn number(&mut self, asn: Asn) {
        self.0.push(asn);
    }

    /// The path.
    pub(crate) fn end(self) -> AsPath {
        AsPath(self.0.into_boxed_slice())
    }
}

/// The first word of a segment; `None` for one without numbers.
fn head(kind: SegmentKind, count: u32) -> Option<Asn> {
    Asn::new(u32::from(kind.code()) << COUNT_BITS | count).filter(|_| count > 0)
}

/// Segments without numbers are left out.
impl<A: AsRef<[Asn]>> FromIterator<(SegmentKind, A)> for AsPath {
    fn from_iter<I: IntoIterator<Item = (SegmentKind, A)>>(segments: I) -> Self {
        let mut words = Vec::new();
        for (kind, asns) in segments {
            push(&mut words, kind, asns.as_ref().iter().copied());
        }
        Self(words.into_boxed_slice())
    }
}

/// Puts a segment behind others; nothing for no numbers.
fn push(words: &mut Vec<Asn>, kind: SegmentKind, asns: impl ExactSizeIterator<Item = Asn>) {
    let count = u32::try_from(asns.len()).unwrap_or(u32::MAX).min((1 << COUNT_BITS) - 1);
    if let Some(head) = head(kind, count) {
        words.reserve_exact(1 + asns.len());
        words.push(head);
        words.extend(asns.take(count as usize));
    }
}

impl AsPath {
    /// Numbers a segment can hold on the wire: its count is one byte.
    pub const MOST_IN_SEGMENT: usize = 255;

    /// One sequence; nothing for no numbers.
    #[must_use]
    pub fn sequence(asns: Vec<Asn>) -> Self {
        asns.chunks(Self::MOST_IN_SEGMENT).map(|asns| (SegmentKind::Sequence, asns)).collect()
    }

    /// Its segments.
    #[must_use]
    pub const fn segments(&self) -> Segments<'_> {
        Segments(&self.0)
    }

    /// Its length as the decision process counts it: a set is one, a confederation's segments are none (RFC 5065,
    /// section 5.3).
    #[must_use]
    pub fn hops(&self) -> usize {
        let hops = self.segments().map(|segment| match segment.kind {
            SegmentKind::Sequence => segment.asns.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet => 0,
        });
        hops.sum()
    }

    /// Every number, sets included.
    pub fn asns(&self) -> impl Iterator<Item = Asn> + '_ {
        self.segments().flat_map(|segment| segment.asns.iter().copied())
    }

    /// Whether a system is on the path: its own routes come back to it so, and it drops them.
    #[must_use]
    pub fn contains(&self, asn: Asn) -> bool {
        self.asns().any(|number| number == asn)
    }

    /// The neighbouring system: the first number of the first segment, when that is a sequence. RFC 4271, section 9.1.2.2.
    #[must_use]
    pub fn neighbour(&self) -> Option<Asn> {
        let first = self.segments().find(|segment| !segment.kind.is_confederation())?;
        (first.kind == SegmentKind::Sequence).then(|| first.asns.first().copied()).flatten()
    }

    /// The system that the route comes from: the last number of the last segment, when that is a sequence.
    #[must_use]
    pub fn origin(&self) -> Option<Asn> {
        let last = self.segments().last()?;
        (last.kind == SegmentKind::Sequence).then(|| last.asns.last().copied()).flatten()
    }

    /// The same path with a number put before it `times` times.
    #[must_use]
    pub fn prepended(&self, asn: Asn, times: usize) -> Self {
        let mut segments = self.segments();
        let room = match segments.clone().next() {
            Some(first) if first.kind == SegmentKind::Sequence => {
                Self::MOST_IN_SEGMENT.saturating_sub(first.asns.len())
            }
            _ => 0,
        };
        let mut words = Vec::with_capacity(self.0.len() + times + times.div_ceil(Self::MOST_IN_SEGMENT));
        // What the first segment has no room for stands before it, the shortest segment first.
        let (inside, mut before) = (times.min(room), times.saturating_sub(room));
        while before > 0 {
            let count = (before - 1) % Self::MOST_IN_SEGMENT + 1;
            push(&mut words, SegmentKind::Sequence, std::iter::repeat_n(asn, count));
            before -= count;
        }
        if inside > 0
            && let Some(first) = segments.next()
        {
            let longer: Vec<Asn> = std::iter::repeat_n(asn, inside).chain(first.asns.iter().copied()).collect();
            push(&mut words, SegmentKind::Sequence, longer.into_iter());
        }
        words.extend_from_slice(segments.0);
        Self(words.into_boxed_slice())
    }
}

impl fmt::Display for AsPath {
    /// `65001 65002 {65003 65004}`: sequences plain, sets in braces, confederations in round ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.segments().enumerate() {
            let (open, close) = match segment.kind {
                SegmentKind::Sequence => ("", ""),
                SegmentKind::Set => ("{", "}"),
                SegmentKind::ConfederationSequence => ("(", ")"),
                SegmentKind::ConfederationSet => ("({", "})"),
            };
            let asns: Vec<String> = segment.asns.iter().map(ToString::to_string).collect();
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{open}{}{close}", asns.join(" "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asn(number: u32) -> Asn {
        Asn::new(number).unwrap()
    }

    fn segment(kind: SegmentKind, numbers: &[u32]) -> (SegmentKind, Vec<Asn>) {
        (kind, numbers.iter().copied().map(asn).collect())
    }

    /// RFC 4271, section 9.1.2.2 a; RFC 5065, section 5.3.
    #[test]
    fn a_set_counts_as_one_hop_and_a_confederation_as_none() {
        let path: AsPath = [
            segment(SegmentKind::ConfederationSequence, &[65_000]),
            segment(SegmentKind::Sequence, &[1, 2, 3]),
            segment(SegmentKind::Set, &[4, 5]),
        ]
        .into_iter()
        .collect();
        assert_eq!(path.hops(), 4);
        assert_eq!(path.neighbour(), Some(asn(1)));
        assert_eq!(path.origin(), None);
        assert_eq!(path.to_string(), "(65000) 1 2 3 {4 5}");
    }

    /// RFC 4271, section 5.1.2: a full segment is not made longer, a new one is put before it.
    #[test]
    fn a_full_segment_gets_a_new_one_before_it() {
        let full = AsPath::sequence(vec![asn(1); 255]);
        let longer = full.prepended(asn(2), 2);
        assert_eq!(longer.segments().count(), 2);
        assert_eq!(longer.segments().next().unwrap().asns, [asn(2), asn(2)]);
        assert_eq!(longer.hops(), 257);
    }

    #[test]
    fn a_path_is_made_longer_as_often_as_it_is_said() {
        for (before, times) in [(0, 0), (0, 1), (0, 600), (3, 2), (250, 5), (250, 6), (255, 600)] {
            let path = AsPath::sequence(vec![asn(1); before]);
            let longer = path.prepended(asn(2), times);
            let expected = std::iter::repeat_n(asn(2), times).chain(std::iter::repeat_n(asn(1), before));
            assert!(longer.asns().eq(expected), "{before} {times}");
            assert!(longer.segments().all(|segment| segment.asns.len() <= AsPath::MOST_IN_SEGMENT), "{before} {times}");
            assert_eq!(longer.segments().count(), (before + times).div_ceil(255), "{before} {times}");
        }
        let set: AsPath = [segment(SegmentKind::Set, &[4, 5])].into_iter().collect();
        assert_eq!(set.prepended(asn(1), 2).to_string(), "1 1 {4 5}");
    }
}
