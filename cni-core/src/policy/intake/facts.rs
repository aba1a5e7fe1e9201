//! What one object says of a workload. Never what others say of it: its namespace, its service account, its pods.

use super::interner::Interner;
use super::kinds::Role;
use crate::model::InterfaceName;
use crate::policy::dialect::Reader;
use crate::policy::model::{Effect, HostInterfaces, HostPart, LabelMap, NamedPort, Protocol, WorkloadId, WorkloadKind};
use crate::store::{InvalidObject, Object, resources};
use crate::strict::nearest;
use ipnet::IpNet;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

/// Calico's profile that allows everything.
const OPEN_PROFILE: &str = "projectcalico-default-allow";

/// What the spec of a host endpoint may say.
const HOST_ENDPOINT_KEYS: [&str; 5] = ["node", "interfaceName", "expectedIPs", "profiles", "ports"];

/// What one object says of a workload.
pub(super) struct Facts {
    pub(super) id: WorkloadId,
    pub(super) labels: LabelMap,
    pub(super) service_account: Option<Arc<str>>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) networks: Vec<IpNet>,
    pub(super) node: Option<Arc<str>>,
    pub(super) ports: Vec<NamedPort>,
    pub(super) host_network: bool,
    /// A pod that runs in a network of its own, and nobody wrote its addresses.
    pub(super) bare: bool,
    pub(super) host: Option<HostPart>,
}

/// Reads an object of a role that makes workloads; `None` where it makes none, with a problem unless that is as it
/// should.
pub(super) fn read(reader: &mut Reader<'_>, role: Role, interner: &mut Interner) -> Option<Facts> {
    let object = reader.object;
    let facts = match role {
        Role::Pod => pod(reader, interner),
        Role::Node => Ok(node(reader, interner)),
        Role::Template => return template(reader, interner),
        Role::Service => Ok(Facts::of(object, WorkloadKind::Service, interner)),
        Role::NetworkSet => Ok(group(reader, WorkloadKind::NetworkSet, "nets", interner)),
        Role::CidrGroup => Ok(group(reader, WorkloadKind::CidrGroup, "externalCIDRs", interner)),
        Role::HostEndpoint => Ok(host_endpoint(reader, interner)),
        Role::Namespace | Role::ServiceAccount | Role::EndpointSlice => return None,
        Role::NodeEndpoints | Role::Block | Role::Other => return None,
    };
    facts.map_err(|InvalidObject { field, detail, .. }| reader.problem(Effect::LeftOut, field, detail)).ok()
}

impl Facts {
    fn of(object: &Object, kind: WorkloadKind, interner: &mut Interner) -> Self {
        let namespace = object.key.namespace.as_ref().map(|namespace| interner.text(namespace));
        Self {
            id: WorkloadId { kind, namespace, name: object.key.name.clone() },
            labels: interner.labels(&object.metadata.labels),
            service_account: None,
            addresses: Vec::new(),
            networks: Vec::new(),
            node: None,
            ports: Vec::new(),
            host_network: false,
            bare: false,
            host: None,
        }
    }
}

fn pod(reader: &mut Reader<'_>, interner: &mut Interner) -> Result<Facts, InvalidObject> {
    let object = reader.object;
    let pod = resources::Pod::try_from(object)?;
    let bare = !pod.finished && !pod.host_network && pod.addresses.is_empty();
    let mut addresses = if pod.finished { Vec::new() } else { pod.addresses };
    dedup(&mut addresses);
    let spec = object.fields.get("spec").unwrap_or(&Value::Null);
    Ok(Facts {
        service_account: Some(interner.text(&pod.service_account)),
        addresses,
        node: pod.node_name.map(|name| interner.text(&name)),
        ports: named_ports(reader, spec, "spec", interner),
        host_network: pod.host_network,
        bare,
        ..Facts::of(object, WorkloadKind::Pod, interner)
    })
}

