//! `host-local` as an [`Ipam`]: the trait's laws over the reference's files. Never a record: the files have no place for one.

use super::verbs::held_by;
use super::{HostLocal, HostLocalError, RangeSet};
use crate::ipam::allocator::check_held;
use crate::ipam::{AssignRequest, Ipam, IpamError, Lease, UnixMillis, Usage};
use crate::model::EndpointId;
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::SystemTime;

impl HostLocal {
    fn lease(&self, address: IpAddr, owner: EndpointId, now: SystemTime) -> Option<Lease> {
        let (index, range) = self
            .config
            .range_sets
            .iter()
            .enumerate()
            .find_map(|(index, set)| set.range_of(address).map(|range| (index, range)))?;
        Some(Lease {
            address,
            subnet: range.subnet,
            gateway: Some(range.gateway),
            pool: pool_name(index),
            owner,
            pod: None,
            // The files keep no time.
            assigned_at: UnixMillis::from(now),
        })
    }

    fn leases_of(&self, addresses: &[IpAddr], owner: &EndpointId, now: SystemTime) -> Vec<Lease> {
        addresses.iter().filter_map(|address| self.lease(*address, owner.clone(), now)).collect()
    }

    fn explain(&self, error: HostLocalError, now: SystemTime) -> IpamError {
        let HostLocalError::Allocate { index, source } = &error else { return error.into() };
        match &**source {
            HostLocalError::Exhausted { .. } => {
                let usage = self.usage(now).unwrap_or_default();
                let pool = pool_name(*index);
                let family = self.config.range_sets.get(*index).map_or(crate::ipam::Family::V4, RangeSet::family);
                IpamError::Exhausted { family, usage: usage.into_iter().filter(|usage| usage.pool == pool).collect() }
            }
            HostLocalError::Gateway { address } => {
                IpamError::Unusable { address: *address, reason: "it is the subnet's gateway".to_owned() }
            }
            _ => error.into(),
        }
    }
}

fn pool_name(index: usize) -> String {
    format!("range set {index}")
}

#[async_trait]
impl Ipam for HostLocal {
    async fn assign(&self, request: &AssignRequest<'_>, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        if request.record.is_some() {
            return Err(IpamError::Unsupported {
                allocator: "host-local",
                what: "a record with the lease",
                reason: "its files hold only container and interface",
            });
        }
        let (container, interface) = (request.owner.container(), request.owner.interface());
        let mut directory = self.lock()?;
        let held = held_by(&directory, container, interface);
        let complete = self.config.range_sets.iter().all(|set| held.iter().any(|held| set.range_of(*held).is_some()));
        if complete {
            if request.addresses.iter().any(|wanted| !held.contains(wanted)) {
                let (owner, wanted) = (request.owner.clone(), request.addresses.to_vec());
                return Err(IpamError::OtherHeld { owner, held, wanted });
            }
            return Ok(self.leases_of(&held, request.owner, now));
        }
        if !held.is_empty() {
            // A crash came between the files of two families: begin again.
            self.give_back(&mut directory, container, interface, now)?;
        }
        for wanted in request.addresses {
            if let Some(holder) = directory.held().get(wanted) {
                let holder = EndpointId::of(&holder.container, holder.interface.as_deref().unwrap_or("eth0"));
                if let Ok(holder) = holder {
                    return Err(IpamError::Taken { address: *wanted, holder });
                }
            }
        }
        let taken = self.take(&mut directory, container, interface, request.addresses, now);
        drop(directory);
        let taken = taken.map_err(|error| self.explain(error, now))?;
        let addresses: Vec<IpAddr> = taken.iter().map(|ip| ip.address.addr()).collect();
        Ok(self.leases_of(&addresses, request.owner, now))
    }

    async fn release(&self, owner: &EndpointId, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        let released = self.del(owner.container(), owner.interface(), now)?;
        Ok(self.leases_of(&released, owner, now))
    }

    fn check(&self, owner: &EndpointId, addresses: &[IpAddr]) -> Result<(), IpamError> {
        check_held(owner, &held_by(&self.lock()?, owner.container(), owner.interface()), addresses)
    }

    fn leases(&self) -> Result<Vec<Lease>, IpamError> {
        let directory = self.lock()?;
        let lease = |(address, holder): (&IpAddr, &super::disk::Holder)| {
            let owner = EndpointId::of(&holder.container, holder.interface.as_deref()?).ok()?;
            self.lease(*address, owner, SystemTime::UNIX_EPOCH)
        };
        Ok(directory.held().iter().filter_map(lease).collect())
    }

    fn usage(&self, now: SystemTime) -> Result<Vec<Usage>, IpamError> {
        let directory = self.lock()?;
        let cooling = self.cooling(&directory, now);
        let usage = |(index, set): (usize, &RangeSet)| {
            let capacity = set.ranges().iter().fold(0_u128, |sum, range| sum.saturating_add(range.addresses.count()));
            let inside = |address: &IpAddr| set.range_of(*address).is_some();
            let gateways = set.ranges().iter().filter(|range| range.contains(range.gateway)).count() as u128;
            let used = directory.held().keys().filter(|address| inside(address)).count() as u128;
            let waiting = cooling.keys().filter(|address| inside(address) && !directory.held().contains_key(*address));
            let waiting = waiting.count() as u128;
            let prefixes = set.ranges().iter().map(|range| range.subnet).collect();
            Usage {
                reserved: gateways,
                used,
                cooling: waiting,
                free_here: capacity.saturating_sub(gateways + used + waiting),
                ..Usage::new(&pool_name(index), set.family(), prefixes, capacity)
            }
        };
        Ok(self.config.range_sets.iter().enumerate().map(usage).collect())
    }

    fn status(&self, now: SystemTime) -> Result<(), IpamError> {
        self.ready().map_err(|error| self.explain(error, now))
    }

    async fn gc(&self, valid: &BTreeSet<EndpointId>, now: SystemTime) -> Result<Vec<Lease>, IpamError> {
        let before = self.leases()?;
        let keep = |container: &str, interface: &str| {
            EndpointId::of(container, interface).is_ok_and(|owner| valid.contains(&owner))
        };
        let released = self.collect(keep, now)?;
        Ok(before.into_iter().filter(|lease| released.contains(&lease.address)).collect())
    }
}
