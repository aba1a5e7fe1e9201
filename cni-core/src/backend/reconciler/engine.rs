//! The engine's state and verbs. Never the order of writes: that is `schedule` and `commit`.

use super::belief::Belief;
use super::desired::{Desired, Owner};
use super::schedule::Schedule;
use crate::backend::{
    Blocked, Capabilities, Change, CommitReport, Drift, Driver, Engine, Error, ErrorKind, Failure, Gate, Item, Plan,
    Result, Retry,
};
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(super) type ItemKey<D> = <<D as Driver>::Item as Item>::Key;

/// An item and what it compiled to.
struct Entry<I, K> {
    item: I,
    /// Sorted; empty when it did not compile.
    keys: Box<[K]>,
}

type Items<D> = BTreeMap<Arc<ItemKey<D>>, Entry<<D as Driver>::Item, <D as Driver>::Key>>;

/// An [`Engine`] on a [`Driver`].
///
/// The module's page tells the order of writes and what gates do. Dropping the future of a commit or resync is safe:
/// what was under way counts as unknown and is written again.
pub struct Reconciler<D: Driver> {
    pub(super) driver: D,
    items: Items<D>,
    /// Items that did not compile.
    refused: BTreeMap<ItemKey<D>, Error>,
    /// The node's own objects, sorted, and why there are none if they did not compile.
    base: Box<[D::Key]>,
    base_refused: Option<Error>,
    pub(super) desired: Desired<ItemKey<D>, D::Key, D::Object>,
    pub(super) belief: Belief<ItemKey<D>, D::Key, D::Object>,
    /// Gates of one item that were another's too: more may stand behind them than their last owner's objects.
    pub(super) parted: BTreeSet<D::Key>,
    /// Whether the kernel was ever read.
    observed: bool,
    in_sync: bool,
    /// How many items there were when the trees were last made anew.
    filled: usize,
}

impl<D: Driver> Reconciler<D> {
    /// An engine that has seen neither the kernel nor an item. Memory only: the first commit reads the kernel.
    ///
    /// # Errors
    /// The node's own objects do not compile ([`Driver::base`]).
    pub fn new(driver: D) -> Result<Self> {
        let mut engine = Self {
            driver,
            items: BTreeMap::new(),
            refused: BTreeMap::new(),
            base: Box::default(),
            base_refused: None,
            desired: Desired::new(),
            belief: Belief::new(),
            parted: BTreeSet::new(),
            observed: false,
            in_sync: false,
            filled: 0,
        };
        engine.stage_base()?;
        Ok(engine)
    }

