//! A peer as alternatives of conjunctions of set lookups, as few as can be. Never a member of a set, and never more
//! alternatives than a bound.

use super::prefixes::Prefixes;
use crate::policy::model::{Kinds, Peer, Selector, WorkloadKind};
use std::collections::BTreeSet;

/// Alternatives of one rule; beyond them it fails closed.
pub(super) const MOST_CLAUSES: usize = 256;

/// A difference of prefixes that makes more of them, and more than its operands together, stays two lookups.
const MOST_SPLIT_PREFIXES: usize = 1_024;

/// Workloads by kind and labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Labelled {
    pub(super) kinds: Kinds,
    pub(super) selector: Selector,
}

/// What one lookup asks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Atom {
    /// The address is that of a pod, node or host endpoint out of one of these.
    Workloads(BTreeSet<Labelled>),
    /// The address is in a prefix of a group out of one of these, or in one of the prefixes.
    Networks(BTreeSet<Labelled>, Prefixes),
    /// It is the subject's node.
    OwnNode,
}

/// A lookup that must succeed, or (negated) fail.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Literal {
    pub(super) negated: bool,
    pub(super) atom: Atom,
}

impl Literal {
    /// Fixed prefixes decide by themselves when they are everything or nothing.
    fn constant(&self) -> Option<bool> {
        match &self.atom {
            Atom::Networks(groups, prefixes) if groups.is_empty() && prefixes.is_empty() => Some(self.negated),
            Atom::Networks(groups, prefixes) if groups.is_empty() && prefixes.is_everything() => Some(!self.negated),
            _ => None,
        }
    }
}

/// Literals that must all hold.
pub(super) type Conjunction = BTreeSet<Literal>;

/// More than [`MOST_CLAUSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// The alternatives of a peer: none for nobody, one without literals for everybody. `is_subject`: it is the end that the
/// policy is about, which is never its own node.
pub(super) fn alternatives(peer: &Peer, is_subject: bool) -> Result<Vec<Conjunction>, TooMany> {
    clauses(&condition(peer, is_subject))
}

enum Condition {
    Always,
    Never,
    Literal(Literal),
    All(Vec<Condition>),
    Any(Vec<Condition>),
}

fn condition(peer: &Peer, is_subject: bool) -> Condition {
    let parts = |parts: &[Peer]| parts.iter().map(|part| condition(part, is_subject)).collect::<Vec<_>>();
    match peer {
        // What has names in it is widened or dropped before, by its rule.
        Peer::Anything | Peer::Names(_) => Condition::Always,
        Peer::Nothing => Condition::Never,
        Peer::Labelled { kinds, selector } => labelled(*kinds, selector),
        Peer::Networks(networks) => any(vec![positive(Atom::Networks(BTreeSet::new(), Prefixes::new(networks)))]),
        Peer::OwnNode if is_subject => Condition::Never,
        Peer::OwnNode => positive(Atom::OwnNode),
        Peer::AnyOf(any_of) => any(parts(any_of)),
        Peer::AllOf(all_of) => not(any(parts(all_of).into_iter().map(not).collect())),
        Peer::Not(inner) => not(condition(inner, is_subject)),
    }
}

fn positive(atom: Atom) -> Condition {
    Condition::Literal(Literal { negated: false, atom })
}

fn labelled(kinds: Kinds, selector: &Selector) -> Condition {
    use WorkloadKind::{CidrGroup, HostEndpoint, NetworkSet, Node, Pod, Service};
    let wanted = |of: &[WorkloadKind]| {
        let kinds = of.iter().filter(|kind| kinds.has(**kind)).fold(Kinds::default(), |kinds, kind| kinds.and(*kind));
        (kinds != Kinds::default()).then(|| BTreeSet::from([Labelled { kinds, selector: selector.clone() }]))
    };
    let plain = wanted(&[Pod, Node, HostEndpoint]).map(Atom::Workloads);
    let groups = wanted(&[NetworkSet, CidrGroup, Service]).map(|groups| Atom::Networks(groups, Prefixes::default()));
    any(plain.into_iter().chain(groups).filter(|_| *selector != Selector::Nothing).map(positive).collect())
}

fn not(condition: Condition) -> Condition {
    match condition {
        Condition::Always => Condition::Never,
        Condition::Never => Condition::Always,
        Condition::Literal(Literal { negated, atom }) => Condition::Literal(Literal { negated: !negated, atom }),
        Condition::All(parts) => Condition::Any(parts.into_iter().map(not).collect()),
        Condition::Any(parts) => Condition::All(parts.into_iter().map(not).collect()),
    }
}

