//! A compiled program: classes of traffic, and for each class of peers a row of verdicts. Never a map: see `tables`.

use super::atom::Atom;
use super::bits::Bits;
use super::classes::{self, Classes, SourcePrefix, TooMany, TrafficPrefix};
use super::source::{Source, Walk};
use super::term::Term;
use backend_ebpf_abi::Verdict;
use cni_core::policy::model::{Action, Direction, TierEnd};
use std::collections::{BTreeMap, BTreeSet};

/// The most cells that one program may need for one class of peers.
const MOST_CELLS: usize = 1 << 16;
/// The most terms of one program.
const MOST_TERMS: usize = 1 << 14;

/// A program.
#[derive(Debug)]
pub(super) struct Compiled {
    direction: Direction,
    terms: Vec<Term>,
    /// The rule of each term, and what it does.
    rules: Vec<(u32, Action)>,
    enforced: Steps,
    staged: Option<Steps>,
    pub(super) traffic: Classes<TrafficPrefix>,
    pub(super) sources: Classes<SourcePrefix>,
    /// Everything that terms ask of a peer, and which terms do.
    asked: BTreeMap<Atom, Vec<usize>>,
    /// Terms that admit a peer of which nothing holds.
    admitting: Bits,
}

/// Tiers in order.
type Steps = Vec<Tier>;

#[derive(Debug)]
struct Tier {
    /// The terms of its rules, in order of the rules.
    terms: std::ops::Range<usize>,
    end: TierEnd,
    end_number: u32,
}

/// Verdicts for a class of peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// What most cells have.
    pub(super) default: Verdict,
    /// The others: class of traffic, class of source port.
    pub(super) cells: Vec<(u16, u16, Verdict)>,
}

/// Gives the number that stands for who decides and for the rules that log before, by their own numbers.
pub(super) type Numbering<'a> = dyn FnMut(&[u32], u32) -> u32 + 'a;

/// A class of peers: which terms admit them, and whether they are the endpoint's own node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PeerBits(Bits, bool);

impl Compiled {
    pub(super) fn new(source: &Source) -> Result<Self, TooMany> {
        let (mut terms, mut rules) = (Vec::new(), Vec::new());
        let mut steps = |walk: &Walk| steps(walk, source, &mut terms, &mut rules);
        let enforced = steps(&source.enforced)?;
        let staged = source.staged.as_ref().map(steps).transpose()?;
        let traffic = classes::traffic(&terms)?;
        let sources = classes::sources(&terms)?;
        if traffic.terms.len() * sources.terms.len() > MOST_CELLS {
            return Err(TooMany);
        }
        let mut asked = BTreeMap::<Atom, Vec<usize>>::new();
        for (index, term) in terms.iter().enumerate() {
            term.peer.iter().for_each(|(atom, _)| asked.entry(atom.clone()).or_default().push(index));
        }
        let none = BTreeSet::new();
        let admitting = Bits::collect(terms.len(), |index| terms[index].admits(&none));
        Ok(Self { direction: source.direction, terms, rules, enforced, staged, traffic, sources, asked, admitting })
    }

    /// The class of a peer of which this holds.
    pub(super) fn peer(&self, atoms: &BTreeSet<Atom>) -> PeerBits {
        let mut bits = self.admitting.clone();
        for index in atoms.iter().filter_map(|atom| self.asked.get(atom)).flatten() {
            bits.assign(*index, self.terms[*index].admits(atoms));
        }
        PeerBits(bits, atoms.contains(&Atom::OwnNode))
    }

    /// Whether it asks for anything that holds of this peer.
    pub(super) fn asks(&self, atoms: &BTreeSet<Atom>) -> bool {
        atoms.contains(&Atom::OwnNode) || atoms.iter().any(|atom| self.asked.contains_key(atom))
    }

    /// Everything that it asks for, beside whether the peer is the endpoint's own node.
    pub(super) fn asked(&self) -> impl Iterator<Item = &Atom> {
        self.asked.keys()
    }

    /// Whether peers differ at all.
    pub(super) fn asks_peers(&self, numbering: &mut Numbering<'_>) -> bool {
        let none = BTreeSet::new();
        let own = [Atom::OwnNode].into();
        !self.asked.is_empty() || self.row(&self.peer(&none), numbering) != self.row(&self.peer(&own), numbering)
    }

