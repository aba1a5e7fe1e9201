//! What is staged, and who is concerned by a part of it. Never what is in the maps.

use super::PolicyError;
use super::atom::Atom;
use super::hosts::Hosts;
use super::identities::Identities;
use super::make::Make;
use super::rules::Rules;
use super::source::Source;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Direction, Family, Protocol};
use cni_core::policy::program::{Chain, ChainId, DirectionProgram, EndpointProgram, Member, PolicyKey, SetId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

/// Items, and where they are used.
#[derive(Debug, Default)]
pub(super) struct Items {
    chains: BTreeMap<ChainId, Chain>,
    /// Protocols and ports of each set of ports.
    ports: BTreeMap<SetId, BTreeMap<(Protocol, u16), usize>>,
    pub(super) identities: Identities,
    node: BTreeSet<IpAddr>,
    pub(super) endpoints: BTreeMap<EndpointId, EndpointProgram>,
    pub(super) hosts: Hosts,
    /// Endpoints that call a chain.
    callers: Users<ChainId>,
    /// Endpoints at a host's interface.
    at: Users<InterfaceName>,
    /// Endpoints with an address.
    owners: BTreeMap<IpAddr, BTreeSet<EndpointId>>,
}

/// What is enforced at an address: ingress, egress.
type AtAddress<P> = (IpAddr, [P; 2]);

/// Endpoints by something that they use.
type Users<T> = HashMap<T, BTreeSet<EndpointId>>;

/// What sources are made from.
pub(super) struct Parts<'a>(&'a Items);

impl Parts<'_> {
    /// The source of one direction at one address.
    ///
    /// # Errors
    /// A chain is not there.
    pub(super) fn source(
        &self,
        item: &PolicyKey,
        direction: Direction,
        address: IpAddr,
        program: &DirectionProgram,
        rules: &mut Rules,
    ) -> Result<Source, PolicyError> {
        let Self(items) = self;
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        Source::of(item, direction, family, program, &items.identities.of(address), items, rules)
    }
}

impl Items {
    /// The chain of this name.
    pub(super) fn chain(&self, id: &ChainId) -> Option<&Chain> {
        self.chains.get(id)
    }

    /// Protocols and ports of a set of ports.
    pub(super) fn ports(&self, set: &SetId) -> BTreeSet<(Protocol, u16)> {
        self.ports.get(set).map(|pairs| pairs.keys().copied().collect()).unwrap_or_default()
    }

    /// The same, of which no entry was made.
    pub(super) fn renewed(&self) -> Self {
        Self {
            chains: self.chains.clone(),
            ports: self.ports.clone(),
            identities: self.identities.renewed(),
            node: self.node.clone(),
            endpoints: self.endpoints.clone(),
            hosts: self.hosts.renewed(),
            callers: self.callers.clone(),
            at: self.at.clone(),
            owners: self.owners.clone(),
        }
    }

    pub(super) fn put_chain(&mut self, chain: Chain) {
        self.chains.insert(chain.id.clone(), chain);
    }

    pub(super) fn remove_chain(&mut self, id: &ChainId) {
        self.chains.remove(id);
    }

    pub(super) fn put_set(&mut self, set: SetId) {
        self.ports.entry(set).or_default();
    }

    pub(super) fn remove_set(&mut self, set: &SetId) {
        self.ports.remove(set);
    }

