//! The section `policy`: which engine, and what no policy closes. Never the engine's own keys: it checks them itself.

use super::PolicyConfig;
use super::read::{ConfigError, refused, wrong};
use cni_core::backend::Registry;
use cni_core::policy::failsafe::{Failsafe, ProtocolPort};
use cni_core::strict::nearest;
use serde_json::Value;

/// `policy: nftables`, `policy: none`, or a map of the engine's own keys with `engine` among them.
///
/// `failsafe` is the node's own, whatever the engine: `none`, or a map of `ingress` and `egress`.
pub(super) fn read(written: Option<Value>, registry: &Registry) -> Result<PolicyConfig, ConfigError> {
    let mut failsafe = None;
    let (engine, config) = match written {
        None => (None, Value::Null),
        Some(Value::String(engine)) => (Some(engine), Value::Null),
        Some(Value::Object(mut keys)) => {
            let engine = match keys.remove("engine") {
                None => None,
                Some(Value::String(engine)) => Some(engine),
                Some(_) => return Err(wrong("policy.engine", "is no text; write nftables or none")),
            };
            if let Some(written) = keys.remove("failsafe") {
                failsafe = Some(read_failsafe(&written)?);
            }
            let config = if keys.is_empty() { Value::Null } else { Value::Object(keys) };
            (engine, config)
        }
        Some(_) => return Err(wrong("policy", "is neither a name nor a map; write nftables or none")),
    };
    let engine = engine.unwrap_or_else(|| PolicyConfig::DEFAULT.to_owned());
    if engine == PolicyConfig::NONE {
        return if config.is_null() && failsafe.is_none() {
            Ok(PolicyConfig::none())
        } else {
            Err(wrong("policy", "none takes no other keys; remove them"))
        };
    }
    let chosen = registry.policy(&engine).map_err(|_| {
        let names: Vec<&str> = registry.policies().map(|one| one.name()).chain([PolicyConfig::NONE]).collect();
        let hint = nearest(&engine, &names).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        wrong("policy", format_args!("this build has no policy engine {engine:?}, it has: {}{hint}", names.join(", ")))
    })?;
    chosen.check(&config).map_err(|source| refused("policy", source))?;
    Ok(PolicyConfig { engine, config, failsafe: failsafe.unwrap_or_default() })
}

fn read_failsafe(written: &Value) -> Result<Failsafe, ConfigError> {
    const KEYS: [&str; 2] = ["ingress", "egress"];
    let path = "policy.failsafe";
    let map = match written {
        Value::String(none) if none == PolicyConfig::NONE => return Ok(Failsafe::none()),
        Value::Object(map) => map,
        other => return Err(wrong(path, format_args!("is {other}; write none, or a map of ingress and egress"))),
    };
    if let Some(key) = map.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(wrong(format_args!("{path}.{key}"), format_args!("no such key; there are: {}", KEYS.join(", "))));
    }
    let ports = |key: &str, unwritten| -> Result<Vec<ProtocolPort>, ConfigError> {
        let path = format!("{path}.{key}");
        let listed = match map.get(key) {
            None => return Ok(unwritten),
            Some(Value::Array(listed)) => listed,
            Some(_) => return Err(wrong(path, "is no list; write one as in [22/TCP]")),
        };
        let port = |(index, value): (usize, &Value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.parse().map_err(|error| wrong(format_args!("{path}[{index}]"), error))
        };
        listed.iter().enumerate().map(port).collect()
    };
    let default = Failsafe::default();
    Ok(Failsafe { ingress: ports("ingress", default.ingress)?, egress: ports("egress", default.egress)? })
}
