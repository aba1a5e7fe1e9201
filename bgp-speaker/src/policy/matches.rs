//! The conditions of a statement. Never a change.

use super::community::Pattern;
use super::{Route, RouteSource, as_path};
use crate::types::Family;
use ipnet::IpNet;
use std::ops::RangeInclusive;

/// What a route without LOCAL_PREF counts as. Usual.
const DEFAULT_LOCAL_PREF: u32 = 100;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PrefixRange {
    pub(super) prefix: IpNet,
    pub(super) lengths: RangeInclusive<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Communities {
    pub(super) any: Vec<Pattern>,
    pub(super) all: Vec<Pattern>,
    pub(super) none: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Matches {
    pub(super) prefixes: Option<Vec<PrefixRange>>,
    pub(super) communities: Communities,
    pub(super) as_path: as_path::Conditions,
    pub(super) peers: Option<Vec<String>>,
    pub(super) next_hops: Option<Vec<IpNet>>,
    pub(super) sources: Option<Vec<RouteSource>>,
    pub(super) interfaces: Option<Vec<String>>,
    pub(super) family: Option<Family>,
    pub(super) local_pref: Option<RangeInclusive<u32>>,
    pub(super) med: Option<RangeInclusive<u32>>,
}

impl Matches {
    pub(super) fn hold(&self, route: &Route<'_>) -> bool {
        let attributes = route.attributes;
        let named = |names: &Option<Vec<String>>, name: Option<&str>| {
            names.as_ref().is_none_or(|names| name.is_some_and(|name| names.iter().any(|other| other == name)))
        };
        let within =
            |range: &Option<RangeInclusive<u32>>, value| range.as_ref().is_none_or(|range| range.contains(&value));
        let Communities { any, all, none } = &self.communities;
        self.family.is_none_or(|family| family == Family::of(&route.prefix))
            && self.sources.as_ref().is_none_or(|sources| sources.contains(&route.source))
            && named(&self.peers, route.peer)
            && named(&self.interfaces, route.interface)
            && within(&self.local_pref, attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF))
            && within(&self.med, attributes.med.unwrap_or(0))
            && self.prefixes.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.has(&route.prefix)))
            && (any.is_empty() || any.iter().any(|pattern| pattern.is_in(attributes)))
            && all.iter().all(|pattern| pattern.is_in(attributes))
            && !none.iter().any(|pattern| pattern.is_in(attributes))
            && self.next_hops.as_ref().is_none_or(|ranges| {
                let address = attributes.next_hop.address();
                ranges.iter().any(|range| range.contains(&address))
            })
            && self.as_path.hold(&attributes.as_path)
    }

    /// Whether it asks for anything that attributes and source do not say.
    pub(super) const fn look_at_prefix(&self) -> bool {
        self.prefixes.is_some() || self.family.is_some()
    }
}

impl PrefixRange {
    fn has(&self, prefix: &IpNet) -> bool {
        self.lengths.contains(&prefix.prefix_len()) && self.prefix.contains(prefix)
    }
}
