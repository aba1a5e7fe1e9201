//! Network policy without a kernel: dialects are read into one model, which is evaluated, explained and compiled.
//!
//! ```text
//! pods, namespaces, nodes, sets        NetworkPolicy, ClusterNetworkPolicy, Calico's, Cilium's    (objects of the store)
//!      |                                    | dialect::read
//!      +-------------> Intake <-------------+
//!                         | ModelChange: workloads, tiers, policies
//!          +--------------+----------------+
//!          v                               v
//!     World, evaluate                  Compiler: PolicyItems as deltas (program)
//!     verdict and reason               for the local endpoints
//!     (people; the oracle)                 v
//!                                      engines (nftables, eBPF)
//! ```

pub mod cases;
pub mod compile;
pub mod counters;
pub mod dialect;
pub mod evaluate;
pub mod failsafe;
pub mod intake;
pub mod lint;
#[cfg(feature = "files")]
pub mod manifests;
pub mod model;
pub mod program;
pub mod world;

pub use intake::Intake;
