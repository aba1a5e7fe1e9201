//! A lease: one address held by one interface of one container. Never the kernel's address.

use crate::model::{EndpointId, PodRef};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01T00:00:00Z, as it is written to disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The time from `earlier` to `self`; zero when the clock was set back in between.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl From<SystemTime> for UnixMillis {
    /// Times before 1970 count as 1970.
    fn from(time: SystemTime) -> Self {
        let millis = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        Self(u64::try_from(millis).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// One address held by one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// The network the address was taken from (a block, a `podCIDR`, a range's subnet), without host bits.
    pub subnet: IpNet,
    /// The gateway that the source of addresses names, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The pool's name; `podCIDR` for a node's own prefix, `range set <n>` for host-local.
    pub pool: String,
    /// Who holds it.
    pub owner: EndpointId,
    /// The pod, where the runtime said which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodRef>,
    /// When it was given.
    pub assigned_at: UnixMillis,
}

/// An address that was released and is not yet forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cooling {
    /// The address.
    pub address: IpAddr,
    /// When it was released.
    pub released_at: UnixMillis,
}
