//! A table of objects with a kernel's rules. Outlives the engines on it, and never knows them.

use crate::model::EndpointId;
use crate::testkit::engine::Faults;
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Identity of an object of the fake kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FakeKey {
    /// The one device that neighbours and routes need.
    Device,
    /// Source NAT.
    Nat,
    /// A neighbour, by its address.
    Neighbour(IpAddr),
    /// What an endpoint may do: guards its port.
    Policy(EndpointId),
    /// A route, by its destination.
    Route(IpNet),
    /// An endpoint's open port.
    Port(EndpointId),
}

impl fmt::Display for FakeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device => f.write_str("device fake0"),
            Self::Nat => f.write_str("nat"),
            Self::Neighbour(address) => write!(f, "neighbour {address}"),
            Self::Policy(endpoint) => write!(f, "policy {endpoint}"),
            Self::Route(destination) => write!(f, "route {destination}"),
            Self::Port(endpoint) => write!(f, "port {endpoint}"),
        }
    }
}

/// The content of an object: a kind's attributes as text, so that one type does for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeObject(pub String);

/// Whose object it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Ours.
    Ours,
    /// Somebody else's.
    Foreign,
}

/// A kernel's answer, as in `errno(3)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{self:?}")]
#[allow(clippy::upper_case_acronyms, reason = "these are the names of errno(3)")]
pub enum Errno {
    /// There is one under this key.
    EEXIST,
    /// There is none under this key.
    ENOENT,
    /// The device it needs is not there.
    ENODEV,
}

type Table = BTreeMap<FakeKey, (FakeObject, Mark)>;

/// The fake kernel. Clones are the same kernel.
#[derive(Debug, Clone, Default)]
pub struct FakeKernel {
    table: Arc<Mutex<Table>>,
    faults: Faults,
}

impl FakeKernel {
    /// Makes a new object.
    ///
    /// # Errors
    /// [`Errno::EEXIST`], also when the object there is foreign; [`Errno::ENODEV`].
    pub fn create(&self, key: FakeKey, object: FakeObject, mark: Mark) -> Result<(), Errno> {
        self.with(|table| {
            let needs_device = matches!(key, FakeKey::Neighbour(_) | FakeKey::Route(_));
            if table.contains_key(&key) {
                return Err(Errno::EEXIST);
            }
            if needs_device && mark == Mark::Ours && !table.contains_key(&FakeKey::Device) {
                return Err(Errno::ENODEV);
            }
            table.insert(key, (object, mark));
            Ok(())
        })
    }

    /// Changes an object, whoever owns it. A kernel does not ask for marks: who writes must.
    ///
    /// # Errors
    /// [`Errno::ENOENT`].
    pub fn replace(&self, key: &FakeKey, object: FakeObject) -> Result<(), Errno> {
        self.with(|table| table.get_mut(key).map(|entry| entry.0 = object).ok_or(Errno::ENOENT))
    }

    /// Removes an object, whoever owns it. With the device go our neighbours and routes, as in a kernel.
    ///
    /// # Errors
    /// [`Errno::ENOENT`].
    pub fn delete(&self, key: &FakeKey) -> Result<(), Errno> {
        self.with(|table| {
            let (_, mark) = table.remove(key).ok_or(Errno::ENOENT)?;
            if *key == FakeKey::Device && mark == Mark::Ours {
                table.retain(|key, (_, mark)| {
                    *mark == Mark::Foreign || !matches!(key, FakeKey::Neighbour(_) | FakeKey::Route(_))
                });
            }
            Ok(())
        })
    }

    /// What is under a key, and whose it is.
    #[must_use]
    pub fn get(&self, key: &FakeKey) -> Option<(FakeObject, Mark)> {
        self.with(|table| table.get(key).cloned())
    }

    /// All objects with this mark.
    #[must_use]
    pub fn dump(&self, mark: Mark) -> Vec<(FakeKey, FakeObject)> {
        self.with(|table| {
            let marked = table.iter().filter(|(_, entry)| entry.1 == mark);
            marked.map(|(key, entry)| (key.clone(), entry.0.clone())).collect()
        })
    }

    /// Makes these writes of a [`super::FakeBackend`] fail, counted from the next one, which is 0.
    pub fn fail_writes(&self, numbers: impl IntoIterator<Item = usize>) {
        self.faults.fail_writes(numbers);
    }

    /// Makes a [`super::FakeBackend`] die before this write, counted from the next one, which is 0.
    pub fn kill_at(&self, number: usize) {
        self.faults.kill_at(number);
    }

    /// Nothing fails any more, and a killed backend may be opened again.
    pub fn revive(&self) {
        self.faults.clear();
    }

    /// Somebody deletes one of ours, the last in the order of keys. Answers which.
    pub fn tamper(&self) -> Option<FakeKey> {
        let (key, _) = self.dump(Mark::Ours).pop()?;
        self.delete(&key).ok().map(|()| key)
    }

    /// Forgets all objects, and revives.
    pub fn reset(&self) {
        self.with(Table::clear);
        self.revive();
    }

    pub(super) fn faults(&self) -> Faults {
        self.faults.clone()
    }

    fn with<R>(&self, f: impl FnOnce(&mut Table) -> R) -> R {
        f(&mut self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
