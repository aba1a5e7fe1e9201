//! Items to objects, one at a time. Pure: no kernel, no clock, no memory of other items.
//!
//! ```text
//!  item                      objects
//!  (the node)                settings; the speaker, its peers that are no nodes, its ranges, service prefixes;
//!                            with encapsulation: tunnel device, its link-local address, whom it hears
//!  block 10.1.2.0/26         unreachable 10.1.2.0/26 (pods' /32 routes are more specific), its announcement
//!  endpoint                  its route and neighbour; its address, to be announced where it lies outside this node's blocks
//!  service address           its announcement
//!  peer                      a session, where the mode or a rule wants one; what its pools say of encapsulation;
//!                            with encapsulation: the far end of the tunnel
//! ```
//!
//! Routes to other nodes are no objects here: they are learned.

mod node;
mod peer;
mod services;
#[cfg(test)]
mod tests;

pub use node::Compiler;

/// What names of sessions with nodes begin with; the node's name follows.
pub const SESSION_PREFIX: &str = "node/";
/// The attribute with the system of a node.
pub const ATTRIBUTE_ASN: &str = "bgp-asn";
/// The attribute with the port of a node's speaker.
pub const ATTRIBUTE_PORT: &str = "bgp-port";
/// The attribute with the tunnel's VXLAN network identifier and UDP port, `VNI/PORT`; or [`IPIP`].
pub const ATTRIBUTE_TUNNEL: &str = "bgp-tunnel";
/// What [`ATTRIBUTE_TUNNEL`] is where the tunnel is IPIP.
pub const IPIP: &str = "ipip";
