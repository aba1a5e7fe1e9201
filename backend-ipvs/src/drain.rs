//! When a destination that was taken away goes. Never reads a clock or the kernel: it is told.

use net_linux::ipvs::{Connections, Destination, ServiceId};
use net_linux::marks;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// `IPPROTO_UDP`.
const UDP: u8 = 17;

/// What becomes of a destination that is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes at once.
    Goes,
    /// It stays without new connections until those that it has are over.
    Drains,
}

/// What becomes of a destination with these connections. Whoever sends datagrams gets another one with the next.
#[must_use]
pub fn fate(id: &ServiceId, connections: Connections, patience: Duration) -> Fate {
    let datagrams = matches!(id, ServiceId::Address { protocol: UDP, .. });
    if datagrams || patience.is_zero() || is_idle(connections) { Fate::Goes } else { Fate::Drains }
}

/// Nobody talks to it any more, also not one that has said its last.
const fn is_idle(connections: Connections) -> bool {
    connections.active == 0 && connections.inactive == 0
}

/// A destination as it stands in the kernel while it drains.
#[must_use]
pub fn draining(address: SocketAddr) -> Destination {
    Destination { weight: 0, upper_threshold: marks::IPVS_DRAINING, ..Destination::new(address) }
}

/// Whether a destination stands so, whoever took it away.
#[must_use]
pub const fn is_draining(destination: &Destination) -> bool {
    destination.weight == 0 && destination.upper_threshold == marks::IPVS_DRAINING
}

/// Destinations that drain, and since when as far as this process knows.
#[derive(Debug, Default)]
pub struct Ledger(BTreeMap<ServiceId, BTreeMap<SocketAddr, Instant>>);

impl Ledger {
    /// One drains now; if it did before, since then.
    pub fn begin(&mut self, id: ServiceId, address: SocketAddr, now: Instant) {
        self.0.entry(id).or_default().entry(address).or_insert(now);
    }

    /// One is in use again, or gone.
    pub fn end(&mut self, id: &ServiceId, address: &SocketAddr) {
        if let Some(of_service) = self.0.get_mut(id) {
            of_service.remove(address);
            if of_service.is_empty() {
                self.0.remove(id);
            }
        }
    }

    /// A service is gone, with its destinations.
    pub fn end_all(&mut self, id: &ServiceId) {
        self.0.remove(id);
    }

    /// Whether none drains.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Services with destinations that drain.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceId> {
        self.0.keys().copied().collect()
    }

    /// Of a service's destinations as they are now, those that go: idle ones, and those whose time is over. What is not there
    /// any more, or is in use again, is forgotten.
    pub fn due(
        &mut self,
        id: &ServiceId,
        found: &BTreeMap<SocketAddr, (bool, Connections)>,
        now: Instant,
        patience: Duration,
    ) -> Vec<SocketAddr> {
        let Some(of_service) = self.0.get_mut(id) else { return Vec::new() };
        of_service.retain(|address, _| found.get(address).is_some_and(|(draining, _)| *draining));
        let over = |address: &SocketAddr, since: &Instant| {
            found.get(address).is_some_and(|(_, connections)| is_idle(*connections))
                || now.saturating_duration_since(*since) >= patience
        };
        let due =
            of_service.iter().filter(|(address, since)| over(address, since)).map(|(address, _)| *address).collect();
        if of_service.is_empty() {
            self.0.remove(id);
        }
        due
    }
}

#[cfg(test)]
mod tests;
