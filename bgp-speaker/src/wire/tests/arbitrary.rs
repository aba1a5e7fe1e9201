//! Any attributes, routes and options, as proptest strategies.

use crate::types::{
    Aggregator, AsPath, Asn, Attributes, Community, ExtendedCommunity, Family, LargeCommunity, NextHop, Nlri, Origin,
    PathId, RawAttribute, RouterId, SegmentKind,
};
use crate::wire::Options;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

pub(super) fn options() -> impl Strategy<Value = Options> {
    let flags = || any::<[bool; 2]>();
    (any::<bool>(), any::<bool>(), any::<bool>(), flags(), flags()).prop_map(|(four, internal, long, paths, hops)| {
        Options {
            four_octet_asn: four,
            internal,
            max_message_bytes: if long { 65_535 } else { 4096 },
            families: [true; 2],
            add_path_in: paths,
            add_path_out: paths,
            extended_next_hop: hops,
        }
    })
}

fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1..70_000_u32, 1..u32::MAX].prop_map(|number| Asn::new(number).unwrap())
}

fn id() -> impl Strategy<Value = RouterId> {
    (1..u32::MAX).prop_map(|id| RouterId::new(id.into()).unwrap())
}

/// A path as a speaker builds it: full sequences are split, and no two sequences could be one.
fn as_path() -> impl Strategy<Value = AsPath> {
    let sequence = vec(asn(), 1..5).prop_map(|asns| (SegmentKind::Sequence, asns));
    let set = vec(asn(), 1..3).prop_map(|asns| (SegmentKind::Set, asns));
    (option::of(sequence), option::of(set)).prop_map(|(sequence, set)| sequence.into_iter().chain(set).collect())
}

fn next_hop(family: Family, extended: bool) -> BoxedStrategy<NextHop> {
    let v4 = (0x0100_0000..0x7f00_0000_u32).prop_map(|address| NextHop::V4(address.into()));
    let global = (0x2000_u128 << 112..0x4000_u128 << 112).prop_map(Ipv6Addr::from);
    let link_local = any::<u64>().prop_map(|id| Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(id)));
    let v6 = (global, option::of(link_local)).prop_map(|(global, link_local)| NextHop::V6 { global, link_local });
    match family {
        Family::Ipv4 if extended => prop_oneof![v4, v6].boxed(),
        Family::Ipv4 => v4.boxed(),
        Family::Ipv6 => v6.boxed(),
    }
}

fn unknown() -> impl Strategy<Value = Vec<RawAttribute>> {
    proptest::collection::btree_map(200..250_u8, vec(any::<u8>(), 0..400), 0..3).prop_map(|unknown| {
        let raw = |(code, value): (u8, Vec<u8>)| RawAttribute { flags: 0xe0, code, value: value.into() };
        unknown.into_iter().map(raw).collect()
    })
}

pub(super) fn attributes(family: Family, extended: bool) -> impl Strategy<Value = Attributes> {
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let aggregator = (asn(), any::<Ipv4Addr>()).prop_map(|(asn, id)| Aggregator { asn, id });
    let large = any::<[u32; 3]>().prop_map(|[global, local1, local2]| LargeCommunity { global, local1, local2 });
    let way = (origin, as_path(), next_hop(family, extended), any::<Option<u32>>(), any::<Option<u32>>());
    let inside = (any::<bool>(), option::of(aggregator), option::of(id()), vec(id(), 0..3));
    let labels = (
        btree_set(any::<u32>().prop_map(Community), 0..80),
        btree_set(any::<u64>().prop_map(ExtendedCommunity), 0..3),
        btree_set(large, 0..3),
        option::of(asn()),
        unknown(),
    );
    (way, inside, labels).prop_map(|(way, inside, labels)| Attributes {
        origin: way.0,
        as_path: way.1,
        next_hop: way.2,
        med: way.3,
        local_pref: way.4,
        atomic_aggregate: inside.0,
        aggregator: inside.1,
        originator: inside.2,
        cluster_list: inside.3,
        communities: labels.0.into_iter().collect(),
        extended: labels.1.into_iter().collect(),
        large: labels.2.into_iter().collect(),
        only_to_customer: labels.3,
        unknown: labels.4,
    })
}

pub(super) fn routes(family: Family, with_ids: bool) -> impl Strategy<Value = Vec<Nlri>> {
    let prefix = move |(address, length): (u128, u8)| match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::new(Ipv4Addr::from((address >> 96) as u32), length % 33).unwrap().trunc()),
        Family::Ipv6 => IpNet::V6(Ipv6Net::new(address.into(), length % 129).unwrap().trunc()),
    };
    let path = any::<u32>().prop_map(move |id| PathId(if with_ids { id } else { 0 }));
    let route = (any::<(u128, u8)>(), path).prop_map(move |(bits, path)| Nlri { prefix: prefix(bits), path });
    vec(route, 1..600)
}

/// A family with options, attributes and routes that go together.
pub(super) fn announcement() -> impl Strategy<Value = (Family, Options, Attributes, Vec<Nlri>)> {
    (prop_oneof![Just(Family::Ipv4), Just(Family::Ipv6)], options()).prop_flat_map(|(family, options)| {
        let at = family.index();
        let attributes = attributes(family, options.extended_next_hop[at]);
        (Just(family), Just(options.clone()), attributes, routes(family, options.add_path_out[at]))
    })
}
