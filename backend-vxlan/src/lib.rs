//! Flannel's place: pods of other nodes over VXLAN, plain routes or UDP. Never policy or services.

#![forbid(unsafe_code)]

pub mod checksum;
pub mod compile;
pub mod config;
pub mod driver;
pub mod object;
pub mod udp;
pub mod vtep;
