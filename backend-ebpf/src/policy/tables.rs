//! All of a node's policy: items come in, writes to the maps go out. Never an order in which a packet could pass that neither
//! the old policy nor the new one lets pass: what is looked up is written before what leads there.

use super::atom::Atom;
use super::error::PolicyError;
use super::hosts::{self, Hosts};
use super::identities::Identities;
use super::live::Live;
use super::meaning::{self, Meant};
use super::rules::{RuleName, RuleNames, Rules};
use super::source::{Parts, Source};
use super::write::Write;
use backend_ebpf_abi::{Endpoint, EndpointKey, ProgramRef};
use cni_core::backend::Change;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Direction, Family, Protocol};
use cni_core::policy::program::{
    Chain, ChainId, DirectionProgram, EndpointProgram, Member, PolicyChange, PolicyItem, PolicyKey, SetId,
};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

/// The policy of a node.
///
/// # Laws
/// 1. After all writes of a [`drain`](Self::drain) the maps say what the items say.
/// 2. Entries that nothing leads to any more are taken away by the next `drain`, when no packet can be on its way to them.
/// 3. An endpoint whose program cannot be enforced has no entry: its packets are dropped.
/// 4. The last write of a `drain` begins an epoch, so open connections are judged by what was written.
#[derive(Debug, Default)]
pub struct Tables {
    pub(super) chains: BTreeMap<ChainId, Chain>,
    pub(super) ports: BTreeMap<SetId, BTreeMap<(Protocol, u16), usize>>,
    pub(super) identities: Identities,
    pub(super) node: BTreeSet<IpAddr>,
    pub(super) interfaces: BTreeMap<InterfaceName, u32>,
    pub(super) endpoints: BTreeMap<EndpointId, Known>,
    pub(super) hosts: Hosts,
    pub(super) programs: BTreeMap<u32, Live>,
    by_source: HashMap<Arc<Source>, u32>,
    pub(super) rules: Rules,
    last_program: u32,
    last_endpoint: u32,
    pub(super) dirty: BTreeSet<EndpointId>,
    pub(super) closed: BTreeMap<EndpointId, PolicyError>,
    /// Sets of ports that have other protocols and ports than before.
    dirty_ports: BTreeSet<SetId>,
    pub(super) told: BTreeMap<EndpointKey, (EndpointId, Endpoint)>,
    gone_identities: Vec<u32>,
    gone_programs: Vec<Live>,
}

#[derive(Debug)]
pub(super) struct Known {
    pub(super) program: EndpointProgram,
    number: u32,
}

impl Tables {
    /// Takes a change in. Memory only.
    pub fn apply(&mut self, change: PolicyChange) {
        match change {
            Change::Put(PolicyItem::Set(set)) => drop(self.ports.entry(set.id).or_default()),
            Change::Put(PolicyItem::Member(set, member)) => self.member(set.id, member, true),
            Change::Put(PolicyItem::Chain(chain)) => {
                self.stir_users(&chain.id);
                self.chains.insert(chain.id.clone(), chain);
            }
            Change::Put(PolicyItem::Endpoint(program)) => {
                self.put_endpoint(program.endpoint.clone(), program);
            }
            Change::Put(PolicyItem::Host(program)) => self.hosts.put(Some(program)),
            Change::Remove(PolicyKey::Set(set)) => drop(self.ports.remove(&set)),
            Change::Remove(PolicyKey::Member(set, member)) => self.member(set, member, false),
            Change::Remove(PolicyKey::Chain(id)) => {
                self.stir_users(&id);
                self.chains.remove(&id);
            }
            Change::Remove(PolicyKey::Endpoint(id)) => {
                self.endpoints.remove(&id);
                self.dirty.insert(id);
            }
            Change::Remove(PolicyKey::Host) => self.hosts.put(None),
            Change::Node(_) | Change::Config(_) | Change::InSync => {}
        }
    }

    pub(super) fn put_endpoint(&mut self, id: EndpointId, program: EndpointProgram) {
        let number = self.endpoints.get(&id).map_or_else(
            || {
                self.last_endpoint += 1;
                self.last_endpoint
            },
            |known| known.number,
        );
        self.endpoints.insert(id.clone(), Known { program, number });
        self.dirty.insert(id);
    }

