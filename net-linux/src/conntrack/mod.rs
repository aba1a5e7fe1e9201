//! Tracked connections: read them, forget those that a filter names, set bits of their marks. Never makes one.
//!
//! A verdict that turns to deny does not reach connections that are let through because they are established: they have to
//! be forgotten, and only they. The kernel does it by itself since 6.12, for IPv4; else we read all and delete one by one.

mod flow;
mod kernel;

pub use flow::{Flow, FlowFilter, Tuple, TupleFilter};
pub use kernel::{Conntrack, Flushed};

#[cfg(test)]
mod tests;
