//! All programs in the maps: which is made of which source, who uses it, and what it asks of peers. Never who needs one.

use super::PolicyError;
use super::atom::{Atom, Atoms};
use super::identities::Identities;
use super::items::Parts;
use super::live::Live;
use super::make::Make;
use super::meaning::{self, Digest, Meant};
use super::rules::Rules;
use super::source::Source;
use super::write::Write;
use backend_ebpf_abi::{Endpoint, EndpointKey, ProgramRef};
use cni_core::policy::model::Direction;
use cni_core::policy::program::{DirectionProgram, PolicyKey, SetId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Programs by number.
#[derive(Debug, Default)]
pub(super) struct Programs {
    live: BTreeMap<u32, Live>,
    by_source: HashMap<Arc<Source>, u32>,
    meanings: HashSet<Digest>,
    pub(super) rules: Rules,
    last: u32,
    /// Which ask whether something holds of a peer.
    asking: HashMap<Atom, BTreeSet<u32>>,
    /// Which look peers up in a set of ports.
    of_ports: HashMap<SetId, BTreeSet<u32>>,
    users: HashMap<u32, Users>,
    /// Programs that nobody may use.
    idle: BTreeSet<u32>,
    /// Their entries are taken away next time, when no packet is on its way to them.
    gone: Vec<Live>,
}

#[derive(Debug, Default)]
struct Users {
    endpoints: BTreeSet<EndpointKey>,
    hosts: usize,
}

impl Programs {
    /// None, with the numbers that rules have.
    pub(super) fn renewed(&self) -> Self {
        Self { rules: self.rules.renewed(), ..Self::default() }
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Live> {
        self.live.values()
    }

    /// Whether one of them means this.
    pub(super) fn mean(&self, meaning: &Digest) -> bool {
        self.meanings.contains(meaning)
    }

    /// Takes away what nobody used at the last call of [`retire`](Self::retire).
    pub(super) fn clear_gone(&mut self, writes: &mut Vec<Write>) {
        for program in std::mem::take(&mut self.gone) {
            program.numbers().for_each(|number| self.rules.release(number));
            program.clear(writes);
        }
    }

    /// There is an identity of which this holds.
    pub(super) fn admit(&mut self, identity: u32, atoms: &Atoms, writes: &mut Vec<Write>) {
        writes.push(Write::Meaning(Meant::Identity(identity), Some(meaning::of_atoms(atoms))));
        for number in self.asking(atoms) {
            if let Some(program) = self.live.get_mut(&number) {
                program.admit(identity, atoms, &mut self.rules, writes);
            }
        }
    }

    /// There is none any more.
    pub(super) fn dismiss(&mut self, identity: u32, atoms: &Atoms, writes: &mut Vec<Write>) {
        for number in self.asking(atoms) {
            if let Some(program) = self.live.get_mut(&number) {
                program.dismiss(identity, writes);
            }
        }
        writes.push(Write::Meaning(Meant::Identity(identity), None));
    }

    /// Those to which it makes a difference that this holds of a peer.
    fn asking(&self, atoms: &Atoms) -> Vec<u32> {
        if atoms.contains(&Atom::OwnNode) {
            return self.live.keys().copied().collect();
        }
        let asking: BTreeSet<u32> = atoms.iter().filter_map(|atom| self.asking.get(atom)).flatten().copied().collect();
        asking.into_iter().collect()
    }

    /// Entries that lead to a program which looks peers up in one of these sets of ports.
    pub(super) fn users_of_ports(&self, sets: &BTreeSet<SetId>) -> impl Iterator<Item = &EndpointKey> {
        let numbers = sets.iter().filter_map(|set| self.of_ports.get(set)).flatten();
        numbers.filter_map(|number| self.users.get(number)).flat_map(|users| &users.endpoints)
    }

    /// An entry of an endpoint leads there instead of where it led.
    pub(super) fn use_by(&mut self, key: EndpointKey, old: Option<Endpoint>, new: Option<Endpoint>) {
        for number in programs(old) {
            if let Some(users) = self.users.get_mut(&number) {
                users.endpoints.remove(&key);
                self.idle.insert(number);
            }
        }
        for number in programs(new) {
            self.users.entry(number).or_default().endpoints.insert(key);
        }
    }

    /// The same of the node itself.
    pub(super) fn use_by_host(&mut self, old: Option<Endpoint>, new: Option<Endpoint>) {
        for number in programs(old) {
            if let Some(users) = self.users.get_mut(&number) {
                users.hosts = users.hosts.saturating_sub(1);
                self.idle.insert(number);
            }
        }
        for number in programs(new) {
            self.users.entry(number).or_default().hosts += 1;
        }
    }

    /// Puts programs that nobody uses aside, to be taken away next time.
    pub(super) fn retire(&mut self) {
        for number in std::mem::take(&mut self.idle) {
            if self.users.get(&number).is_some_and(|users| users.hosts > 0 || !users.endpoints.is_empty()) {
                continue;
            }
            self.users.remove(&number);
            let Some(program) = self.live.remove(&number) else { continue };
            self.by_source.remove(&program.source);
            self.meanings.remove(&program.meaning);
            program.asked().for_each(|atom| leave(&mut self.asking, atom, number));
            program.source.ports.keys().for_each(|set| leave(&mut self.of_ports, set, number));
            self.gone.push(program);
        }
        self.rules.tidy();
    }

    fn add(&mut self, program: Live) -> ProgramRef {
        let (number, reference) = (program.reference.program, program.reference);
        for atom in program.asked() {
            self.asking.entry(atom.clone()).or_default().insert(number);
        }
        for set in program.source.ports.keys() {
            self.of_ports.entry(set.clone()).or_default().insert(number);
        }
        self.meanings.insert(program.meaning);
        self.by_source.insert(program.source.clone(), number);
        self.live.insert(number, program);
        self.idle.insert(number);
        reference
    }
}

fn programs(endpoint: Option<Endpoint>) -> impl Iterator<Item = u32> {
    endpoint.into_iter().flat_map(|endpoint| [endpoint.ingress.program, endpoint.egress.program])
}

fn leave<T: Eq + std::hash::Hash>(all: &mut HashMap<T, BTreeSet<u32>>, key: &T, number: u32) {
    if let Some(numbers) = all.get_mut(key) {
        numbers.remove(&number);
        if numbers.is_empty() {
            all.remove(key);
        }
    }
}

/// Makes programs in the maps, where they are not there.
pub(super) struct Writing<'a> {
    pub(super) programs: &'a mut Programs,
    pub(super) identities: &'a Identities,
    pub(super) writes: &'a mut Vec<Write>,
}

impl Make for Writing<'_> {
    type Program = ProgramRef;

    fn program(
        &mut self,
        item: &PolicyKey,
        direction: Direction,
        address: IpAddr,
        program: &DirectionProgram,
        parts: &Parts<'_>,
    ) -> Result<ProgramRef, PolicyError> {
        let programs = &mut *self.programs;
        let source = Arc::new(parts.source(item, direction, address, program, &mut programs.rules)?);
        if let Some(live) = programs.by_source.get(&source).and_then(|number| programs.live.get(number)) {
            return Ok(live.reference);
        }
        let (rules, writes) = (&mut programs.rules, &mut *self.writes);
        let meaning = meaning::of_source(&source, rules);
        programs.last += 1;
        let mut live = Live::new(programs.last, source, meaning, rules, writes)
            .map_err(|_| PolicyError::TooLarge { item: item.clone(), direction })?;
        for (identity, atoms) in self.identities.with(live.asked()) {
            live.admit(identity, atoms, rules, writes);
        }
        Ok(programs.add(live))
    }
}