/// The pod that a template makes, under the name of the template's owner. None of an object that another one owns:
/// that one's template says it.
fn template(reader: &mut Reader<'_>, interner: &mut Interner) -> Option<Facts> {
    let object = reader.object;
    let owners = object.metadata.other.get("ownerReferences").and_then(Value::as_array);
    if owners.is_some_and(|owners| owners.iter().any(|owner| owner.get("controller") == Some(&Value::Bool(true)))) {
        return None;
    }
    let path = if object.key.kind.kind() == "CronJob" { "spec.jobTemplate.spec.template" } else { "spec.template" };
    let Some(template) = object.field(path) else {
        reader.problem(Effect::LeftOut, path, "is missing; write the template of its pods");
        return None;
    };
    let spec = template.get("spec").unwrap_or(&Value::Null);
    let labels = template.pointer("/metadata/labels").and_then(Value::as_object).into_iter().flatten();
    let mut read = std::collections::BTreeMap::new();
    for (key, value) in labels {
        let Some(text) = value.as_str() else {
            let path = format!("{path}.metadata.labels[{key}]");
            reader.problem(Effect::LeftOut, path, "is no text; put it in quotes");
            return None;
        };
        read.insert(interner.text(key), interner.text(text));
    }
    let account = ["serviceAccountName", "serviceAccount"].into_iter().find_map(|field| spec.get(field)?.as_str());
    Some(Facts {
        labels: interner.map(read),
        service_account: Some(interner.text(account.filter(|name| !name.is_empty()).unwrap_or("default"))),
        ports: named_ports(reader, spec, &format!("{path}.spec"), interner),
        host_network: spec.get("hostNetwork") == Some(&Value::Bool(true)),
        ..Facts::of(object, WorkloadKind::Pod, interner)
    })
}

/// A node. One whose addresses cannot be read has none, and is there all the same: what policies about it close stays closed.
fn node(reader: &mut Reader<'_>, interner: &mut Interner) -> Facts {
    let object = reader.object;
    let mut addresses = match resources::Node::try_from(object) {
        Ok(node) => {
            let underlay = node.v4.map(IpAddr::from).into_iter().chain(node.v6.map(IpAddr::from));
            underlay.chain(node.addresses.iter().map(|found| found.address)).collect()
        }
        Err(InvalidObject { field, detail, .. }) => {
            reader.problem(Effect::LeftOut, field, detail);
            Vec::new()
        }
    };
    dedup(&mut addresses);
    let facts = Facts::of(object, WorkloadKind::Node, interner);
    Facts { addresses, node: Some(interner.text(&object.key.name)), ..facts }
}

/// A set of prefixes. A prefix that cannot be read is left out, the others are in force.
fn group(reader: &mut Reader<'_>, kind: WorkloadKind, field: &str, interner: &mut Interner) -> Facts {
    let path = format!("spec.{field}");
    let mut networks = Vec::new();
    for (index, text) in texts(reader, &path) {
        let path = format!("{path}[{index}]");
        match text.parse::<IpAddr>() {
            Ok(address) => networks.push(IpNet::from(address)),
            Err(_) => networks.extend(reader.network(Effect::LeftOut, text, &path)),
        }
    }
    networks.sort_unstable();
    networks.dedup();
    Facts { networks, ..Facts::of(reader.object, kind, interner) }
}

fn host_endpoint(reader: &mut Reader<'_>, interner: &mut Interner) -> Facts {
    let object = reader.object;
    for key in object.field("spec").and_then(Value::as_object).into_iter().flat_map(|spec| spec.keys()) {
        if !HOST_ENDPOINT_KEYS.contains(&key.as_str()) {
            let hint = nearest(key, &HOST_ENDPOINT_KEYS).map(|known| format!("; did you mean {known}?"));
            let detail = format!("no such field, so it says nothing{}", hint.unwrap_or_default());
            reader.problem(Effect::Warning, format!("spec.{key}"), detail);
        }
    }
    let mut addresses = Vec::new();
    for (index, text) in texts(reader, "spec.expectedIPs") {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => {
                let detail = format!("{text:?} is no IP address; write one as in 192.0.2.7");
                reader.problem(Effect::LeftOut, format!("spec.expectedIPs[{index}]"), detail);
            }
        }
    }
    dedup(&mut addresses);
    let node = object.field("spec.node").and_then(Value::as_str).filter(|name| !name.is_empty());
    if node.is_none() {
        reader.problem(Effect::LeftOut, "spec.node", "is missing, so no node has it; write the name of its node");
    }
    let host = Some(HostPart { interfaces: host_interfaces(reader, &addresses, interner), open: is_open(reader) });
    let ports = object.field("spec.ports").unwrap_or(&Value::Null);
    Facts {
        addresses,
        node: node.map(|name| interner.text(name)),
        ports: ports_of(reader, ports, "spec.ports", "port", interner),
        host,
        ..Facts::of(object, WorkloadKind::HostEndpoint, interner)
    }
}

