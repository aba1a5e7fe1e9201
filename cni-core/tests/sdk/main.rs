//! The CNI SDK from outside: protocol laws, hostile input, files, real programs. Never touches the host's own network.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

mod concurrency;
mod configurations;
mod details_often_wrong;
mod files;
mod processes;
mod properties;
mod real_plugins;
mod refusals;
mod results;
mod support;
