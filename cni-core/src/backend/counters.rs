//! What passes services, as a proxy's kernel counts it: for people and monitors. Never what anything is decided by.

use super::Result;
use crate::model::ServiceKey;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What passed since the counters were made, and rates of now. `out` is what goes back to clients, where the proxy sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Connections that were led to a backend.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients.
    pub packets_out: u64,
    /// Bytes from clients, with IP headers.
    pub bytes_in: u64,
    /// Bytes to clients, with IP headers.
    pub bytes_out: u64,
    /// Connections per second, averaged over some seconds.
    pub connections_per_second: u64,
    /// Packets per second from clients.
    pub packets_in_per_second: u64,
    /// Packets per second to clients.
    pub packets_out_per_second: u64,
    /// Bytes per second from clients.
    pub bytes_in_per_second: u64,
    /// Bytes per second to clients.
    pub bytes_out_per_second: u64,
}

/// What a proxy knows of one backend of a frontend. `None`: it does not count that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BackendCounts {
    /// Its share of new connections; 0: it gets none.
    pub weight: Option<u32>,
    /// Established connections.
    pub active: Option<u32>,
    /// Others that are remembered: closing, or without a state (UDP).
    pub inactive: Option<u32>,
    /// What passed it.
    pub traffic: Option<Traffic>,
}

/// What a proxy knows of one frontend.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrontendCounts {
    /// What passed it; `None`: this is not counted.
    pub traffic: Option<Traffic>,
    /// Its backends that are in the kernel, also those that drain.
    pub backends: BTreeMap<SocketAddr, BackendCounts>,
}

/// Reads what a proxy's kernel counts, beside the proxy. It may wait for the kernel, for up to seconds where services are many.
///
/// # Laws
/// 1. Reading changes nothing.
/// 2. A frontend that is not in the kernel, or is not the proxy's, is left out.
pub trait ServiceCounters: Send + Sync {
    /// All that is known now, by frontend.
    ///
    /// # Errors
    /// The kernel could not be read.
    fn read(&self) -> Result<BTreeMap<ServiceKey, FrontendCounts>>;
}
