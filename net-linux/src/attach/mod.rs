//! Attaching pods: a veth with both ends in their final namespaces, and everything inside the pod. Never the host's
//! routes and neighbours: those are [`crate::endpoint`]'s, so that a datapath reconciles them.
//!
//! ```text
//!            host namespace                              pod's namespace
//!   cni0123456789ab (no address, alias) ====veth==== eth0  10.1.2.3/32, 2001:db8::3/128 (no DAD)
//!   route 10.1.2.3/32 dev cni..  (endpoint)          default via 169.254.1.1 and fe80::1, both on link
//!   neighbour 10.1.2.3 permanent (endpoint)          neighbours 169.254.1.1 and fe80::1 permanent: the host's end
//! ```
//!
//! ADD costs four `sendmsg`: the veth with the host's end, which is down (one), the pod's index (two), the pod's side (three), the
//! host's end up (four). What has to be at the host's end before the first packet is put there in between.
//! DEL takes the link down and into the group of doomed links; [`Attacher::reap`] deletes the group and so pays the
//! kernel's grace periods once for all.

mod attacher;
mod check;
mod elsewhere;
mod error;
mod list;
mod pod;
mod request;

pub use attacher::{Attacher, Detached, OpenError};
pub use check::{Drifted, Side};
pub use error::AttachError;
pub use list::Attached;
pub use request::{AttachRequest, Attachment, PodRoute};

pub(crate) use list::our_veths;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The pod's gateway for IPv4: link-local (RFC 3927), the same in every pod, assigned to nobody.
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The pod's gateway for IPv6: link-local, the same in every pod, assigned to nobody.
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The pod's gateway for destinations of an address's family.
#[must_use]
pub const fn gateway(family_of: IpAddr) -> IpAddr {
    match family_of {
        IpAddr::V4(_) => IpAddr::V4(GATEWAY_V4),
        IpAddr::V6(_) => IpAddr::V6(GATEWAY_V6),
    }
}
