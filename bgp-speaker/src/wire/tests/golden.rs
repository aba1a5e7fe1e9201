//! UPDATEs byte by byte, worked by hand from the RFCs.

use super::{decode_update, external, hex, internal, update_bytes};
use crate::types::{
    Aggregator, AsPath, Asn, Attributes, Community, ExtendedCommunity, Family, LargeCommunity, NextHop, Nlri, Origin,
    PathId, RawAttribute, RouterId, SegmentKind,
};
use crate::wire::{EncodeError, Encoder, Options};
use bytes::BytesMut;

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

fn route(prefix: &str) -> Nlri {
    Nlri { prefix: prefix.parse().unwrap(), path: PathId::default() }
}

fn path_of(prefix: &str, path: u32) -> Nlri {
    Nlri { path: PathId(path), ..route(prefix) }
}

fn encode(options: Options, family: Family, attributes: &Attributes, routes: &[Nlri]) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    Encoder::new(options).updates(family, attributes, routes.iter().copied(), &mut bytes).unwrap();
    bytes.to_vec()
}

/// The attributes of the first test and what the others change.
fn plain() -> Attributes {
    Attributes { as_path: AsPath::sequence(vec![asn(65_001)]), ..Attributes::own(NextHop::V4([192, 0, 2, 1].into())) }
}

/// ORIGIN igp, AS_PATH 65001 (one sequence of one, four bytes), NEXT_HOP 192.0.2.1.
const PLAIN: &str = "40010100 400206 0201 0000fde9 400304 c0000201";

/// RFC 4271, section 4.3: 10.1.128.0/17 takes one length byte and three of address, 0.0.0.0/0 takes one byte.
#[test]
fn a_prefix_takes_as_many_bytes_as_its_length_needs() {
    let bytes = update_bytes("", PLAIN, "11 0a0180 00 20 c0000263");
    let routes = [route("10.1.128.0/17"), route("0.0.0.0/0"), route("192.0.2.99/32")];
    let update = decode_update(&bytes, external()).unwrap();
    assert_eq!(update.announcements.len(), 1);
    assert_eq!(update.announcements[0].nlri, routes);
    assert_eq!(*update.announcements[0].attributes, plain());
    assert_eq!(encode(external(), Family::Ipv4, &plain(), &routes), bytes);
}

/// RFC 4271, section 4.3: "the value of trailing bits is irrelevant".
#[test]
fn bits_behind_a_prefix_say_nothing() {
    let update = decode_update(&update_bytes("", PLAIN, "11 0a01ff"), external()).unwrap();
    assert_eq!(update.announcements[0].nlri, [route("10.1.128.0/17")]);
}

/// RFC 4271, section 4.3: two bytes of length, the routes, no attributes.
#[test]
fn withdrawn_ipv4_routes_stand_in_the_body() {
    let bytes = update_bytes("18 0a0101 18 0a0102", "", "");
    let routes = [route("10.1.1.0/24"), route("10.1.2.0/24")];
    let update = decode_update(&bytes, external()).unwrap();
    assert_eq!(update.withdrawals[0].nlri, routes);
    let mut written = BytesMut::new();
    Encoder::new(external()).withdrawals(Family::Ipv4, routes, &mut written);
    assert_eq!(written, bytes);
}

