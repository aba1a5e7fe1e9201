//! One rule as clauses over sets. Pure: what a set holds is not asked here.

use super::peer::{self, Atom, Conjunction, Labelled, MOST_CLAUSES, TooMany};
use super::prefixes::Prefixes;
use super::traffic::{self, Alternative, PortNames};
use crate::policy::model::{Action, Direction, Family, Kinds, Peer, Rule, Selector, WorkloadKind};
use crate::policy::program::{Clause, ProgramRule, Set, SetMatch, Side};
use std::collections::BTreeSet;

/// What a set is made of, of either family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Meaning {
    /// Addresses of pods, nodes and host endpoints out of one of these.
    Workloads(BTreeSet<Labelled>),
    /// Prefixes of groups out of one of these, and these prefixes.
    Networks(BTreeSet<Labelled>, Prefixes),
    /// Ports that somebody calls by one of these names.
    Ports(PortNames, Whose),
}

/// Whose ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Whose {
    /// Those of local endpoints: all that ingress rules need, and few on a node of any cluster.
    Local,
    /// Those of workloads out of one of these.
    Workloads(BTreeSet<Labelled>),
}

/// A lookup before its set is known.
#[derive(Debug)]
struct Lookup {
    side: Side,
    negated: bool,
    meaning: Meaning,
}

/// A clause before its sets are known.
type Draft = (Clause, Vec<Lookup>);

/// The rule as clauses; `sets` makes or finds a set. [`TooMany`] comes with the rule as it is closed then.
pub(super) fn compile(
    rule: &Rule,
    direction: Direction,
    sets: &mut impl FnMut(Meaning, Family) -> Set,
) -> (ProgramRule, Result<(), TooMany>) {
    let unenforceable = rule.unenforceable();
    let grants = matches!(rule.action, Action::Allow | Action::Log);
    // What passes by must not get past the denials that follow.
    let closed_action = if grants { rule.action } else { Action::Deny };
    let drafts = match &unenforceable {
        Some(_) if grants => Ok(Vec::new()),
        _ => drafts(rule, direction),
    };
    let (drafts, result) = match drafts {
        Ok(drafts) => (drafts, Ok(())),
        Err(TooMany) if grants => (Vec::new(), Err(TooMany)),
        Err(TooMany) => (vec![Draft::default()], Err(TooMany)),
    };
    let action = if unenforceable.is_some() || result.is_err() { closed_action } else { rule.action };
    let mut clauses = Vec::with_capacity(drafts.len());
    for (mut clause, lookups) in drafts {
        for Lookup { side, negated, meaning } in lookups {
            let family = clause.family.expect("drafts with lookups have a family");
            clause.sets.push(SetMatch { side, set: sets(meaning, family), negated });
        }
        clauses.push(clause);
    }
    (ProgramRule { path: rule.path.clone(), action, clauses, unenforceable }, result)
}

fn drafts(rule: &Rule, direction: Direction) -> Result<Vec<Draft>, TooMany> {
    // Nobody can say whose the names are: they are everybody's.
    let widened = |peer: &Peer, is_subject| {
        if peer.has_names() { Ok(vec![Conjunction::new()]) } else { peer::alternatives(peer, is_subject) }
    };
    let sources = widened(&rule.source, direction == Direction::Egress)?;
    let destinations = widened(&rule.destination, direction == Direction::Ingress)?;
    let traffic = traffic::alternatives(&rule.traffic);
    if sources.len().saturating_mul(destinations.len()).saturating_mul(traffic.len()) > MOST_CLAUSES {
        return Err(TooMany);
    }
    let mut drafts = Vec::new();
    for source in &sources {
        for destination in &destinations {
            for alternative in &traffic {
                draft(source, destination, alternative, direction, &mut drafts);
            }
        }
    }
    if drafts.len() > MOST_CLAUSES { Err(TooMany) } else { Ok(drafts) }
}

