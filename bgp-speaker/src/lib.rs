//! A BGP-4 speaker to embed. Never touches the kernel's tables: routes for them come out as data.
//!
//! Everything but the transport is without a clock and without a socket: time and bytes come in, actions go out, so that a
//! simulation of thousands of nodes and a router run the same code.
//!
//! ```text
//!             bytes, time                                     routes for the kernel
//!  transport ------------> speaker ---> session (one peer) ---> rib ---> best paths ---+---> Fib
//!  (tokio)   <------------    |            wire (bytes <-> types)                       |
//!             bytes, timers   +--> bfd                                export <---------+
//!                                                                     (groups of peers, packed UPDATEs)
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | what a speaker is told to be |
//! | [`types`] | plain data that all parts share |
//! | [`rib`] | routes of all peers, and the choice among them |
//! | [`policy`] | what may pass, and how it is changed |
//! | [`export`] | what is told to whom |
//! | [`speaker`] | the whole: what comes in, what goes out |

#![deny(unsafe_code)]

pub mod config;
pub mod export;
pub mod policy;
pub mod rib;
pub mod speaker;
pub mod types;
