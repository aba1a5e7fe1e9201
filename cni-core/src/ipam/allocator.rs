//! The trait that every source of addresses implements, and what goes in and comes out. Never a kernel address, never a route.

use super::{IpamError, Lease};
use crate::model::{EndpointId, PodRef};
use async_trait::async_trait;
use ipnet::IpNet;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

/// Makes the caller's record of an endpoint from the leases it got.
pub type MakeRecord<'a> = &'a (dyn Fn(&[Lease]) -> Vec<u8> + Send + Sync);

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// An address's family.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The length of an address, in bits.
    #[must_use]
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Who wants addresses, and which.
#[derive(Clone)]
#[non_exhaustive]
pub struct AssignRequest<'a> {
    /// The interface that gets them.
    pub owner: &'a EndpointId,
    /// The pod, where the runtime said which.
    pub pod: Option<&'a PodRef>,
    /// The addresses that must be given. Families that are not named here get any address.
    pub addresses: &'a [IpAddr],
    /// The names of the pools to take from, in order of preference; empty leaves the choice to the allocator.
    pub pools: &'a [String],
    /// The labels of the pod's namespace, for pools that select by them.
    pub namespace_labels: Option<&'a BTreeMap<String, String>>,
    /// Stored with the leases in one durable step, so that after a crash there is both or neither. Called when the
    /// addresses are set aside and not yet durable: what it begins has to be undone when `assign` fails.
    pub record: Option<MakeRecord<'a>>,
}

impl<'a> AssignRequest<'a> {
    /// Any address, for one owner.
    #[must_use]
    pub fn new(owner: &'a EndpointId) -> Self {
        Self { owner, pod: None, addresses: &[], pools: &[], namespace_labels: None, record: None }
    }

    /// The same for a pod.
    #[must_use]
    pub fn pod(mut self, pod: Option<&'a PodRef>) -> Self {
        self.pod = pod;
        self
    }

    /// The same with wanted addresses.
    #[must_use]
    pub fn addresses(mut self, addresses: &'a [IpAddr]) -> Self {
        self.addresses = addresses;
        self
    }

    /// The same from named pools.
    #[must_use]
    pub fn pools(mut self, pools: &'a [String]) -> Self {
        self.pools = pools;
        self
    }

    /// The same with the labels of the pod's namespace.
    #[must_use]
    pub fn namespace_labels(mut self, labels: Option<&'a BTreeMap<String, String>>) -> Self {
        self.namespace_labels = labels;
        self
    }

    /// The same with a record to store.
    #[must_use]
    pub fn record(mut self, record: MakeRecord<'a>) -> Self {
        self.record = Some(record);
        self
    }
}

impl fmt::Debug for AssignRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssignRequest")
            .field("owner", self.owner)
            .field("pod", &self.pod)
            .field("addresses", &self.addresses)
            .field("pools", &self.pools)
            .field("record", &self.record.is_some())
            .finish_non_exhaustive()
    }
}

/// How full one pool is, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// The pool's name, as in [`Lease::pool`].
    pub pool: String,
    /// Its family.
    pub family: Family,
    /// Its prefixes.
    pub prefixes: Vec<IpNet>,
    /// How many addresses the pool has altogether.
    pub capacity: u128,
    /// How many of them no pod may get.
    pub reserved: u128,
    /// How many are leased on this node.
    pub used: u128,
    /// How many were released on this node and still cool.
    pub cooling: u128,
    /// How many this node can give at once, without asking anybody.
    pub free_here: u128,
    /// How many addresses no node has claimed yet; 0 for sources that belong to this node alone.
    pub unclaimed: u128,
    /// The most blocks a node may claim, where there is a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_blocks_per_node: Option<u32>,
    /// How many blocks each node has claimed.
    pub blocks_per_node: BTreeMap<String, u32>,
    /// Whether the pool gives no new addresses.
    pub disabled: bool,
}

