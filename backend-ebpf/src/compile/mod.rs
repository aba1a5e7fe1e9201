//! Items to kernel objects, one at a time. Pure: no kernel, no clock, no memory of other items.
//!
//! ```text
//!  item                      objects
//!  (the node)                settings; mode vxlan: tunnel device, whom it hears, outer packets that are not tracked;
//!                            programs of the tunnel device, with the fast path of the underlay too
//!  block 10.1.2.0/26         unreachable 10.1.2.0/26 (pods' /32 routes are more specific), the node's own address
//!  peer, mode vxlan          the programs' entry per prefix, route per prefix into the device
//!  peer, mode native         route per prefix to the peer's address on our segment; with the fast path the entry too
//!  endpoint                  its route and neighbour; with the fast path its entries and its program
//! ```

mod node;
mod peer;
#[cfg(test)]
mod tests;

pub use node::Compiler;

/// The attribute with the tunnel's VXLAN network identifier and UDP port, `VNI/PORT`.
pub const ATTRIBUTE_TUNNEL: &str = "ebpf-tunnel";
