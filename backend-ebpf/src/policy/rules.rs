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

/// Names by number, for who reads them beside the tables: flows tell numbers.
#[derive(Debug, Clone, Default)]
pub struct RuleNames(Arc<RwLock<HashMap<u32, RuleName>>>);

impl RuleNames {
    /// Who decides by this number; `None`: nobody, or a rule that is gone.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<RuleName> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<u32, RuleName>)) {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Names by number. Number 0 is nobody's: no tier had a say.
#[derive(Debug, Default)]
pub(super) struct Rules {
    shared: RuleNames,
    numbers: HashMap<RuleName, u32>,
    names: HashMap<u32, RuleName>,
    last: u32,
}

impl Rules {
    pub(super) fn number(&mut self, name: RuleName) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        self.last += 1;
        self.numbers.insert(name.clone(), self.last);
        self.shared.change(|names| drop(names.insert(self.last, name.clone())));
        self.names.insert(self.last, name);
        self.last
    }

    pub(super) fn shared(&self) -> RuleNames {
        self.shared.clone()
    }

    /// The same numbers, for tables that nobody hears of yet: a number never comes to stand for another rule.
    pub(super) fn renewed(&self) -> Self {
        let Self { numbers, names, last, .. } = self;
        Self { shared: RuleNames::default(), numbers: numbers.clone(), names: names.clone(), last: *last }
    }

    /// Who reads names beside `old` reads these from now on.
    pub(super) fn succeed(&mut self, old: &Self) {
        self.shared = old.shared();
        self.shared.change(|names| names.clone_from(&self.names));
    }

    pub(super) fn name(&self, number: u32) -> Option<&RuleName> {
        self.names.get(&number)
    }

    pub(super) fn keep(&mut self, used: &BTreeSet<u32>) {
        self.names.retain(|number, _| used.contains(number));
        self.numbers.retain(|_, number| used.contains(number));
        self.shared.change(|names| names.retain(|number, _| used.contains(number)));
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
