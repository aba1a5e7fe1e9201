//! The real agent and the real executable on a real kernel, in namespaces of their own. Never the host's network.

mod bad_input;
mod crash;
mod verbs;
mod world;
