//! Programs and sets of the core to entries of the maps, pure. Never touches the kernel.
//!
//! ```text
//! sets, members ──> atoms of each prefix ──> identities (prefix -> number)
//! chains ──┐                                       │
//! endpoint ┴─> source ──> terms ──> classes of traffic × classes of peers ──> verdicts
//! ```
//!
//! What a packet costs does not grow with rules, endpoints or identities: it is one lookup for its endpoint, one for the
//! other address, one for the class of that, one for protocol and port, one for the source port where a rule asks for it,
//! one for the verdict. Order of rules, tiers, passes and what denies over what are worked out before.

mod atom;
mod bits;
mod classes;
mod compiled;
mod error;
mod hosts;
mod identities;
mod items;
mod live;
mod make;
mod meaning;
mod outlook;
mod programs;
mod ranges;
mod rules;
mod source;
mod tables;
mod term;
mod view;
mod write;

pub use error::PolicyError;
pub use hosts::Device;
pub use meaning::{Digest, Meant};
pub use outlook::{AtAddress, AtInterfaces, Outlook};
pub use rules::{Named, RuleName, RuleNames};
pub use tables::Tables;
pub use write::{Trie, Write};
