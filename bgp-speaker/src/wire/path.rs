//! AS_PATH and AS4_PATH. RFC 4271, section 4.3 b; RFC 6793; RFC 7606, section 7.2.

use super::malformed::Fault;
use crate::types::{AsPath, Asn, Builder, Segment, SegmentKind};

/// Reads a whole path of two-byte or four-byte numbers.
pub(super) fn read(mut bytes: &[u8], four_octets: bool) -> Result<AsPath, Fault> {
    let width = if four_octets { 4 } else { 2 };
    let mut path = Builder::default();
    while let Some((&[code, count], rest)) = bytes.split_first_chunk::<2>() {
        let kind = SegmentKind::of_code(code).filter(|_| count > 0).ok_or(Fault::Value)?;
        let (numbers, rest) = rest.split_at_checked(usize::from(count) * width).ok_or(Fault::Overrun)?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number: u32, byte| number << 8 | u32::from(*byte));
        path.begin(kind, count);
        for bytes in numbers.chunks_exact(width) {
            path.number(Asn::new(number(bytes)).ok_or(Fault::AsZero)?);
        }
        bytes = rest;
    }
    if bytes.is_empty() { Ok(path.end()) } else { Err(Fault::Overrun) }
}

/// Bytes that a path takes.
pub(super) fn bytes<'a>(segments: impl Iterator<Item = Segment<'a>>, four_octets: bool) -> usize {
    let width = if four_octets { 4 } else { 2 };
    let of =
        |segment: Segment<'_>| 2 * segment.asns.len().div_ceil(AsPath::MOST_IN_SEGMENT) + segment.asns.len() * width;
    segments.map(of).sum()
}

/// Writes a path. Numbers that do not fit in two bytes become AS_TRANS (RFC 6793, section 4.2.2).
pub(super) fn write<'a>(segments: impl Iterator<Item = Segment<'a>>, four_octets: bool, to: &mut Vec<u8>) {
    for segment in segments {
        for asns in segment.asns.chunks(AsPath::MOST_IN_SEGMENT) {
            to.extend([segment.kind.code(), u8::try_from(asns.len()).unwrap_or(u8::MAX)]);
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
