//! Why an item is not enforced. Never a failure of the kernel: those are the maps'.

use cni_core::model::EndpointId;
use cni_core::policy::model::Direction;
use cni_core::policy::program::ChainId;

/// An item that cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A program calls a chain that is not there. The endpoint is closed.
    #[error("policy of endpoint {endpoint}: chain {chain} is not there")]
    NoChain {
        /// Whose program.
        endpoint: EndpointId,
        /// The chain.
        chain: ChainId,
    },
    /// A program needs more classes than keys have room for. The endpoint is closed.
    #[error("policy of endpoint {endpoint}, {direction}: too many different conditions on ports, protocols and peers")]
    TooLarge {
        /// Whose program.
        endpoint: EndpointId,
        /// Which direction.
        direction: Direction,
    },
    /// A program of the node itself, which these programs do not enforce.
    #[error("policy of the node itself is not enforced by the eBPF programs")]
    HostProgram,
}