    /// The node has these addresses.
    pub fn set_node_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.hosts.stirred |= self.node != addresses;
        let old = std::mem::replace(&mut self.node, addresses);
        for address in old.difference(&self.node) {
            self.identities.forget(IpNet::from(*address), &Atom::OwnNode);
        }
        for address in self.node.difference(&old) {
            self.identities.name(IpNet::from(*address), Atom::OwnNode);
        }
    }

    /// The host's end of a veth has this index now, or is not there. An endpoint without is closed.
    pub fn set_interface(&mut self, name: &InterfaceName, index: Option<u32>) {
        let old = match index {
            Some(index) => self.interfaces.insert(name.clone(), index),
            None => self.interfaces.remove(name),
        };
        if old != index {
            let users = self.endpoints.iter().filter(|(_, known)| known.program.host_interface == *name);
            self.dirty.extend(users.map(|(id, _)| id.clone()));
        }
    }

    /// What a rule's number in a verdict stands for; `None`: no tier had a say, or the number is no longer in use.
    #[must_use]
    pub fn rule(&self, number: u32) -> Option<&RuleName> {
        self.rules.name(number)
    }

    /// The same beside the tables, of all that come as well.
    #[must_use]
    pub fn rule_names(&self) -> RuleNames {
        self.rules.shared()
    }

    /// Endpoints whose programs cannot be enforced, and why: they are closed.
    pub fn closed(&self) -> impl Iterator<Item = (&EndpointId, &PolicyError)> {
        self.closed.iter()
    }

    /// What is to be written since the last call, in this order.
    #[must_use = "what is not written is not enforced"]
    pub fn drain(&mut self) -> Vec<Write> {
        let mut all = Vec::new();
        let writes = &mut all;
        for program in std::mem::take(&mut self.gone_programs) {
            program.clear(writes);
        }
        for identity in std::mem::take(&mut self.gone_identities) {
            self.programs.values_mut().for_each(|program| program.dismiss(identity, writes));
            writes.push(Write::Meaning(Meant::Identity(identity), None));
        }
        let settled = self.identities.settle();
        for (identity, atoms) in &settled.new {
            writes.push(Write::Meaning(Meant::Identity(*identity), Some(meaning::of_atoms(atoms))));
            let Self { programs, rules, .. } = self;
            programs.values_mut().for_each(|program| program.admit(*identity, atoms, rules, writes));
        }
        // What holds of an endpoint's own address is part of its program.
        let moved = |address: &IpAddr| settled.moved.iter().any(|(prefix, _)| prefix.contains(address));
        let own_moved = self.endpoints.iter().filter(|(_, known)| known.program.addresses.iter().any(moved));
        self.dirty.extend(own_moved.map(|(id, _)| id.clone()));
        self.hosts.stirred |= self.node.iter().any(moved);
        self.stir_users_of_ports();
        let mut wanted = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            match self.compile(&id, writes) {
                Ok(entries) => {
                    self.closed.remove(&id);
                    wanted.push((id, entries));
                }
                Err(error) => {
                    self.closed.insert(id.clone(), error);
                    wanted.push((id, BTreeMap::new()));
                }
            }
        }
        let hosts = std::mem::take(&mut self.hosts.stirred).then(|| self.compile_hosts(writes));
        writes.extend(settled.moved.into_iter().map(|(prefix, identity)| Write::Identity(prefix, identity)));
        self.gone_identities.extend(settled.gone);
        self.tell(wanted, writes);
        hosts.into_iter().for_each(|entries| self.tell_hosts(entries, writes));
        self.retire();
        all.sort_by_key(Write::place);
        if !all.is_empty() {
            all.push(Write::Advance);
        }
        all
    }

    /// Writes the entries of endpoints, where they differ from what is there.
    fn tell(&mut self, wanted: Vec<(EndpointId, BTreeMap<EndpointKey, Endpoint>)>, writes: &mut Vec<Write>) {
        // First all that go, so that an address can move from one endpoint to another.
        for (id, entries) in &wanted {
            let old: Vec<EndpointKey> = self
                .told
                .iter()
                .filter(|(key, (owner, _))| owner == id && !entries.contains_key(key))
                .map(|(key, _)| *key)
                .collect();
            for key in old {
                self.told.remove(&key);
                writes.push(Write::Endpoint(key, None));
            }
        }
        for (id, entries) in wanted {
            for (key, endpoint) in entries {
                let told = self.told.insert(key, (id.clone(), endpoint));
                if told.is_none_or(|(_, old)| old != endpoint) {
                    writes.push(Write::Endpoint(key, Some(endpoint)));
                }
            }
        }
    }

    /// Puts programs that no endpoint uses aside, to be taken away next time.
    fn retire(&mut self) {
        let told = self.told.values().map(|(_, endpoint)| endpoint).chain(self.hosts.told.values());
        let used: BTreeSet<u32> =
            told.flat_map(|endpoint| [endpoint.ingress.program, endpoint.egress.program]).collect();
        let unused: Vec<u32> = self.programs.keys().filter(|number| !used.contains(number)).copied().collect();
        if unused.is_empty() {
            return;
        }
        for number in unused {
            if let Some(program) = self.programs.remove(&number) {
                self.by_source.remove(&program.source);
                self.gone_programs.push(program);
            }
        }
        let live = self.programs.values().chain(&self.gone_programs);
        self.rules.keep(&live.flat_map(Live::numbers).collect());
    }

    /// The entries of an endpoint; none when it is not there or its interface is not.
    fn compile(
        &mut self,
        id: &EndpointId,
        writes: &mut Vec<Write>,
    ) -> Result<BTreeMap<EndpointKey, Endpoint>, PolicyError> {
        let mut entries = BTreeMap::new();
        let Some(Known { program, number }) = self.endpoints.get(id) else { return Ok(entries) };
        let Some(interface) = self.interfaces.get(&program.host_interface).copied() else { return Ok(entries) };
        let (program, number, item) = (program.clone(), *number, PolicyKey::Endpoint(id.clone()));
        for address in &program.addresses {
            let ingress = self.program(&item, Direction::Ingress, *address, &program.ingress, writes)?;
            let egress = self.program(&item, Direction::Egress, *address, &program.egress, writes)?;
            let key = EndpointKey { interface, address: hosts::bytes(*address) };
            entries.insert(key, Endpoint { id: number, ingress, egress });
        }
        Ok(entries)
    }

    /// The compiled program of one direction at one address, made if it is not there.
    pub(super) fn program(
        &mut self,
        item: &PolicyKey,
        direction: Direction,
        address: IpAddr,
        program: &DirectionProgram,
        writes: &mut Vec<Write>,
    ) -> Result<ProgramRef, PolicyError> {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let own = self.identities.of(address);
        let parts = Parts { chains: &self.chains, ports: &self.ports };
        let source = Arc::new(Source::of(item, direction, family, program, &own, &parts, &mut self.rules)?);
        if let Some(live) = self.by_source.get(&source).and_then(|number| self.programs.get(number)) {
            return Ok(live.reference);
        }
        self.last_program += 1;
        let number = self.last_program;
        let meaning = meaning::of_source(&source, &self.rules);
        let mut live = Live::new(number, source.clone(), meaning, &mut self.rules, writes)
            .map_err(|_| PolicyError::TooLarge { item: item.clone(), direction })?;
        for (identity, atoms) in self.identities.iter() {
            live.admit(identity, atoms, &mut self.rules, writes);
        }
        let reference = live.reference;
        self.programs.insert(number, live);
        self.by_source.insert(source, number);
        Ok(reference)
    }

    fn member(&mut self, set: SetId, member: Member, is_in: bool) {
        let (prefix, atom, port) = match member {
            Member::Address(address) => (IpNet::from(address), Atom::Set(set), None),
            Member::Network(network) => (network, Atom::Set(set), None),
            Member::AddressPort(address, protocol, port) => {
                let atom = Atom::Port(set.clone(), protocol, port);
                (IpNet::from(address), atom, Some((set, protocol, port)))
            }
        };
        let changed = if is_in { self.identities.name(prefix, atom) } else { self.identities.forget(prefix, &atom) };
        if let (true, Some((set, protocol, port))) = (changed, port) {
            self.count_port(&set, (protocol, port), is_in);
        }
    }

    /// How many members have a port: programs are made from which there are.
    fn count_port(&mut self, set: &SetId, pair: (Protocol, u16), is_in: bool) {
        let pairs = self.ports.entry(set.clone()).or_default();
        let count = pairs.entry(pair).or_default();
        let before = *count;
        *count = if is_in { before + 1 } else { before.saturating_sub(1) };
        let after = *count;
        if after == 0 {
            pairs.remove(&pair);
        }
        if (before == 0) != (after == 0) {
            self.dirty_ports.insert(set.clone());
        }
    }

    fn stir_users_of_ports(&mut self) {
        let changed = std::mem::take(&mut self.dirty_ports);
        if changed.is_empty() {
            return;
        }
        self.hosts.stirred = true;
        let uses = |number: u32| {
            let live = self.programs.get(&number);
            live.is_some_and(|live| live.source.ports.keys().any(|set| changed.contains(set)))
        };
        let users = self.told.values().filter(|(_, told)| uses(told.ingress.program) || uses(told.egress.program));
        self.dirty.extend(users.map(|(id, _)| id.clone()));
        // Perhaps what was too large is no longer.
        self.dirty.extend(self.closed.keys().cloned());
    }

    fn stir_users(&mut self, chain: &ChainId) {
        self.hosts.stirred |= self.hosts.calls(chain);
        let tiers = |direction: &'_ DirectionProgram| {
            let all = direction.enforced.iter().chain(direction.staged.iter().flatten());
            all.flat_map(|tier| &tier.chains).any(|used| used == chain)
        };
        let users = self.endpoints.iter().filter(|(_, known)| {
            let EndpointProgram { ingress, egress, .. } = &known.program;
            tiers(ingress) || tiers(egress)
        });
        self.dirty.extend(users.map(|(id, _)| id.clone()));
    }
}
