//! What changes in the kernel's tables, as it happens. Never the present state: that is a dump's.
//!
//! ```text
//!  kernel --multicast--> socket --> Notice { port, event } --> who cares
//!                          |
//!                          +-- receive buffer full --> Event::Lost: read the tables again
//! ```

mod drift;
mod event;
mod setting;
mod stream;

pub use drift::DriftMonitor;
pub use event::{Change, Event, Notice};
pub use setting::{Scope, Settings};
pub use stream::{Group, Monitor};
