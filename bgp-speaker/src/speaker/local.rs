//! Routes of our own, and what is nobody else's to announce. Never a decision about when to have them.

use super::core::Speaker;
use crate::rib::Protected;
use crate::types::{AsPath, Attributes, Community, ExtendedCommunity, LargeCommunity, NextHop, Origin};
use ipnet::IpNet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;

/// What a route of our own carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origination {
    /// How it came into BGP.
    pub origin: Origin,
    /// To our own system.
    pub local_pref: Option<u32>,
    /// To neighbouring systems.
    pub med: Option<u32>,
    /// Communities.
    pub communities: Vec<Community>,
    /// Extended ones.
    pub extended: Vec<ExtendedCommunity>,
    /// Large ones.
    pub large: Vec<LargeCommunity>,
}

impl Speaker {
    /// Announces a prefix, or changes what it carries. Host bits are left out.
    pub fn announce(&mut self, now: Instant, prefix: IpNet, what: &Origination) {
        self.rib.originate(prefix.trunc(), Arc::new(attributes(what)));
        self.pending.get_or_insert(now);
    }

    /// Routes of peers to these prefixes are refused from now on, whatever policies say; those of before are not any more.
    pub fn protect(&mut self, now: Instant, protected: Protected) {
        self.rib.protect(protected);
        self.pending.get_or_insert(now);
    }

    /// No longer announces a prefix. Nothing for one that was not announced.
    pub fn withdraw(&mut self, now: Instant, prefix: IpNet) {
        self.rib.withdraw(prefix.trunc());
        self.pending.get_or_insert(now);
    }
}

fn attributes(what: &Origination) -> Attributes {
    let mut attributes = Attributes {
        origin: what.origin,
        as_path: AsPath::default(),
        local_pref: what.local_pref,
        med: what.med,
        communities: what.communities.clone(),
        extended: what.extended.clone(),
        large: what.large.clone(),
        // Each session has its own.
        ..Attributes::own(NextHop::V4(Ipv4Addr::UNSPECIFIED))
    };
    attributes.communities.sort_unstable();
    attributes.communities.dedup();
    attributes.extended.sort_unstable();
    attributes.extended.dedup();
    attributes.large.sort_unstable();
    attributes.large.dedup();
    attributes
}
