//! Numbers of rules: what a verdict in the kernel says of who decided. Never used again for another rule.

use cni_core::policy::model::Direction;
use cni_core::policy::program::ChainId;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// Who decides.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RuleName {
    /// A rule of a policy.
    Rule {
        /// The policy and the direction.
        chain: ChainId,
        /// Where the rule stands in its object.
        path: Arc<str>,
    },
    /// The end of a tier.
    End {
        /// The tier.
        tier: Arc<str>,
        /// Of which direction.
        direction: Direction,
    },
}

/// What a number stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Named {
    /// Rules that ask for a record before somebody decides, in their order.
    pub logs: Arc<[RuleName]>,
    /// Who decides; `None`: no tier has a say.
    pub by: Option<RuleName>,
}

/// Names by number, for who reads them beside the tables: flows tell numbers.
#[derive(Debug, Clone, Default)]
pub struct RuleNames(Arc<RwLock<HashMap<u32, Named>>>);

impl RuleNames {
    /// What this number stands for; `None`: nobody, or a rule that is gone.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Named> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<u32, Named>)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Names by number. Number 0 is nobody's: no tier had a say.
#[derive(Debug, Default)]
pub(super) struct Rules {
    shared: RuleNames,
    numbers: HashMap<Named, u32>,
    names: HashMap<u32, Named>,
    last: u32,
    /// How often programs have a number.
    held: HashMap<u32, usize>,
    /// Numbers that perhaps none has.
    loose: BTreeSet<u32>,
}

impl Rules {
    /// The number of a rule or of a tier's end.
    pub(super) fn number(&mut self, name: RuleName) -> u32 {
        self.number_of(Named { logs: Arc::default(), by: Some(name) })
    }

    /// The number that stands for who decides and for rules that log before; both by their own numbers.
    pub(super) fn logged(&mut self, logs: &[u32], by: u32) -> u32 {
        self.number_of(self.together(logs, by))
    }

    /// The same of those that have one.
    pub(super) fn known_logged(&self, logs: &[u32], by: u32) -> Option<u32> {
        self.numbers.get(&self.together(logs, by)).copied()
    }

    fn together(&self, logs: &[u32], by: u32) -> Named {
        Named { logs: logs.iter().filter_map(|log| self.name(*log).cloned()).collect(), by: self.name(by).cloned() }
    }

    fn number_of(&mut self, named: Named) -> u32 {
        if let Some(number) = self.numbers.get(&named) {
            return *number;
        }
        self.last += 1;
        self.numbers.insert(named.clone(), self.last);
        self.shared.change(|names| drop(names.insert(self.last, named.clone())));
        self.names.insert(self.last, named);
        self.loose.insert(self.last);
        self.last
    }

    pub(super) fn shared(&self) -> RuleNames {
        self.shared.clone()
    }

    /// The same numbers, for tables that nobody hears of yet: a number never comes to stand for another rule.
    pub(super) fn renewed(&self) -> Self {
        let Self { numbers, names, last, .. } = self;
        let loose = names.keys().copied().collect();
        let (numbers, names) = (numbers.clone(), names.clone());
        Self { shared: RuleNames::default(), numbers, names, last: *last, held: HashMap::new(), loose }
    }

    /// Who reads names beside `old` reads these from now on.
    pub(super) fn succeed(&mut self, old: &Self) {
        self.shared = old.shared();
        self.shared.change(|names| names.clone_from(&self.names));
    }

    /// Who decides by this number.
    pub(super) fn name(&self, number: u32) -> Option<&RuleName> {
        self.names.get(&number)?.by.as_ref()
    }

    /// A program has a number.
    pub(super) fn hold(&mut self, number: u32) {
        *self.held.entry(number).or_default() += 1;
    }

    /// It has it no longer, as often as it had it.
    pub(super) fn release(&mut self, number: u32) {
        let Some(count) = self.held.get_mut(&number) else { return };
        *count -= 1;
        if *count == 0 {
            self.held.remove(&number);
            self.loose.insert(number);
        }
    }

    /// Forgets numbers that no program has.
    pub(super) fn tidy(&mut self) {
        let unused: Vec<u32> =
            std::mem::take(&mut self.loose).into_iter().filter(|number| !self.held.contains_key(number)).collect();
        for number in &unused {
            if let Some(named) = self.names.remove(number) {
                self.numbers.remove(&named);
            }
        }
        if !unused.is_empty() {
            self.shared.change(|names| unused.iter().for_each(|number| drop(names.remove(number))));
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { chain, path } => write!(f, "{chain}: {path}"),
            Self::End { tier, direction } => write!(f, "end of tier {tier}, {direction}"),
        }
    }
}
