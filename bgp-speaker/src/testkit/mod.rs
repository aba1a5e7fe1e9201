//! Speakers on a network in memory, in virtual time: for tests of embedders, and for simulations of thousands of nodes. Never
//! part of a speaker.

mod network;
mod node;

pub use network::{Network, NodeId};
pub use node::Traffic;
