//! Counters of rules, read from the table and named as people know them. Never resets one.

use crate::flows::reason;
use crate::names::{self, Tag};
use cni_core::backend::{Dropped, Meter, Result, TableUse};
use cni_core::policy::counters::{RuleCounter, RuleCounters};
use cni_core::policy::model::{Action, Direction};
use net_linux::marks;
use net_linux::nft::{Expr, Name, Nft, Rule, Verdict};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A reader with a socket of its own.
pub(crate) struct Counters {
    nft: Mutex<Nft>,
}

impl Counters {
    /// In the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { nft: Mutex::new(Nft::open()?) })
    }
}

impl RuleCounters for Counters {
    fn read(&self) -> Result<Vec<RuleCounter>> {
        let rules = self.nft.lock().unwrap_or_else(PoisonError::into_inner).rules(&names::table())?;
        let rules: Vec<Rule> = rules.into_iter().map(|stored| stored.object).collect();
        Ok(counters(&rules))
    }
}

impl Meter for Counters {
    /// Counters of rules that are gone are gone.
    fn dropped(&self) -> Result<Vec<Dropped>> {
        Ok(dropped(&self.read()?))
    }

    /// Sets grow.
    fn tables(&self) -> Result<Vec<TableUse>> {
        Ok(Vec::new())
    }
}

/// What rules that decide have dropped.
fn dropped(counters: &[RuleCounter]) -> Vec<Dropped> {
    let denies = counters.iter().filter(|counter| counter.action == Action::Deny && !counter.staged);
    let mut all: Vec<Dropped> = Vec::new();
    for counter in denies {
        let why = reason(counter.policy.is_some(), &counter.rule);
        let more = Dropped::told(counter.direction, why, counter.packets);
        match all.iter_mut().find(|one| (one.direction, one.reason) == (more.direction, more.reason)) {
            Some(one) => one.packets += more.packets,
            None => all.push(more),
        }
    }
    all
}

/// What the rules of the table have counted, rules of several clauses in one.
fn counters(rules: &[Rule]) -> Vec<RuleCounter> {
    let tiers = tiers(rules);
    let comment = |rule: &Rule| rule.comment.as_ref().map(|comment| comment.as_str().to_owned()).unwrap_or_default();
    // In the dry run a rule that allows ends as one that denies does: its twin that decides tells which it is.
    let twins: BTreeMap<String, Action> = rules
        .iter()
        .filter(|rule| !names::is_shadow(&rule.chain.name))
        .map(|rule| (comment(rule), action(rule).unwrap_or(Action::Deny)))
        .collect();
    let mut counters: Vec<RuleCounter> = Vec::new();
    for rule in rules {
        let counted = rule.exprs.iter().find_map(|expr| match expr {
            Expr::Counter { packets, bytes } => Some((*packets, *bytes)),
            _ => None,
        });
        let Some((packets, bytes)) = counted.filter(|_| rule.chain.name.as_str().starts_with(names::PREFIX)) else {
            continue;
        };
        let (staged, text) = (names::is_shadow(&rule.chain.name), comment(rule));
        let Tag { tier, policy, direction, rule: shown, interface } = names::read_tag(&text);
        let tier = tier.or_else(|| tiers.get(&rule.chain.name).cloned());
        // Chains of a dry run that no endpoint here makes.
        if staged && tier.is_none() {
            continue;
        }
        let action = action(rule).or_else(|| twins.get(&text).copied()).unwrap_or(Action::Deny);
        let direction = direction.or(match rule.chain.name.as_str() {
            names::EGRESS | names::INPUT => Some(Direction::Egress),
            names::INGRESS => Some(Direction::Ingress),
            _ => None,
        });
        let counter =
            RuleCounter { staged, tier, policy, direction, rule: shown, interface, pod: None, action, packets, bytes };
        let same = |other: &&mut RuleCounter| key(other) == key(&counter) && other.rule == counter.rule;
        match counters.iter_mut().rev().take_while(|other| key(other) == key(&counter)).find(same) {
            Some(other) => {
                other.packets += packets;
                other.bytes += bytes;
            }
            None => counters.push(counter),
        }
    }
    counters.sort_by(|one, other| key(one).cmp(&key(other)));
    counters
}

fn key(counter: &RuleCounter) -> impl Ord + '_ {
    let RuleCounter { staged, tier, policy, direction, interface, .. } = counter;
    // What is of all pods comes first, the ends of a tier after its policies.
    (*staged, tier, policy.is_none(), policy, *direction, interface)
}

/// What a rule does; `None` where it cannot be seen.
fn action(rule: &Rule) -> Option<Action> {
    let flipped = rule.exprs.iter().rev().find_map(|expr| match expr {
        Expr::Bitwise { xor, .. } => <[u8; 4]>::try_from(&xor[..]).ok().map(u32::from_ne_bytes),
        _ => None,
    });
    match rule.exprs.last() {
        Some(Expr::Verdict(Verdict::Accept)) => Some(Action::Allow),
        Some(Expr::Verdict(Verdict::Drop)) => Some(Action::Deny),
        Some(Expr::Verdict(Verdict::Return)) if flipped == Some(marks::POLICY_PASSED) => Some(Action::Pass),
        Some(Expr::Verdict(_)) => None,
        _ => Some(Action::Log),
    }
}

/// The tiers of policies' chains, from the endpoints' chains that walk them.
fn tiers(rules: &[Rule]) -> BTreeMap<Name, String> {
    let target = |rule: &Rule| match rule.exprs.last() {
        Some(Expr::Verdict(Verdict::Jump(target))) => Some(target.clone()),
        _ => None,
    };
    let called = |rule: &Rule| {
        let comment = rule.comment.as_ref()?.as_str().strip_prefix("tier ")?.to_owned();
        Some((target(rule)?, comment))
    };
    let mut tiers: BTreeMap<Name, String> = rules.iter().filter_map(called).collect();
    let inner: Vec<(Name, String)> =
        rules.iter().filter_map(|rule| Some((target(rule)?, tiers.get(&rule.chain.name)?.clone()))).collect();
    tiers.extend(inner);
    tiers
}
