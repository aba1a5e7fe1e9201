//! Ports of a Service. Never ports of its endpoints: those are in slices.

use super::LEFT_OUT;
use crate::policy::dialect::{Reader, present};
use crate::policy::intake::interner::Interner;
use crate::policy::model::{Effect, Protocol};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What a port may say.
const KEYS: [&str; 6] = ["appProtocol", "name", "nodePort", "port", "protocol", "targetPort"];

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::service) struct PortSpec {
    /// Its place in the list.
    pub(in crate::service) index: usize,
    /// Its name, empty for the only one: ports of slices are found by it.
    pub(in crate::service) name: Arc<str>,
    pub(in crate::service) protocol: Protocol,
    pub(in crate::service) port: u16,
    pub(in crate::service) node_port: Option<u16>,
}

impl PortSpec {
    /// The path of one of its fields.
    pub(in crate::service) fn path(&self, field: &str) -> String {
        format!("spec.ports[{}].{field}", self.index)
    }
}

/// Reads `spec.ports`; one that cannot be read is left out, and so is one that says what an earlier one says.
pub(super) fn ports(
    reader: &mut Reader<'_>,
    spec: &Map<String, Value>,
    with_node_ports: bool,
    texts: &mut Interner,
) -> Vec<PortSpec> {
    let listed = reader.list(LEFT_OUT, spec, "spec", "ports").unwrap_or_default();
    let several = listed.len() > 1;
    let mut found: Vec<PortSpec> = Vec::with_capacity(listed.len());
    for (index, value) in listed.iter().enumerate() {
        let path = format!("spec.ports[{index}]");
        let Some(port) = port(reader, value, &path, index, several, texts) else { continue };
        let twin = found.iter().find(|other| (other.port, other.protocol) == (port.port, port.protocol));
        if let Some(twin) = twin {
            let detail = format!("{}/{} is the port of spec.ports[{}] already", port.port, port.protocol, twin.index);
            reader.problem(LEFT_OUT, format!("{path}.port"), detail);
            continue;
        }
        if let Some(twin) = found.iter().find(|other| other.name == port.name) {
            let detail = format!("{:?} is the name of spec.ports[{}] already", &*port.name, twin.index);
            reader.problem(LEFT_OUT, format!("{path}.name"), detail);
            continue;
        }
        let node_port = if with_node_ports { port.node_port } else { None };
        found.push(PortSpec { node_port, ..port });
    }
    found
}

fn port(
    reader: &mut Reader<'_>,
    value: &Value,
    path: &str,
    index: usize,
    several: bool,
    texts: &mut Interner,
) -> Option<PortSpec> {
    let map = reader.mapping(LEFT_OUT, value, path)?;
    reader.only(Effect::Warning, map, path, &KEYS);
    let name = match present(map, "name") {
        None => "",
        Some(value) => reader.text(LEFT_OUT, value, &format!("{path}.name"))?,
    };
    if several && name.is_empty() {
        return reader.missing(LEFT_OUT, path, "name", "one: with several ports each has a name");
    }
    let port = match present(map, "port") {
        None => return reader.missing(LEFT_OUT, path, "port", "1 to 65535"),
        Some(value) => reader.number(LEFT_OUT, value, &format!("{path}.port"), 1..=u16::MAX)?,
    };
    let node_port = match present(map, "nodePort") {
        // None was given yet.
        Some(value) if value.as_i64() != Some(0) => {
            Some(reader.number(LEFT_OUT, value, &format!("{path}.nodePort"), 1..=u16::MAX)?)
        }
        _ => None,
    };
    // Slices hold the numbers that it stands for, so it is checked only.
    match present(map, "targetPort") {
        Some(value) if value.is_number() => {
            // 0 stands for the port itself in what older clients write.
            reader.number(LEFT_OUT, value, &format!("{path}.targetPort"), 0..=u16::MAX)?;
        }
        Some(value) => {
            reader.text(LEFT_OUT, value, &format!("{path}.targetPort"))?;
        }
        None => {}
    }
    let protocol = reader.protocol(LEFT_OUT, map, path)?;
    Some(PortSpec { index, name: texts.text(name), protocol, port, node_port })
}
