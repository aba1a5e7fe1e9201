//! The program of the node itself to entries: what is enforced at each of its addresses, at each interface that it is about.
//! Never what passes through the node, and never a pod's.
//!
//! A part that cannot be compiled is closed but for the failsafe ports, and told of: nothing passes that policy would deny, and
//! nobody is locked out of the node. What policies that are only tried say closes nothing.

use super::error::PolicyError;
use super::tables::Tables;
use super::view::AtAddress;
use super::write::Write;
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
    pub(super) program: Option<HostProgram>,
    pub(super) devices: BTreeMap<InterfaceName, Device>,
    pub(super) told: BTreeMap<EndpointKey, Endpoint>,
    pub(super) stirred: bool,
    pub(super) error: Option<PolicyError>,
}

impl Hosts {
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
        self.hosts.stirred |= self.hosts.devices != devices;
        self.hosts.devices = devices;
    }

    /// The program of the node itself.
    #[must_use]
    pub fn host(&self) -> Option<&HostProgram> {
        self.hosts.program.as_ref()
    }

    /// The interfaces where something is enforced of the node, with their indices.
    pub fn guarded(&self) -> impl Iterator<Item = (&InterfaceName, u32)> {
        let Hosts { devices, .. } = &self.hosts;
        let guarded = devices.iter().filter(|(name, device)| device.is_ethernet && self.hosts.is_at(name, **device));
        guarded.map(|(name, device)| (name, device.index))
    }

    /// The interfaces where something should be enforced of the node, and cannot be.
    pub fn unguarded(&self) -> impl Iterator<Item = &InterfaceName> {
        let Hosts { devices, .. } = &self.hosts;
        let bare = devices.iter().filter(|(name, device)| !device.is_ethernet && self.hosts.is_at(name, **device));
        bare.map(|(name, _)| name)
    }

    /// Why not all of the node's program is enforced.
    #[must_use]
    pub fn host_error(&self) -> Option<&PolicyError> {
        self.hosts.error.as_ref()
    }

    /// What is enforced of the node at each interface, by address, after the last [`drain`](Self::drain).
    #[must_use]
    pub fn enforced_hosts(&self) -> BTreeMap<InterfaceName, BTreeMap<IpAddr, AtAddress>> {
        let names: BTreeMap<u32, &InterfaceName> =
            self.hosts.devices.iter().map(|(name, device)| (device.index, name)).collect();
        let meaning = |program: ProgramRef| self.programs.get(&program.program).map(|live| live.meaning);
        let mut all: BTreeMap<InterfaceName, BTreeMap<IpAddr, AtAddress>> = BTreeMap::new();
        for (key, endpoint) in &self.hosts.told {
            let at = meaning(endpoint.ingress).zip(meaning(endpoint.egress));
            if let (Some(name), Some((ingress, egress))) = (names.get(&key.interface), at) {
                let address = Ipv6Addr::from(key.address).to_canonical();
                all.entry((*name).clone()).or_default().insert(address, [ingress, egress]);
            }
        }
        all
    }

    /// The entries that shall be there. What they lead to is written.
    pub(super) fn compile_hosts(&mut self, writes: &mut Vec<Write>) -> BTreeMap<EndpointKey, Endpoint> {
        self.hosts.error = None;
        let nobodys = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        let addresses: BTreeSet<IpAddr> = self.node.iter().copied().chain(nobodys).collect();
        let mut places: BTreeMap<HostInterface, (HostEndpointProgram, Vec<Device>)> = BTreeMap::new();
        for (name, device) in self.hosts.devices.iter().filter(|(_, device)| device.is_ethernet) {
            if let Some(endpoint) = self.hosts.at(name, *device) {
                let place = places.entry(endpoint.interface.clone());
                place.or_insert_with(|| (endpoint.clone(), Vec::new())).1.push(*device);
            }
        }
        let mut entries = BTreeMap::new();
        for (endpoint, devices) in places.into_values() {
            for address in &addresses {
                let mut way = |direction, program| self.host_program(direction, *address, program, writes);
                let ingress = way(Direction::Ingress, &endpoint.local.ingress);
                let egress = way(Direction::Egress, &endpoint.local.egress);
                let (Some(ingress), Some(egress)) = (ingress, egress) else { continue };
                for Device { index, is_pods, .. } in &devices {
                    let id = if *is_pods { OF_NODE | index } else { OF_NODE };
                    let key = EndpointKey { interface: *index, address: bytes(*address) };
                    entries.insert(key, Endpoint { id, ingress, egress });
                }
            }
        }
        entries
    }

    fn host_program(
        &mut self,
        direction: Direction,
        address: IpAddr,
        program: &DirectionProgram,
        writes: &mut Vec<Write>,
    ) -> Option<ProgramRef> {
        match self.program(&PolicyKey::Host, direction, address, program, writes) {
            Ok(reference) => return Some(reference),
            Err(error) => self.hosts.error = Some(error),
        }
        let failsafe = program.enforced.iter().filter(|tier| *tier.tier == *Failsafe::TIER).cloned();
        let end = TierProgram { tier: SHUT.into(), chains: Vec::new(), end: TierEnd::Deny };
        let untried = DirectionProgram { enforced: program.enforced.clone(), staged: None };
        let shut = DirectionProgram { enforced: failsafe.chain([end]).collect(), staged: None };
        // Without the failsafe ports themselves whoever repairs it has to get in.
        let instead = [untried, shut, DirectionProgram::default()];
        instead.iter().find_map(|program| self.program(&PolicyKey::Host, direction, address, program, writes).ok())
    }

    /// Writes the entries that differ from what is there.
    pub(super) fn tell_hosts(&mut self, wanted: BTreeMap<EndpointKey, Endpoint>, writes: &mut Vec<Write>) {
        let told = std::mem::replace(&mut self.hosts.told, wanted);
        let gone = told.keys().filter(|key| !self.hosts.told.contains_key(key));
        writes.extend(gone.map(|key| Write::Host(*key, None)));
        let changed = self.hosts.told.iter().filter(|(key, endpoint)| told.get(key) != Some(endpoint));
        writes.extend(changed.map(|(key, endpoint)| Write::Host(*key, Some(*endpoint))));
    }
}

/// An address as maps have it.
pub(super) fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}
