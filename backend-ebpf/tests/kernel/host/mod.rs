//! The node's own policy: packet by packet against the evaluator, and on real packets between namespaces. Never a pod's but where
//! the two meet.

pub(crate) mod frames;
mod node;
mod oracle;
mod packets;
mod wire;