/// RFC 4760, sections 3 and 4; RFC 2545, section 3: flags 0x90 for two bytes of length, AFI 2, SAFI 1, a next hop of 32 bytes.
#[test]
fn ipv6_routes_stand_in_multiprotocol_attributes() {
    let reach =
        "900e 002e 0002 01 20 20010db8000000000000000000000001 fe800000000000000000000000000001 00 40 20010db800010002";
    let bytes = update_bytes("", &format!("{reach} 40010100 400206 0201 0000fde9"), "");
    let next_hop = NextHop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: Some("fe80::1".parse().unwrap()) };
    let attributes = Attributes { next_hop, ..plain() };
    let update = decode_update(&bytes, external()).unwrap();
    assert_eq!(update.announcements[0].family, Family::Ipv6);
    assert_eq!(*update.announcements[0].attributes, attributes);
    assert_eq!(update.announcements[0].nlri, [route("2001:db8:1:2::/64")]);
    assert_eq!(encode(external(), Family::Ipv6, &attributes, &[route("2001:db8:1:2::/64")]), bytes);

    let bytes = update_bytes("", "900f 000c 0002 01 40 20010db800010002", "");
    assert_eq!(decode_update(&bytes, external()).unwrap().withdrawals[0].nlri, [route("2001:db8:1:2::/64")]);
    let mut written = BytesMut::new();
    Encoder::new(external()).withdrawals(Family::Ipv6, [route("2001:db8:1:2::/64")], &mut written);
    assert_eq!(written, bytes);
}

/// RFC 8950, section 3: AFI 1 with a next hop of 16 bytes, only where both sides said so.
#[test]
fn ipv4_routes_have_an_ipv6_next_hop_where_it_was_agreed_on() {
    let bytes = update_bytes(
        "",
        "900e 0019 0001 01 10 20010db8000000000000000000000001 00 18 c63364 40010100 400206 0201 0000fde9",
        "",
    );
    let agreed = Options { extended_next_hop: [true, false], ..external() };
    let next_hop = NextHop::V6 { global: "2001:db8::1".parse().unwrap(), link_local: None };
    let attributes = Attributes { next_hop, ..plain() };
    let update = decode_update(&bytes, agreed.clone()).unwrap();
    assert_eq!(update.announcements[0].nlri, [route("198.51.100.0/24")]);
    assert_eq!(*update.announcements[0].attributes, attributes);
    assert_eq!(encode(agreed, Family::Ipv4, &attributes, &[route("198.51.100.0/24")]), bytes);

    assert!(decode_update(&bytes, external()).is_err());
    let refused = Encoder::new(external()).updates(Family::Ipv4, &attributes, [], &mut BytesMut::new());
    assert_eq!(refused, Err(EncodeError::NextHop { family: Family::Ipv4, next_hop }));
}

/// RFC 7911, section 3: four bytes of id before each prefix, in the families and directions that were agreed on.
#[test]
fn a_path_id_stands_before_its_prefix() {
    let options = Options { add_path_in: [true, false], add_path_out: [true, false], ..external() };
    let bytes = update_bytes("", PLAIN, "00000007 18 0a0101 00000008 18 0a0101");
    let routes = [path_of("10.1.1.0/24", 7), path_of("10.1.1.0/24", 8)];
    assert_eq!(decode_update(&bytes, options.clone()).unwrap().announcements[0].nlri, routes);
    assert_eq!(encode(options, Family::Ipv4, &plain(), &routes), bytes);
}

/// RFC 4724, section 2.
#[test]
fn an_end_of_rib_is_an_update_with_nothing_in_it() {
    for (family, bytes) in
        [(Family::Ipv4, update_bytes("", "", "")), (Family::Ipv6, update_bytes("", "800f 03 0002 01", ""))]
    {
        let update = decode_update(&bytes, external()).unwrap();
        assert_eq!(update.end_of_rib, Some(family));
        assert!(update.announcements.is_empty() && update.withdrawals.is_empty() && update.problems.is_empty());
        let mut written = BytesMut::new();
        Encoder::new(external()).end_of_rib(family, &mut written);
        assert_eq!(written, bytes);
    }
    let update = decode_update(&update_bytes("", PLAIN, ""), external()).unwrap();
    assert_eq!(update.end_of_rib, None, "it has attributes");
}

