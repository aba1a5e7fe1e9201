//! The tables of the local database, format version 1. Never keeps anything in memory.

use super::LocalDatabaseError;
use super::error::{Inside, Opening};
use crate::ipam::{Lease, LeaseOp, LeaseState, LeaseStoreError, UnixMillis};
use crate::model::EndpointId;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The version that is written, and the latest that is read.
const FORMAT_VERSION: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// In [`META`].
const FORMAT: &str = "format";
/// Address to lease, as JSON.
const LEASES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("leases");
/// Address to the time of its release, in milliseconds since 1970.
const COOLING: TableDefinition<'_, &str, u64> = TableDefinition::new("cooling");
/// Endpoint to its record, whose format is the agent's.
const ENDPOINTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("endpoints");

/// Writes an empty database.
pub(super) fn make(database: &Database) -> Result<(), Inside> {
    let transaction = database.begin_write()?;
    transaction.open_table(META)?.insert(FORMAT, FORMAT_VERSION)?;
    drop(Tables::open(&transaction)?);
    Ok(transaction.commit()?)
}

/// Refuses what was written by a later version, or by another program.
pub(super) fn check_version(database: &Database, opening: &Opening<'_>) -> Result<(), Inside> {
    let foreign =
        || Inside::Known(opening.damaged("it is a redb file without our format version, so another program's"));
    let transaction = database.begin_read()?;
    let meta = match transaction.open_table(META) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Err(foreign()),
        meta => meta?,
    };
    let found = meta.get(FORMAT)?.ok_or_else(foreign)?.value();
    match found {
        FORMAT_VERSION => Ok(()),
        0 => Err(foreign()),
        found => {
            let path = opening.path.to_owned();
            Err(Inside::Known(LocalDatabaseError::Newer { path, found, known: FORMAT_VERSION }))
        }
    }
}

/// Reads everything.
pub(super) fn load(database: &Database, opening: &Opening<'_>) -> Result<LeaseState, Inside> {
    let transaction: ReadTransaction = database.begin_read()?;
    let mut state = LeaseState::default();
    for entry in transaction.open_table(LEASES)?.iter()? {
        let (key, value) = entry?;
        let lease: Lease =
            serde_json::from_slice(value.value()).map_err(|error| damaged(opening, "leases", key.value(), error))?;
        if lease.address.to_string() != key.value() {
            return Err(damaged(opening, "leases", key.value(), format!("the lease is of {}", lease.address)));
        }
        state.leases.insert(lease.address, lease);
    }
    for entry in transaction.open_table(COOLING)?.iter()? {
        let (key, value) = entry?;
        let address: IpAddr = key.value().parse().map_err(|error| damaged(opening, "cooling", key.value(), error))?;
        state.cooling.insert(address, UnixMillis(value.value()));
    }
    for entry in transaction.open_table(ENDPOINTS)?.iter()? {
        let (key, value) = entry?;
        let id = EndpointId::new(key.value()).map_err(|error| damaged(opening, "endpoints", key.value(), error))?;
        state.endpoints.insert(id, value.value().to_vec());
    }
    Ok(state)
}

fn damaged(opening: &Opening<'_>, table: &str, key: &str, detail: impl ToString) -> Inside {
    Inside::Known(opening.damaged(format!("table {table}, key {key:?}: {}", detail.to_string())))
}

/// Writes several transactions with one durable commit. Each is whole or refused; a refused one does not hold back the
/// others.
pub(super) fn write(
    database: &Database,
    opening: &Opening<'_>,
    transactions: &[&[LeaseOp]],
) -> Result<Vec<Result<(), LeaseStoreError>>, Inside> {
    let transaction = database.begin_write()?;
    let mut tables = Tables::open(&transaction)?;
    let mut answers = Vec::with_capacity(transactions.len());
    for ops in transactions {
        let answer = tables.refuse_conflicts(opening, ops)?;
        if answer.is_ok() {
            tables.apply(opening, ops)?;
        }
        answers.push(answer);
    }
    drop(tables);
    if answers.iter().any(Result::is_ok) {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(answers)
}

/// The tables while they are written.
struct Tables<'a> {
    leases: Table<'a, &'static str, &'static [u8]>,
    cooling: Table<'a, &'static str, u64>,
    endpoints: Table<'a, &'static str, &'static [u8]>,
}

impl<'a> Tables<'a> {
    fn open(transaction: &'a WriteTransaction) -> Result<Self, Inside> {
        Ok(Self {
            leases: transaction.open_table(LEASES)?,
            cooling: transaction.open_table(COOLING)?,
            endpoints: transaction.open_table(ENDPOINTS)?,
        })
    }

    fn holder(&self, opening: &Opening<'_>, address: IpAddr) -> Result<Option<EndpointId>, Inside> {
        let key = address.to_string();
        let Some(value) = self.leases.get(key.as_str())? else { return Ok(None) };
        let lease: Lease =
            serde_json::from_slice(value.value()).map_err(|error| damaged(opening, "leases", &key, error))?;
        Ok(Some(lease.owner))
    }

    /// The same decision as [`LeaseState::apply`].
    fn refuse_conflicts(&self, opening: &Opening<'_>, ops: &[LeaseOp]) -> Result<Result<(), LeaseStoreError>, Inside> {
        let mut holders: BTreeMap<IpAddr, Option<EndpointId>> = BTreeMap::new();
        for op in ops {
            match op {
                LeaseOp::Assign(lease) => {
                    let holder = match holders.get(&lease.address) {
                        Some(holder) => holder.clone(),
                        None => self.holder(opening, lease.address)?,
                    };
                    if let Some(holder) = holder.filter(|holder| *holder != lease.owner) {
                        let (address, wanted_by) = (lease.address, lease.owner.clone());
                        return Ok(Err(LeaseStoreError::Conflict { address, holder, wanted_by }));
                    }
                    holders.insert(lease.address, Some(lease.owner.clone()));
                }
                LeaseOp::Release(cooling) => drop(holders.insert(cooling.address, None)),
                LeaseOp::Forget(_) | LeaseOp::PutEndpoint { .. } | LeaseOp::DeleteEndpoint(_) => {}
            }
        }
        Ok(Ok(()))
    }

    fn apply(&mut self, opening: &Opening<'_>, ops: &[LeaseOp]) -> Result<(), Inside> {
        for op in ops {
            match op {
                LeaseOp::Assign(lease) => {
                    let key = lease.address.to_string();
                    let value = serde_json::to_vec(lease).map_err(|error| damaged(opening, "leases", &key, error))?;
                    self.cooling.remove(key.as_str())?;
                    self.leases.insert(key.as_str(), value.as_slice())?;
                }
                LeaseOp::Release(cooling) => {
                    let key = cooling.address.to_string();
                    self.leases.remove(key.as_str())?;
                    self.cooling.insert(key.as_str(), cooling.released_at.0)?;
                }
                LeaseOp::Forget(address) => drop(self.cooling.remove(address.to_string().as_str())?),
                LeaseOp::PutEndpoint { id, record } => drop(self.endpoints.insert(id.as_str(), record.as_slice())?),
                LeaseOp::DeleteEndpoint(id) => drop(self.endpoints.remove(id.as_str())?),
            }
        }
        Ok(())
    }
}
