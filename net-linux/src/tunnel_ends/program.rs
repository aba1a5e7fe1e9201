//! The chains, rules and sets that guard tunnels, from what is wanted. Pure.

use super::Tunnel;
use crate::marks;
use crate::nft::{
    BaseChain, Chain, ChainId, ChainType, Comment, Element, Family, Field, Hook, Key, Name, Payload, Policy, Program,
    Rule, Set, TableId, Verdict, priority,
};
use crate::pod_ends;
use std::net::IpAddr;

/// `IPPROTO_UDP`.
const UDP: u8 = 17;
/// `IPPROTO_IPIP`.
const IPIP: u8 = 4;
/// What the comment of each rule begins with; what it does and the tunnel follow.
const COMMENT: &str = "cnidarian:tunnel ";

/// Our table.
pub(super) fn table() -> TableId {
    TableId::new(Family::Inet, Name::known(marks::NFT_TABLE))
}

/// Which of the two sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    V4,
    V6,
}

impl Ends {
    pub(super) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The set that an address belongs to.
    pub(super) const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn name(self) -> Name {
        Name::known(match self {
            Self::V4 => "tunnel-ends4",
            Self::V6 => "tunnel-ends6",
        })
    }

    /// The set as we make it.
    pub(super) fn set(self) -> Set {
        let field = match self {
            Self::V4 => Field::Ipv4Addr,
            Self::V6 => Field::Ipv6Addr,
        };
        let comment = Some(Comment::known("nodes that tunnels hear"));
        Set { comment, ..Set::new(table().set(self.name()), [field]) }
    }

    fn source(self) -> Payload {
        match self {
            Self::V4 => Payload::IP_SADDR,
            Self::V6 => Payload::IP6_SADDR,
        }
    }

    fn destination(self) -> Payload {
        match self {
            Self::V4 => Payload::IP_DADDR,
            Self::V6 => Payload::IP6_DADDR,
        }
    }

    fn only(self, program: Program) -> Program {
        match self {
            Self::V4 => program.ipv4(),
            Self::V6 => program.ipv6(),
        }
    }
}

/// The element of an end.
pub(super) fn element(address: IpAddr) -> Element {
    Element::new(Key::address(address))
}

/// The address that an element stands for; `None` for one that is no address.
pub(super) fn address_of(element: &Element) -> Option<IpAddr> {
    let Key::One(bytes) = &element.key else { return None };
    let v4 = <[u8; 4]>::try_from(&**bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(&**bytes).map(IpAddr::from)).ok()
}

/// Which of the two chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    /// What pods of this node send.
    Prerouting,
    /// What this node receives.
    Input,
}

impl Which {
    pub(super) const ALL: [Self; 2] = [Self::Prerouting, Self::Input];

    pub(super) fn id(self) -> ChainId {
        table().chain(Name::known(match self {
            Self::Prerouting => "tunnel-prerouting",
            Self::Input => "tunnel-input",
        }))
    }

    /// The chain as we make it. Priority `filter` is after destination NAT.
    pub(super) fn chain(self) -> Chain {
        let hook = match self {
            Self::Prerouting => Hook::Prerouting,
            Self::Input => Hook::Input,
        };
        let base = BaseChain { kind: ChainType::Filter, hook, priority: priority::FILTER, policy: Policy::Accept };
        Chain::base(self.id(), base)
    }

    /// The rules of one tunnel, in order. Protocol first: most packets of a node end there.
    pub(super) fn rules(self, tunnel: Tunnel) -> Vec<Rule> {
        let ends = Ends::of(tunnel.address());
        let rule = |what: &str, program| {
            Rule::new(self.id(), program).commented(Comment::known(&format!("{COMMENT}{what} {tunnel}")))
        };
        let carried = match tunnel {
            Tunnel::Udp(_) => Program::new().l4proto(UDP),
            Tunnel::Ipip(_) => Program::new().l4proto(IPIP),
        };
        let to_port = |program: Program| match tunnel {
            Tunnel::Udp(end) => program.dport(end.port()),
            Tunnel::Ipip(_) => program,
        };
        match self {
            Self::Prerouting => {
                let from_pod = pod_ends::only(carried, pod_ends::Side::From);
                let to_end = to_port(ends.only(from_pod).matches_in(ends.destination(), ends.name()));
                vec![rule("pods", to_end.verdict(Verdict::Drop))]
            }
            Self::Input => {
                let from_end = to_port(carried.clone().daddr(tunnel.address())).matches_in(ends.source(), ends.name());
                let other = to_port(ends.only(carried));
                vec![rule("nodes", from_end.verdict(Verdict::Accept)), rule("strangers", other.verdict(Verdict::Drop))]
            }
        }
    }
}

/// The tunnel that a rule says it is for.
pub(super) fn tunnel_of(rule: &Rule) -> Option<Tunnel> {
    let (_, tunnel) = rule.comment.as_ref()?.as_str().strip_prefix(COMMENT)?.split_once(' ')?;
    tunnel.parse().ok()
}
