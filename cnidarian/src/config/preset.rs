//! `backend: ipvs`, a choice of parts that users of Kube-router know as one. Never a backend: nothing is opened by this name.
//!
//! | key | becomes |
//! |---|---|
//! | `backend: ipvs` | `backend: bgp` |
//! | `ipvs: {...}` | `bgp: {encapsulation: CrossSubnet, ...}`; what is written wins |
//! | `services` without an engine | `services: ipvs` |

use super::read::{ConfigError, refused, wrong};
use cni_core::backend::Registry;
use serde_json::{Map, Value};

const NAME: &str = "ipvs";
const BACKEND: &str = "bgp";

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
