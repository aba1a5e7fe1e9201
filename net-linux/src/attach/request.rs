//! What is asked for and what came of it. Plain data; never touches the kernel.

use super::AttachError;
use crate::endpoint::is_pod_address;
use crate::marks;
use cni_core::model::{Endpoint, EndpointId, InterfaceName, MacAddr, PodRef};
use ipnet::IpNet;
use std::net::IpAddr;

/// IPv6 needs links of at least this (RFC 8200, section 5); on smaller ones the kernel switches it off.
const MIN_MTU_V6_BYTES: u32 = 1280;
/// `ETH_MIN_MTU` (RFC 791).
const MIN_MTU_BYTES: u32 = 68;
/// `ETH_MAX_MTU`.
const MAX_MTU_BYTES: u32 = 65_535;

/// A route inside the pod, always through the gateway of its family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRoute {
    /// The destination, without host bits.
    pub destination: IpNet,
    /// The metric; `None` is the kernel's default.
    pub metric: Option<u32>,
    /// The table; `None` is the main one.
    pub table: Option<u32>,
    /// The path's MTU in bytes.
    pub mtu_bytes: Option<u32>,
    /// The segment size that TCP announces.
    pub advertised_mss: Option<u32>,
}

impl PodRoute {
    /// A route with nothing special.
    #[must_use]
    pub fn new(destination: IpNet) -> Self {
        Self { destination: destination.trunc(), metric: None, table: None, mtu_bytes: None, advertised_mss: None }
    }

    /// A default route for each family among the addresses.
    #[must_use]
    pub fn defaults(addresses: &[IpAddr]) -> Vec<Self> {
        const V4: IpNet = IpNet::V4(ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::UNSPECIFIED, 0));
        const V6: IpNet = IpNet::V6(ipnet::Ipv6Net::new_assert(std::net::Ipv6Addr::UNSPECIFIED, 0));
        let mut routes = Vec::with_capacity(2);
        if addresses.iter().any(IpAddr::is_ipv4) {
            routes.push(Self::new(V4));
        }
        if addresses.iter().any(IpAddr::is_ipv6) {
            routes.push(Self::new(V6));
        }
        routes
    }
}

/// An attachment as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachRequest {
    /// Container and interface; the interface is the name inside the pod.
    pub id: EndpointId,
    /// The pod's own addresses.
    pub addresses: Vec<IpAddr>,
    /// Routes inside the pod.
    pub routes: Vec<PodRoute>,
    /// MTU of both ends in bytes: 68 to 65,535, with IPv6 addresses at least 1,280.
    pub mtu_bytes: u32,
    /// The pod's Ethernet address; `None` derives a stable one from the id.
    pub pod_mac: Option<MacAddr>,
}

impl AttachRequest {
    /// An attachment with default routes for the families of its addresses.
    #[must_use]
    pub fn new(id: EndpointId, addresses: Vec<IpAddr>, mtu_bytes: u32) -> Self {
        let routes = PodRoute::defaults(&addresses);
        Self { id, addresses, routes, mtu_bytes, pod_mac: None }
    }

    /// The host's end: the same on every run.
    #[must_use]
    pub fn host_interface(&self) -> InterfaceName {
        marks::host_interface(&self.id)
    }

    /// The Ethernet address of the host's end: the same on every run.
    #[must_use]
    pub fn host_mac(&self) -> MacAddr {
        MacAddr::from_name(&format!("host {}", self.id))
    }

    /// The Ethernet address of the pod's end.
    #[must_use]
    pub fn pod_mac(&self) -> MacAddr {
        self.pod_mac.unwrap_or_else(|| MacAddr::from_name(&format!("pod {}", self.id)))
    }

    /// Whether an address is of IPv6.
    pub(super) fn has_v6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }

    pub(super) fn check(&self) -> Result<(), AttachError> {
        let invalid = |field, detail| Err(AttachError::Invalid { id: self.id.clone(), field, detail });
        let least = if self.has_v6() { MIN_MTU_V6_BYTES } else { MIN_MTU_BYTES };
        if !(least..=MAX_MTU_BYTES).contains(&self.mtu_bytes) {
            return invalid("mtu", format!("{} is not in {least} to {MAX_MTU_BYTES}", self.mtu_bytes));
        }
        if self.addresses.is_empty() {
            return invalid("addresses", "empty; give at least one address".to_owned());
        }
        if let Some(address) = self.addresses.iter().find(|address| !is_pod_address(**address)) {
            let detail = format!(
                "{address} can't be a pod's address; give a unicast address that is not loopback or link-local"
            );
            return invalid("addresses", detail);
        }
        let twice = |at: &usize| self.addresses[..*at].contains(&self.addresses[*at]);
        if let Some(at) = (1..self.addresses.len()).find(twice) {
            return invalid("addresses", format!("{} is given twice; give it once", self.addresses[at]));
        }
        for route in &self.routes {
            let v4 = route.destination.addr().is_ipv4();
            if !self.addresses.iter().any(|address| address.is_ipv4() == v4) {
                let family = if v4 { "IPv4" } else { "IPv6" };
                return invalid("routes", format!("{} needs an {family} address", route.destination));
            }
        }
        match self.pod_mac {
            Some(mac) if !mac.is_unicast() => {
                invalid("mac", format!("{mac} is not a station's address; its first byte must be even"))
            }
            _ => Ok(()),
        }
    }
}

/// What an ADD made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Container and interface.
    pub id: EndpointId,
    /// The host's end.
    pub host_interface: InterfaceName,
    /// Its index in the host's namespace.
    pub host_index: u32,
    /// Its Ethernet address.
    pub host_mac: MacAddr,
    /// The index of the pod's end in the pod's namespace.
    pub pod_index: u32,
    /// The Ethernet address of the pod's end.
    pub pod_mac: MacAddr,
    /// MTU of both ends in bytes.
    pub mtu_bytes: u32,
    /// The pod's own addresses.
    pub addresses: Vec<IpAddr>,
}

impl Attachment {
    /// The endpoint that a datapath is told of.
    #[must_use]
    pub fn endpoint(&self, pod: Option<PodRef>) -> Endpoint {
        Endpoint {
            id: self.id.clone(),
            pod,
            host_interface: self.host_interface.clone(),
            host_mac: self.host_mac,
            pod_mac: self.pod_mac,
            addresses: self.addresses.clone(),
        }
    }
}
