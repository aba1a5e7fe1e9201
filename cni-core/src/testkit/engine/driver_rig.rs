//! A rig for everything that is a reconciler on a driver. Never asks the reconciler what should be.

use super::{Compiled, Faults, Faulty, NODE, Rig, Snapshot, Strangers, Tamper, Wanted};
use crate::backend::{Driver, Engine, Item, Reconciler, Result};
use crate::model::NodeContext;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

/// What a backend author writes for the suite: a driver and the kernel it works on.
#[async_trait]
pub trait Testbed: Send {
    /// The driver under test.
    type Driver: Driver + 'static;

    /// A new driver, as a restarted process would open it. Writes nothing.
    ///
    /// # Errors
    /// It cannot be opened.
    fn open(&mut self) -> Result<Self::Driver>;

    /// All of ours in the kernel, read by other means than the driver where that is possible.
    ///
    /// # Errors
    /// The kernel could not be read.
    async fn observe(&mut self) -> Result<Vec<(<Self::Driver as Driver>::Key, <Self::Driver as Driver>::Object)>>;

    /// An empty kernel: a new network namespace, say.
    ///
    /// # Errors
    /// The kernel could not be emptied.
    async fn reset(&mut self) -> Result<()>;

    /// As [`Rig::contexts`].
    fn contexts(&self) -> Vec<NodeContext>;

    /// As [`Rig::unsupported`].
    fn unsupported(&self) -> Vec<<Self::Driver as Driver>::Item>;

    /// As [`Rig::tamper`].
    fn tamper(&mut self) -> Option<&mut dyn Tamper>;

    /// As [`Rig::strangers`].
    fn strangers(&mut self) -> Option<&mut dyn Strangers>;
}

/// The [`Rig`] of a [`Testbed`].
pub struct DriverRig<T> {
    testbed: T,
    faults: Faults,
}

impl<T: Testbed> DriverRig<T> {
    /// A rig whose drivers fail on demand.
    pub fn new(testbed: T) -> Self {
        Self { testbed, faults: Faults::default() }
    }
}

type Candidate<D> = (<D as Driver>::Object, BTreeSet<String>);

#[async_trait]
impl<T, I> Rig<I> for DriverRig<T>
where
    T: Testbed,
    T::Driver: Driver<Item = I>,
    I: Item,
{
    async fn open(&mut self) -> Result<Box<dyn Engine<I>>> {
        let driver = Faulty::new(self.testbed.open()?, self.faults.clone());
        Ok(Box::new(Reconciler::new(driver)?))
    }

    async fn observe(&mut self) -> Result<Snapshot> {
        let objects = self.testbed.observe().await?;
        Ok(objects.into_iter().map(|(key, object)| (key.to_string(), content(&object))).collect())
    }

    /// The plainest way: the node's objects first, then item by item in the order of their keys; who comes first, wins.
    fn compile(&mut self, node: &NodeContext, items: &[I]) -> Compiled {
        let mut driver = self.testbed.open().expect("a rig's driver opens");
        driver.adopt(node).expect("a rig's contexts are acceptable");
        let mut objects: BTreeMap<_, Candidate<T::Driver>> = BTreeMap::new();
        let mut blocked = BTreeSet::new();
        for (key, object) in driver.base().expect("a rig's contexts are acceptable") {
            objects.insert(key, (object, BTreeSet::from([NODE.to_owned()])));
        }
        let items: BTreeMap<I::Key, &I> = items.iter().map(|item| (item.key(), item)).collect();
        for (item, content) in items {
            let item = item.to_string();
            let compiled = driver.compile(content).unwrap_or_default();
            let twice =
                |(key, object): &(_, _)| compiled.iter().any(|(other, content)| other == key && content != object);
            if driver.compile(content).is_err() || compiled.iter().any(twice) {
                blocked.insert(item);
                continue;
            }
            for (key, object) in compiled {
                let (winner, wanting) = objects.entry(key).or_insert_with(|| (object.clone(), BTreeSet::new()));
                let wanting = if *winner == object { wanting } else { &mut blocked };
                wanting.insert(item.clone());
            }
        }
        let objects = objects.into_iter().map(|(key, (object, items))| {
            (key.to_string(), Wanted { content: content(&object), rank: Some(driver.rank(&key)), items })
        });
        Compiled { objects: objects.collect(), blocked }
    }

    async fn reset(&mut self) -> Result<()> {
        self.faults.clear();
        self.testbed.reset().await
    }

    fn contexts(&self) -> Vec<NodeContext> {
        self.testbed.contexts()
    }

    fn unsupported(&self) -> Vec<I> {
        self.testbed.unsupported()
    }

    fn faults(&self) -> Option<Faults> {
        Some(self.faults.clone())
    }

    fn tamper(&mut self) -> Option<&mut dyn Tamper> {
        self.testbed.tamper()
    }

    fn strangers(&mut self) -> Option<&mut dyn Strangers> {
        self.testbed.strangers()
    }
}

fn content(object: &impl Debug) -> String {
    format!("{object:?}")
}
