//! What survives a crash of an allocator: leases, cooling addresses and endpoint records, in one atomic step per change.
//! Never decides which address is given.

use super::{Cooling, Lease, UnixMillis};
use crate::model::EndpointId;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// One change of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseOp {
    /// The address is held by the lease's owner from now on; ends its cooling.
    Assign(Lease),
    /// The address is held by nobody and cools from the given time on. Unknown addresses begin to cool, too.
    Release(Cooling),
    /// The address has cooled and may be forgotten. Unknown addresses are no error.
    Forget(IpAddr),
    /// Stores what the caller wants to know of an endpoint after a restart; replaces an older record.
    PutEndpoint {
        /// Whose record.
        id: EndpointId,
        /// The record; its format is the caller's.
        record: Vec<u8>,
    },
    /// Deletes a record. An unknown endpoint is no error.
    DeleteEndpoint(EndpointId),
}

/// All that a journal holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaseState {
    /// By address.
    pub leases: BTreeMap<IpAddr, Lease>,
    /// Released addresses with the time of their release. Never one that is in `leases`.
    pub cooling: BTreeMap<IpAddr, UnixMillis>,
    /// The callers' records of endpoints.
    pub endpoints: BTreeMap<EndpointId, Vec<u8>>,
}

impl LeaseState {
    /// Applies one transaction, in order. Pure memory; the reference for what a [`LeaseStore`] must do.
    ///
    /// # Errors
    /// [`LeaseStoreError::Conflict`] when an address is assigned that another owner holds; nothing is changed then.
    pub fn apply(&mut self, ops: &[LeaseOp]) -> Result<(), LeaseStoreError> {
        self.refuse_conflicts(ops)?;
        for op in ops {
            match op {
                LeaseOp::Assign(lease) => {
                    self.cooling.remove(&lease.address);
                    self.leases.insert(lease.address, lease.clone());
                }
                LeaseOp::Release(cooling) => {
                    self.leases.remove(&cooling.address);
                    self.cooling.insert(cooling.address, cooling.released_at);
                }
                LeaseOp::Forget(address) => {
                    self.cooling.remove(address);
                }
                LeaseOp::PutEndpoint { id, record } => {
                    self.endpoints.insert(id.clone(), record.clone());
                }
                LeaseOp::DeleteEndpoint(id) => {
                    self.endpoints.remove(id);
                }
            }
        }
        Ok(())
    }

    fn refuse_conflicts(&self, ops: &[LeaseOp]) -> Result<(), LeaseStoreError> {
        let mut holders: BTreeMap<IpAddr, Option<&EndpointId>> = BTreeMap::new();
        for op in ops {
            match op {
                LeaseOp::Assign(lease) => {
                    let holder = match holders.get(&lease.address) {
                        Some(holder) => *holder,
                        None => self.leases.get(&lease.address).map(|held| &held.owner),
                    };
                    if let Some(holder) = holder.filter(|holder| **holder != lease.owner) {
                        return Err(LeaseStoreError::Conflict {
                            address: lease.address,
                            holder: holder.clone(),
                            wanted_by: lease.owner.clone(),
                        });
                    }
                    holders.insert(lease.address, Some(&lease.owner));
                }
                LeaseOp::Release(cooling) => {
                    holders.insert(cooling.address, None);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Why a journal refused.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseStoreError {
    /// An address would be in two leases.
    #[error("address {address} is held by {holder}; refusing to give it to {wanted_by}")]
    Conflict {
        /// The address.
        address: IpAddr,
        /// Who holds it.
        holder: EndpointId,
        /// Who was to get it.
        wanted_by: EndpointId,
    },
    /// The database could not be read or written.
    #[error("lease store: cannot {operation}: {source}")]
    Storage {
        /// `load`, `commit`, ...
        operation: &'static str,
        /// What the database said.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
}

/// Durable leases of one node. Calls block for as long as the disk takes (about half a millisecond per commit).
///
/// # Laws
/// 1. `commit` returns `Ok` only when the transaction survives a power failure.
/// 2. A transaction is there as a whole or not at all, also after a crash; `Err` means: not at all.
/// 3. An address is never in two leases: assigning one that another owner holds is [`LeaseStoreError::Conflict`].
/// 4. Committing the same transaction again changes nothing.
/// 5. `load` after opening again returns all that was committed, as [`LeaseState::apply`] says.
///
/// Each is a test in `ipam::conformance::lease_store`.
pub trait LeaseStore: Send + Sync {
    /// Everything.
    ///
    /// # Errors
    /// [`LeaseStoreError::Storage`].
    fn load(&self) -> Result<LeaseState, LeaseStoreError>;

    /// One durable transaction, in order.
    ///
    /// # Errors
    /// [`LeaseStoreError`]; nothing was changed then.
    fn commit(&self, ops: &[LeaseOp]) -> Result<(), LeaseStoreError>;
}

impl<T: LeaseStore + ?Sized> LeaseStore for Arc<T> {
    fn load(&self) -> Result<LeaseState, LeaseStoreError> {
        (**self).load()
    }

    fn commit(&self, ops: &[LeaseOp]) -> Result<(), LeaseStoreError> {
        (**self).commit(ops)
    }
}

/// A journal in memory that fails on demand, for tests and for embedders who need no durability.
///
/// Clones share one content, so that a clone is "the same disk after a restart".
#[derive(Debug, Clone, Default)]
pub struct MemoryLeaseStore {
    shared: Arc<Mutex<Memory>>,
}

#[derive(Debug, Default)]
struct Memory {
    state: LeaseState,
    commits: u64,
    fail_at: Option<u64>,
}

/// The failure that [`MemoryLeaseStore::fail_commit`] asked for.
#[derive(Debug, thiserror::Error)]
#[error("a failure that the test asked for")]
pub struct AskedForFailure;

impl MemoryLeaseStore {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the `nth` commit from now fail, 0 being the next, without writing anything.
    pub fn fail_commit(&self, nth: u64) {
        let mut memory = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        memory.fail_at = Some(memory.commits + nth);
    }

    /// How many transactions were tried: the cost of an operation in disk waits.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).commits
    }
}

impl LeaseStore for MemoryLeaseStore {
    fn load(&self) -> Result<LeaseState, LeaseStoreError> {
        Ok(self.shared.lock().unwrap_or_else(PoisonError::into_inner).state.clone())
    }

    fn commit(&self, ops: &[LeaseOp]) -> Result<(), LeaseStoreError> {
        let mut memory = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        memory.commits += 1;
        if memory.fail_at == Some(memory.commits - 1) {
            memory.fail_at = None;
            return Err(LeaseStoreError::Storage { operation: "commit", source: Arc::new(AskedForFailure) });
        }
        memory.state.apply(ops)
    }
}
