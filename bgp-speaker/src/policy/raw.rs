//! A policy as it is written down. Never one that is used: see [`super::Policy::import`] and [`super::Policy::export`].

use super::RouteSource;
use crate::types::Family;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Statements in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawPolicy {
    /// The statements.
    #[serde(default)]
    pub statements: Vec<RawStatement>,
    /// What becomes of a route that no statement decided on.
    pub default: RawDefault,
}

/// The end of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawDefault {
    /// It passes.
    Accept,
    /// It does not.
    Reject,
}

/// The end of a statement.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawThen {
    /// The route passes.
    Accept,
    /// It does not.
    Reject,
    /// The next statement.
    #[default]
    Continue,
}

/// Conditions, changes, and what then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawStatement {
    /// Conditions, all of which must hold; none: always.
    #[serde(default, rename = "if")]
    pub matches: RawMatches,
    /// Changes.
    #[serde(default, rename = "set")]
    pub actions: RawActions,
    /// What then.
    #[serde(default)]
    pub then: RawThen,
}

/// Conditions. What is left out always holds; a list holds when one of it does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawMatches {
    /// The prefix.
    pub prefixes: Option<Vec<RawPrefix>>,
    /// Communities of any kind.
    pub communities: RawCommunities,
    /// The path.
    pub as_path: RawAsPath,
    /// Names of the peer that the route comes from.
    pub peers: Option<Vec<String>>,
    /// The next hop is in one of them.
    pub next_hops: Option<Vec<IpNet>>,
    /// Where the route comes from.
    pub sources: Option<Vec<RouteSource>>,
    /// Devices that the peer's session runs over.
    pub interfaces: Option<Vec<String>>,
    /// The family.
    pub family: Option<Family>,
    /// The local preference; 100 where there is none.
    pub local_pref: Option<RawRange>,
    /// The MED; 0 where there is none.
    pub med: Option<RawRange>,
}

/// A prefix and what is inside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawPrefix {
    /// Without host bits.
    pub prefix: IpNet,
    /// Shortest length, by default that of `prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<u8>,
    /// Greatest length, by default that of `prefix`; 32 or 128 when only `at-least` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u8>,
}

/// Numbers from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawRange {
    /// The smallest; 0 by default.
    #[serde(default)]
    pub at_least: u32,
    /// The greatest.
    #[serde(default = "greatest")]
    pub at_most: u32,
}

const fn greatest() -> u32 {
    u32::MAX
}

/// Communities as they are written (`65001:7`, `65001:1:2`, `rt:65001:7`, `no-export`), or all of one system (`65001:*`,
/// `65001:*:*`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawCommunities {
    /// One of them is there.
    pub any: Vec<String>,
    /// Each of them is there.
    pub all: Vec<String>,
    /// None of them is there.
    pub none: Vec<String>,
}

/// Conditions on the path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawAsPath {
    /// One of these systems is on it.
    pub contains: Option<Vec<u32>>,
    /// It comes from one of these systems.
    pub origin: Option<Vec<u32>>,
    /// It came over one of these systems last.
    pub neighbour: Option<Vec<u32>>,
    /// Its length.
    pub hops: Option<RawRange>,
    /// Numbers, `.` for any one, `*` for any row of them, none included: `65001 * 65002`. The whole path must fit.
    pub pattern: Option<String>,
}

/// Changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawActions {
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// MED.
    pub med: Option<u32>,
    /// To be added to the MED, or taken from it; it stays within 0 and 4294967295.
    pub med_add: Option<i64>,
    /// Communities.
    pub communities: RawChange,
    /// An address; on the way out also `self` or `unchanged`.
    pub next_hop: Option<String>,
    /// Makes the path longer.
    pub prepend: Option<RawPrepend>,
}

/// Changes of communities of all kinds, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RawChange {
    /// All others go, and these come.
    pub replace: Option<Vec<String>>,
    /// These go; `65001:*` and `65001:*:*` are all of a system.
    pub remove: Vec<String>,
    /// These come.
    pub add: Vec<String>,
}

/// A number put before the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawPrepend {
    /// Which; our own by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// How often, 1 to 32.
    pub times: u8,
}
