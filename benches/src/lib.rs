//! What the programs that print figures share. Never a measurement of its own.
#![forbid(unsafe_code)]

pub mod place;
pub mod programs;
pub mod services;
pub mod stats;
