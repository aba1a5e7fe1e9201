//! The section `services`: which proxy translates them, and what of them routers outside are told. Never a service itself:
//! those are in the store.

use super::read::{ConfigError, network, refused, wrong};
use cni_core::backend::Registry;
use cni_core::model::FrontendKind;
use cni_core::service::RawAddressPool;
use cni_core::service::balancer::AddressPool;
use cni_core::strict::{self, nearest};
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Services of the cluster, as far as this node looks at them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesConfig {
    /// The service proxy's name in the registry, or [`Self::NONE`].
    pub engine: String,
    /// The proxy's own part; `Null` when there is none.
    pub config: Value,
    /// Kinds of addresses that routers outside are told of, of services that say nothing else. Never node ports.
    pub announce: BTreeSet<FrontendKind>,
    /// Where `externalIPs` of services may be.
    pub external_ips: Vec<IpNet>,
    /// Which addresses of this node have node ports; none written: all of them.
    pub node_port_addresses: Vec<IpNet>,
    /// Pools of load balancers' addresses, written to the store when it has none of their names.
    pub balancer_pools: Vec<AddressPool>,
}

impl ServicesConfig {
    /// The name for no proxy: somebody else translates services, or nobody, and what a proxy left is removed.
    pub const NONE: &'static str = "none";
}

impl Default for ServicesConfig {
    fn default() -> Self {
        Self {
            engine: Self::NONE.to_owned(),
            config: Value::Null,
            announce: BTreeSet::new(),
            external_ips: Vec::new(),
            node_port_addresses: Vec::new(),
            balancer_pools: Vec::new(),
        }
    }
}

/// Keys besides the proxy's own.
const KEYS: [&str; 5] = ["engine", "announce", "externalIPs", "nodePortAddresses", "loadBalancer"];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawBalancer {
    #[serde(default)]
    pools: Vec<RawPool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawPool {
    name: String,
    prefixes: Vec<String>,
    automatic: Option<bool>,
}

/// `services: ebpf`, or a map: keys of every proxy, and the proxy's own ones beside them.
pub(super) fn read(written: Value, registry: &Registry) -> Result<ServicesConfig, ConfigError> {
    let mut keys = match written {
        Value::String(engine) => Map::from_iter([("engine".to_owned(), Value::String(engine))]),
        Value::Object(keys) => keys,
        _ => return Err(wrong("services", "is neither a name nor a map; write the name of a proxy, or none")),
    };
    let engine = match keys.remove("engine") {
        None => ServicesConfig::NONE.to_owned(),
        Some(Value::String(engine)) => engine,
        Some(_) => return Err(wrong("services.engine", "is no text; write the name of a proxy, or none")),
    };
    let announce = list(&mut keys, "announce")?.iter().enumerate().map(kind).collect::<Result<_, _>>()?;
    let mut ranges = |key| -> Result<Vec<IpNet>, ConfigError> {
        let range = |(index, text): (usize, &String)| network(&format!("services.{key}[{index}]"), text);
        list(&mut keys, key)?.iter().enumerate().map(range).collect()
    };
    let (external_ips, node_port_addresses) = (ranges("externalIPs")?, ranges("nodePortAddresses")?);
    let balancer_pools = keys.remove("loadBalancer").map_or(Ok(Vec::new()), pools)?;
    let config = if keys.is_empty() { Value::Null } else { Value::Object(keys) };
    if engine == ServicesConfig::NONE {
        if let Some(key) = config.as_object().and_then(|keys| keys.keys().next()) {
            let hint = nearest(key, &KEYS).map(|right| format!("; did you mean `{right}`?")).unwrap_or_default();
            let known = KEYS.join(", ");
            return Err(wrong(format_args!("services.{key}"), format_args!("no such key; there are: {known}{hint}")));
        }
    } else {
        let chosen = registry.proxy(&engine).map_err(|_| {
            let names: Vec<&str> = registry.proxies().map(|one| one.name()).chain([ServicesConfig::NONE]).collect();
            let hint = nearest(&engine, &names).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
            let known = names.join(", ");
            wrong("services.engine", format_args!("this build has no service proxy {engine:?}, it has: {known}{hint}"))
        })?;
        chosen.check(&config).map_err(|source| refused("services", source))?;
    }
    Ok(ServicesConfig { engine, config, announce, external_ips, node_port_addresses, balancer_pools })
}

fn pools(written: Value) -> Result<Vec<AddressPool>, ConfigError> {
    let raw: RawBalancer = strict::from_value(written, "services.loadBalancer")?;
    let mut pools: Vec<AddressPool> = Vec::with_capacity(raw.pools.len());
    for (index, RawPool { name, prefixes, automatic }) in raw.pools.into_iter().enumerate() {
        let path = format!("services.loadBalancer.pools[{index}]");
        if let Err(error) = AddressPool::key(&name).check() {
            return Err(wrong(format_args!("{path}.name"), error.detail));
        }
        if pools.iter().any(|other| *other.name == *name) {
            return Err(wrong(format_args!("{path}.name"), format_args!("{name:?} is the name of two pools")));
        }
        let raw = RawAddressPool { prefixes, automatic: automatic.unwrap_or(true) };
        let pool = AddressPool::new(&name, &raw).map_err(|error| {
            let field = error.field.strip_prefix("spec.").unwrap_or(&error.field);
            wrong(format_args!("{path}.{field}"), error.detail.clone())
        })?;
        pools.push(pool);
    }
    Ok(pools)
}

fn list(keys: &mut Map<String, Value>, key: &str) -> Result<Vec<String>, ConfigError> {
    let listed = match keys.remove(key) {
        None => return Ok(Vec::new()),
        Some(Value::Array(listed)) => listed,
        Some(_) => return Err(wrong(format_args!("services.{key}"), "is no list")),
    };
    let text = |(index, value): (usize, Value)| match value {
        Value::String(text) => Ok(text),
        other => Err(wrong(format_args!("services.{key}[{index}]"), format_args!("{other} is no text"))),
    };
    listed.into_iter().enumerate().map(text).collect()
}

fn kind((index, text): (usize, &String)) -> Result<FrontendKind, ConfigError> {
    let words = FrontendKind::NAMES.into_iter().filter(|(_, kind)| *kind != FrontendKind::NodePort);
    let found = words.clone().find(|(word, _)| word == text).map(|(_, kind)| kind);
    found.ok_or_else(|| {
        let known: Vec<&str> = words.map(|(word, _)| word).collect();
        let hint = nearest(text, &known).map(|right| format!("; did you mean {right}?")).unwrap_or_default();
        let problem = format!("{text:?} is none of {}{hint}", known.join(", "));
        wrong(format_args!("services.announce[{index}]"), problem)
    })
}
