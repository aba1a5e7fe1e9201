//! Multi-node clusters in network namespaces, for tests, benches and `cnidarian lab`; and the bed of backends' own tests.
#![forbid(unsafe_code)]

pub mod bed;
pub mod cases;
pub mod lab;
pub mod patience;
pub mod probe;
pub mod registry;
pub mod report;
pub mod sandbox;
pub mod scenario;
pub mod tether;
pub mod verify;
