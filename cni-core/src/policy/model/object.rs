//! Policies, tiers, and what is wrong with an object. Never evaluated here.

use super::{Kinds, Rule, Selector};
use crate::store::ObjectKey;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Which way a connection goes, seen from the policy's subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the subject.
    Ingress,
    /// From the subject.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// A place in an order: lesser numbers come first. Never NaN.
#[derive(Debug, Clone, Copy)]
pub struct Order(f64);

impl Order {
    /// Before all numbers.
    pub const FIRST: Self = Self(f64::NEG_INFINITY);
    /// After all numbers: what Calico means by no order.
    pub const LAST: Self = Self(f64::INFINITY);

    /// The place of a number; `None` for NaN.
    #[must_use]
    pub fn new(number: f64) -> Option<Self> {
        // Minus zero and zero are one place.
        (!number.is_nan()).then_some(Self(number + 0.0))
    }

    /// The place of a whole number.
    #[must_use]
    pub fn at(number: i32) -> Self {
        Self(f64::from(number))
    }
}

impl PartialEq for Order {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// What becomes of a connection that no rule of a tier matched, at an endpoint that a policy of the tier isolates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TierEnd {
    /// It is denied.
    Deny,
    /// The next tier is walked.
    Pass,
}

/// A tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// Its name.
    pub name: Arc<str>,
    /// Its place; tiers of one place are in the order of their names.
    pub order: Order,
    /// What happens at its end.
    pub end: TierEnd,
}

impl Tier {
    /// The tier of policies that could not be read: it comes first, and what is in it denies all.
    pub const CLOSED: &'static str = "cnidarian-closed";
    /// The tier `Admin` of cluster network policies.
    pub const ADMIN: &'static str = "kube-admin";
    /// The tier of network policies, and of Calico's and Cilium's that name none.
    pub const DEFAULT: &'static str = "default";
    /// The tier `Baseline` of cluster network policies.
    pub const BASELINE: &'static str = "kube-baseline";

    /// The tiers that are always there. Orders are Calico's.
    #[must_use]
    pub fn built_in() -> [Self; 4] {
        let tier = |name: &str, order, end| Self { name: name.into(), order, end };
        [
            tier(Self::CLOSED, Order::FIRST, TierEnd::Deny),
            tier(Self::ADMIN, Order::at(1_000), TierEnd::Pass),
            tier(Self::DEFAULT, Order::at(1_000_000), TierEnd::Deny),
            tier(Self::BASELINE, Order::at(10_000_000), TierEnd::Pass),
        ]
    }
}

/// Whether a policy decides, or only says what it would decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// It decides.
    Enforced,
    /// It decides nothing; counts and flows say what would have been, were it enforced.
    Staged,
}

/// Where on a packet's way through a host a policy about it decides. Pods know [`Stage::Tracked`] only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Stage {
    /// Before connections are tracked: each packet is asked for, answers too, and what is allowed is never tracked.
    Untracked,
    /// Before destinations are translated, of what comes in.
    BeforeNat,
    /// Where connections and their real ends are known.
    #[default]
    Tracked,
}

/// Whom a policy is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Kinds: pods, nodes, host endpoints.
    pub kinds: Kinds,
    /// Which of them.
    pub selector: Selector,
}

/// A policy's name: its object, and which part of it where one object makes several policies.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyId {
    /// The object.
    pub object: ObjectKey,
    /// Which part, from 0.
    pub part: u16,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}

/// The rules of a policy in one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Rules {
    /// In order.
    pub rules: Vec<Rule>,
    /// Whether the tier's end decides for subjects that no rule of the tier matched.
    pub isolates: bool,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub id: PolicyId,
    /// The tier's name.
    pub tier: Arc<str>,
    /// Its place in the tier; policies of one place are in the order of their ids.
    pub order: Order,
    /// Whom it is about.
    pub subject: Subject,
    /// What may come; `None`: it has no say in that.
    pub ingress: Option<Rules>,
    /// What may go; `None`: it has no say in that.
    pub egress: Option<Rules>,
    /// Whether it decides.
    pub mode: Mode,
    /// Where it decides at hosts. What an early stage allows or denies, no later one is asked; what it does not decide goes on.
    pub stage: Stage,
    /// At hosts: whether it decides of what is forwarded as well. Early stages always do.
    pub on_forward: bool,
}

impl Policy {
    /// A policy that closes its subject in both directions, for an object that could not be read.
    #[must_use]
    pub fn closed(object: ObjectKey, subject: Subject) -> Self {
        let closed = Some(Rules { rules: Vec::new(), isolates: true });
        Self {
            id: PolicyId { object, part: 0 },
            tier: Tier::CLOSED.into(),
            order: Order::FIRST,
            subject,
            ingress: closed.clone(),
            egress: closed,
            mode: Mode::Enforced,
            stage: Stage::Tracked,
            on_forward: false,
        }
    }

    /// Its rules in a direction.
    #[must_use]
    pub fn rules(&self, direction: Direction) -> Option<&Rules> {
        match direction {
            Direction::Ingress => self.ingress.as_ref(),
            Direction::Egress => self.egress.as_ref(),
        }
    }
}

/// What became of something that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    /// The policy's subjects are closed.
    SubjectClosed,
    /// The rule fails closed: it allows nothing; if it denies or passes, it denies everybody.
    RuleClosed,
    /// The object is left out; it is no policy (a pod, a namespace, a set).
    LeftOut,
    /// Nothing: it works, but perhaps not as its author thinks.
    Warning,
}

/// Something wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub object: ObjectKey,
    /// Where in it: `spec.ingress[0].from[1].ipBlock.except[0]`.
    pub path: String,
    /// What is wrong, and what would be right.
    pub detail: String,
    /// What became of it.
    pub effect: Effect,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.object, self.path, self.detail)
    }
}
