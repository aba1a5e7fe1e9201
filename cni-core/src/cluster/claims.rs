//! Who says that a prefix is theirs, and who of them gets it. Never more than a few bytes for the normal case of one.

use crate::model::NodeName;
use ipnet::IpNet;

/// An interned pool name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PoolId(pub(super) u32);

/// Why a node has a prefix. The order is the precedence: blocks are claimed with compare-and-swap, so they are trusted
/// before what somebody wrote into a Node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// By an IPBlock; the prefix is the block or an address borrowed from it.
    Block { block: IpNet, pool: Option<PoolId> },
    /// By the node's `podCIDRs`.
    PodCidr,
}

impl Source {
    pub(super) fn pool(self) -> Option<PoolId> {
        match self {
            Self::Block { pool, .. } => pool,
            Self::PodCidr => None,
        }
    }
}

/// One claim. Ordered by precedence.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub(super) source: Source,
    pub(super) node: NodeName,
}

/// All claims of one prefix: at least one, without duplicates, the winner first.
#[derive(Debug)]
pub(super) struct Claims {
    winner: Claim,
    /// Sorted. Boxed twice so that the normal case, none, takes one word.
    #[expect(clippy::box_collection, reason = "one word for each of 100,000 prefixes, not three")]
    losers: Option<Box<Vec<Claim>>>,
}

impl Claims {
    pub(super) fn one(claim: Claim) -> Self {
        Self { winner: claim, losers: None }
    }

    pub(super) fn winner(&self) -> &Claim {
        &self.winner
    }

    pub(super) fn losers(&self) -> &[Claim] {
        self.losers.as_ref().map_or(&[], |losers| losers)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Claim> {
        std::iter::once(&self.winner).chain(self.losers())
    }

    pub(super) fn add(&mut self, claim: Claim) {
        if self.iter().any(|known| *known == claim) {
            return;
        }
        let loser = if claim < self.winner { std::mem::replace(&mut self.winner, claim) } else { claim };
        let losers = self.losers.get_or_insert_default();
        let at = losers.partition_point(|known| *known < loser);
        losers.insert(at, loser);
    }

    /// What is left without a claim, `None` when nothing is.
    pub(super) fn without(mut self, claim: &Claim) -> Option<Self> {
        let mut losers = self.losers.take().map_or_else(Vec::new, |losers| *losers);
        if self.winner == *claim {
            if losers.is_empty() {
                return None;
            }
            self.winner = losers.remove(0);
        } else {
            losers.retain(|known| known != claim);
        }
        self.losers = (!losers.is_empty()).then(|| Box::new(losers));
        Some(self)
    }
}
