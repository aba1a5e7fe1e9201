//! Configurations as administrators write them and as plugins read them. Never a file.

use cni_core::cni::{ConfError, ErrorCode, NetConf, NetConfList};
use serde_json::json;

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    bridge: String,
}

#[test]
fn a_plugins_own_fields_are_what_the_protocol_does_not_define() {
    let conf = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local"},
        "dns": {}, "args": {"cni": {}}, "runtimeConfig": {"mac": "x"}, "prevResult": {}, "capabilities": {"mac": true},
        "cni.dev/valid-attachments": [], "cni.dev/something": 1
    });
    let own: Own = NetConf::from_json(conf).unwrap().own().unwrap();
    assert_eq!(own.bridge, "cni0");
}

#[test]
fn an_unsupported_field_is_code_2_with_key_and_value_and_a_wrong_value_code_7() {
    let parse = |conf| NetConf::from_json(conf).unwrap().own::<Own>().unwrap_err();
    let error =
        parse(json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "cni0", "brigde": "cni1"}));
    assert_eq!(error.code(), ErrorCode::UnsupportedField);
    assert!(error.to_string().contains(r#"brigde: "cni1""#), "{error}");
    assert!(error.to_string().contains("did you mean `bridge`?"), "tells what is known: {error}");
    let error = parse(json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": 1}));
    assert_eq!(error.code(), ErrorCode::InvalidConfig, "{error}");
}

#[test]
fn capability_arguments_have_types() {
    let conf = json!({"name": "net", "type": "x", "runtimeConfig": {"ips": ["10.0.0.5/24"], "mac": 1, "n": null}});
    let conf = NetConf::from_json(conf).unwrap();
    assert_eq!(conf.capability::<Vec<String>>("ips").unwrap().unwrap(), ["10.0.0.5/24"]);
    assert_eq!(conf.capability::<String>("absent").unwrap(), None);
    assert_eq!(conf.capability::<String>("n").unwrap(), None);
    assert!(matches!(conf.capability::<String>("mac"), Err(ConfError::Invalid(_))));
}

#[test]
fn an_empty_ipam_section_asks_for_no_address_management() {
    for ipam in [json!({}), json!({"type": ""}), json!({"type": null})] {
        let conf = NetConf::from_json(json!({"name": "net", "type": "bridge", "ipam": ipam})).unwrap();
        assert_eq!(conf.ipam.unwrap().plugin, None);
    }
}

#[test]
fn a_list_that_cannot_be_used_has_the_code_of_its_reason() {
    for (conf, code) in [
        (json!({"plugins": [{"type": "a"}]}), ErrorCode::InvalidConfig),
        (json!({"name": "a b", "plugins": [{"type": "a"}]}), ErrorCode::InvalidConfig),
        (json!({"name": "net", "plugins": []}), ErrorCode::InvalidConfig),
        (json!({"name": "net", "plugins": [{}]}), ErrorCode::InvalidConfig),
        (json!({"name": "net", "plugins": [{"type": "../a"}]}), ErrorCode::InvalidConfig),
        (json!({"name": "net", "loadOnlyInlinedPlugins": true}), ErrorCode::InvalidConfig),
        (json!({"name": "net", "disableGC": 1, "plugins": [{"type": "a"}]}), ErrorCode::InvalidConfig),
        (json!({"name": "net", "disableCheck": "yes", "plugins": [{"type": "a"}]}), ErrorCode::InvalidConfig),
        (json!({"name": "net", "plugins": {}}), ErrorCode::Decode),
        (json!({"name": "net", "cniVersions": "1.0.0", "plugins": [{"type": "a"}]}), ErrorCode::Decode),
        (json!({"name": "net", "cniVersions": ["1.0"], "plugins": [{"type": "a"}]}), ErrorCode::Decode),
        (json!({"name": "net", "cniVersion": "2.0.0", "plugins": [{"type": "a"}]}), ErrorCode::IncompatibleVersion),
        (json!([]), ErrorCode::Decode),
    ] {
        let error = NetConfList::parse(conf.to_string().as_bytes()).unwrap_err();
        assert_eq!(error.code(), code, "{conf}: {error}");
    }
}

/// The example of CNI 1.1.0, section 1.
#[test]
fn the_specifications_example_reads_and_prints_the_same() {
    let conf = json!({
        "cniVersion": "1.1.0", "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0"], "name": "dbnet",
        "plugins": [
            {"type": "bridge", "bridge": "cni0", "keyA": ["some more", "plugin specific", "configuration"],
             "ipam": {"type": "host-local", "subnet": "10.1.0.0/16", "gateway": "10.1.0.1",
                      "routes": [{"dst": "0.0.0.0/0"}]},
             "dns": {"nameservers": ["10.1.0.1"]}},
            {"type": "tuning", "capabilities": {"mac": true}, "sysctl": {"net.core.somaxconn": "500"}},
            {"type": "portmap", "capabilities": {"portMappings": true}}
        ]
    });
    assert_eq!(NetConfList::parse(conf.to_string().as_bytes()).unwrap().to_json(), conf);
}
