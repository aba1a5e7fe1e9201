//! All of a node's policy: items come in, writes to the maps go out. Never an order in which a packet could pass that neither
//! the old policy nor the new one lets pass: what is looked up is written before what leads there.

use super::PolicyError;
use super::atom::Atoms;
use super::hosts;
use super::items::Items;
use super::programs::{Programs, Writing};
use super::rules::{RuleName, RuleNames};
use super::write::Write;
use backend_ebpf_abi::{Endpoint, EndpointKey};
use cni_core::backend::Change;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::program::{ChainId, EndpointProgram, PolicyChange, PolicyItem, PolicyKey, SetId};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The policy of a node.
///
/// # Laws
/// 1. After all writes of a [`drain`](Self::drain) the maps say what the items say.
/// 2. Entries that nothing leads to any more are taken away by the next `drain`, when no packet can be on its way to them.
/// 3. An endpoint whose program cannot be enforced has no entry: its packets are dropped.
/// 4. The last write of a `drain` begins an epoch, so open connections are judged by what was written.
/// 5. Between two writes an address has the identity that it had, or the one that it shall have.
/// 6. What a `drain` costs follows from what was staged, and from what it writes.
#[derive(Debug, Default)]
pub struct Tables {
    pub(super) items: Items,
    pub(super) programs: Programs,
    interfaces: BTreeMap<InterfaceName, u32>,
    numbers: BTreeMap<EndpointId, u32>,
    last_endpoint: u32,
    dirty: BTreeSet<EndpointId>,
    closed: BTreeMap<EndpointId, PolicyError>,
    /// Why not all of the node's program is enforced.
    pub(super) host_error: Option<PolicyError>,
    /// Sets of ports that have other protocols and ports than before.
    dirty_ports: BTreeSet<SetId>,
    pub(super) told: BTreeMap<EndpointKey, (EndpointId, Endpoint)>,
    pub(super) told_of: BTreeMap<EndpointId, Told>,
    pub(super) told_hosts: BTreeMap<EndpointKey, Endpoint>,
    gone_identities: Vec<(u32, Atoms)>,
}

/// The entries of an endpoint. Another endpoint may have taken one over.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) interface: InterfaceName,
    keys: BTreeSet<EndpointKey>,
}

/// The entries that an endpoint shall have.
struct Wanted {
    id: EndpointId,
    told: Option<Told>,
    entries: BTreeMap<EndpointKey, Endpoint>,
}

/// What has to be looked at again.
pub(super) struct Concerned {
    /// Prefixes, and all that holds of them.
    pub(super) prefixes: Vec<(IpNet, Option<Atoms>)>,
    pub(super) endpoints: BTreeSet<EndpointId>,
    /// The programs of the node itself.
    pub(super) hosts: bool,
}

impl Tables {
    /// The same items, not one of them written: for maps that are empty. Rules keep their numbers, and nobody hears of new ones
    /// until these tables [succeed](Self::succeed).
    #[must_use]
    pub fn renewed(&self) -> Self {
        let Self { items, programs, interfaces, .. } = self;
        let (items, programs, interfaces) = (items.renewed(), programs.renewed(), interfaces.clone());
        let mut fresh = Self { items, programs, interfaces, ..Self::default() };
        self.items.endpoints.keys().for_each(|id| fresh.begin_endpoint(id));
        fresh
    }

    /// Takes the place of the tables that these were made of, also for who reads [names of rules](Self::rule_names) beside them.
    pub fn succeed(&mut self, old: &Self) {
        self.programs.rules.succeed(&old.programs.rules);
    }

    /// Takes a change in. Memory only.
    pub fn apply(&mut self, change: PolicyChange) {
        match change {
            Change::Put(PolicyItem::Set(set)) => self.items.put_set(set.id),
            Change::Put(PolicyItem::Member(set, member)) => {
                self.dirty_ports.extend(self.items.member(set.id, member, true));
            }
            Change::Put(PolicyItem::Chain(chain)) => {
                self.stir_callers(&chain.id);
                self.items.put_chain(chain);
            }
            Change::Put(PolicyItem::Endpoint(program)) => self.put_endpoint(&program.endpoint.clone(), program),
            Change::Put(PolicyItem::Host(program)) => self.items.hosts.put(Some(program)),
            Change::Remove(PolicyKey::Set(set)) => self.items.remove_set(&set),
            Change::Remove(PolicyKey::Member(set, member)) => {
                self.dirty_ports.extend(self.items.member(set, member, false));
            }
            Change::Remove(PolicyKey::Chain(id)) => {
                self.stir_callers(&id);
                self.items.remove_chain(&id);
            }
            Change::Remove(PolicyKey::Endpoint(id)) => {
                self.items.remove_endpoint(&id);
                self.numbers.remove(&id);
                self.dirty.insert(id);
            }
            Change::Remove(PolicyKey::Host) => self.items.hosts.put(None),
            Change::Node(_) | Change::Config(_) | Change::InSync => {}
        }
    }