/// All attributes, in ascending order of code: RFC 4271 (1-7), 1997 (8), 4456 (9, 10), 4360 (16), 8092 (32), 9234 (35), and
/// 99, which we do not know.
#[test]
fn every_attribute_stands_as_its_rfc_says() {
    let attributes = Attributes {
        origin: Origin::Incomplete,
        as_path: [(SegmentKind::Sequence, [asn(65_001), asn(4_200_000_000)]), (SegmentKind::Set, [asn(3), asn(4)])]
            .into_iter()
            .collect(),
        med: Some(5),
        local_pref: Some(200),
        atomic_aggregate: true,
        aggregator: Some(Aggregator { asn: asn(4_200_000_000), id: [192, 0, 2, 7].into() }),
        communities: vec![Community(0xfde9_0001), Community::NO_EXPORT],
        originator: RouterId::new([192, 0, 2, 8].into()),
        cluster_list: vec![RouterId::new([192, 0, 2, 9].into()).unwrap()],
        extended: vec![ExtendedCommunity(0x0002_fde9_0000_0064)],
        large: vec![LargeCommunity { global: 1, local1: 2, local2: 3 }],
        only_to_customer: Some(asn(65_001)),
        unknown: vec![RawAttribute { flags: 0xe0, code: 99, value: hex("abcd").into() }],
        ..plain()
    };
    let bytes = update_bytes(
        "",
        "40010102 400214 0202 0000fde9 fa56ea00 0102 00000003 00000004 400304 c0000201 800404 00000005 400504 000000c8
         400600 c00708 fa56ea00 c0000207 c00808 fde90001 ffffff01 800904 c0000208 800a04 c0000209
         c01008 0002fde900000064 c0200c 00000001 00000002 00000003 c02304 0000fde9 e06302 abcd",
        "18 0a0101",
    );
    assert_eq!(encode(internal(), Family::Ipv4, &attributes, &[route("10.1.1.0/24")]), bytes);
    let update = decode_update(&bytes, internal()).unwrap();
    assert_eq!(*update.announcements[0].attributes, attributes);
    assert!(update.problems.is_empty());
    // RFC 4271, section 5.1.5; RFC 4456, section 8: none of our business what an external peer says there.
    let outside = decode_update(&bytes, external()).unwrap();
    let expected = Attributes { local_pref: None, originator: None, cluster_list: Vec::new(), ..attributes.clone() };
    assert_eq!(*outside.announcements[0].attributes, expected);
    let written = encode(external(), Family::Ipv4, &attributes, &[route("10.1.1.0/24")]);
    assert_eq!(*decode_update(&written, internal()).unwrap().announcements[0].attributes, expected);
}

/// RFC 6793, section 4.2.2: AS_TRANS (23456, 5ba0) in two bytes, the real numbers in AS4_PATH (17) and AS4_AGGREGATOR (18).
#[test]
fn a_peer_of_two_byte_numbers_gets_the_long_ones_beside_them() {
    let attributes = Attributes {
        as_path: AsPath::sequence(vec![asn(65_001), asn(4_200_000_000)]),
        aggregator: Some(Aggregator { asn: asn(4_200_000_000), id: [192, 0, 2, 7].into() }),
        ..plain()
    };
    let two = Options { four_octet_asn: false, ..external() };
    let bytes = update_bytes(
        "",
        "40010100 400206 0202 fde9 5ba0 400304 c0000201 c00706 5ba0 c0000207
         c0110a 0202 0000fde9 fa56ea00 c01208 fa56ea00 c0000207",
        "18 0a0101",
    );
    assert_eq!(encode(two.clone(), Family::Ipv4, &attributes, &[route("10.1.1.0/24")]), bytes);
    assert_eq!(*decode_update(&bytes, two).unwrap().announcements[0].attributes, attributes);
}

