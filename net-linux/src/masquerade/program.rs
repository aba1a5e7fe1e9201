//! The table, chain, rules and sets of masquerading, from what is wanted. Pure.

use crate::marks;
use crate::nft::{
    BaseChain, Chain, ChainId, ChainType, Cmp, Comment, Element, Family, Field, Hook, Key, MetaKey, Name, NatFlags,
    Payload, Policy, Program, Rule, Set, TableId, priority,
};
use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Our table.
pub(super) fn table() -> TableId {
    TableId::new(Family::Inet, Name::known(marks::NFT_TABLE))
}

/// Which of the four sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    SourceV4,
    SourceV6,
    KeepV4,
    KeepV6,
}

impl Which {
    pub(super) const ALL: [Self; 4] = [Self::SourceV4, Self::SourceV6, Self::KeepV4, Self::KeepV6];

    pub(super) const fn is_source(self) -> bool {
        matches!(self, Self::SourceV4 | Self::SourceV6)
    }

    const fn is_v4(self) -> bool {
        matches!(self, Self::SourceV4 | Self::KeepV4)
    }

    fn name(self) -> Name {
        Name::known(match self {
            Self::SourceV4 => "masq-source4",
            Self::SourceV6 => "masq-source6",
            Self::KeepV4 => "masq-keep4",
            Self::KeepV6 => "masq-keep6",
        })
    }

    /// The set as we make it.
    pub(super) fn set(self) -> Set {
        let field = if self.is_v4() { Field::Ipv4Addr } else { Field::Ipv6Addr };
        let text = if self.is_source() { "pods that are masqueraded" } else { "who sees a pod's own address" };
        Set { comment: Some(Comment::known(text)), ..Set::new(table().set(self.name()), [field]).interval() }
    }

    /// Its elements: those of `prefixes` that are of its family.
    pub(super) fn elements(self, prefixes: &[IpNet]) -> Vec<Element> {
        let ours = prefixes.iter().filter(|prefix| matches!(prefix, IpNet::V4(_)) == self.is_v4());
        ours.map(|prefix| Element::new(Key::prefix(*prefix))).collect()
    }
}

/// The prefixes that elements of a set of ranges are; `None` for an element that is no range of addresses.
pub(super) fn prefixes(elements: &[Element]) -> Option<Vec<IpNet>> {
    let mut all = Vec::new();
    for element in elements {
        let (first, last) = match &element.key {
            Key::One(one) => (one, one),
            Key::Range(first, last) => (first, last),
            Key::CatchAll => return None,
        };
        if let (Ok(first), Ok(last)) = (<[u8; 4]>::try_from(&**first), <[u8; 4]>::try_from(&**last)) {
            all.extend(Ipv4Subnets::new(Ipv4Addr::from(first), Ipv4Addr::from(last), 0).map(IpNet::V4));
        } else if let (Ok(first), Ok(last)) = (<[u8; 16]>::try_from(&**first), <[u8; 16]>::try_from(&**last)) {
            all.extend(Ipv6Subnets::new(Ipv6Addr::from(first), Ipv6Addr::from(last), 0).map(IpNet::V6));
        } else {
            return None;
        }
    }
    Some(all)
}

/// The chain's identity.
pub(super) fn chain_id() -> ChainId {
    // Not `masquerade`: that is a word of the nft program's language, which then could not name the chain.
    table().chain(Name::known("masq-postrouting"))
}

/// The chain as we make it.
pub(super) fn chain() -> Chain {
    let base =
        BaseChain { kind: ChainType::Nat, hook: Hook::Postrouting, priority: priority::SRCNAT, policy: Policy::Accept };
    Chain::base(chain_id(), base)
}

/// The chain's rules, in order.
pub(super) fn rules() -> [Rule; 2] {
    // Multicast stays as it is: 224.0.0.0/4 (RFC 5771) and ff00::/8 (RFC 4291, section 2.7).
    let v4 = Program::new()
        .ipv4()
        .matches_in(Payload::IP_SADDR, Which::SourceV4.name())
        .matches_not_in(Payload::IP_DADDR, Which::KeepV4.name())
        .masked(Payload::IP_DADDR, vec![0xf0, 0, 0, 0], Cmp::Ne, vec![0xe0, 0, 0, 0]);
    let v6 = Program::new()
        .ipv6()
        .matches_in(Payload::IP6_SADDR, Which::SourceV6.name())
        .matches_not_in(Payload::IP6_DADDR, Which::KeepV6.name())
        .payload(Payload::network(24, 1), Cmp::Ne, vec![0xff]);
    [(v4, "cnidarian:masquerade4"), (v6, "cnidarian:masquerade6")].map(|(program, comment)| {
        // What goes to a pod of this node is not leaving, even when no prefix to keep names it.
        let to_pods = format!("{}*", marks::HOST_INTERFACE_PREFIX);
        let program = program.interface(MetaKey::OifName, Cmp::Ne, &to_pods).masquerade(NatFlags::FULLY_RANDOM);
        Rule::new(chain_id(), program).commented(Comment::known(comment))
    })
}
