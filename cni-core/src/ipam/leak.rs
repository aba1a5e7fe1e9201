//! Finds leases whose containers are gone. Never releases one, and has no clock: time comes in.

use super::{Lease, UnixMillis};
use crate::model::EndpointId;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// A lease that nobody seems to use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leak {
    /// Who holds it.
    pub owner: EndpointId,
    /// Its addresses, sorted.
    pub addresses: Vec<IpAddr>,
    /// When it was first seen without its container.
    pub since: UnixMillis,
}

/// Watches for leaks.
///
/// # Laws
/// 1. A leak is reported only after two observations, at least the grace period apart, and none in between that saw
///    the container.
/// 2. A lease that was given anew in between is another lease: its time begins again.
/// 3. A lease younger than the grace period is no suspect: its ADD may still be under way.
#[derive(Debug, Clone)]
pub struct LeakDetector {
    grace: Duration,
    /// First seen without a container, and when the lease was given that was seen then.
    suspects: BTreeMap<EndpointId, (UnixMillis, UnixMillis)>,
}

impl LeakDetector {
    /// A detector that has seen nothing yet.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { grace, suspects: BTreeMap::new() }
    }

    /// One observation: all leases, and the attachments whose containers live. Returns the leaks, sorted by owner.
    pub fn observe(&mut self, leases: &[Lease], live: &BTreeSet<EndpointId>, now: UnixMillis) -> Vec<Leak> {
        let mut orphans: BTreeMap<&EndpointId, (UnixMillis, Vec<IpAddr>)> = BTreeMap::new();
        for lease in leases.iter().filter(|lease| !live.contains(&lease.owner)) {
            if now.since(lease.assigned_at) < self.grace {
                continue;
            }
            let orphan = orphans.entry(&lease.owner).or_default();
            orphan.0 = orphan.0.max(lease.assigned_at);
            orphan.1.push(lease.address);
        }
        self.suspects.retain(|owner, (_, assigned)| orphans.get(owner).is_some_and(|orphan| orphan.0 == *assigned));
        let mut leaks = Vec::new();
        for (owner, (assigned, mut addresses)) in orphans {
            match self.suspects.get(owner) {
                None => drop(self.suspects.insert(owner.clone(), (now, assigned))),
                Some((since, _)) if now.since(*since) >= self.grace => {
                    addresses.sort();
                    leaks.push(Leak { owner: owner.clone(), addresses, since: *since });
                }
                Some(_) => {}
            }
        }
        leaks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const GRACE: Duration = Duration::from_secs(60);

    fn owner() -> EndpointId {
        EndpointId::of("gone", "eth0").unwrap()
    }

    fn lease(assigned_at: u64) -> Lease {
        let address = Ipv4Addr::new(10, 0, 0, 1).into();
        Lease {
            address,
            subnet: address.into(),
            gateway: None,
            pool: "p".to_owned(),
            owner: owner(),
            pod: None,
            assigned_at: UnixMillis(assigned_at),
        }
    }

    fn seconds(seconds: u64) -> UnixMillis {
        UnixMillis(seconds * 1000)
    }

    #[test]
    fn a_leak_needs_two_observations_and_the_grace_between() {
        let (mut detector, leases, nobody) = (LeakDetector::new(GRACE), [lease(0)], BTreeSet::new());
        assert_eq!(detector.observe(&leases, &nobody, seconds(1000)), []);
        assert_eq!(detector.observe(&leases, &nobody, seconds(1059)), []);
        let leaks = detector.observe(&leases, &nobody, seconds(1060));
        assert_eq!(leaks.iter().map(|leak| leak.since).collect::<Vec<_>>(), [seconds(1000)]);
    }

    #[test]
    fn a_container_that_comes_back_clears_the_suspicion() {
        let (mut detector, leases, nobody) = (LeakDetector::new(GRACE), [lease(0)], BTreeSet::new());
        detector.observe(&leases, &nobody, seconds(1000));
        detector.observe(&leases, &BTreeSet::from([owner()]), seconds(1030));
        assert_eq!(detector.observe(&leases, &nobody, seconds(1061)), []);
    }

    #[test]
    fn a_new_lease_of_an_old_owner_begins_again_and_a_young_one_is_no_suspect() {
        let (mut detector, nobody) = (LeakDetector::new(GRACE), BTreeSet::new());
        detector.observe(&[lease(0)], &nobody, seconds(1000));
        assert_eq!(detector.observe(&[lease(1_030_000)], &nobody, seconds(1061)), [], "31 s old");
        assert_eq!(detector.observe(&[lease(1_030_000)], &nobody, seconds(1100)), [], "first observation");
        assert_eq!(detector.observe(&[lease(1_030_000)], &nobody, seconds(1160)).len(), 1);
    }
}
