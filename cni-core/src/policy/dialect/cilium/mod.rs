//! Cilium's policies of `cilium.io/v2`, of a namespace and of the cluster. Never a proxy: what needs one is read into the
//! model, which fails it closed.
//!
//! | written | means |
//! |---|---|
//! | `spec`, `specs` | each is a policy of its own |
//! | a list of rules missing or empty | the policy has no say in that direction |
//! | a rule `{}` | nobody, but the direction is closed for what no rule allows |
//! | no `from*`, `to*` beside `toPorts` or `icmps` | everybody |
//! | an empty `from*`, `to*` | nobody |
//! | `toPorts` and `icmps` missing or empty | all traffic |

mod cidr;
mod entity;
mod labels;
mod layer7;
mod peer;
mod policy;
mod rule;
#[cfg(test)]
mod tests;
mod traffic;

pub(super) use policy::read;
