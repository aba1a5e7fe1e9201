//! Why no address could be given, taken back or found. Each error names object and field, and what would be right.

use super::host_local::HostLocalError;
use super::{Family, LeaseStoreError, Usage};
use crate::model::EndpointId;
use crate::store;
use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;

/// An error of an allocator.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum IpamError {
    /// No address is left.
    #[error("no {family} address is left on this node{}", list(usage))]
    Exhausted {
        /// The family that has none left.
        family: Family,
        /// The pools that were asked.
        usage: Vec<Usage>,
    },
    /// No pool may be used for this pod on this node.
    #[error("no pool can be used: {reason}")]
    NoPool {
        /// Which pools there are and why each is not usable.
        reason: String,
    },
    /// A wanted address is held by another owner.
    #[error("address {address} is held by {holder}; release it there or ask for another")]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who holds it.
        holder: EndpointId,
    },
    /// A wanted address cannot be given to anybody here.
    #[error("address {address} cannot be given: {reason}")]
    Unusable {
        /// The address.
        address: IpAddr,
        /// Why, and what would be right.
        reason: String,
    },
    /// The owner holds other addresses than the ones it now wants.
    #[error("{owner} already holds {held:?} and wants {wanted:?}; release it first")]
    OtherHeld {
        /// The owner.
        owner: EndpointId,
        /// What it holds.
        held: Vec<IpAddr>,
        /// What it wants.
        wanted: Vec<IpAddr>,
    },
    /// The owner holds nothing.
    #[error("{owner} holds no address")]
    NotAssigned {
        /// The owner.
        owner: EndpointId,
    },
    /// The owner holds other addresses than expected.
    #[error("{owner} holds {held:?}, expected were {expected:?}")]
    Drifted {
        /// The owner.
        owner: EndpointId,
        /// What it holds.
        held: Vec<IpAddr>,
        /// What was expected.
        expected: Vec<IpAddr>,
    },
    /// The same owner is being worked on at this moment.
    #[error("{owner} is being worked on; try again")]
    Busy {
        /// The owner.
        owner: EndpointId,
    },
    /// A setting is not acceptable.
    #[error("{object}: {field}: {problem}")]
    Invalid {
        /// The object, as a person would name it: `pool default`.
        object: String,
        /// The field at fault.
        field: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
    /// Two pools hold the same addresses.
    #[error("pools {first} ({first_cidr}) and {second} ({second_cidr}) overlap: spec.cidr of one of them must change")]
    Overlap {
        /// One pool.
        first: String,
        /// Its prefix.
        first_cidr: IpNet,
        /// The other pool.
        second: String,
        /// Its prefix.
        second_cidr: IpNet,
    },
    /// This allocator cannot do what was asked.
    #[error("{what} is not supported by {allocator}: {reason}")]
    Unsupported {
        /// Which allocator.
        allocator: &'static str,
        /// What was asked.
        what: &'static str,
        /// Why not.
        reason: &'static str,
    },
    /// Other nodes changed the same blocks again and again.
    #[error("claiming a block of pool {pool} failed {attempts} times because other nodes were faster; try again")]
    Contended {
        /// The pool.
        pool: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// `host-local` failed.
    #[error(transparent)]
    HostLocal(#[from] HostLocalError),
    /// The store of pools and blocks failed.
    #[error("store: {0}")]
    Store(#[source] Arc<store::Error>),
    /// The journal failed.
    #[error(transparent)]
    Leases(#[from] LeaseStoreError),
}

fn list(usage: &[Usage]) -> String {
    usage.iter().map(|usage| format!("; {usage}")).collect()
}

impl IpamError {
    /// An object's field that is not acceptable.
    pub fn invalid(object: impl Into<String>, field: &'static str, problem: impl Into<String>) -> Self {
        Self::Invalid { object: object.into(), field, problem: problem.into() }
    }

    /// Whether the same call may succeed a little later without anybody changing the configuration.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        if let Self::Store(error) = self {
            return error.is_transient();
        }
        matches!(
            self,
            Self::Busy { .. }
                | Self::Contended { .. }
                | Self::Exhausted { .. }
                | Self::Leases(LeaseStoreError::Storage { .. })
        )
    }
}

impl From<store::Error> for IpamError {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}
