//! Flannel's place: pods of other nodes over VXLAN, plain routes or UDP. Never policy or services.
//!
//! ```
//! use backend_vxlan::Vxlan;
//! use cni_core::backend::{Backend, Registry};
//!
//! let registry = Registry::default().with(Vxlan);
//! let backend = registry.get("vxlan")?;
//! backend.check(&serde_json::json!({ "mode": "direct-routing", "vni": 7 }))?;
//! assert!(backend.check(&serde_json::json!({ "vni": 0 })).is_err());
//! # Ok::<(), cni_core::backend::Error>(())
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the section of the configuration, as written and checked |
//! | [`compile`] | items to kernel objects, pure |
//! | [`object`] | the kernel objects: keys, contents, order |
//! | [`driver`] | the objects in the kernel |
//! | [`vtep`] | tunnel endpoints: MAC address, link-local address |
//! | [`probe`] | what this kernel can do |
//! | [`checksum`] | whether inner checksums are left to the network card |
//! | [`udp`] | encapsulation in user space |

#![forbid(unsafe_code)]

mod backend;
pub mod checksum;
pub mod compile;
pub mod config;
pub mod driver;
pub mod object;
pub mod probe;
pub mod udp;
pub mod vtep;
mod watch;

pub use backend::Vxlan;
