//! What a backend can do on this kernel, and why not where it can't. Never guessed from a version: always probed.

use super::{Error, ErrorKind, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;

/// A thing that a backend may or may not be able to do here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Capability {
    /// IPv4 pods.
    Ipv4,
    /// IPv6 pods.
    Ipv6,
    /// Encapsulation by the kernel.
    Tunnel,
    /// Encapsulation in user space.
    UserTunnel,
    /// Plain routes to nodes of the same segment.
    DirectRouting,
    /// Kernel next-hop objects.
    NextHopObjects,
    /// Source NAT to the outside.
    Masquerade,
    /// Network policy.
    Policy,
    /// Policies about nodes themselves.
    HostPolicy,
    /// Services: what their addresses get is translated to one of their endpoints.
    Services,
    /// Packets of a tunnel that connection tracking does not see.
    UntrackedTunnel,
    /// A tunnel that hears nodes only.
    GuardedTunnel,
    /// Routers outside of the cluster are told of addresses of services.
    ServiceAddresses,
    /// Packets between pods skip the host's stack.
    FastPath,
    /// Clients outside of the node reach services by its addresses, and by those that are routed to it.
    OutsideClients,
    /// Forwarding goes on while the agent is down.
    SurvivesAgent,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// Yes, or no with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Support {
    /// It works here.
    Yes,
    /// It does not, and why.
    No {
        /// The reason, for a person.
        reason: String,
    },
}

/// Every capability that was probed. What was not probed is "not offered by this backend".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeMap<Capability, Support>);

impl Capabilities {
    /// The same with one more "yes".
    #[must_use]
    pub fn with(mut self, capability: Capability) -> Self {
        self.0.insert(capability, Support::Yes);
        self
    }

    /// The same with one more "no".
    #[must_use]
    pub fn without(mut self, capability: Capability, reason: impl fmt::Display) -> Self {
        self.0.insert(capability, Support::No { reason: reason.to_string() });
        self
    }

    /// The same with what a probe said: an error is the reason of a "no".
    #[must_use]
    pub fn probed(self, capability: Capability, result: std::result::Result<(), impl fmt::Display>) -> Self {
        match result {
            Ok(()) => self.with(capability),
            Err(reason) => self.without(capability, reason),
        }
    }

    /// Whether it works here.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.0.get(&capability) == Some(&Support::Yes)
    }

    /// All that was probed.
    pub fn iter(&self) -> impl Iterator<Item = (Capability, &Support)> {
        self.0.iter().map(|(capability, support)| (*capability, support))
    }

    /// Refuses what is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with every missing capability and its reason.
    pub fn require(&self, wanted: &[Capability]) -> Result<()> {
        let missing: Vec<String> = wanted
            .iter()
            .filter_map(|capability| match self.0.get(capability) {
                Some(Support::Yes) => None,
                Some(Support::No { reason }) => Some(format!("{capability}: {reason}")),
                None => Some(format!("{capability}: not offered by this backend")),
            })
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Unsupported, "require", "backend", missing.join("; ")))
    }
}
