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
//! | [`bfd`] | whether a neighbour still answers: RFC 5880 without a clock or a socket |
//! | [`config`] | what a speaker is told to be |
//! | [`types`] | plain data that all parts share |
//! | [`session`] | one peer's state machine |
//! | [`wire`] | bytes to messages and back |
//! | [`rib`] | routes of all peers, and the choice among them |
//! | [`policy`] | what may pass, and how it is changed |
//! | `transport` | sockets for all of it, with tokio (feature `tokio`) |
//! | [`export`] | what is told to whom |
//! | [`speaker`] | the whole: what comes in, what goes out |

#![deny(unsafe_code)]

pub mod bfd;
pub mod config;
pub mod export;
pub mod policy;
pub mod rib;
pub mod session;
pub mod speaker;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
#[cfg(feature = "tokio")]
pub mod transport;
pub mod types;
pub mod wire;
