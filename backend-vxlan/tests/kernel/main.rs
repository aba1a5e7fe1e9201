//! The backend on the real kernel, in network namespaces of the test's own. Needs root and iproute2. Never touches the
//! namespace that it was started in.

#![forbid(unsafe_code)]

mod bed;
mod card;
mod checksum;
mod cluster;
mod conformance;
mod drift;
mod modes;
mod pod;
mod router;
