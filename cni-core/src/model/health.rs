//! An address at which a node says whether it has endpoints of a service, for balancers outside. Never the answering.

use super::ServiceName;
use crate::backend::{Change, Item};
use std::net::SocketAddr;

/// A service's `healthCheckNodePort` at one address of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// Where it is asked. The port is never 0.
    pub at: SocketAddr,
    /// The service.
    pub service: ServiceName,
    /// Ready endpoints of the service on this node, of the family of the address. Of none, balancers are to send nothing here.
    pub endpoints: usize,
}

impl Item for HealthCheck {
    type Key = SocketAddr;

    fn key(&self) -> SocketAddr {
        self.at
    }
}

/// A change of what is answered.
pub type HealthChange = Change<HealthCheck>;
