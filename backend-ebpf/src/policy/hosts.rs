//! The program of the node itself to entries: what is enforced at each of its addresses, at each interface that it is about.
//! Never what passes through the node, and never a pod's.
//!
//! A part that cannot be compiled is closed but for the failsafe ports, and told of: nothing passes that policy would deny, and
//! nobody is locked out of the node. What policies that are only tried say closes nothing.

use super::error::PolicyError;
use super::items::{Items, Parts};
use super::make::Make;
use super::tables::Tables;
use backend_ebpf_abi::{Endpoint, EndpointKey, OF_NODE, ProgramRef, mapped};
use cni_core::model::InterfaceName;
use cni_core::policy::failsafe::Failsafe;
use cni_core::policy::model::{Direction, TierEnd};
use cni_core::policy::program::{
    ChainId, DirectionProgram, HostEndpointProgram, HostInterface, HostProgram, PolicyKey, TierProgram,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The tier that stands for a part that cannot be enforced.
const SHUT: &str = "not enforceable";

/// An interface of the node's own namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its index.
    pub index: u32,
    /// It is the host's end of a pod's veth.
    pub is_pods: bool,
    /// Its packets have Ethernet headers; others the programs cannot read.
    pub is_ethernet: bool,
}

/// What is known of the node itself.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    program: Option<HostProgram>,
    devices: BTreeMap<InterfaceName, Device>,
    /// What is to be enforced of the node may be another thing than before.
    pub(super) stirred: bool,
}

/// What is enforced of the node at one of its addresses, at an interface: ingress, egress.
pub(super) struct AtHost<'a, P> {
    pub(super) name: &'a InterfaceName,
    device: Device,
    address: IpAddr,
    pub(super) programs: [P; 2],
}

/// What is enforced of the node, and where.
type Guarded<'a> = (&'a HostEndpointProgram, Vec<(&'a InterfaceName, Device)>);

impl<P> AtHost<'_, P> {
    /// The address, as it is read back.
    pub(super) fn address(&self) -> IpAddr {
        Ipv6Addr::from(bytes(self.address)).to_canonical()
    }
}

impl AtHost<'_, ProgramRef> {
    pub(super) fn entry(&self) -> (EndpointKey, Endpoint) {
        let (Device { index, is_pods, .. }, [ingress, egress]) = (self.device, self.programs);
        let id = if is_pods { OF_NODE | index } else { OF_NODE };
        (EndpointKey { interface: index, address: bytes(self.address) }, Endpoint { id, ingress, egress })
    }
}

impl Hosts {
    /// The same, of which no entry was made.
    pub(super) fn renewed(&self) -> Self {
        let Self { program, devices, .. } = self;
        Self { program: program.clone(), devices: devices.clone(), stirred: program.is_some() }
    }

    pub(super) fn put(&mut self, program: Option<HostProgram>) {
        self.stirred |= self.program != program;
        self.program = program;
    }

    /// Whether the program calls a chain.
    pub(super) fn calls(&self, chain: &ChainId) -> bool {
        let parts = self.program.iter().flat_map(|program| &program.endpoints).map(|endpoint| &endpoint.local);
        let directions = parts.flat_map(|local| [&local.ingress, &local.egress]);
        let tiers = directions.flat_map(|program| program.enforced.iter().chain(program.staged.iter().flatten()));
        tiers.flat_map(|tier| &tier.chains).any(|called| called == chain)
    }

    /// What is enforced of the node at an interface, if anything is.
    fn at(&self, name: &InterfaceName, device: Device) -> Option<&HostEndpointProgram> {
        let program = self.program.as_ref()?;
        let of = |wanted: &HostInterface| program.endpoints.iter().find(|endpoint| endpoint.interface == *wanted);
        let rest = if device.is_pods { HostInterface::Pods } else { HostInterface::Others };
        let endpoint = of(&HostInterface::Named(name.clone())).or_else(|| of(&rest))?;
        Some(endpoint).filter(|endpoint| !endpoint.local.is_open())
    }

    fn is_at(&self, name: &InterfaceName, device: Device) -> bool {
        self.at(name, device).is_some()
    }
}