/// `interfaceName`: a name, `*`, or none where addresses say which it is.
fn host_interfaces(reader: &mut Reader<'_>, addresses: &[IpAddr], interner: &mut Interner) -> HostInterfaces {
    let path = "spec.interfaceName";
    match reader.object.field(path) {
        None | Some(Value::Null) => {}
        Some(Value::String(name)) if name.is_empty() => {}
        Some(Value::String(name)) if name == "*" => return HostInterfaces::All,
        Some(Value::String(name)) if name.contains('*') => {
            let detail = format!("{name:?} is no interface; write its whole name, or \"*\" for all");
            reader.problem(Effect::LeftOut, path, detail);
        }
        Some(Value::String(name)) => match InterfaceName::new(name) {
            Ok(name) => return HostInterfaces::Named(interner.text(name.as_str())),
            Err(error) => reader.problem(Effect::LeftOut, path, error),
        },
        Some(_) => reader.problem(Effect::LeftOut, path, "is no text; write the name of an interface, or \"*\""),
    }
    if addresses.is_empty() {
        reader.problem(Effect::LeftOut, path, "is missing, and so are expectedIPs: no interface is meant; write one");
    }
    HostInterfaces::ByAddress
}

/// The one profile that is known. Others are not read, so they allow nothing.
fn is_open(reader: &mut Reader<'_>) -> bool {
    let path = "spec.profiles";
    let mut open = false;
    for (index, name) in texts(reader, path) {
        if name == OPEN_PROFILE {
            open = true;
        } else {
            let detail =
                format!("profiles are not read here, so {name:?} allows nothing; write policies, or {OPEN_PROFILE}");
            reader.problem(Effect::Warning, format!("{path}[{index}]"), detail);
        }
    }
    open
}

/// The texts of a list, with their places; what is no text is a problem.
fn texts<'a>(reader: &mut Reader<'a>, path: &str) -> Vec<(usize, &'a str)> {
    match reader.object.field(path) {
        None => Vec::new(),
        Some(Value::Array(values)) => {
            let text = |(index, value): (usize, &'a Value)| match value.as_str() {
                Some(text) => Some((index, text)),
                None => {
                    reader.problem(Effect::LeftOut, format!("{path}[{index}]"), "is no text; put it in quotes");
                    None
                }
            };
            values.iter().enumerate().filter_map(text).collect()
        }
        Some(_) => {
            reader.problem(Effect::LeftOut, path, "is no list; write one");
            Vec::new()
        }
    }
}

/// Ports that containers name, also those of init containers that stay (sidecars).
fn named_ports(reader: &mut Reader<'_>, spec: &Value, path: &str, interner: &mut Interner) -> Vec<NamedPort> {
    let mut named = Vec::new();
    for field in ["containers", "initContainers"] {
        let containers = spec.get(field).and_then(Value::as_array).into_iter().flatten();
        for (index, container) in containers.enumerate() {
            let stays =
                field == "containers" || container.get("restartPolicy").is_some_and(|policy| policy == "Always");
            if let (true, Some(ports)) = (stays, container.get("ports")) {
                let path = format!("{path}.{field}[{index}].ports");
                named.extend(ports_of(reader, ports, &path, "containerPort", interner));
            }
        }
    }
    named.sort_unstable();
    named.dedup();
    named
}

/// A list of `{name, protocol, <field>}`. A port that cannot be read is left out.
fn ports_of(reader: &mut Reader<'_>, list: &Value, path: &str, field: &str, interner: &mut Interner) -> Vec<NamedPort> {
    let mut read = Vec::new();
    for (index, entry) in list.as_array().into_iter().flatten().enumerate() {
        let Some(name) = entry.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else { continue };
        let protocol = match entry.get("protocol") {
            None | Some(Value::Null) => Ok(Protocol::TCP),
            Some(Value::String(text)) => text.parse::<Protocol>().map_err(|error| error.to_string()),
            // Calico takes numbers, too.
            Some(value) => value.to_string().parse::<Protocol>().map_err(|error| error.to_string()),
        };
        let port = entry.get(field).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        match (protocol, port.filter(|port| *port > 0)) {
            (Ok(protocol), Some(port)) => read.push(NamedPort { name: interner.text(name), protocol, port }),
            (Err(detail), _) => reader.problem(Effect::LeftOut, format!("{path}[{index}].protocol"), detail),
            (_, None) => {
                let path = format!("{path}[{index}].{field}");
                reader.problem(Effect::LeftOut, path, "is no port; write 1 to 65535");
            }
        }
    }
    read
}

/// Without repetitions, in the first order: the first address is the one that others show.
fn dedup(addresses: &mut Vec<IpAddr>) {
    let mut seen = Vec::new();
    addresses.retain(|address| {
        !seen.contains(address) && {
            seen.push(*address);
            true
        }
    });
}
