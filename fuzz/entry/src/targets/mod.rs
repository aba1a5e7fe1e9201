//! The targets, by who wrote the bytes.

pub(crate) mod bgp;
pub(crate) mod cni;
pub(crate) mod own;
pub(crate) mod policy;
pub(crate) mod wire;