    pub(super) fn set_node_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.hosts.stirred |= self.node != addresses;
        let old = std::mem::replace(&mut self.node, addresses);
        for address in old.difference(&self.node) {
            self.identities.forget(IpNet::from(*address), &Atom::OwnNode);
        }
        for address in self.node.difference(&old) {
            self.identities.name(IpNet::from(*address), Atom::OwnNode);
        }
    }

    pub(super) fn put_endpoint(&mut self, id: &EndpointId, program: EndpointProgram) {
        self.remove_endpoint(id);
        for chain in chains(&program) {
            self.callers.entry(chain.clone()).or_default().insert(id.clone());
        }
        self.at.entry(program.host_interface.clone()).or_default().insert(id.clone());
        for address in &program.addresses {
            self.owners.entry(*address).or_default().insert(id.clone());
        }
        self.endpoints.insert(id.clone(), program);
    }

    pub(super) fn remove_endpoint(&mut self, id: &EndpointId) {
        let Some(program) = self.endpoints.remove(id) else { return };
        chains(&program).for_each(|chain| leave(&mut self.callers, chain, id));
        leave(&mut self.at, &program.host_interface, id);
        for address in &program.addresses {
            if let Some(ids) = self.owners.get_mut(address) {
                ids.remove(id);
                if ids.is_empty() {
                    self.owners.remove(address);
                }
            }
        }
    }

    /// The host's end of an endpoint's veth.
    pub(super) fn host_interface(&self, id: &EndpointId) -> Option<&InterfaceName> {
        self.endpoints.get(id).map(|program| &program.host_interface)
    }

    /// Endpoints that call a chain.
    pub(super) fn callers(&self, chain: &ChainId) -> impl Iterator<Item = &EndpointId> {
        self.callers.get(chain).into_iter().flatten()
    }

    /// Endpoints at an interface of the host.
    pub(super) fn at(&self, interface: &InterfaceName) -> impl Iterator<Item = &EndpointId> {
        self.at.get(interface).into_iter().flatten()
    }

    /// Endpoints with an address in a prefix.
    pub(super) fn owners(&self, prefix: &IpNet) -> impl Iterator<Item = &EndpointId> {
        self.owners.range(prefix.network()..=prefix.broadcast()).flat_map(|(_, ids)| ids)
    }

    /// Whether the node has an address in a prefix.
    pub(super) fn is_of_node(&self, prefix: &IpNet) -> bool {
        self.node.range(prefix.network()..=prefix.broadcast()).next().is_some()
    }

    /// What is to be enforced at each address of an endpoint: ingress, egress. Nothing where there is no such endpoint.
    ///
    /// # Errors
    /// It cannot be.
    pub(super) fn endpoint<M: Make>(
        &self,
        id: &EndpointId,
        make: &mut M,
    ) -> Result<Vec<AtAddress<M::Program>>, PolicyError> {
        let Some(EndpointProgram { addresses, ingress, egress, .. }) = self.endpoints.get(id) else {
            return Ok(Vec::new());
        };
        let (item, parts) = (PolicyKey::Endpoint(id.clone()), Parts(self));
        let mut way = |direction, address, program| make.program(&item, direction, address, program, &parts);
        let mut all = Vec::with_capacity(addresses.len());
        for address in addresses {
            let ingress = way(Direction::Ingress, *address, ingress)?;
            all.push((*address, [ingress, way(Direction::Egress, *address, egress)?]));
        }
        Ok(all)
    }

    /// What sources of the node's own programs are made from, and its addresses.
    pub(super) const fn of_node(&self) -> (Parts<'_>, &BTreeSet<IpAddr>) {
        (Parts(self), &self.node)
    }

    /// Puts a member into a set, or takes it out. Answers with the set where it has other protocols and ports now.
    pub(super) fn member(&mut self, set: SetId, member: Member, is_in: bool) -> Option<SetId> {
        let (prefix, atom, port) = match member {
            Member::Address(address) => (IpNet::from(address), Atom::Set(set), None),
            Member::Network(network) => (network, Atom::Set(set), None),
            Member::AddressPort(address, protocol, port) => {
                let atom = Atom::Port(set.clone(), protocol, port);
                (IpNet::from(address), atom, Some((set, protocol, port)))
            }
        };
        let changed = if is_in { self.identities.name(prefix, atom) } else { self.identities.forget(prefix, &atom) };
        let (set, protocol, port) = port.filter(|_| changed)?;
        self.count_port(&set, (protocol, port), is_in).then_some(set)
    }

    /// How many members have a port: programs are made from which there are. Whether that is another one now.
    fn count_port(&mut self, set: &SetId, pair: (Protocol, u16), is_in: bool) -> bool {
        let pairs = self.ports.entry(set.clone()).or_default();
        let count = pairs.entry(pair).or_default();
        let before = *count;
        *count = if is_in { before + 1 } else { before.saturating_sub(1) };
        let after = *count;
        if after == 0 {
            pairs.remove(&pair);
        }
        (before == 0) != (after == 0)
    }
}

fn chains(program: &EndpointProgram) -> impl Iterator<Item = &ChainId> {
    let ways = [&program.ingress, &program.egress].into_iter();
    ways.flat_map(|way| way.enforced.iter().chain(way.staged.iter().flatten())).flat_map(|tier| &tier.chains)
}

fn leave<T: Eq + Hash>(users: &mut Users<T>, used: &T, id: &EndpointId) {
    if let Some(ids) = users.get_mut(used) {
        ids.remove(id);
        if ids.is_empty() {
            users.remove(used);
        }
    }
}
