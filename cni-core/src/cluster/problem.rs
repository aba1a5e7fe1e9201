//! What is wrong in the cluster's state. Never an error of a call: the rest of the cluster works on.

use crate::model::NodeName;
use crate::store::InvalidObject;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// Why a route for pods must not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotForPods {
    /// It is kept for other things, see [`crate::model::never_of_pods`].
    Special,
    /// It is on link of our underlay: a route would cut its nodes off.
    Underlay,
    /// It is the node's own underlay address: the way to the pods would lead through itself.
    OwnAddress,
}

impl fmt::Display for NotForPods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Special => "which is not for pods",
            Self::Underlay => "which is this node's underlay",
            Self::OwnAddress => "which is that node's own underlay address",
        })
    }
}

/// Something in the cluster's state that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterProblem {
    /// An object that cannot be read; it counts as absent.
    #[error(transparent)]
    Invalid(InvalidObject),
    /// Two nodes have one prefix. The same one wins on every node.
    #[error(
        "prefix {prefix} belongs to node {winner} and to node {loser}; {winner} gets its traffic, so give {loser} another"
    )]
    SharedPrefix {
        /// The prefix.
        prefix: IpNet,
        /// Whose it is: a block's holder before a `podCIDR`, then the lesser name.
        winner: NodeName,
        /// Who has it too.
        loser: NodeName,
    },
    /// A node's prefix cannot be routed. It is left out, and the node's others are not.
    #[error("prefix {prefix} of node {node} overlaps {other}, {what}; it is left out, so give {node} another")]
    UnusablePrefix {
        /// The node.
        node: NodeName,
        /// Its prefix.
        prefix: IpNet,
        /// What the prefix overlaps.
        other: IpNet,
        /// What that is.
        what: NotForPods,
    },
    /// A pool's prefix cannot be routed on this node. Nothing is given from it here.
    #[error(
        "pool {pool}: spec.cidr: {cidr} overlaps {segment} of this node's underlay; use a pool outside of {segment}"
    )]
    PoolOnUnderlay {
        /// The pool.
        pool: Arc<str>,
        /// Its prefix.
        cidr: IpNet,
        /// The prefix on link of the underlay.
        segment: IpNet,
    },
    /// A node cannot be reached.
    #[error(
        "node {node} has no underlay address; its agent writes the annotation cnidarian.io/v4-address or v6-address, \
        or set an InternalIP in status.addresses"
    )]
    NoUnderlayAddress {
        /// The node.
        node: NodeName,
    },
    /// Another node says it has our underlay address; it is left out.
    #[error(
        "node {node} publishes {address}, which is this node's own underlay address; correct its address or delete it"
    )]
    OwnAddress {
        /// The other node.
        node: NodeName,
        /// Our address.
        address: IpAddr,
    },
    /// Our own Node object has an address that is not ours: another agent runs under our name, or has not yet written it.
    #[error(
        "this node's own object {node} publishes {published}, but the underlay address here is {own}; \
        is another agent running under this name?"
    )]
    OwnName {
        /// Our name.
        node: NodeName,
        /// What stands in the object.
        published: IpAddr,
        /// What we have.
        own: IpAddr,
    },
}
