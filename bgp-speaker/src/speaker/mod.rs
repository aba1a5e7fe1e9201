//! The whole speaker: what comes in, what goes out. Never a clock or a socket.

mod deferral;
mod io;
mod retention;

pub use io::{ConnId, ConnectFailure, DownReason, Input, Output, PeerEvent, Resolution, Target, Via};
