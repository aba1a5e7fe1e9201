//! Path attributes to bytes. Never prefixes, and never what is only for inside a system to a peer outside of it.

use super::codes::{attribute as code, flag};
use super::options::Options;
use super::path;
use crate::types::{Asn, Attributes, NextHop, Origin, RouterId};

/// Writes what stands before the value of an attribute.
fn head(flags: u8, code: u8, bytes: usize, to: &mut Vec<u8>) {
    match u8::try_from(bytes) {
        Ok(length) => to.extend([flags & !flag::EXTENDED_LENGTH, code, length]),
        Err(_) => {
            to.extend([flags | flag::EXTENDED_LENGTH, code]);
            to.extend(u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
}

/// Writes one attribute.
fn attribute(flags: u8, code: u8, value: &[u8], to: &mut Vec<u8>) {
    head(flags, code, value.len(), to);
    to.extend_from_slice(value);
}

/// All attributes by ascending code, but MP_REACH_NLRI; NEXT_HOP where `with_next_hop`.
pub(super) fn attributes(attributes: &Attributes, with_next_hop: bool, options: &Options, to: &mut Vec<u8>) {
    let origin = match attributes.origin {
        Origin::Igp => 0,
        Origin::Egp => 1,
        Origin::Incomplete => 2,
    };
    attribute(flag::TRANSITIVE, code::ORIGIN, &[origin], to);
    let segments = attributes.as_path.segments();
    head(flag::TRANSITIVE, code::AS_PATH, path::bytes(segments.clone(), options.four_octet_asn), to);
    path::write(segments, options.four_octet_asn, to);
    if let (NextHop::V4(address), true) = (attributes.next_hop, with_next_hop) {
        attribute(flag::TRANSITIVE, code::NEXT_HOP, &address.octets(), to);
    }
    if let Some(med) = attributes.med {
        attribute(flag::OPTIONAL, code::MED, &med.to_be_bytes(), to);
    }
    if let (Some(preference), true) = (attributes.local_pref, options.internal) {
        attribute(flag::TRANSITIVE, code::LOCAL_PREF, &preference.to_be_bytes(), to);
    }
    if attributes.atomic_aggregate {
        attribute(flag::TRANSITIVE, code::ATOMIC_AGGREGATE, &[], to);
    }
    if let Some(aggregator) = attributes.aggregator {
        head(flag::KIND, code::AGGREGATOR, if options.four_octet_asn { 8 } else { 6 }, to);
        if options.four_octet_asn {
            to.extend(aggregator.asn.get().to_be_bytes());
        } else {
            to.extend(aggregator.asn.two_bytes().to_be_bytes());
        }
        to.extend(aggregator.id.octets());
    }
    list(flag::KIND, code::COMMUNITIES, attributes.communities.iter().map(|community| community.0.to_be_bytes()), to);
    if options.internal {
        if let Some(originator) = attributes.originator {
            attribute(flag::OPTIONAL, code::ORIGINATOR_ID, &originator.get().octets(), to);
        }
        let clusters = attributes.cluster_list.iter().map(|cluster: &RouterId| cluster.get().octets());
        list(flag::OPTIONAL, code::CLUSTER_LIST, clusters, to);
    }
    let extended = attributes.extended.iter().map(|community| community.0.to_be_bytes());
    list(flag::KIND, code::EXTENDED_COMMUNITIES, extended, to);
    if !options.four_octet_asn {
        four_octets(attributes, to);
    }
    let large = attributes.large.iter().map(|community| {
        let parts = [community.global, community.local1, community.local2];
        <[u8; 12]>::try_from(parts.map(u32::to_be_bytes).as_flattened()).unwrap_or_default()
    });
    list(flag::KIND, code::LARGE_COMMUNITY, large, to);
    if let Some(asn) = attributes.only_to_customer {
        attribute(flag::KIND, code::ONLY_TO_CUSTOMER, &asn.get().to_be_bytes(), to);
    }
    for unknown in &attributes.unknown {
        attribute(unknown.flags, unknown.code, &unknown.value, to);
    }
}

/// For a peer of two-byte numbers, what they cannot say. RFC 6793, section 4.2.2.
fn four_octets(attributes: &Attributes, to: &mut Vec<u8>) {
    let is_long = |asn: Asn| asn.get() > u32::from(u16::MAX);
    if attributes.as_path.asns().any(is_long) {
        let plain = attributes.as_path.segments().filter(|segment| !segment.kind.is_confederation());
        head(flag::KIND, code::AS4_PATH, path::bytes(plain.clone(), true), to);
        path::write(plain, true, to);
    }
    if let Some(aggregator) = attributes.aggregator.filter(|aggregator| is_long(aggregator.asn)) {
        let [a, b, c, d] = aggregator.asn.get().to_be_bytes();
        let [e, f, g, h] = aggregator.id.octets();
        attribute(flag::KIND, code::AS4_AGGREGATOR, &[a, b, c, d, e, f, g, h], to);
    }
}

/// A list attribute, where there is something to list.
fn list<const N: usize>(flags: u8, code: u8, members: impl ExactSizeIterator<Item = [u8; N]>, to: &mut Vec<u8>) {
    if members.len() > 0 {
        head(flags, code, members.len() * N, to);
        members.for_each(|member| to.extend(member));
    }
}

/// The bytes that the next hop of MP_REACH_NLRI takes. RFC 2545, section 3; RFC 8950, section 3.
pub(super) fn next_hop(next_hop: NextHop, to: &mut Vec<u8>) {
    match next_hop {
        NextHop::V4(address) => to.extend(address.octets()),
        NextHop::V6 { global, link_local } => {
            to.extend(global.octets());
            to.extend(link_local.map(|address| address.octets()).iter().flatten());
        }
    }
}
