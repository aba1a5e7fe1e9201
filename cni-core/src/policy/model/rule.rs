//! Rules: who, what traffic, which action. Never where a rule stands: its policy orders it.

use super::{Layer7, Peer, Traffic};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// What happens to a connection that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is allowed at this end.
    Allow,
    /// It is denied.
    Deny,
    /// The rest of this tier has no say.
    Pass,
    /// It is logged, and the next rule is looked at.
    Log,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Pass => "pass",
            Self::Log => "log",
        })
    }
}

/// Why a rule cannot be enforced as it is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Unenforceable {
    /// It speaks of DNS names, and there is no DNS proxy.
    Names,
    /// It speaks of HTTP, DNS queries or another application protocol, and there is no proxy.
    Layer7,
}

impl fmt::Display for Unenforceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Names => "DNS names need the DNS proxy, which is not there",
            Self::Layer7 => "rules for an application protocol need the proxy, which is not there",
        })
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Where it stands in its object: `spec.ingress[0]`.
    pub path: Arc<str>,
    /// The name that its author gave it.
    pub name: Option<Arc<str>>,
    /// What it does.
    pub action: Action,
    /// Where the connection must come from.
    pub source: Peer,
    /// Where it must go to.
    pub destination: Peer,
    /// What traffic, any of these; of none: no traffic.
    pub traffic: Vec<Traffic>,
    /// What the application protocol must say.
    pub layer7: Option<Layer7>,
}

impl Rule {
    /// A rule for all traffic of everybody.
    #[must_use]
    pub fn new(path: impl Into<Arc<str>>, action: Action) -> Self {
        Self {
            path: path.into(),
            name: None,
            action,
            source: Peer::Anything,
            destination: Peer::Anything,
            traffic: vec![Traffic::any()],
            layer7: None,
        }
    }

    /// Why it cannot be enforced as meant, if so. It fails closed: a rule that allows or logs then matches nothing; one that
    /// denies or passes denies whatever its other conditions match (names stand for everybody).
    #[must_use]
    pub fn unenforceable(&self) -> Option<Unenforceable> {
        if self.source.has_names() || self.destination.has_names() {
            Some(Unenforceable::Names)
        } else {
            self.layer7.as_ref().map(|_| Unenforceable::Layer7)
        }
    }
}
