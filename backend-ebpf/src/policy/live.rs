//! A program with its entries in the maps: which classes of peers it has, and which identities are in them. Never shared by
//! two sources.

use super::atom::{Atom, Atoms};
use super::classes::TooMany;
use super::compiled::{Compiled, PeerBits};
use super::identities::Identities;
use super::meaning::{Digest, Meant};
use super::rules::Rules;
use super::source::Source;
use super::write::{Trie, Write};
use backend_ebpf_abi::{PeerClass, PeerKey, ProgramRef, Verdict, VerdictKey, source_key, traffic_key};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Bits of the program's number, before those of prefixes.
const PROGRAM_BITS: u32 = 32;

/// A program in the maps.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) source: Arc<Source>,
    pub(super) reference: ProgramRef,
    pub(super) meaning: Digest,
    compiled: Compiled,
    classes: HashMap<PeerBits, PeerClass>,
    peers: BTreeSet<u32>,
    cells: Vec<VerdictKey>,
    tries: Vec<Trie>,
    /// Numbers that its verdicts have beside those of its rules.
    logged: BTreeSet<u32>,
}

impl Live {
    /// Compiles a source, and writes what does not depend on identities, and the class of peers of which nothing holds.
    pub(super) fn new(
        number: u32,
        source: Arc<Source>,
        meaning: Digest,
        rules: &mut Rules,
        writes: &mut Vec<Write>,
    ) -> Result<Self, TooMany> {
        let compiled = Compiled::new(&source)?;
        let mut tries = Vec::new();
        for (prefix, class) in &compiled.traffic.prefixes {
            let key = traffic_key(number, prefix.protocol, prefix.detail);
            tries.push((Trie::Traffic(PROGRAM_BITS + prefix.length, key), *class));
        }
        for (prefix, class) in &compiled.sources.prefixes {
            tries.push((Trie::Source(PROGRAM_BITS + prefix.length, source_key(number, prefix.port)), *class));
        }
        writes.push(Write::Meaning(Meant::Program(number), Some(meaning)));
        writes.extend(tries.iter().map(|(key, class)| Write::Class(*key, Some(*class))));
        let mut flags = 0;
        let (traffic, sources) = (compiled.traffic.terms.len() > 1, compiled.sources.terms.len() > 1);
        for (bit, needed) in [
            (ProgramRef::PEER, compiled.asks_peers(&mut |logs, by| rules.logged(logs, by))),
            (ProgramRef::TRAFFIC, traffic),
            (ProgramRef::SOURCE, sources),
            (ProgramRef::VERDICTS, traffic || sources),
        ] {
            flags |= if needed { bit } else { 0 };
        }
        let mut live = Self {
            source,
            reference: ProgramRef { program: number, flags, default: Verdict::CLOSED },
            meaning,
            compiled,
            classes: HashMap::new(),
            peers: BTreeSet::new(),
            cells: Vec::new(),
            tries: tries.into_iter().map(|(key, _)| key).collect(),
            logged: BTreeSet::new(),
        };
        live.source.numbers().for_each(|number| rules.hold(number));
        live.reference.default = live.class(&BTreeSet::new(), rules, writes).default;
        Ok(live)
    }

    /// What it asks of peers, beside whether they are the endpoint's own node.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Atom> {
        self.compiled.asked()
    }

    /// The class of peers of which this holds; its verdicts are written before anybody is in it.
    fn class(&mut self, atoms: &BTreeSet<Atom>, rules: &mut Rules, writes: &mut Vec<Write>) -> PeerClass {
        let bits = self.compiled.peer(atoms);
        if let Some(class) = self.classes.get(&bits) {
            return *class;
        }
        let logged = &mut self.logged;
        let row = self.compiled.row(&bits, &mut |logs, by| {
            let number = rules.logged(logs, by);
            if logged.insert(number) {
                rules.hold(number);
            }
            number
        });
        let peer = u32::try_from(self.classes.len()).expect("there are fewer classes than identities");
        for (traffic, source, verdict) in row.cells {
            let key = VerdictKey { program: self.reference.program, peer, traffic, source };
            self.cells.push(key);
            writes.push(Write::Verdict(key, Some(verdict)));
        }
        let class = PeerClass { class: peer, default: row.default };
        self.classes.insert(bits, class);
        class
    }

    /// There is an identity of which this holds.
    pub(super) fn admit(&mut self, identity: u32, atoms: &Atoms, rules: &mut Rules, writes: &mut Vec<Write>) {
        if self.reference.flags & ProgramRef::PEER == 0 || !self.compiled.asks(atoms) {
            return;
        }
        let class = self.class(atoms, rules, writes);
        // What nothing holds of is in class 0 without an entry.
        if class.class != 0 {
            self.peers.insert(identity);
            writes.push(Write::Peer(self.peer(identity), Some(class)));
        }
    }

    /// The identity is no longer there.
    pub(super) fn dismiss(&mut self, identity: u32, writes: &mut Vec<Write>) {
        if self.peers.remove(&identity) {
            writes.push(Write::Peer(self.peer(identity), None));
        }
    }

    fn peer(&self, identity: u32) -> PeerKey {
        PeerKey { program: self.reference.program, identity }
    }

    /// All its entries.
    pub(super) fn entries(&self, identities: &Identities, rules: &Rules, all: &mut Vec<Write>) {
        // What a class has was numbered when it was made.
        let mut numbering = |logs: &[u32], by| rules.known_logged(logs, by).unwrap_or(by);
        let number = self.reference.program;
        let Compiled { traffic, sources, .. } = &self.compiled;
        all.extend(traffic.prefixes.iter().map(|(prefix, class)| {
            let key = traffic_key(number, prefix.protocol, prefix.detail);
            Write::Class(Trie::Traffic(PROGRAM_BITS + prefix.length, key), Some(*class))
        }));
        all.extend(sources.prefixes.iter().map(|(prefix, class)| {
            let key = source_key(number, prefix.port);
            Write::Class(Trie::Source(PROGRAM_BITS + prefix.length, key), Some(*class))
        }));
        for (bits, PeerClass { class: peer, .. }) in &self.classes {
            all.extend(self.compiled.row(bits, &mut numbering).cells.into_iter().map(|(traffic, source, verdict)| {
                Write::Verdict(VerdictKey { program: number, peer: *peer, traffic, source }, Some(verdict))
            }));
        }
        all.extend(self.peers.iter().filter_map(|identity| {
            let class = self.classes.get(&self.compiled.peer(identities.atoms(*identity)?))?;
            Some(Write::Peer(self.peer(*identity), Some(*class)))
        }));
    }

    /// Numbers of all rules in its verdicts, which it holds.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.source.numbers().chain(self.logged.iter().copied())
    }

    /// Takes all its entries away.
    pub(super) fn clear(self, writes: &mut Vec<Write>) {
        writes.extend(self.peers.iter().map(|identity| Write::Peer(self.peer(*identity), None)));
        writes.extend(self.cells.into_iter().map(|key| Write::Verdict(key, None)));
        writes.extend(self.tries.into_iter().map(|key| Write::Class(key, None)));
        writes.push(Write::Meaning(Meant::Program(self.reference.program), None));
    }
}
