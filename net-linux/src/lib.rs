//! The one crate that talks to the Linux kernel for all backends. Never decides what the network should be.

pub mod netns;
mod sys;
