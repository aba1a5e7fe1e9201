//! Tables looked at as a whole: what they mean, everything that they want in the maps, and the same items numbered anew. Never
//! a change.

use super::meaning::{self, Digest, Meant};
use super::rules::Rules;
use super::source::{Parts, Source};
use super::tables::Tables;
use super::write::Write;
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::model::{Direction, Family};
use cni_core::policy::program::{DirectionProgram, PolicyKey};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What is enforced at one address: ingress, egress.
pub type AtAddress = [Digest; 2];

impl Tables {
    /// The same items, not one of them written: for maps that are empty. Rules keep their numbers, and nobody hears of new ones
    /// until these tables [succeed](Self::succeed).
    #[must_use]
    pub fn renewed(&self) -> Self {
        let mut fresh = Self::default();
        fresh.chains.clone_from(&self.chains);
        fresh.ports.clone_from(&self.ports);
        fresh.identities = self.identities.renewed();
        fresh.node.clone_from(&self.node);
        fresh.rules = self.rules.renewed();
        fresh.interfaces.clone_from(&self.interfaces);
        for (id, known) in &self.endpoints {
            fresh.put_endpoint(id.clone(), known.program.clone());
        }
        fresh.hosts.devices.clone_from(&self.hosts.devices);
        fresh.hosts.put(self.hosts.program.clone());
        fresh
    }

    /// Takes the place of the tables that these were made of, also for who reads [names of rules](Self::rule_names) beside them.
    pub fn succeed(&mut self, old: &Self) {
        self.rules.succeed(&old.rules);
    }

    /// What each prefix is said to be: the meaning of its identity.
    pub fn identities(&self) -> impl Iterator<Item = (IpNet, Digest)> {
        self.identities.named().map(|(prefix, atoms)| (prefix, meaning::of_atoms(&atoms)))
    }

    /// What is enforced at each interface, by address. An endpoint that cannot be enforced is not in there.
    #[must_use]
    pub fn enforced(&self) -> BTreeMap<InterfaceName, BTreeMap<IpAddr, AtAddress>> {
        let mut all = BTreeMap::new();
        for (id, known) in &self.endpoints {
            if self.closed.contains_key(id) && !self.dirty.contains(id) {
                continue;
            }
            let program = &known.program;
            let at = |address: &IpAddr| {
                let ingress = self.meaning(id, Direction::Ingress, *address, &program.ingress)?;
                Some((*address, [ingress, self.meaning(id, Direction::Egress, *address, &program.egress)?]))
            };
            let addresses: Option<BTreeMap<IpAddr, AtAddress>> = program.addresses.iter().map(at).collect();
            if let Some(addresses) = addresses.filter(|addresses| !addresses.is_empty()) {
                all.insert(program.host_interface.clone(), addresses);
            }
        }
        all
    }

    fn meaning(&self, id: &EndpointId, way: Direction, address: IpAddr, program: &DirectionProgram) -> Option<Digest> {
        let family = if address.is_ipv4() { Family::V4 } else { Family::V6 };
        let (own, mut rules) = (self.identities.of(address), Rules::default());
        let parts = Parts { chains: &self.chains, ports: &self.ports };
        let source =
            Source::of(&PolicyKey::Endpoint(id.clone()), way, family, program, &own, &parts, &mut rules).ok()?;
        Some(meaning::of_source(&source, &rules))
    }

    /// The host's ends of the veths of all endpoints.
    pub fn host_interfaces(&self) -> impl Iterator<Item = (&EndpointId, &InterfaceName)> {
        self.endpoints.iter().map(|(id, known)| (id, &known.program.host_interface))
    }

    /// Every entry that the maps have after all writes so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Write> {
        let mut all = Vec::new();
        for program in self.programs.values() {
            let number = program.reference.program;
            all.push(Write::Meaning(Meant::Program(number), Some(program.meaning)));
            program.entries(self.identities.iter(), &self.rules, &mut all);
        }
        for (number, atoms) in self.identities.iter() {
            all.push(Write::Meaning(Meant::Identity(number), Some(meaning::of_atoms(atoms))));
        }
        all.extend(self.identities.told().map(|(prefix, number)| Write::Identity(prefix, Some(number))));
        all.extend(self.hosts.told.iter().map(|(key, endpoint)| Write::Host(*key, Some(*endpoint))));
        all.extend(self.told.iter().map(|(key, (_, endpoint))| Write::Endpoint(*key, Some(*endpoint))));
        all
    }
}
