//! The Cilium-style backend: [`Ebpf`], a datapath whose tunnel and fast path are programs; and policy by identity, in programs at
//! the host's end of pods' veths, as an engine beside any backend. Never a label or a dialect.
//!
//! ```no_run
//! use backend_ebpf::enforce::Enforcer;
//! use backend_ebpf::kernel::{Hook, Object, Sizes, Way};
//!
//! let mut enforcer = Enforcer::new(Object::load(&Sizes::default())?);
//! // Take items of the core's compiler into `enforcer.tables`, then:
//! enforcer.commit()?;
//! let (mut hooks, veth) = (Hook::probe().open()?, nix::net::if_::if_nametoindex("cni0123456789ab")?);
//! for way in Way::PODS {
//!     enforcer.object.attach(&mut hooks, way, veth)?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`config`] | the section of the configuration, as written and checked |
//! | [`compile`] | items to kernel objects, pure |
//! | [`object`] | the kernel objects: keys, contents, order |
//! | [`lengths`] | which lengths prefixes have, as programs walk them |
//! | [`driver`] | the objects in the kernel |
//! | [`probe`] | what this kernel can do |
//! | [`policy`] | items to entries of maps, pure |
//! | [`kernel`] | the programs and maps in the kernel |
//! | [`engine`] | the policy engine that agents and embedders open |
//! | [`service`] | services at sockets: the proxy "ebpf" |
//! | [`enforce`] | the two together: what is staged gets written, in order |
//! | [`flows`] | what the programs tell of packets, with the names of rules |
//!
//! The programs themselves are in `programs/`, a workspace of its own; `cargo xtask bpf build` makes `objects/*.o` of
//! them, which is committed and part of this library. Keys and values are in `abi/`.

#![deny(unsafe_code)]

mod backend;
mod bpffs;
pub mod compile;
pub mod config;
pub mod driver;
pub mod enforce;
pub mod engine;
pub mod flows;
pub mod kernel;
pub mod lengths;
mod mounts;
pub mod object;
mod placed;
pub mod policy;
mod ports;
pub mod probe;
pub mod service;
mod watch;

pub use backend::{Ebpf, EbpfAt};
pub use backend_ebpf_abi as abi;
