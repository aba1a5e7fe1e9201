//! The answer: a verdict for each end, what decided it, and what was passed by. Never a text layout: that is the tools'.

use crate::policy::model::{Action, PolicyId, Unenforceable};
use std::fmt;
use std::sync::Arc;

/// Allowed or denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The connection may be made, as far as this end is concerned.
    Allow,
    /// It may not.
    Deny,
}

/// Why an end asks no policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exemption {
    /// It is no endpoint of the cluster that a policy could be about.
    NoEndpoint,
    /// A pod always reaches itself.
    SameEndpoint,
    /// A host always reaches itself.
    SameHost,
    /// A pod's own node always reaches it.
    OwnNode,
    /// It is a port that stays open, whatever policies say of hosts.
    Failsafe,
}

impl fmt::Display for Exemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEndpoint => "no policy can be about this end",
            Self::SameEndpoint => "a pod always reaches itself",
            Self::SameHost => "a host always reaches itself",
            Self::Failsafe => "a failsafe port of hosts stays open",
            Self::OwnNode => "a pod and its own node reach each other",
        })
    }
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Policies were not asked.
    Exempt(Exemption),
    /// A rule.
    Rule {
        /// Its tier.
        tier: Arc<str>,
        /// Its policy.
        policy: PolicyId,
        /// Where it stands.
        path: Arc<str>,
        /// The name that its author gave it.
        name: Option<Arc<str>>,
        /// What it does.
        action: Action,
    },
    /// No rule of a tier matched, and these policies isolate the endpoint.
    Isolated {
        /// The tier.
        tier: Arc<str>,
        /// The isolating policies.
        policies: Vec<PolicyId>,
    },
    /// No tier had a say, and the host endpoint has no profile that allows what none has.
    NoProfile,
    /// No tier had a say.
    Default,
}

/// The first condition of a rule that did not hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Miss {
    /// The source.
    Source,
    /// The destination.
    Destination,
    /// Protocol, port or message.
    Traffic,
    /// It would need what is not there, so it fails closed.
    Unenforceable(Unenforceable),
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => f.write_str("another source"),
            Self::Destination => f.write_str("another destination"),
            Self::Traffic => f.write_str("other traffic"),
            Self::Unenforceable(reason) => reason.fmt(f),
        }
    }
}

/// A rule that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Step {
    /// Its tier.
    pub tier: Arc<str>,
    /// Its policy.
    pub policy: PolicyId,
    /// Where it stands; `None`: the policy has no rules.
    pub path: Option<Arc<str>>,
    /// What it does.
    pub action: Option<Action>,
    /// Why it did not match; `None`: it did.
    pub miss: Option<Miss>,
}

/// One end's part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// Allowed or denied.
    pub verdict: Verdict,
    /// By what.
    pub decision: Decision,
    /// Rules that were looked at, in order; empty unless asked for.
    pub steps: Vec<Step>,
    /// What it would be, were the staged policies about this end enforced. `None` when there are none.
    pub staged: Option<(Verdict, Decision)>,
}

impl Trace {
    pub(super) fn exempt(why: Exemption) -> Self {
        Self { verdict: Verdict::Allow, decision: Decision::Exempt(why), steps: Vec::new(), staged: None }
    }
}

/// Both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// At the source.
    pub egress: Trace,
    /// At the destination.
    pub ingress: Trace,
}

impl Outcome {
    /// Whether both ends allow it.
    #[must_use]
    pub fn allowed(&self) -> bool {
        self.egress.verdict == Verdict::Allow && self.ingress.verdict == Verdict::Allow
    }

    /// The end that decides: the first that denies, else the destination.
    #[must_use]
    pub fn deciding(&self) -> &Trace {
        if self.egress.verdict == Verdict::Deny { &self.egress } else { &self.ingress }
    }
}
