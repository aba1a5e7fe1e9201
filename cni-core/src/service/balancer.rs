//! Addresses for load balancers, from pools. Never writes them: whoever does writes the record
//! ([`BalancerRecord`](super::BalancerRecord)), and what stands there is what a service has.
//!
//! # Laws
//! 1. The order of requests does not matter.
//! 2. Assigned again with what was assigned as `current`, everybody keeps it: who comes or goes moves nobody else.
//! 3. No address is outside of all pools or somebody else's, and none is of two services that do not share it.
//!
//! Who has an address keeps it, unless the service wants another one; then the older service comes first, as for everything
//! that two services want.

use super::read::family_of;
use crate::model::ServiceName;
use crate::policy::model::{Family, Protocol};
use ipnet::{IpAddrRange, IpNet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPool {
    /// Its name.
    pub name: Arc<str>,
    /// Its prefixes. The first and last address of an IPv4 prefix are given only to who wants them by name.
    pub prefixes: Vec<IpNet>,
    /// Whether services that name no pool get addresses of it.
    pub automatic: bool,
}

/// A service that shall have addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalancerRequest {
    /// The service.
    pub service: ServiceName,
    /// When it was made; `None`: after all others.
    pub created: Option<Arc<str>>,
    /// One address of each; of none: of one family that the pools have, IPv4 first.
    pub families: Vec<Family>,
    /// Without one of the families it gets none.
    pub all_families: bool,
    /// Addresses that it wants.
    pub wanted: Vec<IpAddr>,
    /// The pool that they shall be of.
    pub pool: Option<Arc<str>>,
    /// Services with the same word may have the same address, where no port is the same.
    pub sharing: Option<Arc<str>>,
    /// Its ports.
    pub ports: Vec<(u16, Protocol)>,
    /// Only nodes with an endpoint of it announce its address: such an address cannot be shared.
    pub local: bool,
    /// What it has.
    pub current: Vec<IpAddr>,
}

/// Why a service gets no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no pool of that name.
    #[error("there is no pool {pool:?}; there are: {known}")]
    NoPool {
        /// The name.
        pool: Arc<str>,
        /// Names of pools.
        known: String,
    },
    /// The wanted address is in no pool, or not in the wanted one.
    #[error("{address} is in {}; choose an address of a pool", .pool.as_ref().map_or("no pool".to_owned(), |pool| format!("none of the prefixes of pool {pool:?}")))]
    Outside {
        /// The address.
        address: IpAddr,
        /// The pool that it was to be of.
        pool: Option<Arc<str>>,
    },
    /// Another service has the wanted address.
    #[error(
        "{address} is an address of Service {holder}; to share it both need the same sharing word, no port in common, and externalTrafficPolicy Cluster"
    )]
    Taken {
        /// The address.
        address: IpAddr,
        /// Who has it.
        holder: ServiceName,
    },
    /// The wanted address is no service's to have.
    #[error("{address} is a node's, the API server's, or that of a service that somebody else gave it to")]
    Foreign {
        /// The address.
        address: IpAddr,
    },
    /// Nothing is left.
    #[error("no {family:?} address is left in the pools that it may use")]
    Exhausted {
        /// Of which family.
        family: Family,
    },
}

/// What a service gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Its addresses, in order of its families.
    pub addresses: Vec<IpAddr>,
    /// Why some are missing.
    pub refusals: Vec<Refusal>,
}

/// Gives each service its addresses. `foreign` ones are somebody else's, and given to nobody.
#[must_use]
pub fn assign(
    pools: &[AddressPool],
    foreign: &BTreeSet<IpAddr>,
    requests: &[BalancerRequest],
) -> BTreeMap<ServiceName, Assignment> {
    let mut order: Vec<&BalancerRequest> = requests.iter().collect();
    order.sort_by_key(|request| (request.created.is_none(), &request.created, &request.service));
    let mut book = Book::new(pools, foreign);
    let mut open: Vec<Open<'_>> = order.into_iter().map(|request| book.open(request)).collect();
    for step in [Step::Keep, Step::Wanted, Step::Automatic] {
        for one in &mut open {
            book.walk(one, step);
        }
    }
    open.into_iter().map(Open::close).collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What they have and still want.
    Keep,
    /// What they want by name.
    Wanted,
    /// Whatever is free.
    Automatic,
}

/// A request with what it got so far.
struct Open<'r> {
    request: &'r BalancerRequest,
    /// Families with the address of each.
    got: Vec<(Family, Option<IpAddr>)>,
    refusals: Vec<Refusal>,
}

impl Open<'_> {
    fn close(self) -> (ServiceName, Assignment) {
        let complete = self.got.iter().all(|(_, address)| address.is_some());
        let addresses = self.got.iter().filter_map(|(_, address)| *address);
        let addresses = if complete || !self.request.all_families { addresses.collect() } else { Vec::new() };
        (self.request.service.clone(), Assignment { addresses, refusals: self.refusals })
    }
}

struct Book<'p, 'r> {
    pools: &'p [AddressPool],
    foreign: &'p BTreeSet<IpAddr>,
    holders: BTreeMap<IpAddr, Vec<&'r BalancerRequest>>,
    shared: BTreeMap<&'r str, BTreeSet<IpAddr>>,
    /// What was not looked at yet, of each prefix of each pool.
    unseen: Vec<Vec<IpAddrRange>>,
}

