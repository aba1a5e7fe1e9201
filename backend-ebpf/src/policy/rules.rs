//! Numbers of rules: what a verdict in the kernel says of who decided. Never used again for another rule.

use cni_core::policy::model::Direction;
use cni_core::policy::program::ChainId;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

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

/// Names by number. Number 0 is nobody's: no tier had a say.
#[derive(Debug, Default)]
pub(super) struct Rules {
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
        self.names.insert(self.last, name);
        self.last
    }

    pub(super) fn name(&self, number: u32) -> Option<&RuleName> {
        self.names.get(&number)
    }

    pub(super) fn keep(&mut self, used: &BTreeSet<u32>) {
        self.names.retain(|number, _| used.contains(number));
        self.numbers.retain(|_, number| used.contains(number));
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
