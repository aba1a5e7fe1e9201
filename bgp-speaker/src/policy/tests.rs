//! Laws of policies.

use super::{Accepted, NextHopRule, Policy, RawPolicy, Route, RouteSource};
use crate::types::{AsPath, Asn, Attributes, Community, ExtendedCommunity, LargeCommunity, NextHop, Origin};
use proptest::prelude::*;

fn raw(text: &str) -> RawPolicy {
    serde_json::from_str(text).unwrap()
}

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

fn attributes() -> Attributes {
    let mut made = Attributes::own(NextHop::V4([192, 0, 2, 1].into()));
    made.as_path = AsPath::sequence(vec![asn(65_001), asn(65_002), asn(65_003)]);
    made.communities = vec![Community(65_001 << 16 | 1), Community(65_001 << 16 | 2), Community::NO_EXPORT];
    made.extended = vec![ExtendedCommunity(0x0002_fde9_0000_0007)];
    made.large = vec![LargeCommunity { global: 65_001, local1: 1, local2: 2 }];
    made.origin = Origin::Egp;
    made.local_pref = Some(150);
    made.med = Some(20);
    made
}

fn apply(text: &str, prefix: &str) -> Option<Accepted> {
    let attributes = attributes();
    let route = Route {
        prefix: prefix.parse().unwrap(),
        attributes: &attributes,
        peer: Some("tor-1"),
        interface: Some("eth0"),
        source: RouteSource::Ebgp,
    };
    Policy::export(&raw(text)).unwrap().apply(&route, asn(64_512))
}

