//! What is wanted beside what is present, and which of them differ. Never talks to the kernel.

use super::pool::Pool;
use super::{FibOptions, Target};
use crate::monitor::{Change, Event};
use crate::route::{Route, RouteKind};
use ipnet::IpNet;
use std::collections::{HashMap, HashSet, VecDeque};

/// Where a route leads, with its ways as an object's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lead {
    Object(u32),
    Refuse(RouteKind),
    /// Something that we would not write. Only present, never wanted.
    Other,
}

/// One destination.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    pub(super) wanted: Option<Lead>,
    pub(super) present: Option<Lead>,
    /// It stands in the queue.
    pub(super) queued: bool,
}

/// The learned routes of one namespace.
#[derive(Debug)]
pub struct Fib {
    pub(super) options: FibOptions,
    pub(super) pool: Pool,
    pub(super) entries: HashMap<IpNet, Entry>,
    /// Destinations whose entry may differ from the kernel.
    pub(super) queue: VecDeque<IpNet>,
    /// Destinations whose place in the kernel somebody else has.
    pub(super) foreign: HashSet<IpNet>,
    /// Routes of ours in the kernel in places where we have none any more (another metric).
    pub(super) strays: Vec<Route>,
    /// Everything has been set once, so that what nobody has set is stale.
    pub(super) synced: bool,
    /// Whether next-hop objects are used; decided by the first look at the kernel.
    pub(super) objects: bool,
    /// Whether something was set since the queue was last searched for objects to change in place.
    pub(super) unscanned: bool,
    /// Whether the kernel was read.
    pub(super) observed: bool,
}

impl Fib {
    /// Nothing wanted, nothing known of the kernel. [`observe`](Self::observe) comes before the first commit.
    #[must_use]
    pub fn new(options: FibOptions) -> Self {
        Self {
            pool: Pool::new(options.ids.clone()),
            objects: options.objects,
            options,
            entries: HashMap::new(),
            queue: VecDeque::new(),
            foreign: HashSet::new(),
            strays: Vec::new(),
            synced: false,
            unscanned: false,
            observed: false,
        }
    }

    /// Wants a route. In memory only; the same again costs no write.
    pub fn set(&mut self, destination: IpNet, target: &Target) {
        let destination = destination.trunc();
        let lead = match target {
            Target::Refuse(kind) => Lead::Refuse(*kind),
            Target::Ways(ways) if ways.is_empty() => Lead::Refuse(RouteKind::Unreachable),
            Target::Ways(ways) => match self.pool.intern(ways, destination.addr().is_ipv6()) {
                Some(id) => Lead::Object(id),
                // Sixteen million ids in use: better refused than sent astray.
                None => Lead::Refuse(RouteKind::Unreachable),
            },
        };
        self.want(destination, Some(lead));
    }

    /// Wants a route no more.
    pub fn remove(&mut self, destination: IpNet) {
        self.want(destination.trunc(), None);
    }

    /// From here on, what is in the kernel and was not set is stale: the next commits remove it.
    pub fn in_sync(&mut self) {
        if self.synced {
            return;
        }
        self.synced = true;
        let stale: Vec<IpNet> =
            self.entries.iter().filter(|(_, entry)| entry.wanted.is_none()).map(|(at, _)| *at).collect();
        for destination in stale {
            self.enqueue(destination);
        }
    }

    /// How many destinations are wanted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.values().filter(|entry| entry.wanted.is_some()).count()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many destinations wait for a commit, those that failed before included.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// Whether the kernel has routes of ours of a family, as far as was observed.
    #[must_use]
    pub fn holds(&self, ipv6: bool) -> bool {
        let of_family = |destination: &IpNet| destination.addr().is_ipv6() == ipv6;
        self.entries.iter().any(|(destination, entry)| entry.present.is_some() && of_family(destination))
    }

    /// Destinations whose place in the kernel a route of another protocol has: they stay unwritten until it goes.
    #[must_use]
    pub fn foreign(&self) -> &HashSet<IpNet> {
        &self.foreign
    }

    /// Whether an event that was not caused by our own socket asks for [`observe`](Self::observe): something of ours
    /// was changed, or may have gone without a word, or a place of ours became free.
    #[must_use]
    pub fn concerns(&self, event: &Event) -> bool {
        match event {
            Event::Route(change, route) => {
                let ours = route.protocol == self.options.protocol;
                let same_place = || {
                    route.table == self.options.table
                        && route.metric == self.options.metric
                        && self.entries.contains_key(&route.destination)
                };
                ours || (same_place() && (*change == Change::Put || self.foreign.contains(&route.destination)))
            }
            Event::NextHop(_, next_hop) => next_hop.protocol == self.options.protocol,
            // Next-hop objects and IPv4 routes go with their device in silence.
            Event::Link(change, link) => *change == Change::Deleted || !link.up || !link.carrier,
            Event::Lost => true,
            _ => false,
        }
    }

    fn want(&mut self, destination: IpNet, lead: Option<Lead>) {
        if lead.is_none() && !self.entries.contains_key(&destination) {
            return;
        }
        let before = std::mem::replace(&mut self.entries.entry(destination).or_default().wanted, lead);
        if before == lead {
            return;
        }
        for (lead, more) in [(lead, true), (before, false)] {
            if let Some(Lead::Object(id)) = lead {
                self.pool.count_wanted(id, more);
            }
        }
        self.unscanned = true;
        self.enqueue(destination);
    }

    pub(super) fn enqueue(&mut self, destination: IpNet) {
        if let Some(entry) = self.entries.get_mut(&destination)
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.queue.push_back(destination);
        }
    }

    /// What is in the kernel at a destination has changed.
    pub(super) fn set_present(&mut self, destination: IpNet, lead: Option<Lead>) {
        let entry = self.entries.entry(destination).or_default();
        let before = std::mem::replace(&mut entry.present, lead);
        if before == lead {
            return;
        }
        for (lead, more) in [(lead, true), (before, false)] {
            if let Some(Lead::Object(id)) = lead {
                self.pool.count_present(id, more);
            }
        }
    }
}
