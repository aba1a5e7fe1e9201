//! `backend: ipvs`, a choice of parts that users of Kube-router know as one. Never a backend: nothing is opened by this name.
//!
//! | key | becomes |
//! |---|---|
//! | `backend: ipvs` | `backend: bgp` |
//! | `ipvs: {...}` | `bgp: {encapsulation: CrossSubnet, ...}`; what is written wins |
//! | a router in `peers` or `listenRanges` without `export` | `session: {export: own}`, and a policy `own`: what this node itself announces |
//! | `services` without an engine | `services: ipvs` |

use super::read::{ConfigError, refused, wrong};
use cni_core::backend::Registry;
use serde_json::{Map, Value, json};

const NAME: &str = "ipvs";
const BACKEND: &str = "bgp";
/// The policy of sessions with routers that name none. One of this name that is written stays.
const OWN: &str = "own";

/// Writes the parts in the place of the name. A build that has not all of them, or has a backend of this name, is left alone.
pub(super) fn expand(map: &mut Map<String, Value>, registry: &Registry) -> Result<(), ConfigError> {
    if registry.get(NAME).is_ok() || registry.proxy(NAME).is_err() {
        return Ok(());
    }
    let Ok(backend) = registry.get(BACKEND) else { return Ok(()) };
    let section = map.remove(NAME);
    if map.get("backend").and_then(Value::as_str) != Some(NAME) {
        // Another line changes the backend; this section stays and is checked.
        return section.map_or(Ok(()), |section| backend.check(&section).map_err(|source| refused(NAME, source)));
    }
    map.insert("backend".to_owned(), BACKEND.into());
    if section.is_some() && map.contains_key("backendConfig") {
        return Err(wrong("backendConfig", "stands beside a section `ipvs`; keep one of them"));
    }
    let mut section = match section.or_else(|| map.remove("backendConfig")) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(keys)) => keys,
        Some(_) => return Err(wrong(NAME, "is no map; write the keys of backend bgp")),
    };
    section.entry("encapsulation").or_insert_with(|| "CrossSubnet".into());
    tell_own_only(&mut section);
    if map.insert(BACKEND.to_owned(), Value::Object(section)).is_some() {
        return Err(wrong(BACKEND, "backend ipvs has its keys in the section `ipvs`; keep one of the two"));
    }
    match map.entry("services").or_insert_with(|| NAME.into()) {
        Value::Object(keys) => drop(keys.entry("engine").or_insert_with(|| NAME.into())),
        none @ Value::Null => *none = NAME.into(),
        _ => {}
    }
    Ok(())
}

/// Kube-router's nodes tell a router of their own block and of services, and never what other nodes told them: a router on another
/// segment would send packets for other nodes' pods, and for services with policy `Local`, to the wrong node. Sessions among nodes, and
/// clients that we reflect to, are there to be told. What is of a wrong type is left for the backend to refuse.
fn tell_own_only(section: &mut Map<String, Value>) {
    let mut is_used = false;
    for key in ["peers", "listenRanges"] {
        let rules = section.get_mut(key).and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten().filter_map(Value::as_object_mut) {
            let among_nodes = rule.get("peerSelector").is_some_and(|selector| !selector.is_null());
            if among_nodes || rule.get("reflectorClient") == Some(&Value::Bool(true)) {
                continue;
            }
            let Some(session) = or_empty(rule, "session").as_object_mut() else { continue };
            let export = session.entry("export").or_insert(Value::Null);
            if export.is_null() {
                *export = OWN.into();
                is_used = true;
            }
        }
    }
    let policies = is_used.then(|| or_empty(section, "policies").as_object_mut()).flatten();
    if let Some(policies) = policies {
        let own = json!({"statements": [{"if": {"sources": ["local"]}, "then": "accept"}], "default": "reject"});
        policies.entry(OWN).or_insert(own);
    }
}

/// A key's value, which is an empty map where there is none.
fn or_empty<'a>(map: &'a mut Map<String, Value>, key: &str) -> &'a mut Value {
    let value = map.entry(key).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value
}

#[cfg(all(test, feature = "bgp", feature = "services-ipvs", feature = "policy-nftables"))]
mod tests {
    use crate::built_in;
    use crate::config::{NodeConfig, read_config};
    use serde_json::{Value, json};

    fn read(document: Value) -> Result<NodeConfig, String> {
        read_config(document, &built_in(), "host-1").map(|read| read.node).map_err(|error| error.to_string())
    }

