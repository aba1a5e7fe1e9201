//! Calico's place: blocks of pods announced over BGP, in a mesh of nodes or through route reflectors, and wrapped where the
//! network between cannot carry them; addresses of services announced to whom the configuration names. Never policy, and never
//! the translation of services.
//!
//! ```
//! use backend_bgp::Bgp;
//! use cni_core::backend::{Backend, Registry};
//!
//! let registry = Registry::default().with(Bgp);
//! let backend = registry.get("bgp")?;
//! backend.check(&serde_json::json!({
//!     "asn": 64512,
//!     "mode": "reflectors",
//!     "reflectors": { "selector": "has(route-reflector)" },
//!     "peers": [{ "name": "tor", "nodeSelector": "rack == '7'", "address": "192.0.2.254", "asn": 65001 }]
//! }))?;
//! assert!(backend.check(&serde_json::json!({ "asn": 0 })).is_err());
//! # Ok::<(), cni_core::backend::Error>(())
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the section of the configuration, as written and checked |
//! | [`compile`] | items to objects, pure |
//! | [`object`] | the objects: keys, contents, order |
//! | [`driver`] | the objects in the kernel and in the speaker's table |
//! | [`table`] | what the speaker of this process is told |
//! | [`tunnel`] | ends of tunnels: Ethernet and link-local addresses |
//! | [`probe`] | what this kernel can do |

#![forbid(unsafe_code)]

mod backend;
pub mod compile;
pub mod config;
pub mod driver;
mod inspect;
pub mod object;
pub mod probe;
pub mod table;
mod task;
pub mod tunnel;
mod watch;

pub use backend::Bgp;
