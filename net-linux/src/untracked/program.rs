//! The chains and rules of untracked tunnels, from what is wanted. Pure.

use crate::marks;
use crate::nft::{
    BaseChain, Chain, ChainId, ChainType, Comment, Expr, Family, Hook, Name, Policy, Program, Rule, TableId, priority,
};
use std::net::SocketAddr;

/// `IPPROTO_UDP`.
const UDP: u8 = 17;
/// What the comment of each rule begins with; the tunnel follows.
const COMMENT: &str = "cnidarian:untracked ";

/// Our table.
pub(super) fn table() -> TableId {
    TableId::new(Family::Inet, Name::known(marks::NFT_TABLE))
}

/// Which of the two chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// Packets that come.
    Prerouting,
    /// Packets that this node makes.
    Output,
}

impl Which {
    pub(super) const ALL: [Self; 2] = [Self::Prerouting, Self::Output];

    pub(super) fn id(self) -> ChainId {
        table().chain(Name::known(match self {
            Self::Prerouting => "untracked-prerouting",
            Self::Output => "untracked-output",
        }))
    }

    /// The chain as we make it: before connection tracking.
    pub(super) fn chain(self) -> Chain {
        let hook = match self {
            Self::Prerouting => Hook::Prerouting,
            Self::Output => Hook::Output,
        };
        let base = BaseChain { kind: ChainType::Filter, hook, priority: priority::RAW, policy: Policy::Accept };
        Chain::base(self.id(), base)
    }

    /// The rule of one tunnel. Protocol first: most packets of a node end there.
    pub(super) fn rule(self, tunnel: SocketAddr) -> Rule {
        let program = Program::new().l4proto(UDP);
        let program = match self {
            Self::Prerouting => program.daddr(tunnel.ip()),
            Self::Output => program.saddr(tunnel.ip()),
        };
        let program = program.dport(tunnel.port()).then(Expr::NoTrack);
        Rule::new(self.id(), program).commented(Comment::known(&format!("{COMMENT}{tunnel}")))
    }
}

/// The tunnel that a rule says it is for.
pub(super) fn tunnel_of(rule: &Rule) -> Option<SocketAddr> {
    rule.comment.as_ref()?.as_str().strip_prefix(COMMENT)?.parse().ok()
}
