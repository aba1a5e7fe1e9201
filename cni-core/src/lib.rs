//! Contracts and pure logic of Cnidarian: no kernel, no Kubernetes, no async runtime.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | plain data: node, endpoint, peer, address block |
//! | [`cni`] | the CNI specification as data: configurations, results, errors, 0.1.0 to 1.1.0 |
//! | [`plugin`] | SDK for plugin authors: `trait Plugin`, `run` |
//! | [`runtime`] | SDK for embedders: running plugins as a container runtime does |
//! | [`backend`] | what a backend implements, and the one engine that reconciles all of them |
//! | [`ipam`] | addresses for pods: pools, blocks, leases, the reference `host-local` |
//! | [`cluster`] | nodes and blocks of the cluster as changes for a datapath |
//! | [`strict`] | reads configuration with errors that name the path and the nearest right key |
//! | [`policy`] | network policy: dialects, one model, its evaluation |
//! | [`flow`] | what was decided about traffic: one record for every engine |
//! | [`service`] | services and endpoints of the cluster as frontends with backends; addresses for load balancers |
//! | [`rpc`] | what the executable and the agent say to each other |
//! | [`store`] | the desired state as objects in Kubernetes format: get, list, watch, compare-and-swap |
//! | `testkit` | conformance suites and fakes (feature `testkit`) |

pub mod backend;
pub mod cluster;
pub mod cni;
pub mod flow;
pub mod ipam;
pub mod model;
pub mod plugin;
pub mod policy;
pub mod rpc;
pub mod runtime;
pub mod service;
pub mod store;
pub mod strict;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;
