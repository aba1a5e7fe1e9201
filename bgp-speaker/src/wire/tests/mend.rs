//! UPDATEs with errors: what RFC 7606 makes of each.

use super::{decode_update, external, internal, update_bytes};
use crate::types::{Family, Notification, UpdateSubcode};
use crate::wire::Options;

/// What an error costs.
#[derive(Debug, PartialEq, Eq)]
enum Cost {
    /// Nothing that anybody would notice.
    Nothing,
    /// The attribute with this code.
    Attribute(u8),
    /// The routes: their attribute with this code was wrong.
    Routes(u8),
    /// The session.
    Session(UpdateSubcode),
}

const ORIGIN: &str = "40010100";
const AS_PATH: &str = "400206 0201 0000fde9";
const NEXT_HOP: &str = "400304 c0000201";

fn cost_on(options: Options, attributes: &[&str]) -> Cost {
    let update = match decode_update(&update_bytes("", &attributes.concat(), "18 0a0101"), options) {
        Ok(update) => update,
        Err(Notification::Update(subcode, _)) => return Cost::Session(subcode),
        Err(other) => panic!("{other:?}"),
    };
    let withdrawn = update.problems.iter().find(|problem| problem.withdrawn);
    assert_eq!(update.withdrawals.len(), usize::from(withdrawn.is_some()));
    assert_eq!(update.announcements.is_empty(), withdrawn.is_some());
    match (withdrawn, update.problems.first()) {
        (Some(problem), _) => Cost::Routes(problem.attribute),
        (None, Some(problem)) => Cost::Attribute(problem.attribute),
        (None, None) => Cost::Nothing,
    }
}

/// Of one attribute beside those that have to be there.
fn cost(attribute: &str) -> Cost {
    cost_on(external(), &[ORIGIN, AS_PATH, NEXT_HOP, attribute])
}

fn cost_inside(attribute: &str) -> Cost {
    cost_on(internal(), &[ORIGIN, AS_PATH, NEXT_HOP, attribute])
}

/// Section 3 d.
#[test]
fn section_3_d_a_missing_attribute_costs_the_routes() {
    assert_eq!(cost_on(external(), &[AS_PATH, NEXT_HOP]), Cost::Routes(1));
    assert_eq!(cost_on(external(), &[ORIGIN, NEXT_HOP]), Cost::Routes(2));
    assert_eq!(cost_on(external(), &[ORIGIN, AS_PATH]), Cost::Routes(3));
}

#[test]
fn section_3_c_wrong_flags_cost_the_routes() {
    assert_eq!(cost("c00404 00000001"), Cost::Routes(4));
    assert_eq!(cost("400804 00000001"), Cost::Routes(8));
    assert_eq!(cost_on(external(), &["c0010100", AS_PATH, NEXT_HOP]), Cost::Routes(1));
    // The low bits say nothing, the partial bit of a known one neither (RFC 4271, section 4.3).
    assert_eq!(cost("8f0400 04 00000001"), Cost::Routes(4), "0x10 is the extended length");
    assert_eq!(cost("ef08 04 00000001"), Cost::Nothing);
}

#[test]
fn section_3_g_the_first_of_two_counts() {
    assert_eq!(cost(ORIGIN), Cost::Attribute(1));
    let reach = "800e 15 0002 01 10 20010db8000000000000000000000001 00";
    assert_eq!(cost(&reach.repeat(2)), Cost::Session(UpdateSubcode::MalformedAttributeList));
    assert_eq!(cost(&"800f 03 0002 01".repeat(2)), Cost::Session(UpdateSubcode::MalformedAttributeList));
}

#[test]
fn section_4_an_attribute_behind_the_end_costs_the_routes() {
    assert_eq!(cost("c00808 00000001"), Cost::Routes(8));
    assert_eq!(cost("c0"), Cost::Routes(0));
    assert_eq!(cost("d00800"), Cost::Routes(8));
}

#[test]
fn section_5_3_prefixes_that_cannot_be_found_cost_the_session() {
    let network = Cost::Session(UpdateSubcode::InvalidNetwork);
    for nlri in ["21 0a010101 01", "18 0a01", "ff"] {
        let all = [ORIGIN, AS_PATH, NEXT_HOP].concat();
        let refused = decode_update(&update_bytes("", &all, nlri), external());
        assert_eq!(refused, Err(Notification::Update(UpdateSubcode::InvalidNetwork, [].as_slice().into())), "{nlri}");
    }
    assert_eq!(network, Cost::Session(UpdateSubcode::InvalidNetwork));
    let optional = || Cost::Session(UpdateSubcode::OptionalAttribute);
    assert_eq!(cost("800e 17 0002 01 10 20010db8000000000000000000000001 00 81 00"), optional());
    assert_eq!(cost("800f 05 0002 01 81 00"), optional());
    assert_eq!(cost("800f 09 0002 01"), optional(), "behind the end");
    // Section 7.11: the next hop's length cannot be.
    assert_eq!(cost("800e 0a 0002 01 04 c0000201 00 00"), optional());
    assert_eq!(cost("800e 04 0002 01 00"), optional());
}

#[test]
fn lengths_of_the_message_that_cannot_be_cost_the_session() {
    let mut bytes = update_bytes("", "", "");
    bytes[20] = 1;
    let expected = Notification::Update(UpdateSubcode::MalformedAttributeList, [].as_slice().into());
    assert_eq!(decode_update(&bytes, external()), Err(expected.clone()));
    bytes[20] = 0;
    bytes[22] = 1;
    assert_eq!(decode_update(&bytes, external()), Err(expected));
}