/// RFC 6793, section 4.2.3: a speaker of two-byte numbers has put 64999 before the path since AS4_PATH was written.
#[test]
fn what_was_put_before_a_path_of_two_byte_numbers_stays_before_it() {
    let two = Options { four_octet_asn: false, ..external() };
    let path = |attributes: &str| {
        let update = decode_update(&update_bytes("", attributes, "18 0a0101"), two.clone()).unwrap();
        update.announcements[0].attributes.as_path.to_string()
    };
    let rest = "40010100 400304 c0000201";
    assert_eq!(
        path(&format!("{rest} 400208 0203 fde7 fde9 5ba0 c0110a 0202 0000fde9 fa56ea00")),
        "64999 65001 4200000000"
    );
    // AS4_PATH is longer than AS_PATH: it counts for nothing.
    assert_eq!(path(&format!("{rest} 400204 0201 5ba0 c0110a 0202 0000fde9 fa56ea00")), "23456");
    // Somebody aggregated since, and knows two bytes only.
    assert_eq!(
        path(&format!("{rest} 400204 0201 5ba0 c00706 fde9 c0000207 c01106 0201 fa56ea00 c01208 fa56ea00 c0000207")),
        "23456"
    );
}

/// RFC 4271, section 4.1; RFC 8654: 4096 bytes, or 65535.
#[test]
fn as_many_routes_go_into_a_message_as_fit() {
    for (most, messages) in [(4096, 40), (65_535, 3)] {
        let options = Options { max_message_bytes: most, ..external() };
        let routes: Vec<Nlri> = (0..40_000_u32)
            .map(|number| Nlri {
                prefix: ipnet::Ipv4Net::new((0x0a00_0000 + (number << 8)).into(), 24).unwrap().into(),
                path: PathId::default(),
            })
            .collect();
        let bytes = encode(options.clone(), Family::Ipv4, &plain(), &routes);
        let (mut input, mut decoder, mut got, mut count) =
            (&bytes[..], crate::wire::Decoder::new(options), Vec::new(), 0);
        while let Some(crate::types::Message::Update(update)) = decoder.next(&mut input).unwrap() {
            got.extend(update.announcements.into_iter().flat_map(|announcement| announcement.nlri));
            count += 1;
        }
        assert_eq!(got, routes);
        assert_eq!(count, messages);
    }
}

/// RFC 4271, section 9.2: such a route is not for this peer.
#[test]
fn attributes_that_no_message_can_hold_are_refused_whole() {
    let mut attributes = plain();
    attributes.communities = (0..1100).map(Community).collect();
    let mut bytes = BytesMut::new();
    let refused = Encoder::new(external()).updates(Family::Ipv4, &attributes, [route("10.0.0.0/8")], &mut bytes);
    assert!(matches!(refused, Err(EncodeError::TooLong { most: 4096, .. })));
    assert!(bytes.is_empty());
}

#[test]
fn the_same_attribute_bytes_are_one_set_of_attributes() {
    let mut decoder = crate::wire::Decoder::new(external());
    let mut read = |bytes: Vec<u8>| match decoder.next(&mut &bytes[..]) {
        Ok(Some(crate::types::Message::Update(update))) => update.announcements[0].attributes.clone(),
        other => panic!("{other:?}"),
    };
    let first = read(update_bytes("", PLAIN, "18 0a0101"));
    let other = read(update_bytes("", &PLAIN.replace("c0000201", "c0000202"), "18 0a0103"));
    let again = read(update_bytes("", PLAIN, "18 0a0102"));
    assert!(std::sync::Arc::ptr_eq(&first, &again));
    assert_eq!(other.next_hop, NextHop::V4([192, 0, 2, 2].into()));
}

#[test]
fn other_attribute_bytes_are_never_taken_for_known_ones() {
    let mut decoder = crate::wire::Decoder::new(external());
    // More of one length than are remembered, twice.
    for number in (0..500).chain(0..500) {
        let attributes = format!("{PLAIN} c00804 {number:08x}");
        let bytes = update_bytes("", &attributes, "18 0a0101");
        let Ok(Some(crate::types::Message::Update(update))) = decoder.next(&mut &bytes[..]) else { panic!("{number}") };
        assert_eq!(update.announcements[0].attributes.communities, [Community(number)]);
    }
}
