//! Policies, and the chains of those that are about a local endpoint. Never the order in which an endpoint walks them.

use super::condition::{Condition, Wanted, needed};
use super::groups::Groups;
use super::identities::Identities;
use super::peer::{MOST_CLAUSES, TooMany};
use super::rule;
use super::slab::{Slab, Slot};
use crate::policy::model::{Direction, Effect, Family, Identity, Policy, PolicyId, Problem, Rules};
use crate::policy::program::{Chain, ChainId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Both directions, in the order of [`Known::chains`].
pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// A chain and what it uses.
#[derive(Debug)]
struct Compiled {
    chain: Arc<Chain>,
    uses: Vec<(Slot, Family)>,
    problems: Vec<Problem>,
}

/// A policy.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) policy: Arc<Policy>,
    needed: Option<Vec<Condition>>,
    /// Local endpoints that it is about.
    pub(super) endpoints: BTreeSet<Slot>,
    /// There while it is about a local endpoint.
    chains: [Option<Compiled>; 2],
}

/// All policies.
#[derive(Debug, Default)]
pub(super) struct Policies {
    pub(super) known: Slab<Known>,
    by_id: HashMap<PolicyId, Slot>,
    subjects: Wanted,
    /// Chains that something happened to since engines were told, as they were then.
    touched: BTreeMap<ChainId, Option<Arc<Chain>>>,
}

/// News of chains.
#[derive(Debug, Default)]
pub(super) struct ChainNews {
    pub(super) put: Vec<Arc<Chain>>,
    pub(super) gone: Vec<ChainId>,
}

impl Policies {
    pub(super) fn find(&self, id: &PolicyId) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    /// Takes a policy in, or its new version; its chains are still those of the old one.
    pub(super) fn put(&mut self, policy: Arc<Policy>, identities: &Identities) -> Slot {
        let needed = needed(&policy.subject.selector, &|condition| identities.all.met_by(condition));
        let slot = match self.find(&policy.id) {
            Some(slot) => {
                let known = &mut self.known[slot];
                self.subjects.remove(known.needed.as_deref(), slot);
                known.needed = needed;
                known.policy = policy;
                slot
            }
            None => {
                let id = policy.id.clone();
                let slot =
                    self.known.insert(Known { policy, needed, endpoints: BTreeSet::new(), chains: [None, None] });
                self.by_id.insert(id, slot);
                slot
            }
        };
        self.subjects.insert(self.known[slot].needed.as_deref(), slot);
        slot
    }

    /// Forgets a policy without chains.
    pub(super) fn forget(&mut self, slot: Slot) {
        if let Some(known) = self.known.remove(slot) {
            self.by_id.remove(&known.policy.id);
            self.subjects.remove(known.needed.as_deref(), slot);
        }
    }

    /// Policies that are about an identity.
    pub(super) fn about(&self, identity: &Identity) -> BTreeSet<Slot> {
        let is_about = |slot: &Slot| self.known[*slot].is_about(identity);
        self.subjects.candidates(identity).into_iter().filter(is_about).collect()
    }

    /// Local endpoints that a policy is about.
    pub(super) fn subjects(&self, slot: Slot, identities: &Identities) -> BTreeSet<Slot> {
        let known = &self.known[slot];
        let candidates = identities.local.candidates(known.needed.as_deref()).into_iter();
        let local = candidates.map(|identity| &identities.known[identity]);
        let subjects = local.filter(|local| known.is_about(&local.identity));
        subjects.flat_map(|local| local.endpoints.iter().copied()).collect()
    }

    /// Makes chains anew, or drops them when the policy is about no local endpoint.
    pub(super) fn compile(&mut self, slot: Slot, groups: &mut Groups, identities: &mut Identities) {
        for (index, direction) in DIRECTIONS.into_iter().enumerate() {
            let known = &mut self.known[slot];
            let live = !known.endpoints.is_empty();
            let policy = known.policy.clone();
            let rules = policy.rules(direction).filter(|_| live);
            let new = rules.map(|rules| compile(&policy, direction, rules, groups, identities));
            let old = std::mem::replace(&mut known.chains[index], new);
            if old.is_none() && known.chains[index].is_none() {
                continue;
            }
            let id = ChainId { policy: policy.id.clone(), direction };
            let was = old.as_ref().map(|old| old.chain.clone());
            self.touched.entry(id).or_insert(was);
            for (group, family) in old.into_iter().flat_map(|old| old.uses) {
                groups.release(group, family);
            }
        }
    }

    /// Makes chains of a policy that had none, as it now is about an endpoint; drops those of one that is about none.
    pub(super) fn follow(&mut self, slot: Slot, groups: &mut Groups, identities: &mut Identities) {
        let known = &self.known[slot];
        let has_chains = known.chains.iter().any(Option::is_some);
        if has_chains == known.endpoints.is_empty() {
            self.compile(slot, groups, identities);
        }
    }

    pub(super) fn news(&mut self) -> ChainNews {
        let mut news = ChainNews::default();
        for (id, was) in std::mem::take(&mut self.touched) {
            let index = usize::from(id.direction == Direction::Egress);
            let known = self.find(&id.policy).map(|slot| &self.known[slot]);
            let is = known.and_then(|known| known.chains[index].as_ref()).map(|compiled| compiled.chain.clone());
            match is {
                Some(chain) if was.as_ref() != Some(&chain) => news.put.push(chain),
                None if was.is_some() => news.gone.push(id),
                _ => {}
            }
        }
        news
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.known.iter().flat_map(|(_, known)| known.chains.iter().flatten()).flat_map(|chain| &chain.problems)
    }
}

impl Known {
    fn is_about(&self, identity: &Identity) -> bool {
        self.policy.subject.kinds.has(identity.kind) && self.policy.subject.selector.matches(identity)
    }
}

fn compile(
    policy: &Policy,
    direction: Direction,
    rules: &Rules,
    groups: &mut Groups,
    identities: &mut Identities,
) -> Compiled {
    let (mut uses, mut problems) = (Vec::new(), Vec::new());
    let mut compiled = Vec::with_capacity(rules.rules.len());
    for rule in &rules.rules {
        let mut sets = |meaning, family| {
            let (slot, set) = groups.acquire(meaning, family, identities);
            uses.push((slot, family));
            set
        };
        let (program, result) = rule::compile(rule, direction, &mut sets);
        if let Err(TooMany) = result {
            problems.push(Problem {
                object: policy.id.object.clone(),
                path: rule.path.to_string(),
                detail: format!(
                    "peers and ports combine to more than {MOST_CLAUSES} alternatives; split the rule, or nest its \
                     negations less"
                ),
                effect: Effect::RuleClosed,
            });
        }
        compiled.push(program);
    }
    let id = ChainId { policy: policy.id.clone(), direction };
    Compiled { chain: Arc::new(Chain { id, stage: policy.stage, rules: compiled }), uses, problems }
}
