//! The one engine under every backend: diff, order, retry, restart, drift and dry run. Never knows what an object is.
//!
//! Three maps, all by key:
//!
//! ```text
//!  items    item key   -> the item and the keys it compiled to
//!  desired  object key -> the object that shall be there, and who wants it
//!  pending  object key -> what is there now, ONLY where that differs from desired
//! ```
//!
//! A clean state has an empty `pending`, so the present state costs no second copy, and `stage` and `plan` cost
//! O(change) and O(pending), whatever the size of the state.
//!
//! # Order of writes
//! 1. Puts, from the lowest level to the highest.
//! 2. Deletes, from the highest level to the lowest.
//! 3. When a put failed and a delete succeeded, the rest is tried once more: the delete may have freed what the
//!    put needed.
//!
//! Puts come first, so that a path that moves from one key to another is never cut (make before break). A path that
//! stays under its key is one update. Each level is one call of [`Driver::apply`].
//!
//! # Gates
//! A gate guards objects of higher levels: they may be there only while it is.
//! - A gate that could not be put holds back the puts of what it guards: of all higher levels for [`Gate::All`],
//!   of the same item's for [`Gate::Item`]. An object that several items want waits only when all of them wait.
//! - A gate is not deleted while the delete of an object above it failed ([`Gate::All`]: any; [`Gate::Item`]: one of
//!   the same item, or one whose item is not known), nor, for [`Gate::Item`], while another gate of its item could
//!   not be put. One that several items had waits for all of them. So a gate must not claim what the gate that it
//!   replaces still holds: let them share the key.
//!
//! [`Driver::apply`]: super::Driver::apply
//! [`Gate::All`]: super::Gate::All
//! [`Gate::Item`]: super::Gate::Item

mod belief;
mod commit;
mod desired;
mod engine;
mod schedule;

pub use engine::Reconciler;

#[cfg(test)]
mod tests;
