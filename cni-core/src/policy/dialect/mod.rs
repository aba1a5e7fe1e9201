//! Dialects: objects of the published APIs, read into the model. Never an evaluation, and never a silent guess: what is not
//! understood fails closed and is reported by its path.
//!
//! | module | objects |
//! |---|---|
//! | `kubernetes` | `networking.k8s.io/v1` NetworkPolicy |
//! | `cluster` | `policy.networking.k8s.io`: ClusterNetworkPolicy, AdminNetworkPolicy, BaselineAdminNetworkPolicy |
//! | `calico` | `projectcalico.org/v3` and `crd.projectcalico.org/v1` |
//! | `cilium` | `cilium.io/v2`: CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy |

pub mod calico;
mod cilium;
mod cluster;
mod document;
mod fields;
mod kubernetes;
mod reader;
mod standard;
#[cfg(test)]
mod testing;

pub(crate) use fields::present;
pub(crate) use reader::Reader;

use super::model::{Policy, Problem, Tier};
use crate::store::Object;

/// What an object says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Policies; one object may make several parts.
    pub policies: Vec<Policy>,
    /// Tiers.
    pub tiers: Vec<Tier>,
    /// What is wrong with it, and what became of that.
    pub problems: Vec<Problem>,
}

/// Reads an object of any dialect; `None` when its kind is none of a policy.
#[must_use]
pub fn read(object: &Object) -> Option<Reading> {
    let dialects: [fn(&Object) -> Option<Reading>; 4] = [kubernetes::read, cluster::read, calico::read, cilium::read];
    dialects.iter().find_map(|read| read(object))
}
