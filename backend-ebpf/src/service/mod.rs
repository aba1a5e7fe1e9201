//! Services at the sockets of a node's pods and of the node itself. Never a packet: what comes from outside is not translated.
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the section of the configuration |
//! | [`compile`] | a frontend to entries of maps, pure |
//! | [`driver`] | those entries and the hooks, for the engine |
//! | [`clients`] | whose sockets are served |
//! | `flush` | the end of UDP sockets whose backend is gone |
//! | `maps`, `hooks`, `pins` | the kernel's side of it |
//! | `probe` | what this kernel can do |
//! | [`proxy`] | the way in for a registry |

pub mod clients;
pub mod compile;
pub mod config;
pub mod driver;
mod flush;
mod hooks;
mod maglev;
mod maps;
mod object;
mod pins;
mod probe;
pub mod proxy;

pub use clients::{ClientDriver, Namespace, Served};
pub use compile::{Key, Object, compile};
pub use config::{Config, Sizes};
pub use driver::SocketDriver;
pub use object::{Hook, OBJECT, Programs};
pub use pins::Generation;
pub use proxy::EbpfServices;
