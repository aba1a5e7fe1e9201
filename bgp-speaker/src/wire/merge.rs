//! What a speaker of two-byte AS numbers passed on in AS4_PATH and AS4_AGGREGATOR. RFC 6793, section 4.2.3.

use super::path::is_confederation;
use crate::types::{Aggregator, AsPath, Asn, Segment, SegmentKind};

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
    let merged = as4_path.map(|newer| paths(&as_path, newer));
    (merged.unwrap_or(as_path), aggregator)
}

/// As many leading numbers of the old path as it has more of, then the new path.
fn paths(old: &AsPath, newer: AsPath) -> AsPath {
    let mut tail = newer.0;
    tail.retain(|segment| !is_confederation(segment.kind));
    let tail = AsPath(tail);
    let Some(mut missing) = old.hops().checked_sub(tail.hops()) else { return old.clone() };
    let mut segments: Vec<Segment> = Vec::new();
    for segment in &old.0 {
        match segment.kind {
            SegmentKind::ConfederationSequence | SegmentKind::ConfederationSet => segments.push(segment.clone()),
            _ if missing == 0 => break,
            SegmentKind::Set => {
                segments.push(segment.clone());
                missing -= 1;
            }
            SegmentKind::Sequence => {
                let taken = missing.min(segment.asns.len());
                segments.push(Segment { kind: segment.kind, asns: segment.asns[..taken].to_vec() });
                missing -= taken;
            }
        }
    }
    for segment in tail.0 {
        match segments.last_mut() {
            Some(last)
                if last.kind == SegmentKind::Sequence
                    && segment.kind == SegmentKind::Sequence
                    && last.asns.len() + segment.asns.len() <= AsPath::MOST_IN_SEGMENT =>
            {
                last.asns.extend(segment.asns);
            }
            _ => segments.push(segment),
        }
    }
    AsPath(segments)
}
