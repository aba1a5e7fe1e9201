//! Lists of addresses and prefixes. Never whether an address may be used here.

use super::LEFT_OUT;
use crate::model::never_of_pods;
use crate::policy::dialect::Reader;
use ipnet::IpNet;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// An address and its place in the list it stood in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::service) struct Placed {
    pub(in crate::service) index: usize,
    pub(in crate::service) address: IpAddr,
}

impl Reader<'_> {
    /// The addresses of a list; what is none that hosts can have is left out.
    pub(super) fn addresses(&mut self, map: &Map<String, Value>, path: &str, key: &str) -> Vec<Placed> {
        let listed = self.list(LEFT_OUT, map, path, key).unwrap_or_default();
        let mut found: Vec<Placed> = Vec::with_capacity(listed.len());
        for (index, value) in listed.iter().enumerate() {
            if let Some(address) = self.address(value, || format!("{path}.{key}[{index}]"))
                && !found.iter().any(|earlier| earlier.address == address)
            {
                found.push(Placed { index, address });
            }
        }
        found
    }

    /// An address that a host can have. The path is made where there is a problem only.
    pub(super) fn address(&mut self, value: &Value, path: impl Fn() -> String) -> Option<IpAddr> {
        let text = match value {
            Value::String(text) => text,
            _ => self.text(LEFT_OUT, value, &path())?,
        };
        let Ok(address) = text.parse::<IpAddr>() else {
            self.problem(LEFT_OUT, path(), format!("{text:?} is no IP address; write one as in 192.0.2.7"));
            return None;
        };
        if let Some(special) = never_of_pods(&address.into()) {
            let detail =
                format!("{address} is in {special}, which no service or endpoint has; write a unicast address");
            self.problem(LEFT_OUT, path(), detail);
            return None;
        }
        Some(address)
    }

    /// Prefixes of a list. One that cannot be read holds nobody.
    pub(super) fn networks(&mut self, map: &Map<String, Value>, path: &str, key: &str) -> Option<Vec<IpNet>> {
        let listed = self.list(LEFT_OUT, map, path, key)?;
        let path = format!("{path}.{key}");
        let mut networks = self.each(listed, &path, |reader, value, path| {
            let text = reader.text(LEFT_OUT, value, path)?.trim();
            reader.network(LEFT_OUT, text, path)
        });
        networks.sort_unstable();
        networks.dedup();
        (!listed.is_empty()).then_some(networks)
    }
}
