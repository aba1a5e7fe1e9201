//! What is wrong in the cluster's state. Never an error of a call: the rest of the cluster works on.

use crate::model::NodeName;
use crate::store::InvalidObject;
use ipnet::IpNet;
use std::net::IpAddr;

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