/// One of the parts, simplified: lookups of a kind become one lookup in a larger set. That of all parts is its mirror
/// image, by De Morgan.
fn any(parts: Vec<Condition>) -> Condition {
    let mut gathered = Gathered::default();
    for part in parts {
        match part {
            Condition::Never => {}
            Condition::Always => return Condition::Always,
            Condition::Any(inner) => inner.into_iter().for_each(|part| gathered.add(part)),
            other => gathered.add(other),
        }
    }
    gathered.condition()
}

/// Parts of an alternative, sorted by what can be merged.
#[derive(Default)]
struct Gathered {
    workloads: BTreeSet<Labelled>,
    groups: BTreeSet<Labelled>,
    /// In these prefixes.
    inside: Vec<Prefixes>,
    /// Not in these.
    outside: Vec<Prefixes>,
    literals: BTreeSet<Literal>,
    rest: Vec<Condition>,
}

impl Gathered {
    fn add(&mut self, part: Condition) {
        match part {
            Condition::Literal(Literal { negated: false, atom: Atom::Workloads(more) }) => self.workloads.extend(more),
            Condition::Literal(Literal { negated: false, atom: Atom::Networks(groups, prefixes) }) => {
                self.groups.extend(groups);
                self.inside.push(prefixes);
            }
            Condition::Literal(Literal { negated: true, atom: Atom::Networks(groups, prefixes) })
                if groups.is_empty() =>
            {
                self.outside.push(prefixes);
            }
            Condition::Literal(literal) => {
                self.literals.insert(literal);
            }
            other => self.rest.push(other),
        }
    }

    fn condition(mut self) -> Condition {
        let mut inside = Prefixes::union(&self.inside);
        let mut networks = Vec::new();
        if !self.outside.is_empty() {
            // Not in one or not in another: not in both.
            let outside = Prefixes::intersection(&self.outside);
            // Not in the block, or in its exception: not in the difference.
            let difference = Prefixes::intersection(&[outside.clone(), inside.complement()]);
            let (made, before) = (difference.count(), outside.count() + inside.count());
            if made <= MOST_SPLIT_PREFIXES.max(before) {
                inside = Prefixes::default();
                networks.push(Literal { negated: true, atom: Atom::Networks(BTreeSet::new(), difference) });
            } else {
                networks.push(Literal { negated: true, atom: Atom::Networks(BTreeSet::new(), outside) });
            }
        }
        if !self.groups.is_empty() || !inside.is_empty() {
            networks.push(Literal { negated: false, atom: Atom::Networks(self.groups, inside) });
        }
        if !self.workloads.is_empty() {
            self.literals.insert(Literal { negated: false, atom: Atom::Workloads(self.workloads) });
        }
        for literal in networks {
            match literal.constant() {
                Some(true) => return Condition::Always,
                Some(false) => {}
                None => _ = self.literals.insert(literal),
            }
        }
        let opposite = |literal: &Literal| Literal { negated: !literal.negated, atom: literal.atom.clone() };
        if self.literals.iter().any(|literal| literal.negated && self.literals.contains(&opposite(literal))) {
            return Condition::Always;
        }
        let mut parts: Vec<_> = self.literals.into_iter().map(Condition::Literal).chain(self.rest).collect();
        match parts.len() {
            0 => Condition::Never,
            1 => parts.remove(0),
            _ => Condition::Any(parts),
        }
    }
}

fn clauses(condition: &Condition) -> Result<Vec<Conjunction>, TooMany> {
    let bounded = |clauses: Vec<Conjunction>| if clauses.len() > MOST_CLAUSES { Err(TooMany) } else { Ok(clauses) };
    match condition {
        Condition::Always => Ok(vec![Conjunction::new()]),
        Condition::Never => Ok(Vec::new()),
        Condition::Literal(literal) => Ok(vec![Conjunction::from([literal.clone()])]),
        Condition::Any(parts) => {
            let mut sum = Vec::new();
            for part in parts {
                sum = bounded([sum, clauses(part)?].concat())?;
            }
            Ok(sum)
        }
        Condition::All(parts) => {
            let mut product = vec![Conjunction::new()];
            for part in parts {
                let part = clauses(part)?;
                if product.len().saturating_mul(part.len()) > MOST_CLAUSES {
                    return Err(TooMany);
                }
                let both = |one: &Conjunction| part.iter().map(|other| one | other).collect::<Vec<_>>();
                product = product.iter().flat_map(both).collect();
            }
            Ok(product)
        }
    }
}
