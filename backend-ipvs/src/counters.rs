//! What IPVS counts of our services, read beside the driver. Never writes.

use cni_core::backend::{BackendCounts, FrontendCounts, Result, ServiceCounters, Traffic};
use cni_core::model::ServiceKey;
use cni_core::policy::model::Protocol;
use net_linux::ipvs::{Ipvs, ServiceId, Stats};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// A connection of its own, so that the driver does not wait for who counts.
pub(crate) struct Counters(Mutex<Ipvs>);

impl Counters {
    /// Of the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self(Mutex::new(Ipvs::open()?)))
    }
}

impl ServiceCounters for Counters {
    fn read(&self) -> Result<BTreeMap<ServiceKey, FrontendCounts>> {
        let mut ipvs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = BTreeMap::new();
        for (service, stats) in ipvs.services()?.into_iter().filter(|(service, _)| service.ours) {
            let ServiceId::Address { protocol, address } = service.id else { continue };
            let key = ServiceKey { address: address.ip(), port: address.port(), protocol: Protocol(protocol) };
            let backends = ipvs.destinations(&service.id)?.into_iter().map(|(destination, connections, stats)| {
                let counts = BackendCounts {
                    weight: Some(destination.weight),
                    active: Some(connections.active),
                    inactive: Some(connections.inactive),
                    traffic: Some(traffic(&stats)),
                };
                (destination.address, counts)
            });
            all.insert(key, FrontendCounts { traffic: Some(traffic(&stats)), backends: backends.collect() });
        }
        Ok(all)
    }
}

const fn traffic(stats: &Stats) -> Traffic {
    Traffic {
        connections: stats.connections,
        packets_in: stats.packets_in,
        packets_out: stats.packets_out,
        bytes_in: stats.bytes_in,
        bytes_out: stats.bytes_out,
        connections_per_second: stats.connections_per_second,
        packets_in_per_second: stats.packets_in_per_second,
        packets_out_per_second: stats.packets_out_per_second,
        bytes_in_per_second: stats.bytes_in_per_second,
        bytes_out_per_second: stats.bytes_out_per_second,
    }
}
