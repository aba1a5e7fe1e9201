//! The beginning of the Cilium-style backend: policy by identity, in programs at the host's end of pods' veths. Never a label
//! or a dialect, and not yet a backend: no agent attaches it, and no registry knows it.
//!
//! ```no_run
//! use backend_ebpf::enforce::Enforcer;
//! use backend_ebpf::kernel::{Hook, Object, Sizes, Way};
//!
//! let mut enforcer = Enforcer::new(Object::load(&Sizes::default())?);
//! // Take items of the core's compiler into `enforcer.tables`, then:
//! enforcer.commit()?;
//! let hook = Hook::probe("/sys/fs/bpf/cnidarian".as_ref());
//! for way in Way::ALL {
//!     enforcer.object.attach(&hook, way, "cni0123456789ab")?;
//! }
//! # Ok::<(), backend_ebpf::kernel::KernelError>(())
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`policy`] | items to entries of maps, pure |
//! | [`kernel`] | the programs and maps in the kernel |
//! | [`service`] | services at sockets: the proxy "ebpf" |
//! | [`enforce`] | the two together: what is staged gets written, in order |
//!
//! The programs themselves are in `programs/`, a workspace of its own; `cargo xtask bpf build` makes `objects/*.o` of
//! them, which is committed and part of this library. Keys and values are in `abi/`.

#![deny(unsafe_code)]

pub mod enforce;
pub mod kernel;
pub mod policy;
pub mod service;

pub use backend_ebpf_abi as abi;
