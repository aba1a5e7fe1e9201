//! Laws that hold for any input: nothing panics, and what the specification does not know survives.

use cni_core::cni::{
    AddResult, CniError, Environment, NetConf, NetConfList, Parameters, PluginConf, SpecVersion, Verb,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Any JSON. Integers and strings only as leaves: JSON has no one text for a float.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("\\PC{0,6}", inner, 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Fields that no version of the specification knows.
fn unknown() -> impl Strategy<Value = Map<String, Value>> {
    btree_map("x-[a-z]{1,4}", any_json(), 0..3).prop_map(|fields| fields.into_iter().collect())
}

fn with(mut known: Value, unknown: &Map<String, Value>) -> Value {
    known.as_object_mut().unwrap().extend(unknown.clone());
    known
}

/// Known words in unexpected places, which random JSON would never hit.
fn almost_a_configuration() -> impl Strategy<Value = Value> {
    let words = [
        "cniVersion",
        "cniVersions",
        "name",
        "type",
        "plugins",
        "ipam",
        "dns",
        "args",
        "runtimeConfig",
        "prevResult",
        "capabilities",
        "disableGC",
        "ips",
        "ip4",
        "ip6",
        "interfaces",
        "routes",
        "address",
        "gateway",
        "dst",
        "gw",
        "cni.dev/valid-attachments",
        "cni.dev/attachments",
        "containerID",
        "ifname",
        "code",
        "msg",
    ];
    let leaf = prop_oneof![
        any_json(),
        prop::sample::select(vec!["1.1.0", "0.2.0", "9.9.9", "net", "10.0.0.1/8", "fd00::1/64", "0.0.0.0/0", "c1"])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(prop::sample::select(words.to_vec()), inner, 0..8)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

fn read_all(bytes: &[u8]) {
    let _ = NetConfList::parse(bytes).map(|list| list.to_json());
    let _ = NetConfList::from_single(bytes).map(|list| list.to_json());
    let _ = PluginConf::parse(bytes).map(|conf| conf.to_json());
    let _ = CniError::parse(bytes);
    let _ = NetConf::parse(bytes).map(|conf| conf.to_json());
    for version in SpecVersion::ALL {
        let Ok(result) = AddResult::parse(bytes, *version) else { continue };
        for to in SpecVersion::ALL {
            let _ = result.to_json(*to);
        }
    }
}

proptest! {
    #[test]
    fn reading_any_bytes_never_panics(bytes in vec(any::<u8>(), 0..64)) {
        read_all(&bytes);
    }

    #[test]
    fn reading_any_json_never_panics(json in almost_a_configuration()) {
        read_all(json.to_string().as_bytes());
    }

    #[test]
    fn reading_any_environment_never_panics(
        verb in prop::sample::select(Verb::ALL.to_vec()),
        values in vec(vec(1_u8.., 0..12), 6),
    ) {
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH", "CNI_NETNS_OVERRIDE"];
        let mut environment: Environment =
            names.into_iter().zip(values).map(|(name, value)| (name, OsString::from_vec(value))).collect();
        environment.set("CNI_COMMAND", verb.as_str());
        if let Ok(parameters) = Parameters::parse(&environment) {
            let again = Parameters::parse(&parameters.to_environment(Environment::default()));
            prop_assert_eq!(again, Ok(parameters));
        }
    }

    #[test]
    fn unknown_fields_of_a_list_survive_a_round_trip(top in unknown(), plugin in unknown(), ipam in unknown()) {
        let plugin = with(json!({"type": "bridge", "ipam": with(json!({"type": "host-local"}), &ipam)}), &plugin);
        let list = with(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [plugin, {"type": "tuning"}]}), &top);
        prop_assert_eq!(NetConfList::parse(list.to_string().as_bytes()).unwrap().to_json(), list);
    }

    #[test]
    fn unknown_fields_of_a_plugins_configuration_survive_a_round_trip(
        top in unknown(), ipam in unknown(), dns in unknown(), result in unknown(),
    ) {
        let conf = with(json!({
            "cniVersion": "1.1.0", "name": "net", "type": "bridge",
            "ipam": with(json!({"type": "host-local"}), &ipam),
            "dns": with(json!({"domain": "a"}), &dns),
            "args": {"cni": {"ips": ["10.0.0.1"]}},
            "runtimeConfig": {"mac": "x"},
            "prevResult": with(json!({"cniVersion": "1.1.0"}), &result),
            "cni.dev/valid-attachments": [], "cni.dev/attachments": []
        }), &top);
        prop_assert_eq!(NetConf::from_json(conf.clone()).unwrap().to_json().unwrap(), conf);
    }

    #[test]
    fn unknown_fields_of_a_result_survive_a_round_trip_in_every_version(
        top in unknown(), interface in unknown(), ip in unknown(), route in unknown(), dns in unknown(),
        index in 0..SpecVersion::ALL.len(),
    ) {
        let version = SpecVersion::ALL[index];
        let route = with(json!({"dst": "0.0.0.0/0", "gw": "10.0.0.1"}), &route);
        let dns = with(json!({"domain": "a"}), &dns);
        let result = if version < SpecVersion::V0_3_0 {
            json!({"ip4": with(json!({"ip": "10.0.0.5/8", "routes": [route]}), &ip), "dns": dns})
        } else {
            let mut ip = with(json!({"address": "10.0.0.5/8", "interface": 0}), &ip);
            if version < SpecVersion::V1_0_0 {
                ip["version"] = "4".into();
            }
            let interface = with(json!({"name": "eth0", "sandbox": "/run/netns/blue"}), &interface);
            json!({"interfaces": [interface], "ips": [ip], "routes": [route], "dns": dns})
        };
        let mut result = with(result, &top);
        result["cniVersion"] = version.as_str().into();
        let read = AddResult::from_json(result.clone(), SpecVersion::CURRENT).unwrap();
        prop_assert_eq!(read.to_json(version).unwrap(), result.clone());
        // There and back again through the newest form.
        let newest = read.to_json(SpecVersion::CURRENT).unwrap();
        let back = AddResult::from_json(newest, SpecVersion::CURRENT).unwrap();
        prop_assert_eq!(back.to_json(version).unwrap(), result);
    }
}
