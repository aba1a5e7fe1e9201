//! What we write, read by another implementation of the codec.

use super::arbitrary::announcement;
use crate::types::{Attributes, Family, NextHop, Nlri, Origin, SegmentKind};
use crate::wire::{Encoder, Options};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rustbgpd_wire as theirs;
use std::net::IpAddr;
use theirs::{Afi, AsPathSegment, PathAttribute, Safi};

/// Routes and next hop of a message as the other reads it.
type Routes = (Option<(IpAddr, Option<std::net::Ipv6Addr>)>, Vec<(String, u32)>);

fn name(prefix: theirs::Prefix) -> String {
    format!("{}/{}", prefix.addr_string(), prefix.prefix_len())
}

/// Reads one message, and compares its attributes with `ours`.
fn read(bytes: Bytes, options: &Options, ours: &Attributes) -> Result<Routes, TestCaseError> {
    let mut bytes = bytes;
    let theirs::Message::Update(update) = theirs::decode_message(&mut bytes, options.max_message_bytes).unwrap() else {
        panic!("not an UPDATE")
    };
    let with_ids: Vec<(Afi, Safi)> = [(Afi::Ipv4, Safi::Unicast), (Afi::Ipv6, Safi::Unicast)]
        .into_iter()
        .zip(options.add_path_out)
        .filter_map(|(family, with_ids)| with_ids.then_some(family))
        .collect();
    let parsed =
        update.parse_revised(options.four_octet_asn, options.internal, options.add_path_out[0], &with_ids).unwrap();
    prop_assert!(parsed.malformed.is_empty(), "{:?}", parsed.malformed);
    let mut next_hop = None;
    let mut routes: Vec<_> =
        parsed.update.announced.iter().map(|entry| (name(theirs::Prefix::V4(entry.prefix)), entry.path_id)).collect();
    for attribute in &parsed.update.attributes {
        match attribute {
            PathAttribute::MpReachNlri(reach) => {
                next_hop = Some((reach.next_hop, reach.link_local_next_hop));
                routes.extend(reach.announced.iter().map(|entry| (name(entry.prefix), entry.path_id)));
            }
            PathAttribute::NextHop(address) => next_hop = Some((IpAddr::V4(*address), None)),
            PathAttribute::Origin(origin) => {
                let expected = match ours.origin {
                    Origin::Igp => theirs::Origin::Igp,
                    Origin::Egp => theirs::Origin::Egp,
                    Origin::Incomplete => theirs::Origin::Incomplete,
                };
                prop_assert_eq!(*origin, expected);
            }
            PathAttribute::AsPath(path) => {
                let got: Vec<(bool, Vec<u32>)> = path
                    .segments
                    .iter()
                    .map(|segment| match segment {
                        AsPathSegment::AsSet(asns) => (true, asns.clone()),
                        AsPathSegment::AsSequence(asns) => (false, asns.clone()),
                    })
                    .collect();
                let expected = ours.as_path.segments().map(|segment| {
                    (segment.kind == SegmentKind::Set, segment.asns.iter().map(|asn| asn.get()).collect())
                });
                prop_assert_eq!(got, expected.collect::<Vec<(bool, Vec<u32>)>>());
            }
            PathAttribute::Med(med) => prop_assert_eq!(Some(*med), ours.med),
            PathAttribute::LocalPref(preference) => {
                prop_assert_eq!(Some(*preference), ours.local_pref.filter(|_| options.internal));
            }
            PathAttribute::Communities(communities) => {
                prop_assert_eq!(communities, &ours.communities.iter().map(|one| one.0).collect::<Vec<_>>());
            }
            PathAttribute::ExtendedCommunities(communities) => {
                let got: Vec<u64> = communities.iter().map(|one| one.as_u64()).collect();
                prop_assert_eq!(got, ours.extended.iter().map(|one| one.0).collect::<Vec<_>>());
            }
            PathAttribute::OnlyToCustomer(asn) => {
                prop_assert_eq!(Some(*asn), ours.only_to_customer.map(crate::types::Asn::get));
            }
            _ => {}
        }
    }
    Ok((next_hop, routes))
}

fn expected(attributes: &Attributes, routes: &[Nlri]) -> Routes {
    let next_hop = match attributes.next_hop {
        NextHop::V4(address) => (IpAddr::V4(address), None),
        NextHop::V6 { global, link_local } => (IpAddr::V6(global), link_local),
    };
    (Some(next_hop), routes.iter().map(|route| (route.prefix.to_string(), route.path.0)).collect())
}

proptest! {
    #[test]
    fn another_implementation_reads_what_we_write((family, options, mut attributes, mut routes) in announcement()) {
        // It treats routes with an AS_SET as withdrawn (RFC 9774); we still take them, as most speakers do.
        let path = attributes.as_path.clone();
        let plain = path.segments().filter(|segment| segment.kind != SegmentKind::Set);
        attributes.as_path = plain.map(|segment| (segment.kind, segment.asns)).collect();
        // What fits in one message.
        routes.truncate(if family == Family::Ipv4 { 60 } else { 20 });
        let mut bytes = BytesMut::new();
        Encoder::new(options.clone()).updates(family, &attributes, routes.iter().copied(), &mut bytes).unwrap();
        let read = read(bytes.freeze(), &options, &attributes)?;
        prop_assert_eq!(read, expected(&attributes, &routes));
    }
}