/// Whether a condition holds for the route of these tests.
fn holds(condition: &str, prefix: &str) -> bool {
    let text = format!(r#"{{"statements": [{{"if": {condition}, "then": "accept"}}], "default": "reject"}}"#);
    apply(&text, prefix).is_some()
}

fn changed(set: &str) -> Attributes {
    let text = format!(r#"{{"statements": [{{"set": {set}}}], "default": "accept"}}"#);
    *apply(&text, "10.0.0.0/8").unwrap().changed.unwrap()
}

#[test]
fn a_prefix_matches_with_its_range_of_lengths() {
    let exact = r#"{"prefixes": [{"prefix": "10.0.0.0/8"}]}"#;
    let longer = r#"{"prefixes": [{"prefix": "10.0.0.0/8", "at-least": 16}]}"#;
    let range = r#"{"prefixes": [{"prefix": "10.0.0.0/8", "at-least": 16, "at-most": 24}, {"prefix": "2001:db8::/32", "at-most": 48}]}"#;
    let cases = [
        ("10.0.0.0/8", [true, false, false]),
        ("10.1.0.0/16", [false, true, true]),
        ("10.1.2.3/32", [false, true, false]),
        ("11.1.0.0/16", [false, false, false]),
        ("0.0.0.0/0", [false, false, false]),
        ("2001:db8::/32", [false, false, true]),
        ("2001:db8::1/128", [false, false, false]),
    ];
    for (prefix, expected) in cases {
        assert_eq!([exact, longer, range].map(|condition| holds(condition, prefix)), expected, "{prefix}");
    }
}

#[test]
fn each_condition_holds_for_what_it_names_only() {
    let cases = [
        (r#"{}"#, true),
        (r#"{"communities": {"any": ["65001:9", "65001:1"]}}"#, true),
        (r#"{"communities": {"any": ["65001:9"]}}"#, false),
        (r#"{"communities": {"all": ["65001:1", "65001:1:2", "rt:65001:7", "no-export"]}}"#, true),
        (r#"{"communities": {"all": ["65001:1", "65001:9"]}}"#, false),
        (r#"{"communities": {"none": ["65001:9"]}}"#, true),
        (r#"{"communities": {"none": ["65001:*"]}}"#, false),
        (r#"{"communities": {"any": ["65001:*:*"]}}"#, true),
        (r#"{"communities": {"any": ["65002:*", "65002:*:*"]}}"#, false),
        (r#"{"as-path": {"contains": [65002]}}"#, true),
        (r#"{"as-path": {"contains": [65009]}}"#, false),
        (r#"{"as-path": {"origin": [65003], "neighbour": [65001]}}"#, true),
        (r#"{"as-path": {"origin": [65001]}}"#, false),
        (r#"{"as-path": {"hops": {"at-least": 3, "at-most": 3}}}"#, true),
        (r#"{"as-path": {"hops": {"at-least": 4}}}"#, false),
        (r#"{"as-path": {"pattern": "65001 * 65003"}}"#, true),
        (r#"{"as-path": {"pattern": "65001 65003"}}"#, false),
        (r#"{"peers": ["tor-1"]}"#, true),
        (r#"{"peers": ["tor-2"]}"#, false),
        (r#"{"next-hops": ["192.0.2.0/24"]}"#, true),
        (r#"{"next-hops": ["198.51.100.0/24", "::/0"]}"#, false),
        (r#"{"sources": ["local", "ebgp"]}"#, true),
        (r#"{"sources": ["ibgp", "aggregate"]}"#, false),
        (r#"{"interfaces": ["eth0"]}"#, true),
        (r#"{"interfaces": ["eth1"]}"#, false),
        (r#"{"family": "ipv4"}"#, true),
        (r#"{"family": "ipv6"}"#, false),
        (r#"{"local-pref": {"at-least": 150}, "med": {"at-most": 20}}"#, true),
        (r#"{"med": {"at-least": 21}}"#, false),
        (r#"{"family": "ipv4", "peers": ["tor-2"]}"#, false),
    ];
    for (condition, expected) in cases {
        assert_eq!(holds(condition, "10.0.0.0/8"), expected, "{condition}");
    }
}

#[test]
fn each_change_changes_what_it_names_only() {
    let before = attributes();
    let cases = [
        (r#"{"local-pref": 7}"#, Attributes { local_pref: Some(7), ..before.clone() }),
        (r#"{"med": 7}"#, Attributes { med: Some(7), ..before.clone() }),
        (r#"{"med-add": 7}"#, Attributes { med: Some(27), ..before.clone() }),
        (r#"{"med-add": -30}"#, Attributes { med: Some(0), ..before.clone() }),
        (r#"{"med-add": 9223372036854775807}"#, Attributes { med: Some(u32::MAX), ..before.clone() }),
        (
            r#"{"prepend": {"times": 2}}"#,
            Attributes { as_path: before.as_path.prepended(asn(64_512), 2), ..before.clone() },
        ),
        (
            r#"{"prepend": {"asn": 65009, "times": 1}}"#,
            Attributes { as_path: before.as_path.prepended(asn(65_009), 1), ..before.clone() },
        ),
        (
            r#"{"communities": {"remove": ["65001:*", "65001:1:2"], "add": ["1:1"]}}"#,
            Attributes {
                communities: vec![Community(0x1_0001), Community::NO_EXPORT],
                large: Vec::new(),
                ..before.clone()
            },
        ),
        (
            r#"{"communities": {"replace": ["1:1:1"]}}"#,
            Attributes {
                communities: Vec::new(),
                extended: Vec::new(),
                large: vec![LargeCommunity { global: 1, local1: 1, local2: 1 }],
                ..before.clone()
            },
        ),
        (r#"{"next-hop": "192.0.2.9"}"#, Attributes { next_hop: NextHop::V4([192, 0, 2, 9].into()), ..before.clone() }),
    ];
    for (set, expected) in cases {
        assert_eq!(changed(set), expected, "{set}");
    }
}

#[test]
fn a_next_hop_of_ones_own_is_left_to_who_knows_it() {
    let rule = |word: &str| {
        let text = format!(r#"{{"statements": [{{"set": {{"next-hop": "{word}"}}}}], "default": "accept"}}"#);
        apply(&text, "10.0.0.0/8").unwrap()
    };
    assert_eq!(rule("self"), Accepted { changed: None, next_hop: NextHopRule::Own });
    assert_eq!(rule("unchanged"), Accepted { changed: None, next_hop: NextHopRule::Kept });
    assert_eq!(rule("192.0.2.9").next_hop, NextHopRule::Kept);
}

/// The first accept or reject ends it; what was changed before is seen after.
#[test]
fn statements_are_tried_in_order_and_see_what_those_before_have_changed() {
    let text = r#"{"statements": [
        {"set": {"local-pref": 7}},
        {"if": {"local-pref": {"at-least": 7, "at-most": 7}}, "set": {"med": 1}, "then": "accept"},
        {"then": "reject"}
    ], "default": "reject"}"#;
    let accepted = apply(text, "10.0.0.0/8").unwrap().changed.unwrap();
    assert_eq!((accepted.local_pref, accepted.med), (Some(7), Some(1)));
    assert_eq!(apply(r#"{"default": "reject"}"#, "10.0.0.0/8"), None);
    assert_eq!(apply(r#"{"default": "accept"}"#, "10.0.0.0/8"), Some(Accepted::default()), "nothing is copied");
}

#[test]
fn a_refusal_names_the_field_and_what_would_be_right() {
    let cases = [
        (
            r#"{"if": {"prefixes": [{"prefix": "10.0.0.1/8"}]}}"#,
            "if.prefixes[0].prefix: 10.0.0.1/8 has host bits; write 10.0.0.0/8",
        ),
        (
            r#"{"if": {"prefixes": [{"prefix": "10.0.0.0/8", "at-most": 33}]}}"#,
            "if.prefixes[0].at-most: is 33; must be 8 to 32",
        ),
        (
            r#"{"if": {"prefixes": [{"prefix": "10.0.0.0/8", "at-least": 7}]}}"#,
            "if.prefixes[0].at-least: is 7; must be 8 to 32",
        ),
        (
            r#"{"if": {"prefixes": []}}"#,
            "if.prefixes: is empty and would never hold; leave it out to have it always hold",
        ),
        (
            r#"{"if": {"as-path": {"origin": [0]}}}"#,
            "if.as-path.origin[0]: is 0; an AS number is 1 to 4294967295 (RFC 7607)",
        ),
        (
            r#"{"if": {"as-path": {"pattern": "1 .+"}}}"#,
            "if.as-path.pattern: \".+\" is neither an AS number nor `.` nor `*`",
        ),
        (r#"{"if": {"med": {"at-least": 2, "at-most": 1}}}"#, "if.med.at-most: is 1; must be 2 to 4294967295"),
        (r#"{"set": {"prepend": {"times": 0}}}"#, "set.prepend.times: is 0; must be 1 to 32"),
        (
            r#"{"set": {"prepend": {"asn": 0, "times": 1}}}"#,
            "set.prepend.asn: is 0; an AS number is 1 to 4294967295 (RFC 7607)",
        ),
        (r#"{"set": {"med": 1, "med-add": 1}}"#, "set.med-add: excludes med; give one of them"),
        (
            r#"{"set": {"communities": {"add": ["1:*"]}}}"#,
            "set.communities.add[0]: \"1:*\" means many; only a single community can be added",
        ),
        (r#"{"set": {"next-hop": "me"}}"#, "set.next-hop: \"me\" is no next hop: an address, on the way in"),
        (r#"{"set": {"next-hop": "self"}}"#, "set.next-hop: \"self\" is no next hop: an address, on the way in"),
    ];
    for (statement, expected) in cases {
        let text = format!(r#"{{"statements": [{{}}, {statement}], "default": "accept"}}"#);
        let refused = Policy::import(&raw(&text)).unwrap_err();
        assert_eq!(refused.to_string(), format!("statements[1].{expected}"));
    }
    let community =
        Policy::import(&raw(r#"{"statements": [{"if": {"communities": {"all": ["x"]}}}], "default": "accept"}"#));
    assert!(
        community.unwrap_err().to_string().starts_with("statements[0].if.communities.all[0]: \"x\" is no community")
    );
    for unknown in
        [r#"{"default": "accept", "x": 1}"#, r#"{"default": "accept", "statements": [{"if": {"asn": 1}}]}"#, "{}"]
    {
        assert!(serde_json::from_str::<RawPolicy>(unknown).is_err(), "{unknown}");
    }
}

proptest! {
    /// The whole path fits a pattern exactly when a plain search over all ways to read it says so.
    #[test]
    fn a_pattern_of_a_path_is_read_in_all_ways(
        pattern in proptest::collection::vec(prop_oneof![Just("1"), Just("2"), Just("."), Just("*")], 0..6),
        path in proptest::collection::vec(1u32..4, 0..6),
    ) {
        fn fits(pattern: &[&str], path: &[u32]) -> bool {
            match (pattern.split_first(), path.split_first()) {
                (None, None) => true,
                (None, Some(_)) => false,
                (Some((&"*", rest)), _) => (0..=path.len()).any(|row| fits(rest, &path[row..])),
                (Some(_), None) => false,
                (Some((word, rest)), Some((number, left))) => (*word == "." || *word == number.to_string()) && fits(rest, left),
            }
        }
        let expected = fits(&pattern, &path);
        let text = format!(r#"{{"statements": [{{"if": {{"as-path": {{"pattern": "{}"}}}}, "then": "accept"}}], "default": "reject"}}"#, pattern.join(" "));
        let policy = Policy::import(&raw(&text)).unwrap();
        let attributes = Attributes { as_path: AsPath::sequence(path.into_iter().map(asn).collect()), ..attributes() };
        let route = Route {
            prefix: "10.0.0.0/8".parse().unwrap(),
            attributes: &attributes,
            peer: None,
            interface: None,
            source: RouteSource::Local,
        };
        prop_assert_eq!(policy.apply(&route, asn(1)).is_some(), expected);
    }
}
