//! The beginning of the Cilium-style backend: policy by identity, in programs at the host's end of pods' veths. Never a label
//! or a dialect, and not yet a backend: nothing attaches it, and no registry knows it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`policy`] | items to entries of maps, pure |
//! | [`kernel`] | the programs and maps in the kernel |
//! | [`enforce`] | the two together: what is staged gets written, in order |
//!
//! The programs themselves are in `programs/`, a workspace of its own; `cargo xtask bpf build` makes `objects/policy.o` of
//! them, which is committed and part of this library. Keys and values are in `abi/`.

#![deny(unsafe_code)]

pub mod enforce;
pub mod kernel;
pub mod policy;

pub use backend_ebpf_abi as abi;
