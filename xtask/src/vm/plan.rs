//! Which suites run, and with which of their tests: by words that some test has in its name. Never runs one.

use super::binaries::{self, Built};
use super::suites::{SUITES, Suite};
use crate::error::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Suites in the order in which they run, each with what its binary is told besides; and what was built for them.
pub(super) struct Plan {
    pub(super) suites: Vec<(&'static Suite, Vec<String>)>,
    pub(super) built: Built,
}

impl Plan {
    /// Suites that a word names; where it names none, tests that it names, of each target.
    pub(super) fn of(word: Option<&str>) -> Result<Self> {
        let whole = |suite: &'static Suite| (suite, suite.filters());
        let named = |suite: &&Suite| word.is_none_or(|word| suite.name().contains(word));
        let suites: Vec<_> = SUITES.iter().filter(named).map(whole).collect();
        match word {
            Some(word) if suites.is_empty() => Self::of_tests(word),
            _ => Self::build(suites),
        }
    }

    /// What the test command runs.
    pub(super) fn sample() -> Result<Self> {
        let filters = |suite: &'static Suite| match suite.sample? {
            [""] => Some((suite, suite.filters())),
            words => Some((suite, words.iter().map(|word| (*word).to_owned()).collect())),
        };
        Self::build(SUITES.iter().filter_map(filters).collect())
    }

    /// Each target once that has tests of this name.
    fn of_tests(word: &str) -> Result<Self> {
        let mut targets = BTreeSet::new();
        let first = |suite: &&Suite| suite.target().is_some_and(|target| targets.insert(target));
        let suites: Vec<_> = SUITES.iter().filter(first).map(|suite| (suite, vec![word.to_owned()])).collect();
        let built = build(&suites)?;
        let names = names(&suites, &built)?;
        let has = |(suite, _): &(&Suite, _)| names.get(suite.name().as_str()).is_some_and(|names| any(names, word));
        let suites: Vec<_> = suites.into_iter().filter(has).collect();
        if suites.is_empty() { Err(Error::NoTestNamed { word: word.to_owned() }) } else { Ok(Self { suites, built }) }
    }

    fn build(suites: Vec<(&'static Suite, Vec<String>)>) -> Result<Self> {
        let built = build(&suites)?;
        let names = names(&suites, &built)?;
        for (suite, filters) in &suites {
            let mut words = filters.iter().filter(|filter| *filter != Suite::SKIP);
            if let Some(stale) = words.find(|word| names.get(&suite.name()).is_some_and(|all| !any(all, word))) {
                return Err(Error::StaleWord { suite: suite.name(), word: stale.clone() });
            }
        }
        Ok(Self { suites, built })
    }
}

fn build(suites: &[(&Suite, Vec<String>)]) -> Result<Built> {
    let targets: BTreeSet<&str> = suites.iter().filter_map(|(suite, _)| Some(suite.target()?.1)).collect();
    binaries::build(&Vec::from_iter(targets), suites.iter().any(|(suite, _)| suite.needs_programs()))
}

/// The tests of each suite's target, by the suite's name.
fn names(suites: &[(&Suite, Vec<String>)], built: &Built) -> Result<BTreeMap<String, Vec<String>>> {
    let tests = suites.iter().filter_map(|(suite, _)| Some((suite.name(), suite.target()?)));
    tests.map(|(name, (package, target))| Ok((name, built.test(package, target)?.names()?))).collect()
}

/// As a test binary chooses (the rustc book, tests, filters).
fn any(names: &[String], word: &str) -> bool {
    names.iter().any(|name| name.contains(word))
}
