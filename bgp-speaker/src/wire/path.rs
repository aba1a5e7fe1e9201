//! AS_PATH and AS4_PATH. RFC 4271, section 4.3 b; RFC 6793; RFC 7606, section 7.2.

use super::malformed::Fault;
use crate::types::{AsPath, Asn, Segment, SegmentKind};

const fn kind(code: u8) -> Option<SegmentKind> {
    match code {
        1 => Some(SegmentKind::Set),
        2 => Some(SegmentKind::Sequence),
        3 => Some(SegmentKind::ConfederationSequence),
        4 => Some(SegmentKind::ConfederationSet),
        _ => None,
    }
}

const fn code(kind: SegmentKind) -> u8 {
    match kind {
        SegmentKind::Set => 1,
        SegmentKind::Sequence => 2,
        SegmentKind::ConfederationSequence => 3,
        SegmentKind::ConfederationSet => 4,
    }
}

/// Whether a segment is of a confederation: only inside of it, and not in AS4_PATH.
pub(super) const fn is_confederation(kind: SegmentKind) -> bool {
    matches!(kind, SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet)
}

/// Reads a whole path of two-byte or four-byte numbers.
pub(super) fn read(mut bytes: &[u8], four_octets: bool) -> Result<AsPath, Fault> {
    let width = if four_octets { 4 } else { 2 };
    // Nearly every path is one segment, and a table has hundreds of thousands of paths: no room is left for more.
    let mut segments = Vec::with_capacity(usize::from(!bytes.is_empty()));
    while let Some((&[code, count], rest)) = bytes.split_first_chunk::<2>() {
        let kind = kind(code).filter(|_| count > 0).ok_or(Fault::Value)?;
        let (numbers, rest) = rest.split_at_checked(usize::from(count) * width).ok_or(Fault::Overrun)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
        let mut asns = Vec::with_capacity(usize::from(count));
        for bytes in numbers.chunks_exact(width) {
            asns.push(Asn::new(number(bytes)).ok_or(Fault::AsZero)?);
        }
        segments.push(Segment { kind, asns });
        bytes = rest;
    }
    if bytes.is_empty() { Ok(AsPath(segments)) } else { Err(Fault::Overrun) }
}

/// Bytes that a path takes.
pub(super) fn bytes<'a>(segments: impl Iterator<Item = &'a Segment>, four_octets: bool) -> usize {
    let width = if four_octets { 4 } else { 2 };
    let of = |segment: &Segment| 2 * segment.asns.len().div_ceil(AsPath::MOST_IN_SEGMENT) + segment.asns.len() * width;
    segments.map(of).sum()
}

/// Writes a path. Numbers that do not fit in two bytes become AS_TRANS (RFC 6793, section 4.2.2).
pub(super) fn write<'a>(segments: impl Iterator<Item = &'a Segment>, four_octets: bool, to: &mut Vec<u8>) {
    for segment in segments {
        for asns in segment.asns.chunks(AsPath::MOST_IN_SEGMENT) {
            to.extend([code(segment.kind), u8::try_from(asns.len()).unwrap_or(u8::MAX)]);
            for asn in asns {
                if four_octets {
                    to.extend(asn.get().to_be_bytes());
                } else {
                    to.extend(asn.two_bytes().to_be_bytes());
                }
            }
        }
    }
}