    fn put_endpoint(&mut self, id: &EndpointId, program: EndpointProgram) {
        self.items.put_endpoint(id, program);
        self.begin_endpoint(id);
    }

    /// Gives an endpoint its number, and has it looked at.
    fn begin_endpoint(&mut self, id: &EndpointId) {
        if !self.numbers.contains_key(id) {
            self.last_endpoint += 1;
            self.numbers.insert(id.clone(), self.last_endpoint);
        }
        self.dirty.insert(id.clone());
    }

    fn stir_callers(&mut self, chain: &ChainId) {
        self.items.hosts.stirred |= self.items.hosts.calls(chain);
        self.dirty.extend(self.items.callers(chain).cloned());
    }

    /// The node has these addresses.
    pub fn set_node_addresses(&mut self, addresses: BTreeSet<IpAddr>) {
        self.items.set_node_addresses(addresses);
    }

    /// The host's end of a veth has this index now, or is not there. An endpoint without is closed.
    pub fn set_interface(&mut self, name: &InterfaceName, index: Option<u32>) {
        let old = match index {
            Some(index) => self.interfaces.insert(name.clone(), index),
            None => self.interfaces.remove(name),
        };
        if old != index {
            self.dirty.extend(self.items.at(name).cloned());
        }
    }

    /// What a rule's number in a verdict stands for; `None`: no tier had a say, or the number is no longer in use.
    #[must_use]
    pub fn rule(&self, number: u32) -> Option<&RuleName> {
        self.programs.rules.name(number)
    }

    /// The same beside the tables, of all that come as well.
    #[must_use]
    pub fn rule_names(&self) -> RuleNames {
        self.programs.rules.shared()
    }

    /// Endpoints whose programs cannot be enforced, and why: they are closed.
    pub fn closed(&self) -> impl Iterator<Item = (&EndpointId, &PolicyError)> {
        self.closed.iter()
    }

    /// The host's end of an endpoint's veth.
    #[must_use]
    pub fn host_interface(&self, id: &EndpointId) -> Option<&InterfaceName> {
        self.items.host_interface(id)
    }

    /// The host's ends of the veths of all endpoints.
    pub fn host_interfaces(&self) -> impl Iterator<Item = (&EndpointId, &InterfaceName)> {
        self.items.endpoints.iter().map(|(id, program)| (id, &program.host_interface))
    }

    /// What has to be looked at since the last [`drain`](Self::drain), by what was staged.
    pub(super) fn concerned(&self) -> Concerned {
        let prefixes = self.items.identities.moving();
        let mut endpoints = self.dirty.clone();
        let mut hosts = self.items.hosts.stirred;
        // What holds of an endpoint's own address is part of its program.
        for (prefix, _) in &prefixes {
            endpoints.extend(self.items.owners(prefix).cloned());
            hosts |= self.items.is_of_node(prefix);
        }
        if !self.dirty_ports.is_empty() {
            hosts = true;
            let users = self.programs.users_of_ports(&self.dirty_ports);
            endpoints.extend(users.filter_map(|key| self.told.get(key)).map(|(id, _)| id.clone()));
            // Perhaps what was too large is no longer.
            endpoints.extend(self.closed.keys().cloned());
        }
        Concerned { prefixes, endpoints, hosts }
    }

