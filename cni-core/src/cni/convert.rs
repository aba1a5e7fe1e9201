//! Results between versions of the specification. Pure; never looks at a configuration.
//!
//! Three forms exist: 0.1.0 and 0.2.0 (`ip4`, `ip6`), 0.3.0 to 0.4.0 (`ips` with `version`), 1.x. A field that is
//! known in a newer form only is an unknown field in the older one, and survives there as such.

use super::result::{empty_is_none, null_is_default};
use super::{AddResult, Dns, Interface, IpConfig, ResultError, Route, SpecVersion};
use crate::strict;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// 0.3.0, 0.3.1, 0.4.0.
#[derive(Serialize, Deserialize)]
struct Result03 {
    #[serde(flatten)]
    other: Map<String, Value>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface03>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    ips: Vec<Ip03>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route0>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Dns::is_empty")]
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct Interface03 {
    #[serde(flatten)]
    other: Map<String, Value>,
    name: String,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    sandbox: String,
}

#[derive(Serialize, Deserialize)]
struct Ip03 {
    #[serde(flatten)]
    other: Map<String, Value>,
    /// `"4"` or `"6"`. It follows from the address, so a missing or wrong one is of no consequence when read.
    #[serde(default, skip_deserializing)]
    version: &'static str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<u32>,
    address: IpNet,
    #[serde(default, deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

/// A route before 1.1.0.
#[derive(Serialize, Deserialize)]
struct Route0 {
    #[serde(flatten)]
    other: Map<String, Value>,
    dst: IpNet,
    #[serde(default, deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    gw: Option<IpAddr>,
}

/// 0.1.0 and 0.2.0.
#[derive(Serialize, Deserialize)]
struct Result01 {
    #[serde(flatten)]
    other: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<Ip01>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<Ip01>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Dns::is_empty")]
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct Ip01 {
    #[serde(flatten)]
    other: Map<String, Value>,
    ip: IpNet,
    #[serde(default, deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route0>,
}

pub(super) fn from_json(json: Value, default: SpecVersion) -> Result<AddResult, ResultError> {
    let in_version = |version| move |source| ResultError::Field { version, source };
    let mut object: Map<String, Value> =
        strict::from_value::<Option<_>>(json, "").map_err(in_version(default))?.unwrap_or_default();
    let version = object.remove("cniVersion").unwrap_or_default();
    let version: Option<String> = strict::from_value(version, "cniVersion").map_err(in_version(default))?;
    let version = match version.as_deref() {
        None | Some("") => default,
        Some(text) => text.parse()?,
    };
    let object = Value::Object(object);
    if version >= SpecVersion::V1_0_0 {
        strict::from_value(object, "").map_err(in_version(version))
    } else if version >= SpecVersion::V0_3_0 {
        strict::from_value(object, "").map(from_03).map_err(in_version(version))
    } else {
        strict::from_value(object, "").map(from_01).map_err(in_version(version))
    }
}

pub(super) fn to_json(result: &AddResult, version: SpecVersion) -> Result<Value, ResultError> {
    let json = if version >= SpecVersion::V1_0_0 {
        serde_json::to_value(result)
    } else if version >= SpecVersion::V0_3_0 {
        serde_json::to_value(to_03(result))
    } else {
        serde_json::to_value(to_01(result, version)?)
    };
    let mut json = json?;
    json["cniVersion"] = version.as_str().into();
    Ok(json)
}

fn from_03(old: Result03) -> AddResult {
    AddResult {
        other: old.other,
        interfaces: old.interfaces.into_iter().map(interface_from_03).collect(),
        ips: old.ips.into_iter().map(ip_from_03).collect(),
        routes: old.routes.into_iter().map(route_from_0).collect(),
        dns: old.dns,
    }
}

fn interface_from_03(Interface03 { other, name, mac, sandbox }: Interface03) -> Interface {
    Interface { other, name, mac, sandbox, ..Interface::default() }
}

fn ip_from_03(Ip03 { mut other, version: _, interface, address, gateway }: Ip03) -> IpConfig {
    other.remove("version");
    IpConfig { other, interface, address, gateway }
}

fn route_from_0(Route0 { other, dst, gw }: Route0) -> Route {
    Route { other, ..Route::new(dst, gw) }
}

fn from_01(old: Result01) -> AddResult {
    let mut new = AddResult { other: old.other, dns: old.dns, ..AddResult::default() };
    for Ip01 { other, ip, gateway, routes } in [old.ip4, old.ip6].into_iter().flatten() {
        new.ips.push(IpConfig { other, interface: None, address: ip, gateway });
        new.routes.extend(routes.into_iter().map(route_from_0));
    }
    new
}

fn to_03(new: &AddResult) -> Result03 {
    Result03 {
        other: new.other.clone(),
        interfaces: new.interfaces.iter().map(interface_to_03).collect(),
        ips: new.ips.iter().map(ip_to_03).collect(),
        routes: new.routes.iter().map(route_to_0).collect(),
        dns: new.dns.clone(),
    }
}

fn interface_to_03(Interface { other, name, mac, sandbox, .. }: &Interface) -> Interface03 {
    Interface03 { other: other.clone(), name: name.clone(), mac: mac.clone(), sandbox: sandbox.clone() }
}

fn ip_to_03(IpConfig { other, interface, address, gateway }: &IpConfig) -> Ip03 {
    let version = if address.addr().is_ipv4() { "4" } else { "6" };
    Ip03 { other: other.clone(), version, interface: *interface, address: *address, gateway: *gateway }
}

fn route_to_0(Route { other, dst, gw, .. }: &Route) -> Route0 {
    Route0 { other: other.clone(), dst: *dst, gw: *gw }
}

/// The first address of each family, with the routes of its family.
fn to_01(new: &AddResult, version: SpecVersion) -> Result<Result01, ResultError> {
    let family = |is_v4: bool| {
        let IpConfig { other, address, gateway, .. } =
            new.ips.iter().find(|ip| ip.address.addr().is_ipv4() == is_v4)?;
        let routes = new.routes.iter().filter(|route| route.dst.addr().is_ipv4() == is_v4).map(route_to_0).collect();
        Some(Ip01 { other: other.clone(), ip: *address, gateway: *gateway, routes })
    };
    let (ip4, ip6) = (family(true), family(false));
    if ip4.is_none() && ip6.is_none() {
        return Err(ResultError::NoAddress { version });
    }
    Ok(Result01 { other: new.other.clone(), ip4, ip6, dns: new.dns.clone() })
}
