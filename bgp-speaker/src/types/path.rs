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

/// A part of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Segment {
    /// What its numbers are to each other.
    pub kind: SegmentKind,
    /// 1 to 255 numbers. An AS 0 of a peer never gets here (RFC 7607).
    pub asns: Vec<Asn>,
}

/// The AS_PATH of a route, the nearest system first; empty for routes of our own system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AsPath(pub Vec<Segment>);

impl AsPath {
    /// Numbers a segment can hold: its count is one byte.
    pub const MOST_IN_SEGMENT: usize = 255;

    /// One sequence; nothing for no numbers.
    #[must_use]
    pub fn sequence(asns: Vec<Asn>) -> Self {
        let segments = asns.chunks(Self::MOST_IN_SEGMENT);
        Self(segments.map(|asns| Segment { kind: SegmentKind::Sequence, asns: asns.to_vec() }).collect())
    }

    /// Its length as the decision process counts it: a set is one, a confederation's segments are none (RFC 5065,
    /// section 5.3).
    #[must_use]
    pub fn hops(&self) -> usize {
        let hops = self.0.iter().map(|segment| match segment.kind {
            SegmentKind::Sequence => segment.asns.len(),
            SegmentKind::Set => 1,
            SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet => 0,
        });
        hops.sum()
    }

    /// Every number, sets included.
    pub fn asns(&self) -> impl Iterator<Item = Asn> + '_ {
        self.0.iter().flat_map(|segment| segment.asns.iter().copied())
    }

    /// Whether a system is on the path: its own routes come back to it so, and it drops them.
    #[must_use]
    pub fn contains(&self, asn: Asn) -> bool {
        self.asns().any(|number| number == asn)
    }

    /// The neighbouring system: the first number of the first segment, when that is a sequence. RFC 4271, section 9.1.2.2.
    #[must_use]
    pub fn neighbour(&self) -> Option<Asn> {
        let first = self.0.iter().find(|segment| {
            !matches!(segment.kind, SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet)
        })?;
        (first.kind == SegmentKind::Sequence).then(|| first.asns.first().copied()).flatten()
    }

    /// The system that the route comes from: the last number of the last segment, when that is a sequence.
    #[must_use]
    pub fn origin(&self) -> Option<Asn> {
        let last = self.0.last()?;
        (last.kind == SegmentKind::Sequence).then(|| last.asns.last().copied()).flatten()
    }

    /// The same path with a number put before it `times` times.
    #[must_use]
    pub fn prepended(&self, asn: Asn, times: usize) -> Self {
        let mut segments = self.0.clone();
        for _ in 0..times {
            match segments.first_mut() {
                Some(first) if first.kind == SegmentKind::Sequence && first.asns.len() < Self::MOST_IN_SEGMENT => {
                    first.asns.reserve_exact(1);
                    first.asns.insert(0, asn);
                }
                _ => {
                    segments.reserve_exact(1);
                    segments.insert(0, Segment { kind: SegmentKind::Sequence, asns: vec![asn] });
                }
            }
        }
        Self(segments)
    }
}

impl fmt::Display for AsPath {
    /// `65001 65002 {65003 65004}`: sequences plain, sets in braces, confederations in round ones.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
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

    fn segment(kind: SegmentKind, numbers: &[u32]) -> Segment {
        Segment { kind, asns: numbers.iter().copied().map(asn).collect() }
    }

    /// RFC 4271, section 9.1.2.2 a; RFC 5065, section 5.3.
    #[test]
    fn a_set_counts_as_one_hop_and_a_confederation_as_none() {
        let path = AsPath(vec![
            segment(SegmentKind::ConfederationSequence, &[65_000]),
            segment(SegmentKind::Sequence, &[1, 2, 3]),
            segment(SegmentKind::Set, &[4, 5]),
        ]);
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
        assert_eq!(longer.0.len(), 2);
        assert_eq!(longer.0[0].asns, [asn(2), asn(2)]);
        assert_eq!(longer.hops(), 257);
    }
}