impl<'p, 'r> Book<'p, 'r> {
    fn new(pools: &'p [AddressPool], foreign: &'p BTreeSet<IpAddr>) -> Self {
        let unseen = pools.iter().map(|pool| pool.prefixes.iter().map(IpNet::hosts).collect()).collect();
        Self { pools, foreign, holders: BTreeMap::new(), shared: BTreeMap::new(), unseen }
    }

    fn open(&self, request: &'r BalancerRequest) -> Open<'r> {
        let mut families = request.families.clone();
        if families.is_empty() {
            families = request.wanted.iter().map(|address| family_of(*address)).collect();
            families.dedup();
        }
        if families.is_empty() {
            let has = |family| self.pools.iter().flat_map(|pool| &pool.prefixes).any(|p| family_of(p.addr()) == family);
            families.push(if has(Family::V4) || !has(Family::V6) { Family::V4 } else { Family::V6 });
        }
        let got = families.into_iter().map(|family| (family, None)).collect();
        let mut refusals = Vec::new();
        if let Some(pool) = request.pool.as_ref().filter(|name| !self.pools.iter().any(|pool| pool.name == **name)) {
            let known: Vec<&str> = self.pools.iter().map(|pool| &*pool.name).collect();
            refusals.push(Refusal::NoPool { pool: pool.clone(), known: known.join(", ") });
        }
        Open { request, got, refusals }
    }

    /// The pools that a service may use.
    fn allowed(&self, request: &BalancerRequest) -> impl Iterator<Item = (usize, &'p AddressPool)> + use<'p, 'r> {
        let (name, by_name) = (request.pool.clone(), !request.wanted.is_empty());
        let may = move |pool: &AddressPool| match &name {
            Some(name) => pool.name == *name,
            // Whoever names an address of a pool names the pool.
            None => pool.automatic || by_name,
        };
        self.pools.iter().enumerate().filter(move |(_, pool)| may(pool))
    }

    fn is_allowed(&self, request: &BalancerRequest, address: IpAddr) -> bool {
        self.allowed(request).any(|(_, pool)| pool.prefixes.iter().any(|prefix| prefix.contains(&address)))
    }

    fn walk(&mut self, open: &mut Open<'r>, step: Step) {
        let request = open.request;
        for (family, place) in &mut open.got {
            if place.is_some() {
                continue;
            }
            let of_family = |address: &&IpAddr| family_of(**address) == *family;
            let wanted = request.wanted.iter().find(of_family).copied();
            let has = |address: IpAddr| request.current.contains(&address);
            let found = match (step, wanted) {
                (Step::Keep, Some(wanted)) => Some(wanted).filter(|wanted| has(*wanted)),
                (Step::Keep, None) => request.current.iter().find(of_family).copied(),
                (Step::Wanted, wanted) => wanted,
                (Step::Automatic, Some(_)) => continue,
                (Step::Automatic, None) => self.free(request, *family),
            };
            let refusal = match found {
                Some(address) if !self.is_allowed(request, address) => {
                    Some(Refusal::Outside { address, pool: request.pool.clone() })
                }
                Some(address) if self.foreign.contains(&address) => Some(Refusal::Foreign { address }),
                Some(address) => match self.obstacle(request, address) {
                    None => {
                        *place = Some(address);
                        self.take(request, address);
                        None
                    }
                    Some(holder) => Some(Refusal::Taken { address, holder: holder.clone() }),
                },
                None if step == Step::Automatic => Some(Refusal::Exhausted { family: *family }),
                None => None,
            };
            // What cannot be kept is tried anew by the steps that follow.
            if step != Step::Keep {
                open.refusals.extend(refusal);
            }
        }
    }

    fn take(&mut self, request: &'r BalancerRequest, address: IpAddr) {
        self.holders.entry(address).or_default().push(request);
        if let Some(word) = &request.sharing {
            self.shared.entry(word).or_default().insert(address);
        }
    }

    /// Who stands in the way.
    fn obstacle(&self, request: &BalancerRequest, address: IpAddr) -> Option<&'r ServiceName> {
        let holders = self.holders.get(&address).into_iter().flatten();
        let apart = |holder: &BalancerRequest| {
            request.sharing.is_some()
                && holder.sharing == request.sharing
                && !holder.local
                && !request.local
                && !holder.ports.iter().any(|port| request.ports.contains(port))
        };
        holders.copied().find(|holder| !apart(holder)).map(|holder| &holder.service)
    }

    /// An address that others share with it, else the first that nobody has.
    fn free(&mut self, request: &BalancerRequest, family: Family) -> Option<IpAddr> {
        let shared = request.sharing.as_deref().and_then(|word| self.shared.get(word)).into_iter().flatten();
        let mut usable = shared.copied().filter(|address| family_of(*address) == family);
        let together =
            usable.find(|address| self.is_allowed(request, *address) && self.obstacle(request, *address).is_none());
        if together.is_some() {
            return together;
        }
        let pools: Vec<usize> = self.allowed(request).map(|(index, _)| index).collect();
        for pool in pools {
            let prefixes = self.pools[pool].prefixes.iter().zip(&mut self.unseen[pool]);
            for (_, unseen) in prefixes.filter(|(prefix, _)| family_of(prefix.addr()) == family) {
                let is_free = |address: &IpAddr| !self.holders.contains_key(address) && !self.foreign.contains(address);
                if let Some(address) = unseen.find(is_free) {
                    return Some(address);
                }
            }
        }
        None
    }
}
