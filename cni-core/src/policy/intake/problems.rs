//! What is wrong now, by object and cause. Never what was wrong before.

use crate::policy::model::Problem;
use crate::store::ObjectKey;
use std::collections::BTreeMap;

/// Why an object has problems: each cause is found, and goes, on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// Its own content.
    Content,
    /// Its tier is not there.
    Tier,
    /// Another object says the same.
    Duplicate,
    /// Another pod has its address.
    Address,
}

#[derive(Debug, Default)]
pub(super) struct Problems {
    found: BTreeMap<(ObjectKey, Cause), Vec<Problem>>,
}

impl Problems {
    pub(super) fn set(&mut self, key: &ObjectKey, cause: Cause, problems: Vec<Problem>) {
        if problems.is_empty() {
            self.found.remove(&(key.clone(), cause));
        } else {
            self.found.insert((key.clone(), cause), problems);
        }
    }

    pub(super) fn of(&self, cause: Cause) -> impl Iterator<Item = &Problem> {
        self.found.iter().filter(move |((_, found), _)| *found == cause).flat_map(|(_, problems)| problems)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.found.values().flatten()
    }
}