impl Usage {
    /// A source that belongs to this node alone and has these many addresses, all of them free.
    #[must_use]
    pub fn new(pool: &str, family: Family, prefixes: Vec<IpNet>, capacity: u128) -> Self {
        Self {
            pool: pool.to_owned(),
            family,
            prefixes,
            capacity,
            reserved: 0,
            used: 0,
            cooling: 0,
            free_here: capacity,
            unclaimed: 0,
            max_blocks_per_node: None,
            blocks_per_node: BTreeMap::new(),
            disabled: false,
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pool {} (", self.pool)?;
        for (index, prefix) in self.prefixes.iter().enumerate() {
            write!(f, "{}{prefix}", if index == 0 { "" } else { ", " })?;
        }
        write!(
            f,
            "): {} addresses, here {} used, {} cooling, {} free; {} reserved, {} unclaimed",
            self.capacity, self.used, self.cooling, self.free_here, self.reserved, self.unclaimed
        )?;
        if !self.blocks_per_node.is_empty() {
            f.write_str("; blocks per node:")?;
            for (node, blocks) in &self.blocks_per_node {
                write!(f, " {node} {blocks}")?;
            }
        }
        if let Some(limit) = self.max_blocks_per_node {
            write!(f, " (at most {limit})")?;
        }
        if self.disabled {
            f.write_str("; disabled")?;
        }
        Ok(())
    }
}

/// A source of addresses for the containers of one node.
///
/// # Laws
/// 1. `assign` again for one owner returns the same leases (a repeated ADD after a crash is harmless).
/// 2. No address is in two leases.
/// 3. `release` of an unknown owner is `Ok` with nothing released (DEL must be repeatable).
/// 4. All families or none: a failing `assign` leaves nothing behind.
/// 5. What `assign` returned is there after a restart; what failed is not.
/// 6. A released address cools before another owner gets it, unless nothing else is free.
/// 7. A wanted address is given or the call fails; it is never replaced by another.
/// 8. `gc` releases exactly what is not in `valid`.
/// 9. `status` fails when the next `assign` would find no address, and the error names the pool and its numbers.
/// 10. A record is durable exactly when its leases are; who cannot store records refuses with
///     [`IpamError::Unsupported`] before anything is changed.
///
/// Each is a test in `ipam::conformance`.
#[async_trait]
pub trait Ipam: Send + Sync {
    /// Gives an owner one address of every family there is, or the leases it already has. Durable when it returns.
    ///
    /// # Errors
    /// [`IpamError`]; nothing is changed then.
    async fn assign(&self, request: &AssignRequest<'_>, now: SystemTime) -> Result<Vec<Lease>, IpamError>;

    /// Takes back all that an owner has, with its record, and returns it. Durable when it returns.
    ///
    /// # Errors
    /// [`IpamError`] when the store fails; the owner keeps all then.
    async fn release(&self, owner: &EndpointId, now: SystemTime) -> Result<Vec<Lease>, IpamError>;

    /// Whether an owner holds exactly these addresses, in any order; with none named: whether it holds any.
    ///
    /// Compares with [`leases`](Self::leases), unless the implementation has a faster way.
    ///
    /// # Errors
    /// [`IpamError::NotAssigned`], [`IpamError::Drifted`], or the store fails.
    fn check(&self, owner: &EndpointId, addresses: &[IpAddr]) -> Result<(), IpamError> {
        let mine = self.leases()?.into_iter().filter(|lease| lease.owner == *owner);
        check_held(owner, &mine.map(|lease| lease.address).collect::<Vec<_>>(), addresses)
    }

    /// All leases of this node, sorted by address.
    ///
    /// # Errors
    /// [`IpamError`] when the store fails.
    fn leases(&self) -> Result<Vec<Lease>, IpamError>;

    /// How full the pools are, sorted by name.
    ///
    /// # Errors
    /// [`IpamError`] when the store fails.
    fn usage(&self, now: SystemTime) -> Result<Vec<Usage>, IpamError>;

    /// Whether the next `assign` will find addresses: the answer to CNI STATUS.
    ///
    /// # Errors
    /// [`IpamError::Exhausted`] and others that `assign` would give.
    fn status(&self, now: SystemTime) -> Result<(), IpamError>;

    /// Releases the leases of every owner that is not in `valid`, with their records, and returns them.
    ///
    /// # Errors
    /// [`IpamError`] when the store fails.
    async fn gc(&self, valid: &BTreeSet<EndpointId>, now: SystemTime) -> Result<Vec<Lease>, IpamError>;
}

/// The answer to [`Ipam::check`] from what an owner holds.
pub(crate) fn check_held(owner: &EndpointId, held: &[IpAddr], expected: &[IpAddr]) -> Result<(), IpamError> {
    if held.is_empty() {
        return Err(IpamError::NotAssigned { owner: owner.clone() });
    }
    let (one, other): (BTreeSet<_>, BTreeSet<_>) = (held.iter().collect(), expected.iter().collect());
    if expected.is_empty() || one == other {
        return Ok(());
    }
    Err(IpamError::Drifted { owner: owner.clone(), held: held.to_vec(), expected: expected.to_vec() })
}
