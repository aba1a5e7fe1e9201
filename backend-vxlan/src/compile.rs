//! Items to kernel objects, one at a time. Pure: no kernel, no clock, no memory of other items.
//!
//! ```text
//!  item                      objects
//!  (the node)                settings, tunnel device, its link-local address, outer packets that are not tracked
//!  block 10.1.2.0/26         unreachable 10.1.2.0/26 (pods' /32 routes are more specific), the node's own address
//!  peer, through VXLAN       fdb MAC -> underlay address; neighbour fe80::MAC -> MAC; next hop fe80::MAC; route per prefix
//!                            (and the tunnel device again: the peer waits for it)
//!  peer, on our segment      next hop (underlay address); route per prefix
//!  peer, through UDP         forward and route into the TUN device per prefix
//! ```

mod node;
mod peer;
#[cfg(test)]
mod tests;

pub use node::Compiler;
