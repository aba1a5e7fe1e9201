//! The changes of a statement. Never a condition.

use super::NextHopRule;
use super::community::Pattern;
use crate::types::{Asn, Attributes, NextHop};
use std::borrow::Cow;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum NextHopAction {
    Address(NextHop),
    Own,
    Unchanged,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Actions {
    pub(super) local_pref: Option<u32>,
    pub(super) med: Option<u32>,
    pub(super) med_add: Option<i64>,
    pub(super) replace: Option<Vec<Pattern>>,
    pub(super) remove: Vec<Pattern>,
    pub(super) add: Vec<Pattern>,
    pub(super) next_hop: Option<NextHopAction>,
    pub(super) prepend: Option<(Option<Asn>, u8)>,
}

impl Actions {
    /// What is not changed is not copied.
    pub(super) fn apply(&self, attributes: &mut Cow<'_, Attributes>, next_hop: &mut NextHopRule, own: Asn) {
        if self.local_pref.is_some() && attributes.local_pref != self.local_pref {
            attributes.to_mut().local_pref = self.local_pref;
        }
        if self.med.is_some() && attributes.med != self.med {
            attributes.to_mut().med = self.med;
        }
        if let Some(more) = self.med_add {
            let med = i64::from(attributes.med.unwrap_or(0)).saturating_add(more).clamp(0, u32::MAX.into());
            attributes.to_mut().med = u32::try_from(med).ok();
        }
        if let Some(others) = &self.replace {
            let attributes = attributes.to_mut();
            attributes.communities.clear();
            attributes.extended.clear();
            attributes.large.clear();
            others.iter().for_each(|community| community.add_to(attributes));
        }
        for community in &self.remove {
            if community.is_in(attributes) {
                community.remove_from(attributes.to_mut());
            }
        }
        for community in &self.add {
            if !community.is_in(attributes) {
                community.add_to(attributes.to_mut());
            }
        }
        if let Some((asn, times)) = self.prepend {
            let path = attributes.as_path.prepended(asn.unwrap_or(own), times.into());
            attributes.to_mut().as_path = path;
        }
        match &self.next_hop {
            None => {}
            Some(NextHopAction::Own) => *next_hop = NextHopRule::Own,
            Some(NextHopAction::Unchanged) => *next_hop = NextHopRule::Kept,
            Some(NextHopAction::Address(address)) => {
                attributes.to_mut().next_hop = *address;
                *next_hop = NextHopRule::Kept;
            }
        }
    }
}
