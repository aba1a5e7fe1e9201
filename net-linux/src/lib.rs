//! The one crate that talks to the Linux kernel for all backends. Never decides what the network should be.
//!
//! | module | what it holds |
//! |---|---|
//! | [`netlink`] | synchronous socket, batches, dumps, errors in the kernel's words |
//! | [`netns`] | network namespaces by descriptor |
//! | [`marks`] | every mark by which we know our own kernel objects again |
//!
//! Everything acts in the network namespace of the calling thread, or in the one it is given.

#![deny(unsafe_code)]

pub mod marks;
pub mod netlink;
pub mod netns;
#[allow(unsafe_code)]
mod sys;