    /// The driver, to ask what it alone knows.
    #[must_use]
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// How many kernel objects are wanted.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.desired.len()
    }

    /// Replaces what `owner` wants by `objects`; `former` are the keys it had. Answers with the new keys, sorted.
    fn assign(&mut self, owner: &Owner<ItemKey<D>>, former: &[D::Key], objects: Objects<D>) -> Box<[D::Key]> {
        let keys: Box<[D::Key]> = objects.iter().map(|(key, _)| key.clone()).collect();
        for (key, object) in objects {
            if let Some(shift) = self.desired.set(&key, owner, object) {
                self.belief.shift(&key, shift, self.desired.get(&key));
            }
        }
        for key in former.iter().filter(|key| keys.binary_search(key).is_err()) {
            if let Some(shift) = self.desired.unset(key, owner) {
                self.belief.shift(key, shift, self.desired.get(key));
            }
            if self.desired.get(key).is_some() && self.driver.rank(key).gate == Gate::Item {
                self.parted.insert(key.clone());
            }
        }
        keys
    }

    fn stage_base(&mut self) -> Result<()> {
        let compiled = self.driver.base().and_then(|objects| distinct::<D>(&"node", objects));
        let (objects, refused) = compiled.map_or_else(|error| (Vec::new(), Some(error)), |objects| (objects, None));
        let former = std::mem::take(&mut self.base);
        self.base = self.assign(&None, &former, objects);
        self.base_refused.clone_from(&refused);
        refused.map_or(Ok(()), Err)
    }

    fn stage_item(&mut self, item: D::Item) -> Result<()> {
        let key = item.key();
        let compiled = self.driver.compile(&item).and_then(|objects| distinct::<D>(&key, objects));
        let (objects, refused) = compiled.map_or_else(|error| (Vec::new(), Some(error)), |objects| (objects, None));
        match &refused {
            Some(error) => self.refused.insert(key.clone(), error.clone()),
            None => self.refused.remove(&key),
        };
        let owner = self.items.get_key_value(&key).map_or_else(|| Arc::new(key), |(owner, _)| owner.clone());
        let former = self.items.get_mut(&owner).map(|entry| std::mem::take(&mut entry.keys)).unwrap_or_default();
        let keys = self.assign(&Some(owner.clone()), &former, objects);
        self.items.insert(owner, Entry { item, keys });
        refused.map_or(Ok(()), Err)
    }

    fn unstage_item(&mut self, key: &ItemKey<D>) {
        if let Some((owner, entry)) = self.items.remove_entry(key) {
            self.refused.remove(key);
            self.assign(&Some(owner), &entry.keys, Vec::new());
        }
    }

    /// Compiles everything anew: the driver has adopted another node or configuration.
    fn stage_all(&mut self) -> Result<()> {
        let base = self.stage_base();
        let items: Vec<D::Item> = self.items.values().map(|entry| entry.item.clone()).collect();
        for item in items {
            // What does not compile now is in the reports: the caller changed the node or its configuration, not this item.
            let _reported = self.stage_item(item);
        }
        base
    }

    pub(super) fn schedule(&self) -> Schedule<D::Key> {
        Schedule::of(&self.desired, &self.belief, self.in_sync, |key| self.driver.rank(key))
    }

    /// Items that are not acceptable or in conflict.
    fn blocked(&self) -> Vec<Blocked> {
        let base = self.base_refused.iter().map(|error| Blocked { item: "node".to_owned(), error: error.clone() });
        let refused = self.refused.iter().map(|(key, error)| Blocked { item: key.to_string(), error: error.clone() });
        let conflicts = self.desired.conflicts().map(|(loser, key, winner)| {
            let detail = format!("{} wants something else there and comes first", name::<D>(winner));
            Blocked { item: name::<D>(loser), error: Error::new(ErrorKind::Conflict, "compile", key, detail) }
        });
        base.chain(refused).chain(conflicts).collect()
    }

    /// Makes trees anew that grew: those that grew in order are half empty.
    fn fill_trees(&mut self) {
        if self.items.len() > self.filled.saturating_mul(5) / 4 {
            self.filled = self.items.len();
            self.items = std::mem::take(&mut self.items).into_iter().collect();
            self.desired.fill_trees();
        }
    }

    /// Reads the kernel and replaces all beliefs.
    async fn look(&mut self) -> Result<Drift> {
        let observed = self.driver.observe().await?;
        let difference = self.belief.replace(&self.desired, observed, !self.observed);
        self.fill_trees();
        self.observed = true;
        let names = |keys: Vec<D::Key>| keys.iter().map(ToString::to_string).collect();
        Ok(Drift {
            missing: names(difference.missing),
            changed: names(difference.changed),
            unexpected: names(difference.unexpected),
            repair: CommitReport::default(),
        })
    }
}

#[async_trait]
impl<D: Driver> Engine<D::Item> for Reconciler<D> {
    fn capabilities(&self) -> &Capabilities {
        self.driver.capabilities()
    }

    fn stage(&mut self, change: Change<D::Item>) -> Result<()> {
        match change {
            Change::Put(item) => self.stage_item(item),
            Change::Remove(key) => {
                self.unstage_item(&key);
                Ok(())
            }
            Change::Node(node) => {
                self.driver.adopt(&node)?;
                self.stage_all()
            }
            Change::Config(section) => {
                self.driver.configure(&section)?;
                self.stage_all()
            }
            Change::InSync => {
                self.in_sync = true;
                Ok(())
            }
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            blocked: self.blocked(),
            ..self.schedule().plan(&self.desired, &self.belief, |key, from, to| self.driver.describe(key, from, to))
        }
    }

    async fn commit(&mut self) -> CommitReport {
        if !self.observed
            && let Err(error) = self.look().await
        {
            let error = Error { retry: Retry::Soon, ..error };
            let failure = Failure { items: Vec::new(), object: "kernel state".to_owned(), error };
            return CommitReport { failed: vec![failure], blocked: self.blocked(), ..CommitReport::default() };
        }
        CommitReport { blocked: self.blocked(), ..self.write().await }
    }

    async fn resync(&mut self) -> Result<Drift> {
        let drift = self.look().await?;
        Ok(Drift { repair: self.commit().await, ..drift })
    }
}

/// What one item compiled to.
type Objects<D> = Vec<(<D as Driver>::Key, <D as Driver>::Object)>;

/// How reports name an owner.
fn name<D: Driver>(owner: &Owner<ItemKey<D>>) -> String {
    owner.as_ref().map_or_else(|| "node".to_owned(), ToString::to_string)
}

/// Sorts an item's objects; refuses two different ones under one key.
fn distinct<D: Driver>(item: &impl std::fmt::Display, mut objects: Objects<D>) -> Result<Objects<D>> {
    objects.sort_by(|(a, _), (b, _)| a.cmp(b));
    if let Some(pair) = objects.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].1 != pair[1].1) {
        let detail = format!("{item} itself wants two different things there: {:?} and {:?}", pair[0].1, pair[1].1);
        return Err(Error::new(ErrorKind::Conflict, "compile", &pair[0].0, detail));
    }
    objects.dedup_by(|(a, _), (b, _)| a == b);
    Ok(objects)
}
