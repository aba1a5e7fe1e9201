//! Results between versions. Worked by hand from the specification of each version, never from our own output.

use cni_core::cni::{AddResult, ResultError, Route, SpecVersion};
use serde_json::{Value, json};

fn convert(json: &Value, to: SpecVersion) -> Value {
    AddResult::from_json(json.clone(), SpecVersion::V0_1_0).unwrap().to_json(to).unwrap()
}

/// The same dual-stack attachment in the three forms.
fn forms() -> [Value; 3] {
    let dns = json!({"nameservers": ["10.1.0.1"], "domain": "a.b", "search": ["a.b"], "options": ["ndots:2"]});
    let routes = json!([{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0"}]);
    [
        json!({
            "cniVersion": "0.2.0",
            "ip4": {"ip": "10.1.0.5/16", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]},
            "ip6": {"ip": "fd00::5/64", "routes": [{"dst": "::/0"}]},
            "dns": dns
        }),
        json!({
            "cniVersion": "0.4.0",
            "ips": [{"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1"},
                    {"version": "6", "address": "fd00::5/64"}],
            "routes": routes, "dns": dns
        }),
        json!({
            "cniVersion": "1.0.0",
            "ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}],
            "routes": routes, "dns": dns
        }),
    ]
}

#[test]
fn every_form_converts_to_every_other() {
    let versions = [SpecVersion::V0_2_0, SpecVersion::V0_4_0, SpecVersion::V1_0_0];
    for from in &forms() {
        for (to, expected) in versions.iter().zip(&forms()) {
            assert_eq!(convert(from, *to), *expected, "{from} to {to}");
        }
    }
}

#[test]
fn versions_of_one_form_differ_in_the_version_only() {
    let groups: [&[SpecVersion]; 3] = [
        &[SpecVersion::V0_1_0, SpecVersion::V0_2_0],
        &[SpecVersion::V0_3_0, SpecVersion::V0_3_1, SpecVersion::V0_4_0],
        &[SpecVersion::V1_0_0, SpecVersion::V1_1_0],
    ];
    for (mut form, versions) in forms().into_iter().zip(groups) {
        for version in versions {
            form["cniVersion"] = version.as_str().into();
            assert_eq!(convert(&form, *version), form);
        }
    }
}

#[test]
fn interfaces_are_lost_below_0_3_0_and_only_the_first_address_of_a_family_stays() {
    let new = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "mac": "00:11:22:33:44:55", "sandbox": "/run/netns/blue"}],
        "ips": [{"address": "10.1.0.5/16", "interface": 0}, {"address": "10.1.0.6/16", "interface": 0}]
    });
    assert_eq!(convert(&new, SpecVersion::V0_1_0), json!({"cniVersion": "0.1.0", "ip4": {"ip": "10.1.0.5/16"}}));
}

#[test]
fn fields_of_1_1_are_not_said_below_1_0() {
    let new = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "mtu": 1450, "socketPath": "/s", "pciID": "p"}],
        "ips": [{"address": "10.1.0.5/16"}],
        "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "advmss": 1, "priority": 1, "table": 1, "scope": 0}]
    });
    assert_eq!(
        convert(&new, SpecVersion::V0_4_0),
        json!({
            "cniVersion": "0.4.0", "interfaces": [{"name": "eth0"}],
            "ips": [{"version": "4", "address": "10.1.0.5/16"}], "routes": [{"dst": "0.0.0.0/0"}]
        })
    );
    let mut same = new.clone();
    same["cniVersion"] = "1.0.0".into();
    assert_eq!(convert(&new, SpecVersion::V1_0_0), same, "1.x is compatible both ways");
}

#[test]
fn an_unknown_field_of_an_old_version_never_overrides_a_known_one_of_the_new() {
    let old = json!({
        "cniVersion": "0.2.0", "ips": "mine", "x": 1,
        "ip4": {"ip": "10.1.0.5/16", "address": "mine", "y": 2, "routes": [{"dst": "0.0.0.0/0", "z": 3}]}
    });
    assert_eq!(
        convert(&old, SpecVersion::V1_1_0),
        json!({
            "cniVersion": "1.1.0", "x": 1,
            "ips": [{"address": "10.1.0.5/16", "y": 2}], "routes": [{"dst": "0.0.0.0/0", "z": 3}]
        })
    );
}

#[test]
fn what_go_prints_for_nothing_is_nothing() {
    let json = json!({
        "cniVersion": "1.0.0", "interfaces": null, "ips": [{"address": "10.1.0.5/16", "gateway": ""}],
        "routes": null, "dns": {}
    });
    let expected = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}]});
    assert_eq!(convert(&json, SpecVersion::V1_0_0), expected);
    assert_eq!(AddResult::parse(b"null", SpecVersion::V1_1_0).unwrap(), AddResult::default());
}

#[test]
fn a_result_without_version_has_the_version_of_the_configuration() {
    let json = json!({"ips": [{"version": "4", "address": "10.1.0.5/16"}]});
    for result in [json.clone(), json!({"cniVersion": "", "ips": json["ips"]})] {
        let result = AddResult::from_json(result, SpecVersion::V0_4_0).unwrap();
        assert_eq!(result.ips[0].address.to_string(), "10.1.0.5/16");
    }
}

#[test]
fn what_is_wrong_in_a_result_is_named() {
    for (json, text) in [
        (json!({"ips": [{"address": "10.1.0.5"}]}), "ips[0].address: "),
        (json!({"ips": [{"address": "10.1.0.5/33"}]}), "ips[0].address: "),
        (
            json!({"ips": [{"address": "10.1.0.5/16", "gateway": "10.1.0.1/16"}]}),
            "ips[0].gateway: \"10.1.0.1/16\" is no IP",
        ),
        (json!({"routes": [{}]}), "routes[0].dst: is missing"),
        (json!({"interfaces": [{}]}), "name"),
        (json!([1]), "expected a map"),
        (json!({"cniVersion": 1}), "cniVersion"),
    ] {
        let error = AddResult::from_json(json.clone(), SpecVersion::V1_1_0).unwrap_err();
        assert!(error.to_string().contains(text), "{json}: {error}");
    }
    let empty = AddResult::default().to_json(SpecVersion::V0_1_0);
    assert!(matches!(empty, Err(ResultError::NoAddress { .. })));
}

#[test]
fn a_route_without_gw_goes_by_the_first_gateway_of_its_family() {
    let json = json!({"cniVersion": "1.1.0", "ips": [
        {"address": "10.0.0.2/24"}, {"address": "fd00::2/64", "gateway": "fd00::1"},
        {"address": "10.0.0.3/24", "gateway": "10.0.0.1"}, {"address": "10.0.1.3/24", "gateway": "10.0.1.1"}]});
    let result = AddResult::from_json(json, SpecVersion::V1_1_0).unwrap();
    for (dst, gw, hop) in [
        ("0.0.0.0/0", None, Some("10.0.0.1")),
        ("::/0", None, Some("fd00::1")),
        ("10.9.0.0/16", Some("10.0.1.9"), Some("10.0.1.9")),
    ] {
        let parse = |text: &str| text.parse::<std::net::IpAddr>().unwrap();
        let route = Route::new(dst.parse().unwrap(), gw.map(parse));
        assert_eq!(result.next_hop(&route), hop.map(parse), "{dst}");
    }
    assert_eq!(AddResult::default().next_hop(&Route::new("::/0".parse().unwrap(), None)), None);
}
