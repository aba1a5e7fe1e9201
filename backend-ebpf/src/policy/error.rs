//! Why an item is not enforced. Never a failure of the kernel: those are the maps'.

use cni_core::policy::model::Direction;
use cni_core::policy::program::{ChainId, PolicyKey};

/// An item that cannot be enforced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A program calls a chain that is not there. The endpoint is closed.
    #[error("{item}: chain {chain} is not there")]
    NoChain {
        /// Whose program.
        item: PolicyKey,
        /// The chain.
        chain: ChainId,
    },
    /// A program needs more classes than keys have room for. The endpoint is closed.
    #[error("{item}, {direction}: too many different conditions on ports, protocols and peers")]
    TooLarge {
        /// Whose program.
        item: PolicyKey,
        /// Which direction.
        direction: Direction,
    },
}
