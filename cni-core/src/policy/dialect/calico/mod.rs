//! Calico's policies and tiers, of `projectcalico.org/v3` and `crd.projectcalico.org/v1`. Never a host endpoint itself: that is
//! a workload.
//!
//! | object | becomes |
//! |---|---|
//! | Tier | a tier; no order: last |
//! | NetworkPolicy, GlobalNetworkPolicy | a policy; no order: last in its tier |
//! | StagedNetworkPolicy, StagedGlobalNetworkPolicy, StagedKubernetesNetworkPolicy | a staged policy |

mod entity;
mod policy;
mod rule;
mod selector;
#[cfg(test)]
mod tests;
mod tier;

pub(super) use policy::{is_left_alone, version};

pub use selector::InvalidSelector;

use super::Reading;
use crate::policy::model::Selector;
use crate::store::{Kind, Object};

/// The groups of Calico's API and of what it stores.
const VERSIONS: [&str; 2] = ["projectcalico.org/v3", "crd.projectcalico.org/v1"];

/// Whether a kind is Calico's, in any version.
fn is_calico(kind: &Kind) -> bool {
    matches!(kind.group(), "projectcalico.org" | "crd.projectcalico.org")
}

/// Reads a policy or tier of Calico; `None` for other kinds.
pub(super) fn read(object: &Object) -> Option<Reading> {
    if !is_calico(&object.key.kind) {
        return None;
    }
    match object.key.kind.kind() {
        "Tier" => Some(tier::read(object)),
        "StagedKubernetesNetworkPolicy" => Some(super::kubernetes::read_staged(object)),
        kind => Some(policy::read(object, policy::Api::of(kind)?)),
    }
}

/// The canonical form of a selector: equal for selectors that differ in white space and quotes only.
///
/// # Errors
/// [`InvalidSelector`], which says what is wrong and where.
pub fn canonical_selector(text: &str) -> Result<String, InvalidSelector> {
    Ok(selector::parse(text)?.to_string())
}

/// A selector of endpoints as a condition of the model.
///
/// # Errors
/// [`InvalidSelector`], which says what is wrong and where.
pub fn endpoint_selector(text: &str) -> Result<Selector, InvalidSelector> {
    Ok(entity::endpoints(&selector::parse(text)?))
}
