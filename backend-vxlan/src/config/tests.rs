//! Laws of the configuration: defaults, ranges, refusals.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn refusal(section: &serde_json::Value) -> String {
    Config::from_json(section).unwrap_err().to_string()
}

#[test]
fn an_empty_section_has_flannels_defaults() {
    let config = Config::from_json(&serde_json::Value::Null).unwrap();
    assert_eq!((config.mode, config.vni.get(), config.port.get()), (Mode::Vxlan, 1, 8472));
    assert_eq!(config.device.as_str(), "cnidarian.1");
    assert_eq!(config.families, [Family::Ipv4, Family::Ipv6]);
    let udp = Config::from_json(&json!({ "mode": "udp" })).unwrap();
    assert_eq!((udp.port.get(), udp.device.as_str()), (8285, "cnidarian-udp"));
}

#[test]
fn the_device_name_fits_for_every_vni() {
    for underlay in [OuterFamilies::Auto, OuterFamilies::Both] {
        for vni in [1, 99_999, 16_777_215] {
            let raw = RawConfig { vni: Some(vni), underlay: Some(underlay), ..RawConfig::default() };
            let config = Config::try_from(raw).unwrap();
            assert!(config.device_for(Family::Ipv6).as_str().len() <= 15);
            assert_eq!(
                config.device_for(Family::Ipv4) == config.device_for(Family::Ipv6),
                underlay != OuterFamilies::Both
            );
        }
    }
}

#[test]
fn each_bad_value_names_key_value_and_what_is_right() {
    for (section, message) in [
        (json!({ "vni": 0 }), "vxlan.vni: is 0; write an integer from 1 to 16777215"),
        (json!({ "vni": 16_777_216 }), "vxlan.vni: is 16777216; write an integer from 1 to 16777215"),
        (json!({ "port": 0 }), "vxlan.port: is 0; write a port from 1 to 65535"),
        (json!({ "mode": "ipip" }), "vxlan.mode: `ipip` is none of vxlan, direct-routing, host-gw, udp"),
        (json!({ "mtu": 1279 }), "vxlan.mtu: is 1279; write an integer from 576 to 65535 (from 1280 with IPv6 pods)"),
        (json!({ "familys": [] }), "vxlan.familys: no such key; did you mean `families`?"),
    ] {
        assert_eq!(refusal(&section), message);
    }
    for (section, key) in [
        (json!({ "vni": "one" }), "vni"),
        (json!({ "port": 70_000 }), "port"),
        (json!({ "families": ["ipv5"] }), "families"),
    ] {
        assert_eq!(refused(Config::from_json(&section).unwrap_err()).field, Some(key));
    }
    for section in [
        json!({ "families": [] }),
        json!({ "families": ["ipv4", "ipv4"] }),
        json!({ "deviceName": "sixteen-bytes-xx" }),
        json!({ "deviceName": "a/b" }),
        json!({ "deviceName": "fourteen-bytes", "underlay": "both" }),
        json!({ "checksumTestIntervalSeconds": 9 }),
        json!({ "checksumOffload": "maybe" }),
        json!({ "gbp": true }),
    ] {
        assert!(refusal(&section).starts_with("vxlan."), "{section}");
    }
}

#[test]
fn a_small_mtu_is_fine_without_ipv6_pods() {
    assert!(Config::from_json(&json!({ "mtu": 1000, "families": ["ipv4"] })).is_ok());
}

#[test]
fn overhead_is_worked_by_hand_from_the_headers() {
    assert_eq!(Tunnel::Vxlan.overhead_bytes(Family::Ipv4), 50);
    assert_eq!(Tunnel::Vxlan.overhead_bytes(Family::Ipv6), 70);
    assert_eq!(Tunnel::Udp.overhead_bytes(Family::Ipv4), 28);
    assert_eq!(Tunnel::Udp.overhead_bytes(Family::Ipv6), 48);
    assert_eq!(Tunnel::None.overhead_bytes(Family::Ipv6), 0);
}

proptest! {
    #[test]
    fn any_number_as_vni_is_taken_in_range_and_refused_outside(vni: u64) {
        let taken = Config::from_json(&json!({ "vni": vni })).is_ok();
        prop_assert_eq!(taken, (1..=16_777_215).contains(&vni));
    }

    #[test]
    fn no_text_as_device_name_gives_more_than_fifteen_bytes(name: String) {
        if let Ok(config) = Config::from_json(&json!({ "deviceName": name, "underlay": "both" })) {
            prop_assert!(config.device_for(Family::Ipv6).as_str().len() <= 15);
        }
    }
}
