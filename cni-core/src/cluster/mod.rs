//! What this node must know of the cluster, as changes for its datapath. Never the whole objects, never the kernel.
//!
//! ```text
//!  Node ----+                                 +--> Put / Remove(Peer)
//!  IPBlock -+--> ClusterView --> PeerTable ---+
//!  IPPool --+    (reads, checks)  (slim)      +--> Put / Remove(LocalBlock), for this node's own prefixes
//! ```

mod claims;
mod problem;
mod table;
mod view;

pub use problem::{ClusterProblem, NotForPods};
pub use table::PeerTable;
pub use view::{ClusterView, PodNetwork};