/// Adds the clauses of one combination: one without a family if it has no lookups, else one for each.
fn draft(
    source: &Conjunction,
    destination: &Conjunction,
    traffic: &Alternative,
    direction: Direction,
    drafts: &mut Vec<Draft>,
) {
    let mut clause = traffic.clause.clone();
    for literal in source.iter().chain(destination).filter(|literal| literal.atom == Atom::OwnNode) {
        let wanted = !literal.negated;
        if clause.own_node.is_some_and(|own_node| own_node != wanted) {
            return;
        }
        clause.own_node = Some(wanted);
    }
    let literals = source.iter().chain(destination).filter(|literal| literal.atom != Atom::OwnNode);
    if literals.count() == 0 && traffic.named.is_none() && traffic.not_named.is_none() {
        drafts.push((clause, Vec::new()));
        return;
    }
    for family in [Family::V4, Family::V6] {
        if clause.family.is_none_or(|wanted| wanted == family)
            && let Some(lookups) = lookups(source, destination, traffic, direction, family)
        {
            drafts.push((Clause { family: Some(family), ..clause.clone() }, lookups));
        }
    }
}

/// The lookups of one family; `None` when they cannot all hold.
fn lookups(
    source: &Conjunction,
    destination: &Conjunction,
    traffic: &Alternative,
    direction: Direction,
    family: Family,
) -> Option<Vec<Lookup>> {
    // With a name, the destination's workloads are those that have it: one lookup instead of two.
    let narrowed = destination.iter().find_map(|literal| match &literal.atom {
        Atom::Workloads(workloads) if !literal.negated => Some(workloads),
        _ => None,
    });
    let whose = || match (direction, narrowed) {
        (Direction::Ingress, _) => Whose::Local,
        (Direction::Egress, Some(workloads)) => Whose::Workloads(workloads.clone()),
        (Direction::Egress, None) => Whose::Workloads([everybody()].into()),
    };
    let replaced = narrowed.filter(|_| traffic.named.is_some() && direction == Direction::Egress);
    let mut lookups = Vec::new();
    for (side, conjunction) in [(Side::Source, source), (Side::Destination, destination)] {
        for literal in conjunction {
            let (negated, meaning) = match &literal.atom {
                Atom::OwnNode => continue,
                Atom::Workloads(workloads)
                    if side == Side::Destination && !literal.negated && replaced == Some(workloads) =>
                {
                    continue;
                }
                Atom::Workloads(workloads) => (literal.negated, Meaning::Workloads(workloads.clone())),
                Atom::Networks(groups, prefixes) if groups.is_empty() => {
                    match fixed(prefixes, literal.negated, family) {
                        Fixed::Always => continue,
                        Fixed::Never => return None,
                        Fixed::Lookup(negated, prefixes) => (negated, Meaning::Networks(BTreeSet::new(), prefixes)),
                    }
                }
                Atom::Networks(groups, prefixes) => {
                    (literal.negated, Meaning::Networks(groups.clone(), prefixes.clone()))
                }
            };
            lookups.push(Lookup { side, negated, meaning });
        }
    }
    for (negated, names) in [(false, &traffic.named), (true, &traffic.not_named)] {
        if let Some(names) = names {
            let meaning = Meaning::Ports(names.clone(), whose());
            lookups.push(Lookup { side: Side::Destination, negated, meaning });
        }
    }
    Some(lookups)
}

fn everybody() -> Labelled {
    let kinds = Kinds::CLUSTER.and(WorkloadKind::HostEndpoint);
    Labelled { kinds, selector: Selector::Everything }
}

enum Fixed {
    Always,
    Never,
    Lookup(bool, Prefixes),
}

/// A lookup of one family in prefixes that never change: in these or not in all others, whichever are fewer.
fn fixed(prefixes: &Prefixes, negated: bool, family: Family) -> Fixed {
    let inside = prefixes.only(family);
    let outside = inside.complement().only(family);
    match (inside.is_empty(), outside.is_empty()) {
        (true, _) => return if negated { Fixed::Always } else { Fixed::Never },
        (_, true) => return if negated { Fixed::Never } else { Fixed::Always },
        _ => {}
    }
    if outside.count() < inside.count() { Fixed::Lookup(!negated, outside) } else { Fixed::Lookup(negated, inside) }
}
