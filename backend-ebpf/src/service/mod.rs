//! Services at the sockets of a node's pods and of the node itself, and for clients outside of it. Never a packet of a pod.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the section of the configuration |
//! | [`compile`] | a frontend to entries of maps, pure |
//! | [`driver`] | those entries and the hooks, for the engine |
//! | [`clients`] | whose sockets are served |
//! | [`outside`] | what begins at no socket of ours, by nftables |
//! | `both` | the two as one engine |
//! | `flush` | the end of UDP sockets whose backend is gone |
//! | `maps`, `hooks`, `pins` | the kernel's side of it |
//! | `probe` | what this kernel can do |
//! | [`proxy`] | the way in for a registry |

mod both;
pub mod clients;
pub mod compile;
pub mod config;
pub mod driver;
mod flush;
mod hooks;
mod maglev;
mod maps;
mod meter;
mod object;
pub mod outside;
mod pins;
mod probe;
pub mod proxy;

pub use clients::{ClientDriver, ClientKey, ClientObject};
pub use compile::{Key, Object, compile};
pub use config::{Config, Sizes};
pub use driver::SocketDriver;
pub use object::{Hook, OBJECT, Programs};
pub use pins::Generation;
pub use proxy::EbpfServices;