    /// What is to be written since the last call, in this order.
    #[must_use = "what is not written is not enforced"]
    pub fn drain(&mut self) -> Vec<Write> {
        let mut all = Vec::new();
        let writes = &mut all;
        let Concerned { prefixes, endpoints, hosts } = self.concerned();
        self.dirty.clear();
        self.dirty_ports.clear();
        self.items.hosts.stirred = false;
        self.programs.clear_gone(writes);
        for (identity, atoms) in std::mem::take(&mut self.gone_identities) {
            self.programs.dismiss(identity, &atoms, writes);
        }
        let settled = self.items.identities.settle(prefixes);
        for (identity, atoms) in &settled.new {
            self.programs.admit(*identity, atoms, writes);
        }
        let wanted = endpoints.into_iter().map(|id| self.compile(id, writes)).collect();
        if hosts {
            self.tell_hosts(writes);
        }
        writes.extend(settled.moved.into_iter().map(|(prefix, identity)| Write::Identity(prefix, identity)));
        self.gone_identities.extend(settled.gone);
        self.tell(wanted, writes);
        self.programs.retire();
        all.sort_by_key(Write::place);
        if !all.is_empty() {
            all.push(Write::Advance);
        }
        all
    }

    /// The entries of an endpoint; none when it is not there, its interface is not, or it is closed. What they lead to is written.
    fn compile(&mut self, id: EndpointId, writes: &mut Vec<Write>) -> Wanted {
        let Self { items, programs, interfaces, .. } = self;
        let place = items.host_interface(&id).and_then(|name| Some((name, *interfaces.get(name)?)));
        let number = self.numbers.get(&id).copied();
        let Some(((interface, index), number)) = place.zip(number) else {
            self.closed.remove(&id);
            return Wanted { id, told: None, entries: BTreeMap::new() };
        };
        let mut writing = Writing { programs, identities: &items.identities, writes };
        let entries = match items.endpoint(&id, &mut writing) {
            Ok(made) => {
                self.closed.remove(&id);
                let made = made.into_iter().map(|(address, [ingress, egress])| {
                    let key = EndpointKey { interface: index, address: hosts::bytes(address) };
                    (key, Endpoint { id: number, ingress, egress })
                });
                made.collect()
            }
            Err(error) => {
                self.closed.insert(id.clone(), error);
                BTreeMap::new()
            }
        };
        let told = Told { interface: interface.clone(), keys: entries.keys().copied().collect() };
        Wanted { id, told: Some(told).filter(|told| !told.keys.is_empty()), entries }
    }

    /// Writes the entries of endpoints, where they differ from what is there.
    fn tell(&mut self, wanted: Vec<Wanted>, writes: &mut Vec<Write>) {
        let Self { told, told_of, programs, .. } = self;
        // First all that go, so that an address can move from one endpoint to another.
        for Wanted { id, entries, .. } in &wanted {
            let Some(before) = told_of.remove(id) else { continue };
            for key in before.keys.into_iter().filter(|key| !entries.contains_key(key)) {
                if told.get(&key).is_some_and(|(owner, _)| owner == id) {
                    programs.use_by(key, told.remove(&key).map(|(_, old)| old), None);
                    writes.push(Write::Endpoint(key, None));
                }
            }
        }
        for Wanted { id, told: now, entries } in wanted {
            for (key, endpoint) in entries {
                let old = told.insert(key, (id.clone(), endpoint)).map(|(_, old)| old);
                if old != Some(endpoint) {
                    programs.use_by(key, old, Some(endpoint));
                    writes.push(Write::Endpoint(key, Some(endpoint)));
                }
            }
            now.into_iter().for_each(|now| drop(told_of.insert(id.clone(), now)));
        }
    }

    /// The same of the node itself.
    fn tell_hosts(&mut self, writes: &mut Vec<Write>) {
        let Self { items, programs, .. } = self;
        let mut writing = Writing { programs, identities: &items.identities, writes: &mut *writes };
        let (made, error) = items.hosts(&mut writing);
        self.host_error = error;
        let entries = made.into_iter().map(|host| host.entry()).collect();
        let old = std::mem::replace(&mut self.told_hosts, entries);
        for (key, endpoint) in old.iter().filter(|(key, _)| !self.told_hosts.contains_key(key)) {
            self.programs.use_by_host(Some(*endpoint), None);
            writes.push(Write::Host(*key, None));
        }
        for (key, endpoint) in self.told_hosts.iter().filter(|(key, endpoint)| old.get(key) != Some(endpoint)) {
            self.programs.use_by_host(old.get(key).copied(), Some(*endpoint));
            writes.push(Write::Host(*key, Some(*endpoint)));
        }
    }
}
