//! Cluster pools: prefixes cut into blocks that nodes claim by compare-and-swap. Never a lease of another node.
//!
//! ```yaml
//! apiVersion: cnidarian.io/v1
//! kind: IPPool
//! metadata: {name: default}
//! spec:
//!   cidr: 10.1.0.0/16          # cut into blocks
//!   blockSize: 26              # 64 addresses; the default
//!   encapsulation: CrossSubnet # Always, CrossSubnet, Never; without it the backend says
//!   nodeSelector: {matchLabels: {zone: a}}
//!   namespaceSelector: {matchLabels: {team: red}}
//!   reservations: [10.1.0.0/28, 10.1.3.7, 10.1.4.1-10.1.4.9]
//!   strictAffinity: false      # true: whole blocks only, no borrowing
//!   maxBlocksPerNode: 8
//!   disabled: false            # true: leases stay, no new ones
//! ```
//! `cidr` and `blockSize` of a pool in use are not changed: make a new pool, disable the old one.
//!
//! What an ADD costs: memory and one durable transaction as long as the node's claims last; one write of an `IPBlock`
//! when they do not.

mod block;
mod hints;
mod node;
mod seen;
mod spec;
mod view;

pub(crate) use block::block_of;
pub use block::{Claim, IpBlockSpec, block_key};
pub use hints::Hints;
pub use node::{DEFAULT_COOL_DOWN, PoolIpam, node_owner};
pub use spec::{IpPool, RawIpPoolSpec, pool_key, refuse_overlaps};
