//! Learned routes on their way from the speaker to the kernel, and next hops the other way. Never a choice among paths: the
//! speaker's.

use super::super::carry::{Carrier, underlay_address};
use super::super::mail::Letters;
use super::{Control, Failed, RETRY, SLICE};
use bgp_speaker::speaker::{Hop, Input, Resolution, Speaker, Via};
use net_linux::fib::NextHopKey;
use net_linux::link::{Link, LinkFilter};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl Control<'_> {
    /// Writes a slice of what differs; the rest when the speaker had its turn.
    pub(super) fn write(&mut self) -> Result<(), Failed> {
        let report = self.fib.commit(&mut self.socket, SLICE)?;
        for failure in &report.failed {
            tracing::warn!(destination = %failure.destination, error = %failure.error, "a learned route is not in the kernel");
        }
        if report.left > 0 {
            let pause = if report.routes + report.objects > 0 { Duration::ZERO } else { RETRY };
            self.retry_at = Some(Instant::now() + pause);
        }
        Ok(())
    }

    pub(super) fn take_mail(&mut self, letters: Letters) {
        let now = Instant::now();
        // Of each the last word counts: one that is wanted again stays known.
        let tracked: BTreeMap<IpAddr, bool> = letters.tracked.into_iter().collect();
        for (address, begins) in tracked {
            let key = NextHopKey::from(underlay_address(address));
            if begins {
                self.tracker.watch(now, key);
                self.tell(address);
            } else {
                self.tracker.forget(&key);
            }
        }
        let carrier = Carrier { wanted: &self.wanted, tracker: &self.tracker, links: &self.links };
        for (prefix, hops) in letters.routes {
            carrier.set(&mut self.fib, prefix, &hops);
            if hops.is_empty() {
                self.routes.remove(&prefix);
            } else {
                self.routes.insert(prefix, hops);
            }
        }
        if !letters.in_sync.is_empty() {
            self.in_sync.extend(letters.in_sync);
            self.settling = self.is_complete();
        }
    }

    /// Every route again: what decides about them has changed.
    pub(super) fn carry_all(&mut self) {
        let carrier = Carrier { wanted: &self.wanted, tracker: &self.tracker, links: &self.links };
        for (prefix, hops) in &self.routes {
            carrier.set(&mut self.fib, *prefix, hops);
        }
    }

    /// Asks the kernel for the ways to all next hops and tells those that changed.
    pub(super) fn track(&mut self) -> Result<(), Failed> {
        self.read_links()?;
        let changed = self.tracker.refresh(&mut self.socket)?;
        if changed.is_empty() {
            return Ok(());
        }
        for (key, _) in &changed {
            self.tell(key.address);
            if let IpAddr::V4(v4) = key.address {
                self.tell(v4.to_ipv6_mapped().into());
            }
        }
        let moved: BTreeSet<IpAddr> = changed.into_iter().map(|(key, _)| key.address).collect();
        let carrier = Carrier { wanted: &self.wanted, tracker: &self.tracker, links: &self.links };
        let touched = |hops: &[Hop]| hops.iter().any(|hop| moved.contains(&underlay_address(hop.address)));
        for (prefix, hops) in self.routes.iter().filter(|(_, hops)| touched(hops)) {
            carrier.set(&mut self.fib, *prefix, hops);
        }
        Ok(())
    }

    /// Tells the speaker of a next hop, as far as it is known.
    fn tell(&self, address: IpAddr) {
        let known = underlay_address(address);
        let Some(found) = self.tracker.resolution(&known.into()) else { return };
        let name = |index: u32| self.links.iter().find(|(_, known)| **known == index).map(|(name, _)| name.clone());
        let way = |(way, _): &(net_linux::route::Way, u8)| {
            let gateway = way.via.filter(|via| *via != known);
            Some(Resolution { metric: found.metric, via: Via { interface: name(way.index)?, gateway } })
        };
        let ways: Vec<Resolution> = found.ways.iter().filter_map(way).collect();
        let resolved = move |core: &mut Speaker, now: Instant, out: &mut Vec<_>| {
            core.handle(now, Input::Resolved { address, ways }, out);
        };
        // A transport that has ended ends this loop too.
        let _ = self.handle.post(resolved);
    }

    /// Names and indices of devices. When any changed, every route is looked at again.
    pub(super) fn read_links(&mut self) -> Result<(), Failed> {
        let links = Link::dump(&mut self.socket, &LinkFilter::default())?;
        let links: HashMap<Arc<str>, u32> = links.into_iter().map(|link| (link.name.into(), link.index)).collect();
        if links != self.links {
            self.links = links;
            self.carry_all();
        }
        Ok(())
    }
}
