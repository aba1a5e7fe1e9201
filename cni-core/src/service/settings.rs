//! What an operator says of services. Never of one service: its object does.

use crate::model::FrontendKind;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// Settings of all services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Where `externalIPs` may be. None by default: whoever may write a Service could take any address over (CVE-2020-8554).
    pub external_ips: Vec<IpNet>,
    /// Which addresses of this node have node ports; none written: all of them.
    pub node_port_addresses: Vec<IpNet>,
    /// Ports that may be node ports.
    pub node_ports: RangeInclusive<u16>,
    /// Kinds of addresses that routers outside are told of, of services that say nothing else. Node ports never are.
    pub announce: BTreeSet<FrontendKind>,
}

impl Default for ServiceSettings {
    fn default() -> Self {
        // The range of Kubernetes' API server.
        Self {
            external_ips: Vec::new(),
            node_port_addresses: Vec::new(),
            node_ports: 30_000..=32_767,
            announce: BTreeSet::new(),
        }
    }
}

impl ServiceSettings {
    /// Whether an address may be an external one.
    pub(super) fn allows_external(&self, address: IpAddr) -> bool {
        self.external_ips.iter().any(|range| range.contains(&address))
    }

    /// Whether an address of this node has node ports.
    pub(super) fn has_node_ports(&self, address: IpAddr) -> bool {
        self.node_port_addresses.is_empty() || self.node_port_addresses.iter().any(|range| range.contains(&address))
    }
}
