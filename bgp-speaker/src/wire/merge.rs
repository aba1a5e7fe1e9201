//! What a speaker of two-byte AS numbers passed on in AS4_PATH and AS4_AGGREGATOR. RFC 6793, section 4.2.3.

use crate::types::{Aggregator, AsPath, Asn, SegmentKind};

/// The real path and aggregator.
pub(super) fn merge(
    as_path: AsPath,
    as4_path: Option<AsPath>,
    aggregator: Option<Aggregator>,
    as4_aggregator: Option<Aggregator>,
) -> (AsPath, Option<Aggregator>) {
    // Somebody who knows two bytes only has aggregated since: what is in four bytes is of before that.
    if as4_aggregator.is_some() && aggregator.is_some_and(|aggregator| aggregator.asn != Asn::TRANS) {
        return (as_path, aggregator);
    }
    let aggregator = aggregator.map(|aggregator| as4_aggregator.unwrap_or(aggregator));
    let merged = as4_path.map(|newer| paths(&as_path, &newer));
    (merged.unwrap_or(as_path), aggregator)
}

/// As many leading numbers of the old path as it has more of, then the new path.
fn paths(old: &AsPath, newer: &AsPath) -> AsPath {
    let tail = || newer.segments().filter(|segment| !segment.kind.is_confederation());
    let plain: AsPath = tail().map(|segment| (segment.kind, segment.asns)).collect();
    let Some(mut missing) = old.hops().checked_sub(plain.hops()) else { return old.clone() };
    let mut segments: Vec<(SegmentKind, Vec<Asn>)> = Vec::new();
    for segment in old.segments() {
        let taken = match segment.kind {
            kind if kind.is_confederation() => segment.asns.len(),
            _ if missing == 0 => break,
            SegmentKind::Sequence => {
                let taken = missing.min(segment.asns.len());
                missing -= taken;
                taken
            }
            _ => {
                missing -= 1;
                segment.asns.len()
            }
        };
        segments.push((segment.kind, segment.asns[..taken].to_vec()));
    }
    for segment in tail() {
        match segments.last_mut() {
            Some((SegmentKind::Sequence, last))
                if segment.kind == SegmentKind::Sequence
                    && last.len() + segment.asns.len() <= AsPath::MOST_IN_SEGMENT =>
            {
                last.extend_from_slice(segment.asns);
            }
            _ => segments.push((segment.kind, segment.asns.to_vec())),
        }
    }
    segments.into_iter().collect()
}
