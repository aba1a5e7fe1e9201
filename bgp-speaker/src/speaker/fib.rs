//! Routes for the kernel. Never the kernel's own: an embedder writes them, and finds out what is there already.

use super::core::Speaker;
use super::{Hop, Output};
use crate::rib::{NextHopChange, PathView, SlotSet};
use crate::types::{Family, NextHop};
use std::net::IpAddr;

impl Speaker {
    /// Says which next hops are to be watched.
    pub(super) fn tell_next_hops(&mut self, out: &mut Vec<Output>) {
        out.extend(self.rib.take_next_hops().into_iter().map(|change| match change {
            NextHopChange::Track(address) => Output::Track { address },
            NextHopChange::Untrack(address) => Output::Untrack { address },
        }));
    }

    /// Says what has become of routes.
    pub(super) fn tell_routes(&mut self, family: Family, changed: &SlotSet, out: &mut Vec<Output>) {
        for slot in changed.iter() {
            let Some(prefix) = self.rib.prefix(family, slot) else { continue };
            let mut hops: Vec<Hop> = self.rib.forwarding(family, slot).iter().map(hop).collect();
            hops.sort_unstable();
            hops.dedup();
            let told = &mut self.told[family.index()];
            // A prefix that never had a way out is none of the kernel's business.
            let is_news = if hops.is_empty() { told.remove(slot) } else { true };
            if is_news {
                if !hops.is_empty() {
                    told.insert(slot);
                }
                out.push(Output::Route { prefix, hops });
            }
        }
    }
}

fn hop(path: &PathView<'_>) -> Hop {
    let (address, on_link) = match path.attributes.next_hop {
        // The link-local address needs no route of its own: it is the nearer one (RFC 2545, section 3).
        NextHop::V6 { global, link_local: Some(link_local) } if global.is_unicast_link_local() => {
            (IpAddr::V6(link_local), true)
        }
        NextHop::V6 { global, .. } => (IpAddr::V6(global), global.is_unicast_link_local()),
        NextHop::V4(address) => (IpAddr::V4(address), false),
    };
    let interface = path.peer.and_then(|peer| peer.interface.clone()).filter(|_| on_link);
    Hop { address, interface }
}
