//! What may pass, and how it is changed on the way: policy as data. Never a program, and never a look at other routes.
//!
//! A policy is a list of statements, tried in order. A statement whose conditions hold changes the route as its `set` says and
//! then accepts it, rejects it, or leaves it to the statements after it, which see what was changed. A route that reaches the
//! end meets the `default`.
//!
//! ```
//! use bgp_speaker::policy::{Policy, RawPolicy};
//!
//! let raw: RawPolicy = serde_json::from_str(r#"{
//!     "statements": [
//!         { "if": { "prefixes": [{ "prefix": "10.0.0.0/8", "at-most": 26 }] },
//!           "set": { "local-pref": 200, "communities": { "add": ["65001:7"] } },
//!           "then": "accept" },
//!         { "if": { "communities": { "any": ["no-export", "65001:*"] } }, "then": "reject" }
//!     ],
//!     "default": "accept"
//! }"#)?;
//! let policy = Policy::import(&raw)?;
//! assert!(policy.looks_at_prefix());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod actions;
mod as_path;
mod check;
mod community;
mod error;
mod matches;
mod raw;
#[cfg(test)]
mod tests;

pub use error::{PolicyError, Wrong};
pub use raw::{
    RawActions, RawAsPath, RawChange, RawCommunities, RawDefault, RawMatches, RawPolicy, RawPrefix, RawPrepend,
    RawRange, RawStatement, RawThen,
};

use crate::types::{Asn, Attributes};
use actions::Actions;
use ipnet::IpNet;
use matches::Matches;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Where a route comes from, as policies ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteSource {
    /// Ourselves.
    Local,
    /// Ourselves, for what is inside it.
    Aggregate,
    /// A peer of another system.
    Ebgp,
    /// A peer of our system.
    Ibgp,
}

/// A route before a policy.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// Its prefix.
    pub prefix: IpNet,
    /// What it carries.
    pub attributes: &'a Attributes,
    /// The name of the peer it comes from, on the way in and on the way out.
    pub peer: Option<&'a str>,
    /// The device of that peer's session.
    pub interface: Option<&'a str>,
    /// Where it comes from.
    pub source: RouteSource,
}

/// What becomes of the next hop of an accepted route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum NextHopRule {
    /// What BGP says.
    #[default]
    Usual,
    /// Our own address of the session.
    Own,
    /// It stays as it is: as it came, or as the policy set it.
    Kept,
}

/// An accepted route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// What it carries from now on; `None`: the same as before.
    pub changed: Option<Box<Attributes>>,
    /// What becomes of its next hop.
    pub next_hop: NextHopRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Then {
    Accept,
    Reject,
    Continue,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Statement {
    matches: Matches,
    actions: Actions,
    then: Then,
}

/// A checked policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    statements: Vec<Statement>,
    accepts_by_default: bool,
    looks_at_prefix: bool,
}

impl Policy {
    /// Whether routes with equal attributes from one peer may fare differently.
    #[must_use]
    pub const fn looks_at_prefix(&self) -> bool {
        self.looks_at_prefix
    }

    /// What becomes of a route; `None`: it is rejected. `own` is our system, for what is put before paths.
    #[must_use]
    pub fn apply(&self, route: &Route<'_>, own: Asn) -> Option<Accepted> {
        let mut attributes = Cow::Borrowed(route.attributes);
        let mut next_hop = NextHopRule::Usual;
        let mut is_accepted = self.accepts_by_default;
        for statement in &self.statements {
            if !statement.matches.hold(&Route { attributes: &attributes, ..*route }) {
                continue;
            }
            if statement.then == Then::Reject {
                return None;
            }
            statement.actions.apply(&mut attributes, &mut next_hop, own);
            if statement.then == Then::Accept {
                is_accepted = true;
                break;
            }
        }
        let changed = match attributes {
            Cow::Borrowed(_) => None,
            Cow::Owned(changed) => Some(Box::new(changed)),
        };
        is_accepted.then_some(Accepted { changed, next_hop })
    }
}