    /// The verdicts for a class of peers.
    pub(super) fn row(&self, PeerBits(peer, own_node): &PeerBits, numbering: &mut Numbering<'_>) -> Row {
        let mut all = Vec::with_capacity(self.traffic.terms.len() * self.sources.terms.len());
        for (traffic_class, traffic) in (0..).zip(&self.traffic.terms) {
            for (source_class, source) in (0..).zip(&self.sources.terms) {
                let holding = peer.and(traffic, source);
                all.push((traffic_class, source_class, self.verdict(&holding, *own_node, numbering)));
            }
        }
        let mut counts = BTreeMap::<(u32, u32), usize>::new();
        for (.., verdict) in &all {
            *counts.entry((verdict.enforced, verdict.staged)).or_default() += 1;
        }
        let usual = counts.into_iter().max_by_key(|(_, count)| *count).map(|(verdict, _)| verdict);
        let default = usual.map_or(Verdict::CLOSED, |(enforced, staged)| Verdict { enforced, staged });
        let cells = all.into_iter().filter(|(.., verdict)| *verdict != default).collect();
        Row { default, cells }
    }

    fn verdict(&self, holding: &Bits, own_node: bool, numbering: &mut Numbering<'_>) -> Verdict {
        // Its own node always reaches a pod.
        if own_node && self.direction == Direction::Ingress {
            return Verdict { enforced: Verdict::ALLOW, staged: 0 };
        }
        let (enforced, logs) = self.walk(&self.enforced, holding, own_node);
        let enforced = match logs.is_empty() {
            true => enforced,
            false => enforced & Verdict::ALLOW | Verdict::LOGGED | numbering(&logs, enforced & Verdict::RULE),
        };
        // What rules of staged policies log is told by those that are enforced, or not at all.
        let staged = self.staged.as_ref().map_or(0, |steps| self.walk(steps, holding, own_node).0 | Verdict::STAGED);
        Verdict { enforced, staged }
    }

    /// What is decided, and the rules that log before.
    fn walk(&self, steps: &Steps, holding: &Bits, own_node: bool) -> (u32, Vec<u32>) {
        let mut logs = Vec::new();
        for tier in steps {
            match self.first(tier, holding, &mut logs) {
                Some((number, Action::Allow)) => return (Verdict::ALLOW | number, logs),
                Some((number, Action::Deny)) => return (number, logs),
                Some((_, Action::Pass)) => {}
                // Isolation alone does not keep a pod from its own node; a rule of a later tier may.
                None | Some((_, Action::Log)) => match tier.end {
                    TierEnd::Pass => {}
                    TierEnd::Deny if own_node && self.direction == Direction::Egress => {}
                    TierEnd::Deny => return (tier.end_number, logs),
                },
            }
        }
        (Verdict::ALLOW, logs)
    }

    /// The first rule of a tier that holds and does more than to log.
    fn first(&self, tier: &Tier, holding: &Bits, logs: &mut Vec<u32>) -> Option<(u32, Action)> {
        let mut from = tier.terms.start;
        loop {
            let term = holding.first(from, tier.terms.end)?;
            let (number, action) = self.rules[term];
            if action != Action::Log {
                return Some((number, action));
            }
            // One rule may hold by several terms.
            if logs.last() != Some(&number) {
                logs.push(number);
            }
            from = term + 1;
        }
    }
}

fn steps(
    walk: &Walk,
    source: &Source,
    terms: &mut Vec<Term>,
    rules: &mut Vec<(u32, Action)>,
) -> Result<Steps, TooMany> {
    let mut steps = Vec::new();
    for tier in walk {
        let first = terms.len();
        for rule in &tier.rules {
            terms.extend(rule.clauses.iter().flat_map(|clause| Term::of(clause, source)));
            if terms.len() > MOST_TERMS {
                return Err(TooMany);
            }
            rules.resize(terms.len(), (rule.number, rule.action));
        }
        steps.push(Tier { terms: first..terms.len(), end: tier.end, end_number: tier.end_number });
    }
    Ok(steps)
}
