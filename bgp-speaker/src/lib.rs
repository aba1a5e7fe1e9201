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
//! A speaker of system 64512 with one peer, as an embedder begins it; the transport gives it sockets, and the example
//! `embed-bgp` is a whole program:
//!
//! ```
//! use bgp_speaker::config::{Config, PeerAddress, PeerConfig, RemoteAsn};
//! use bgp_speaker::speaker::{Beginning, Input, Origination, Output, Speaker};
//! use bgp_speaker::types::{Asn, RouterId};
//! use std::time::Instant;
//!
//! let asn = Asn::new(64_512).ok_or("not a system")?;
//! let mut config = Config::new(asn, RouterId::new([192, 0, 2, 1].into()).ok_or("not an id")?);
//! let router = PeerAddress::Ip([192, 0, 2, 254].into());
//! config.peers.insert("router".into(), PeerConfig::new(router, RemoteAsn::External));
//! let mut speaker = Speaker::new(Instant::now(), config, &Beginning::Fresh, 7)?;
//! speaker.announce(Instant::now(), "10.0.0.0/26".parse()?, &Origination::default());
//!
//! let mut out = Vec::new();
//! speaker.handle(Instant::now(), Input::Tick, &mut out);
//! assert!(out.iter().any(|output| matches!(output, Output::Connect { target, .. } if target.remote.port() == 179)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
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