impl Tables {
    /// The interfaces of the node's own namespace, but for those that are parts of another one, and the loopback.
    pub fn set_devices(&mut self, devices: BTreeMap<InterfaceName, Device>) {
        self.items.hosts.stirred |= self.items.hosts.devices != devices;
        self.items.hosts.devices = devices;
    }

    /// The program of the node itself.
    #[must_use]
    pub fn host(&self) -> Option<&HostProgram> {
        self.items.hosts.program.as_ref()
    }

    /// The interfaces where something is enforced of the node, with their indices.
    pub fn guarded(&self) -> impl Iterator<Item = (&InterfaceName, u32)> {
        let hosts = &self.items.hosts;
        let guarded = hosts.devices.iter().filter(|(name, device)| device.is_ethernet && hosts.is_at(name, **device));
        guarded.map(|(name, device)| (name, device.index))
    }

    /// The interfaces where something should be enforced of the node, and cannot be.
    pub fn unguarded(&self) -> impl Iterator<Item = &InterfaceName> {
        let hosts = &self.items.hosts;
        let bare = hosts.devices.iter().filter(|(name, device)| !device.is_ethernet && hosts.is_at(name, **device));
        bare.map(|(name, _)| name)
    }

    /// Why not all of the node's program is enforced.
    #[must_use]
    pub fn host_error(&self) -> Option<&PolicyError> {
        self.host_error.as_ref()
    }
}

impl Items {
    /// What is to be enforced of the node itself, at each interface and each of its addresses; and why not all of it is.
    pub(super) fn hosts<M: Make>(&self, make: &mut M) -> (Vec<AtHost<'_, M::Program>>, Option<PolicyError>) {
        let nobodys = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let (parts, node) = self.of_node();
        let addresses: BTreeSet<IpAddr> = node.iter().copied().chain(nobodys).collect();
        let mut places: BTreeMap<&HostInterface, Guarded<'_>> = BTreeMap::new();
        for (name, device) in self.hosts.devices.iter().filter(|(_, device)| device.is_ethernet) {
            if let Some(endpoint) = self.hosts.at(name, *device) {
                places.entry(&endpoint.interface).or_insert_with(|| (endpoint, Vec::new())).1.push((name, *device));
            }
        }
        let (mut all, mut error) = (Vec::new(), None);
        for (endpoint, devices) in places.into_values() {
            for address in &addresses {
                let mut way = |direction, program| host_program(direction, *address, program, &parts, make, &mut error);
                let ingress = way(Direction::Ingress, &endpoint.local.ingress);
                let egress = way(Direction::Egress, &endpoint.local.egress);
                let Some((ingress, egress)) = ingress.zip(egress) else { continue };
                let at = |&(name, device): &(_, Device)| {
                    let address = *address;
                    AtHost { name, device, address, programs: [ingress, egress] }
                };
                all.extend(devices.iter().map(at));
            }
        }
        (all, error)
    }
}

fn host_program<M: Make>(
    direction: Direction,
    address: IpAddr,
    program: &DirectionProgram,
    parts: &Parts<'_>,
    make: &mut M,
    error: &mut Option<PolicyError>,
) -> Option<M::Program> {
    match make.program(&PolicyKey::Host, direction, address, program, parts) {
        Ok(made) => return Some(made),
        Err(refused) => *error = Some(refused),
    }
    let failsafe = program.enforced.iter().filter(|tier| *tier.tier == *Failsafe::TIER).cloned();
    let end = TierProgram { tier: SHUT.into(), chains: Vec::new(), end: TierEnd::Deny };
    let untried = DirectionProgram { enforced: program.enforced.clone(), staged: None };
    let shut = DirectionProgram { enforced: failsafe.chain([end]).collect(), staged: None };
    // Without the failsafe ports themselves whoever repairs it has to get in.
    let instead = [untried, shut, DirectionProgram::default()];
    instead.iter().find_map(|program| make.program(&PolicyKey::Host, direction, address, program, parts).ok())
}

/// An address as maps have it.
pub(super) fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}
