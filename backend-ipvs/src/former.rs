//! What settings were before this engine changed them, and what is put back. Pure: never reads or writes a setting.
//!
//! The record is a chain that nothing calls, one rule for each setting, whose comment says all: it is in the same network
//! namespace as the settings, goes with them when that or the machine ends, and needs no file.
//!
//! ```text
//! chain svc-settings { return comment "cnidarian:before net/ipv4/vs/conntrack 0 1" }     it was 0, and became 1 by us
//! ```

use crate::rules::{name, table};
use net_linux::nft::{Chain, Comment, Program, Rule, Verdict};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the comment of each rule begins with.
const BEFORE: &str = "cnidarian:before";

/// A setting that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// What it was.
    pub before: Arc<str>,
    /// What this engine made of it.
    pub ours: Arc<str>,
}

/// Settings that were changed, by their paths below `/proc/sys`. No value has a space.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record(BTreeMap<Arc<str>, Former>);

impl Record {
    /// A setting is about to be changed.
    pub fn note(&mut self, path: &Arc<str>, before: &str, ours: &Arc<str>) {
        self.0.insert(path.clone(), Former { before: before.into(), ours: ours.clone() });
    }

    /// Takes in what the kernel has of a predecessor. What this process knows is newer.
    pub fn learn(&mut self, found: Self) {
        for (path, former) in found.0 {
            self.0.entry(path).or_insert(former);
        }
    }

    /// What to write so that all is as it was: path and value. A setting that is not as this engine left it is somebody else's
    /// now; `None`: it is gone.
    pub fn restored(&self, now: impl Fn(&str) -> Option<String>) -> Vec<(Arc<str>, Arc<str>)> {
        let ours = self.0.iter().filter(|(path, former)| now(path).as_deref() == Some(&*former.ours));
        ours.map(|(path, former)| (path.clone(), former.before.clone())).collect()
    }

    /// The chain that holds it.
    #[must_use]
    pub fn chain() -> Chain {
        Chain::regular(table().chain(name("svc-settings")))
    }

    /// The rules of [`chain`](Self::chain).
    #[must_use]
    pub fn rules(&self) -> Vec<Rule> {
        let chain = Self::chain().id;
        let rule = |(path, former): (&Arc<str>, &Former)| {
            let said = Comment::new(&format!("{BEFORE} {path} {} {}", former.before, former.ours)).ok()?;
            Some(Rule::new(chain.clone(), Program::new().verdict(Verdict::Return)).commented(said))
        };
        self.0.iter().filter_map(rule).collect()
    }

    /// What rules of [`chain`](Self::chain) say. Others are passed over.
    #[must_use]
    pub fn of_rules<'a>(rules: impl IntoIterator<Item = &'a Rule>) -> Self {
        let read = |rule: &Rule| {
            let said = rule.comment.as_ref()?.as_str().strip_prefix(BEFORE)?;
            let [path, before, ours] = said.split_ascii_whitespace().collect::<Vec<_>>()[..] else { return None };
            Some((path.into(), Former { before: before.into(), ours: ours.into() }))
        };
        Self(rules.into_iter().filter_map(read).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CONNTRACK: &str = "net/ipv4/vs/conntrack";

    fn of(path: &str, before: &str, ours: &str) -> Record {
        let mut record = Record::default();
        record.note(&path.into(), before, &ours.into());
        record
    }

    #[test]
    fn what_is_as_we_left_it_is_put_back_and_what_somebody_else_changed_or_what_is_gone_is_not() {
        let record = of(CONNTRACK, "0", "1");
        let restored = |now: Option<&str>| record.restored(|_| now.map(str::to_owned));
        assert_eq!(restored(Some("1")), [(CONNTRACK.into(), "0".into())]);
        assert_eq!(restored(Some("2")), []);
        assert_eq!(restored(Some("0")), []);
        assert_eq!(restored(None), []);
    }

    #[test]
    fn the_last_value_that_was_not_ours_counts_and_a_process_knows_better_than_its_predecessor() {
        let mut record = of(CONNTRACK, "0", "1");
        record.note(&CONNTRACK.into(), "2", &"1".into());
        record.learn(of(CONNTRACK, "0", "1"));
        assert_eq!(record, of(CONNTRACK, "2", "1"));
        record.learn(of("net/ipv4/vs/expire_nodest_conn", "0", "1"));
        assert_eq!(record.rules().len(), 2);
    }

    /// Yesterday's rules are read by tomorrow's agent: their words do not change.
    #[test]
    fn the_words_of_a_rule_stay_as_they_are() {
        let rules = of(CONNTRACK, "0", "1").rules();
        assert_eq!(rules[0].comment.as_ref().unwrap().as_str(), "cnidarian:before net/ipv4/vs/conntrack 0 1");
        assert_eq!(rules[0].chain.name.as_str(), "svc-settings");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(settings in prop::collection::btree_map("[a-z]{1,9}(/[a-z0-9_]{1,9}){1,3}", ("-?[0-9]{1,9}", "-?[0-9]{1,9}"), 0..5)) {
            let mut record = Record::default();
            for (path, (before, ours)) in settings {
                record.note(&path.into(), &before, &ours.into());
            }
            prop_assert_eq!(Record::of_rules(&record.rules()), record);
        }

        #[test]
        fn a_comment_of_somebody_else_is_passed_over(said in ".{0,60}") {
            if let Ok(said) = Comment::new(&said) {
                let rule = Rule::new(Record::chain().id, Program::new()).commented(said.clone());
                prop_assume!(!said.as_str().starts_with(BEFORE));
                prop_assert_eq!(Record::of_rules([&rule]), Record::default());
            }
        }
    }
}
