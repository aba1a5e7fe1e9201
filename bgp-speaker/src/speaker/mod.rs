//! The whole speaker: what comes in, what goes out. Never a clock or a socket.
//!
//! | file | what it holds |
//! |---|---|
//! | `io` | what comes in and what goes out |
//! | `core`, `inbound`, `outbound` | how one becomes the other |
//! | `link` | what a session's own link offers as next hop |
//! | `configure`, `plan`, `local` | what it is told to be and to announce |
//! | `peer`, `peers` | the peers |
//! | `retention`, `deferral` | graceful restart: of others, of ourselves |
//! | `reach`, `refresh` | BFD with peers; asking them again |
//! | `fib` | routes for the kernel |
//! | `status` | what people ask |

mod configure;
mod core;
mod deferral;
mod fib;
mod inbound;
mod io;
mod link;
mod local;
mod outbound;
mod peer;
mod peers;
mod plan;
mod reach;
mod refresh;
mod retention;
mod status;
#[cfg(test)]
mod tests;

pub use configure::Beginning;
pub use core::Speaker;
pub use io::{Addresses, ConnId, ConnectFailure, DownReason, Hop, Input, Output, PeerEvent, Resolution, Target, Via};
pub use local::Origination;
pub use peer::Counters;
pub use plan::{Effect, Plan};
pub use refresh::RefreshError;
pub use status::{PeerStatus, RouteStatus};
