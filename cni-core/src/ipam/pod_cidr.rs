//! The simple source of addresses: the prefixes that Kubernetes gave to this node (`spec.podCIDRs`).
//! Never asks another node.

use super::book::{Begin, Book};
use super::segment::{MOST_ADDRESSES, SegmentSpec};
use super::{AddressRange, AssignRequest, Family, Ipam, IpamError, Lease, LeaseStore, Usage};
use crate::model::{EndpointId, NodeName};
use async_trait::async_trait;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

/// The name of the pool in leases and usage.
pub const POD_CIDR_POOL: &str = "podCIDR";

/// Addresses of the node's own prefixes. Of a prefix with more than 65,536 addresses the first 65,536 are used.
pub struct PodCidrIpam<L> {
    node: NodeName,
    book: Book<L>,
    prefixes: RwLock<Vec<IpNet>>,
    reserved: Arc<[AddressRange]>,
}

impl<L: LeaseStore> PodCidrIpam<L> {
    /// Reads the journal. `reserved` are addresses that no pod gets (the node's own among them).
    ///
    /// # Errors
    /// As of [`set_prefixes`](Self::set_prefixes), or the journal cannot be read.
    pub fn open(
        node: NodeName,
        prefixes: &[IpNet],
        reserved: Vec<AddressRange>,
        journal: L,
        cool_down: Duration,
    ) -> Result<Self, IpamError> {
        let book = Book::open(journal, cool_down)?;
        let ipam = Self { node, book, prefixes: RwLock::new(Vec::new()), reserved: reserved.into() };
        ipam.set_prefixes(prefixes)?;
        Ok(ipam)
    }

    /// The journal, for its endpoint records.
    #[must_use]
    pub fn journal(&self) -> &L {
        self.book.journal()
    }

    /// Takes the node's prefixes as they are now. Leases of prefixes that vanish stay.
    ///
    /// # Errors
    /// [`IpamError::Invalid`]: a prefix with host bits, or two that overlap. The old ones stay in force.
    pub fn set_prefixes(&self, prefixes: &[IpNet]) -> Result<(), IpamError> {
        let object = format!("node {}", self.node);
        for (index, prefix) in prefixes.iter().enumerate() {
            if prefix.trunc() != *prefix {
                let problem = format!("{prefix} has host bits; did you mean {}?", prefix.trunc());
                return Err(IpamError::invalid(object, "spec.podCIDRs", problem));
            }
            let other = prefixes[..index].iter().find(|other| other.contains(prefix) || prefix.contains(*other));
            if let Some(other) = other {
                return Err(IpamError::invalid(object, "spec.podCIDRs", format!("{other} and {prefix} overlap")));
            }
        }
        let mut now = self.prefixes.write().unwrap_or_else(PoisonError::into_inner);
        self.book.set_segments(prefixes.iter().map(|prefix| self.segment(*prefix)).collect());
        *now = prefixes.to_vec();
        Ok(())
    }

    fn segment(&self, prefix: IpNet) -> SegmentSpec {
        SegmentSpec {
            pool: POD_CIDR_POOL.into(),
            subnet: prefix,
            range: AddressRange::of_prefix(prefix),
            reserved: self.reserved.clone(),
            closed: false,
        }
    }

    fn prefixes(&self) -> Vec<IpNet> {
        self.prefixes.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn families(&self) -> Result<BTreeSet<Family>, IpamError> {
        let families: BTreeSet<Family> = self.prefixes().iter().map(|prefix| Family::of(prefix.addr())).collect();
        if families.is_empty() {
            let reason = format!("node {} has no spec.podCIDRs; run the controller that sets them", self.node);
            return Err(IpamError::NoPool { reason });
        }
        Ok(families)
    }

    fn usage_of(&self, family: Family, now: SystemTime) -> Usage {
        let prefixes: Vec<IpNet> =
            self.prefixes().into_iter().filter(|prefix| Family::of(prefix.addr()) == family).collect();
        let numbers = self.book.numbers_of(POD_CIDR_POOL, family, now.into());
        let size = |prefix: &IpNet| AddressRange::of_prefix(*prefix).count().min(MOST_ADDRESSES.into());
        let capacity = prefixes.iter().map(size).sum();
        Usage {
            reserved: numbers.reserved,
            used: numbers.leased,
            cooling: numbers.cooling,
            free_here: numbers.free,
            ..Usage::new(POD_CIDR_POOL, family, prefixes, capacity)
        }
    }
}

#[async_trait]
impl<L: LeaseStore> Ipam for PodCidrIpam<L> {
    async fn assign(&self, request: &AssignRequest<'_>, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        if let Some(pool) = request.pools.iter().find(|pool| *pool != POD_CIDR_POOL) {
            let reason = format!("there is no pool {pool}: this node gives addresses of its podCIDRs only");
            return Err(IpamError::NoPool { reason });
        }
        let mut ticket = match self.book.begin(request, now.into())? {
            Begin::Held(leases) => return Ok(leases),
            Begin::Ticket(ticket) => ticket,
        };
        let mut families = self.families()?;
        for address in request.addresses {
            if !ticket.pick_exact(*address)? {
                let reason = format!("it is in none of the node's podCIDRs {:?}", self.prefixes());
                return Err(IpamError::Unusable { address: *address, reason });
            }
        }
        families.retain(|family| !request.addresses.iter().any(|address| Family::of(*address) == *family));
        for family in families {
            let picked = ticket.pick(POD_CIDR_POOL, family).or_else(|| ticket.pick_coolest(&[POD_CIDR_POOL], family));
            if picked.is_none() {
                return Err(IpamError::Exhausted { family, usage: vec![self.usage_of(family, now)] });
            }
        }
        ticket.commit(request.record)
    }

    async fn release(&self, owner: &EndpointId, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        self.book.release(std::slice::from_ref(owner), now.into())
    }

    fn check(&self, owner: &EndpointId, addresses: &[IpAddr]) -> Result<(), IpamError> {
        self.book.check(owner, addresses)
    }

    fn leases(&self) -> Result<Vec<Lease>, IpamError> {
        Ok(self.book.leases())
    }

    fn usage(&self, now: SystemTime) -> Result<Vec<Usage>, IpamError> {
        let families: BTreeSet<Family> = self.prefixes().iter().map(|prefix| Family::of(prefix.addr())).collect();
        Ok(families.into_iter().map(|family| self.usage_of(family, now)).collect())
    }

    fn status(&self, now: SystemTime) -> Result<(), IpamError> {
        for family in self.families()? {
            let usage = self.usage_of(family, now);
            if usage.free_here == 0 && usage.cooling == 0 {
                return Err(IpamError::Exhausted { family, usage: vec![usage] });
            }
        }
        Ok(())
    }

    async fn gc(&self, valid: &BTreeSet<EndpointId>, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        self.book.gc(valid, now.into())
    }
}
