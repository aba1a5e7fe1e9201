//! Why a prefix goes the way it goes. Never used by the choice itself: it asks the same question again.

use super::Rib;
use super::decision::{self, Step};
use super::path::{Refused, Source};
use crate::types::{Attributes, Family, PathId};
use ipnet::IpNet;
use std::sync::Arc;

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathState {
    /// It is the best.
    Best,
    /// It shares the load with the best.
    Shares,
    /// It lost.
    Lost {
        /// In which step.
        step: Step,
        /// To which path of [`Explanation::paths`], which may have lost later itself.
        to: usize,
    },
    /// It was not looked at.
    Refused(Refused),
    /// There is no way to its next hop.
    Unresolved,
}

/// A path of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedPath {
    /// Where it comes from.
    pub source: Source,
    /// Which path of its source.
    pub id: PathId,
    /// Attributes as they came.
    pub received: Arc<Attributes>,
    /// Attributes after the import policy; `None` for a refused path.
    pub attributes: Option<Arc<Attributes>>,
    /// Its peer is away, or sends its table again.
    pub is_stale: bool,
    /// It is kept by long-lived graceful restart.
    pub is_long_lived: bool,
    /// What became of it.
    pub state: PathState,
}

/// All paths of a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The prefix.
    pub prefix: IpNet,
    /// Its paths, the best first if there is one.
    pub paths: Vec<ExplainedPath>,
    /// An aggregate around it keeps it from being announced.
    pub is_suppressed: bool,
}

impl Rib {
    /// Why a prefix goes the way it goes; `None` when nobody announces it.
    #[must_use]
    pub fn explain(&self, prefix: &IpNet) -> Option<Explanation> {
        let family = Family::of(prefix);
        let slot = self.slot(prefix)?;
        let paths = self.tables[family.index()].paths(slot);
        if paths.is_empty() {
            return None;
        }
        let (places, candidates) = self.candidates(family, slot, |_| true);
        let choice = decision::choose(&candidates, &self.own.selection);
        let shares = self.forwarding(family, slot);
        let state = |at: usize| {
            let path = &paths[at];
            if let Some(refused) = path.flags.refused() {
                return PathState::Refused(refused);
            }
            let Some(candidate) = places.iter().position(|place| *place == at) else { return PathState::Unresolved };
            if choice.best == Some(candidate) {
                return PathState::Best;
            }
            if shares.iter().any(|view| path.is(view.source, view.id)) {
                return PathState::Shares;
            }
            let lost = choice.lost.iter().find(|(loser, ..)| *loser == candidate);
            lost.map_or(PathState::Unresolved, |(_, step, to)| PathState::Lost { step: *step, to: places[*to] })
        };
        let explained = paths.iter().enumerate().map(|(at, path)| ExplainedPath {
            source: path.source(),
            id: path.id,
            received: Arc::clone(self.attributes.get(path.received)),
            attributes: path.flags.refused().is_none().then(|| Arc::clone(self.attributes.get(path.attributes))),
            is_stale: path.flags.is_stale(),
            is_long_lived: path.flags.is_long_lived(),
            state: state(at),
        });
        Some(Explanation { prefix: *prefix, paths: explained.collect(), is_suppressed: self.is_suppressed(prefix) })
    }
}
