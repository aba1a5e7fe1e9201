//! The choice among the paths of a prefix. Never a memory of what was chosen before: equal paths give the same choice in
//! whatever order they came.
//!
//! RFC 4271, section 9.1.2.2. Each step keeps those that are best in it and drops the others, until one is left:
//!
//! | step | better | from |
//! |---|---|---|
//! | (before) | neither refused (own AS, originator, cluster, first AS, leak, own next hop, policy) nor without a way to its next hop | RFC 4271, 9.1.2; RFC 4456, 8; RFC 9234, 5 |
//! | long-lived stale | not kept by long-lived graceful restart, and without LLGR_STALE | RFC 9494, 4.3 |
//! | local preference | the greater; 100 where there is none; 0 with GRACEFUL_SHUTDOWN from an external peer (option) | RFC 4271, 9.1.1; RFC 8326 |
//! | own | our own routes, then our aggregates, then those of peers | usual |
//! | AS_PATH | the shorter; a set counts 1, a confederation 0 | RFC 4271, 9.1.2.2 a |
//! | ORIGIN | IGP, then EGP, then incomplete | b |
//! | MED | the smaller, among paths of one neighbouring system (option: of all); a missing one is 0 (option: the greatest) | c |
//! | external | from an external peer | d |
//! | metric | the smaller cost of the way to the next hop | e |
//! | *(ECMP)* | *what is left here may share the load: see [`super::Rib::forwarding`]* | |
//! | router id | the smaller ORIGINATOR_ID, or else BGP identifier of the peer | f; RFC 4456, 9 |
//! | cluster list | the shorter | RFC 4456, 9 |
//! | peer address | the smaller; IPv4 before IPv6 | g |
//! | path id | the smaller | only among paths of one peer |
//!
//! Routes stale by plain graceful restart are not put back: RFC 4724, section 4.2, wants them used like others. The oldest
//! path is not preferred (RFC 5004): it would make the choice depend on history.

use crate::config::Selection;
use crate::types::Asn;
use std::fmt;
use std::net::IpAddr;

/// Where a path lost. In the order of the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// It is long-lived stale.
    LongLived,
    /// Its local preference is smaller.
    LocalPref,
    /// It is not our own.
    Own,
    /// Its AS_PATH is longer.
    AsPath,
    /// Its ORIGIN is worse.
    Origin,
    /// Its MED is greater.
    Med,
    /// It is from an internal peer.
    External,
    /// Its next hop is farther away.
    Metric,
    /// Its router id is greater.
    RouterId,
    /// Its CLUSTER_LIST is longer.
    ClusterList,
    /// The address of its peer is greater.
    PeerAddress,
    /// Its path id is greater.
    PathId,
}

impl Step {
    const ALL: [Self; 12] = [
        Self::LongLived,
        Self::LocalPref,
        Self::Own,
        Self::AsPath,
        Self::Origin,
        Self::Med,
        Self::External,
        Self::Metric,
        Self::RouterId,
        Self::ClusterList,
        Self::PeerAddress,
        Self::PathId,
    ];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LongLived => "long-lived stale",
            Self::LocalPref => "local preference",
            Self::Own => "own route",
            Self::AsPath => "AS_PATH length",
            Self::Origin => "ORIGIN",
            Self::Med => "MED",
            Self::External => "external over internal",
            Self::Metric => "metric of the next hop",
            Self::RouterId => "router id",
            Self::ClusterList => "CLUSTER_LIST length",
            Self::PeerAddress => "peer address",
            Self::PathId => "path id",
        })
    }
}

/// What the choice looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) is_long_lived: bool,
    pub(super) local_pref: u32,
    /// 0 for our own, 1 for an aggregate, 2 for a peer's.
    pub(super) source: u8,
    pub(super) hops: usize,
    pub(super) origin: u8,
    pub(super) med: Option<u32>,
    pub(super) neighbour: Option<Asn>,
    pub(super) is_external: bool,
    pub(super) metric: u32,
    pub(super) router_id: u32,
    pub(super) clusters: usize,
    pub(super) address: Option<IpAddr>,
    pub(super) path_id: u32,
}

impl Candidate {
    /// Smaller is better.
    fn rank(&self, step: Step, selection: &Selection) -> u128 {
        match step {
            Step::LongLived => self.is_long_lived.into(),
            Step::LocalPref => (u32::MAX - self.local_pref).into(),
            Step::Own => self.source.into(),
            Step::AsPath => self.hops as u128,
            Step::Origin => self.origin.into(),
            Step::Med => self.med.unwrap_or(if selection.missing_med_is_worst { u32::MAX } else { 0 }).into(),
            Step::External => (!self.is_external).into(),
            Step::Metric => self.metric.into(),
            Step::RouterId => self.router_id.into(),
            Step::ClusterList => self.clusters as u128,
            Step::PeerAddress => match self.address {
                None => 0,
                Some(IpAddr::V4(address)) => u32::from(address).into(),
                Some(IpAddr::V6(address)) => address.into(),
            },
            Step::PathId => self.path_id.into(),
        }
    }
}

/// What came of a choice.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// The winner.
    pub(super) best: Option<usize>,
    /// Those as good as the winner up to the metric, itself included.
    pub(super) equal: Vec<usize>,
    /// The others: who, where, to whom.
    pub(super) lost: Vec<(usize, Step, usize)>,
}

/// Chooses among candidates.
pub(super) fn choose(candidates: &[Candidate], selection: &Selection) -> Choice {
    let mut choice = Choice::default();
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    for step in Step::ALL {
        if step == Step::RouterId {
            choice.equal.clone_from(&left);
        }
        if left.len() < 2 {
            continue;
        }
        let apart = step == Step::Med && !selection.always_compare_med;
        // The first one of the best in this step, among those that are compared with `at`.
        let rank = |at: usize| candidates[at].rank(step, selection);
        let rivals = |at: usize, other: usize| !apart || candidates[at].neighbour == candidates[other].neighbour;
        let overall = left.iter().copied().min_by_key(|at| rank(*at));
        let beaten_by = |at: usize| {
            let best = if apart {
                left.iter().copied().filter(|other| rivals(at, *other)).min_by_key(|at| rank(*at))
            } else {
                overall
            };
            best.filter(|best| rank(*best) < rank(at))
        };
        let lost: Vec<(usize, Step, usize)> = left.iter().filter_map(|at| Some((*at, step, beaten_by(*at)?))).collect();
        left.retain(|at| !lost.iter().any(|(loser, ..)| loser == at));
        choice.lost.extend(lost);
    }
    // Two paths with the same source and id cannot be: one at most is left.
    choice.best = left.first().copied();
    choice
}