    #[test]
    fn one_line_is_routes_by_bgp_services_on_ipvs_and_policy_on_nftables() {
        let parts = json!({"backend": "bgp", "bgp": {"encapsulation": "CrossSubnet"}, "services": "ipvs"});
        assert_eq!(read(json!({"backend": "ipvs"})), read(parts));
        assert_eq!(read(json!({"backend": "ipvs"})).unwrap().policy.engine, "nftables");
    }

    #[test]
    fn what_is_written_wins() {
        let written = json!({"backend": "ipvs", "ipvs": {"asn": 64600, "encapsulation": "Never"}, "policy": "none",
            "services": {"announce": ["ExternalIP"], "drainSeconds": 5}});
        let parts = json!({"backend": "bgp", "bgp": {"asn": 64600, "encapsulation": "Never"}, "policy": "none",
            "services": {"engine": "ipvs", "announce": ["ExternalIP"], "drainSeconds": 5}});
        assert_eq!(read(written), read(parts));
        let none = read(json!({"backend": "ipvs", "services": "none"})).unwrap();
        assert_eq!(none.services, None, "nobody looks at services");
    }

    /// The policy is what docs/backends/bgp.md says: of a route that this node announces itself.
    #[test]
    fn routers_are_told_of_the_nodes_own_unless_their_session_says_what_else() {
        let own =
            json!({"own": {"statements": [{"if": {"sources": ["local"]}, "then": "accept"}], "default": "reject"}});
        let rules = |export: Value| {
            json!({"encapsulation": "CrossSubnet", "policies": own, "peers": [
                {"name": "bare", "address": "192.0.2.1", "asn": 65001, "session": {"export": export}},
                {"name": "far", "interface": "eth1", "asn": "external", "session": {"multihop": 2, "export": export}},
                {"name": "whole", "address": "192.0.2.3", "asn": 65001, "session": {"export": "all"}},
                {"name": "client", "address": "192.0.2.4", "asn": "internal", "reflectorClient": true},
                {"name": "nodes", "peerSelector": "has(edge)"}],
                "listenRanges": [{"name": "vms", "range": "198.51.100.0/24", "asn": 65003, "session": {"export": export}}]})
        };
        let all = json!({"statements": [], "default": "accept"});
        let section = |export: Value, policies: &[&str]| {
            let mut section = rules(export);
            section["policies"]["all"] = all.clone();
            section["policies"].as_object_mut().unwrap().retain(|name, _| policies.contains(&name.as_str()));
            section
        };
        let expected =
            read(json!({"backend": "bgp", "services": "ipvs", "bgp": section("own".into(), &["own", "all"])}));
        assert!(expected.is_ok(), "{expected:?}");
        assert_eq!(read(json!({"backend": "ipvs", "ipvs": section(Value::Null, &["all"])})), expected);
        let mut bare = section(Value::Null, &["all"]);
        bare["peers"][0].as_object_mut().unwrap().remove("session");
        bare["listenRanges"][0]["session"] = Value::Null;
        assert_eq!(read(json!({"backend": "ipvs", "ipvs": bare})), expected);
        // A policy of this name that is written is the one that counts.
        let written = |backend: &str, export: Value| {
            let mut section = section(export, &["own", "all"]);
            section["policies"]["own"] = all.clone();
            let mut document = json!({"backend": backend, "services": "ipvs"});
            document[backend] = section;
            read(document)
        };
        assert_eq!(written("ipvs", Value::Null), written("bgp", "own".into()));
        let wrong = json!({"backend": "ipvs", "ipvs": {"peers": [{"name": "a", "address": "192.0.2.1", "asn": 1, "session": 7}]}});
        assert!(read(wrong).unwrap_err().contains("peers[0].session"));
    }

    #[test]
    fn what_is_wrong_is_refused_by_the_key_that_was_written() {
        for (document, words) in [
            (json!({"backend": "ipvs", "ipvs": {"asnn": 1}}), "asnn"),
            (json!({"backend": "ipvs", "ipvs": 7}), "ipvs: is no map"),
            (json!({"backend": "ipvs", "ipvs": {}, "bgp": {}}), "keep one of the two"),
            (json!({"backend": "ipvs", "ipvs": {}, "backendConfig": {}}), "keep one of them"),
            (json!({"backend": "bgp", "ipvs": {"asnn": 1}}), "asnn"),
        ] {
            let refused = read(document).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
