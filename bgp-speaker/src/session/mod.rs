//! One peer's session: RFC 4271, section 8. Never a clock, a socket, or a table of routes.
//!
//! ```text
//!             Start                    Connected                OPEN                KEEPALIVE
//!  Idle -------------> Connect/Active -----------> OpenSent -----------> OpenConfirm -----------> Established
//!   ^  error: wait,        ^  |     or Accepted                                                       |
//!   |  longer each time    |  | failed: wait                                                          |
//!   +----------------------+--+-------------------- NOTIFICATION, timers, lost connection <-----------+
//! ```
//!
//! Up to two connections stand at a time, one asked for and one accepted, until the OPEN of the second says which of both
//! stays (RFC 4271, section 6.8; RFC 6286, section 2.3).

mod backoff;
mod config;
mod event;
mod link;
mod machine;
mod negotiate;
mod retain;
#[cfg(test)]
mod tests;

pub use config::{Config, needs_reset};
pub use event::{Action, Event, State};
pub use machine::Session;