#[test]
fn sections_7_1_to_7_4_origin_path_next_hop_and_med_cost_the_routes() {
    for origin in ["40010103", "400100", "4001020000"] {
        assert_eq!(cost_on(external(), &[origin, AS_PATH, NEXT_HOP]), Cost::Routes(1), "{origin}");
    }
    // An unknown kind, an empty segment, one number too few, a byte too many, AS 0 (RFC 7607), a confederation (RFC 5065).
    for path in [
        "400206 0501 0000fde9",
        "400202 0200",
        "400206 0202 0000fde9",
        "400207 0201 0000fde9 02",
        "400206 0201 00000000",
        "400206 0301 0000fde9",
    ] {
        assert_eq!(cost_on(external(), &[ORIGIN, path, NEXT_HOP]), Cost::Routes(2), "{path}");
    }
    assert_eq!(cost_on(internal(), &[ORIGIN, "400206 0301 0000fde9", NEXT_HOP]), Cost::Nothing);
    for next_hop in ["400303 c00002", "400304 00000000", "400304 e0000001", "400304 7f000001", "400304 ffffffff"] {
        assert_eq!(cost_on(external(), &[ORIGIN, AS_PATH, next_hop]), Cost::Routes(3), "{next_hop}");
    }
    assert_eq!(cost("800403 000001"), Cost::Routes(4));
}

#[test]
fn sections_7_5_7_9_and_7_10_attributes_of_the_inside_count_inside_only() {
    for attribute in ["400503 000001", "800903 c00002", "800a05 c000020100", "800a00"] {
        assert_eq!(cost(attribute), Cost::Nothing, "{attribute}");
        assert!(matches!(cost_inside(attribute), Cost::Routes(5 | 9 | 10)), "{attribute}");
    }
}

#[test]
fn sections_7_6_and_7_7_what_says_nothing_about_the_way_costs_itself() {
    assert_eq!(cost("40060100"), Cost::Attribute(6));
    assert_eq!(cost("c00706 fde9 c0000201"), Cost::Attribute(7));
    assert_eq!(cost("c00708 00000000 c0000201"), Cost::Attribute(7), "RFC 7607");
    let two = Options { four_octet_asn: false, ..external() };
    let path = "400204 0201 fde9";
    assert_eq!(cost_on(two.clone(), &[ORIGIN, path, NEXT_HOP, "c01103 020100"]), Cost::Attribute(17), "RFC 6793");
    assert_eq!(cost_on(two, &[ORIGIN, path, NEXT_HOP, "c01203 020100"]), Cost::Attribute(18));
    // From a speaker of four-byte numbers they say nothing.
    assert_eq!(cost("c01103 020100"), Cost::Nothing);
}

#[test]
fn sections_7_8_and_7_14_communities_cost_the_routes() {
    for attribute in
        ["c00803 000001", "c00800", "c01007 00000000000000", "c01000", "c0200b 0000000000000000000000", "c02000"]
    {
        assert!(matches!(cost(attribute), Cost::Routes(8 | 16 | 32)), "{attribute}");
    }
    // RFC 9234, section 5.
    assert_eq!(cost("c02303 000001"), Cost::Routes(35));
    assert_eq!(cost("c02304 00000000"), Cost::Routes(35));
}

/// RFC 4271, section 9.
#[test]
fn what_is_unknown_is_passed_on_or_passed_over_as_its_flags_say() {
    assert_eq!(cost("c0630100"), Cost::Nothing);
    assert_eq!(cost("80630100"), Cost::Nothing);
    assert_eq!(cost("40630100"), Cost::Routes(99));
    let kept = |attribute: &str| {
        let all = [ORIGIN, AS_PATH, NEXT_HOP, attribute].concat();
        let update = decode_update(&update_bytes("", &all, "18 0a0101"), external()).unwrap();
        update.announcements[0].attributes.unknown.len()
    };
    assert_eq!((kept("c0630100"), kept("80630100")), (1, 0));
}

/// RFC 4760, section 7: others' families end nothing, and the routes beside them stay.
#[test]
fn routes_of_a_family_that_is_not_of_the_session_are_passed_over() {
    // L2VPN EVPN (25, 70) with whatever is in it.
    assert_eq!(cost("800e 0c 0019 46 04 c0000201 00 ffffff"), Cost::Attribute(14));
    let only_v4 = Options { families: [true, false], ..external() };
    let v6 = "800e 15 0002 01 10 20010db8000000000000000000000001 00";
    assert_eq!(cost_on(only_v4, &[ORIGIN, AS_PATH, NEXT_HOP, v6]), Cost::Attribute(14));
    let only_v6 = Options { families: [false, true], ..external() };
    let update = decode_update(&update_bytes("18 0a0102", &[ORIGIN, AS_PATH, NEXT_HOP].concat(), "18 0a0101"), only_v6);
    let update = update.unwrap();
    assert!(update.announcements.is_empty() && update.withdrawals.is_empty());
}

/// Section 2: all routes of the message, of both families.
#[test]
fn an_error_costs_the_routes_of_both_families() {
    let v6 = "800e 1e 0002 01 10 20010db8000000000000000000000001 00 40 20010db800010002";
    let all = [v6, ORIGIN, AS_PATH, NEXT_HOP, "800403 000001"].concat();
    let update = decode_update(&update_bytes("", &all, "18 0a0101"), external()).unwrap();
    assert!(update.announcements.is_empty());
    let families: Vec<Family> = update.withdrawals.iter().map(|withdrawal| withdrawal.family).collect();
    assert_eq!(families, [Family::Ipv6, Family::Ipv4]);
    assert_eq!(update.problems.len(), 1);
}
