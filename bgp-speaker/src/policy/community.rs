//! Communities of all kinds in policies. Never what one of them means.

use super::error::Wrong;
use crate::types::{Attributes, Community, ExtendedCommunity, LargeCommunity};

/// One community, or all of a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Pattern {
    Standard(Community),
    Extended(ExtendedCommunity),
    Large(LargeCommunity),
    /// All standard ones of a system.
    StandardOf(u16),
    /// All large ones of a system.
    LargeOf(u32),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let parts: Vec<&str> = text.split(':').collect();
        let all = match parts[..] {
            [asn, "*"] => asn.parse().ok().map(Self::StandardOf),
            [asn, "*", "*"] => asn.parse().ok().map(Self::LargeOf),
            _ => None,
        };
        if let Some(all) = all {
            return Ok(all);
        }
        if text.starts_with("0x") || text.starts_with("rt:") || text.starts_with("soo:") {
            return Ok(Self::Extended(text.parse()?));
        }
        if parts.len() == 3 { Ok(Self::Large(text.parse()?)) } else { Ok(Self::Standard(text.parse()?)) }
    }

    pub(super) const fn is_one(self) -> bool {
        !matches!(self, Self::StandardOf(_) | Self::LargeOf(_))
    }

    pub(super) fn is_in(self, attributes: &Attributes) -> bool {
        match self {
            Self::Standard(community) => attributes.has(community),
            Self::Extended(community) => attributes.extended.binary_search(&community).is_ok(),
            Self::Large(community) => attributes.large.binary_search(&community).is_ok(),
            Self::StandardOf(asn) => attributes.communities.iter().any(|other| other.0 >> 16 == u32::from(asn)),
            Self::LargeOf(asn) => attributes.large.iter().any(|other| other.global == asn),
        }
    }

    pub(super) fn remove_from(self, attributes: &mut Attributes) {
        match self {
            Self::Standard(community) => attributes.communities.retain(|other| *other != community),
            Self::Extended(community) => attributes.extended.retain(|other| *other != community),
            Self::Large(community) => attributes.large.retain(|other| *other != community),
            Self::StandardOf(asn) => attributes.communities.retain(|other| other.0 >> 16 != u32::from(asn)),
            Self::LargeOf(asn) => attributes.large.retain(|other| other.global != asn),
        }
    }

    /// Nothing for what is not one community.
    pub(super) fn add_to(self, attributes: &mut Attributes) {
        match self {
            Self::Standard(community) => insert(&mut attributes.communities, community),
            Self::Extended(community) => insert(&mut attributes.extended, community),
            Self::Large(community) => insert(&mut attributes.large, community),
            Self::StandardOf(_) | Self::LargeOf(_) => {}
        }
    }
}

fn insert<T: Ord>(sorted: &mut Vec<T>, value: T) {
    if let Err(at) = sorted.binary_search(&value) {
        sorted.insert(at, value);
    }
}
