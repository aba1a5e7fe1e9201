//! Which ways lead to the next hops of learned routes, by the kernel's own tables. Never through a learned route: two of
//! them could lead to each other's next hops for ever, so a next hop behind nothing else counts as unresolved.
//!
//! No clock and no waiting: times come in with what is heard. Neighbours are not listened to: whether one answers changes
//! nothing in the kernel's choice of a way, and BFD or the session finds a dead one sooner.

use crate::link::{Link, LinkId};
use crate::marks;
use crate::monitor::{Event, Notice};
use crate::netlink::{Result, Socket};
use crate::nexthop::{Hop, NextHop};
use crate::route::{MAIN_TABLE, Route, RouteFilter, RouteKind, Way};
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// After the last change that was heard so long nothing else may change before it is looked at.
const QUIET: Duration = Duration::from_millis(20);
/// So long at most it is waited for quiet.
const PATIENCE: Duration = Duration::from_millis(200);

/// A next hop as a routing protocol names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NextHopKey {
    /// Its address.
    pub address: IpAddr,
    /// The device that it is behind: for link-local addresses, which mean nothing without.
    pub device: Option<u32>,
}

impl From<IpAddr> for NextHopKey {
    fn from(address: IpAddr) -> Self {
        Self { address, device: None }
    }
}

/// Where a next hop is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// The ways to it; none: it is not reachable.
    pub ways: Vec<(Way, u8)>,
    /// The metric of the kernel's route to it.
    pub metric: u32,
}

/// Watches next hops.
#[derive(Debug, Default)]
pub struct Tracker {
    hops: BTreeMap<NextHopKey, Option<Resolution>>,
    /// The first and the last change that was heard and not yet looked at.
    heard: Option<(Instant, Instant)>,
}

impl Tracker {
    /// Nothing to watch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a next hop from now on. Its resolution comes with the next [`refresh`](Self::refresh), which is due at once.
    pub fn watch(&mut self, now: Instant, key: NextHopKey) {
        if self.hops.contains_key(&key) {
            return;
        }
        self.hops.insert(key, None);
        let due = now.checked_sub(PATIENCE).unwrap_or(now);
        self.heard = Some((due, self.heard.map_or(due, |(_, last)| last)));
    }

    /// Watches it no more.
    pub fn forget(&mut self, key: &NextHopKey) {
        self.hops.remove(key);
    }

    /// The last resolution; `None` for one that is not watched or was not looked at.
    #[must_use]
    pub fn resolution(&self, key: &NextHopKey) -> Option<&Resolution> {
        self.hops.get(key)?.as_ref()
    }

    /// Takes a change of the kernel's tables into account.
    pub fn hear(&mut self, now: Instant, notice: &Notice) {
        let matters = match &notice.event {
            Event::Route(_, route) => route.protocol != marks::LEARNED_PROTOCOL && !is_pod_route(route),
            Event::NextHop(_, next_hop) => next_hop.protocol != marks::LEARNED_PROTOCOL,
            Event::Link(..) | Event::Address(..) | Event::Lost => true,
            _ => false,
        };
        if matters && !self.hops.is_empty() {
            self.heard = Some((self.heard.map_or(now, |(first, _)| first), now));
        }
    }

    /// When [`refresh`](Self::refresh) is due; `None` while nothing changes.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.heard.map(|(first, last)| (first + PATIENCE).min(last + QUIET))
    }

    /// Asks the kernel for every next hop again and gives those whose ways or metric are not what they were.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed; what was not asked then stays as it was, and due.
    pub fn refresh(&mut self, socket: &mut Socket) -> Result<Vec<(NextHopKey, Resolution)>> {
        let mut table = None;
        let mut changed = Vec::new();
        for (key, known) in &mut self.hops {
            let found = resolve(socket, key, &mut table)?;
            if known.as_ref() != Some(&found) {
                *known = Some(found.clone());
                changed.push((*key, found));
            }
        }
        self.heard = None;
        Ok(changed)
    }
}

/// A pod's host route says nothing about routers, and there are many of them.
fn is_pod_route(route: &Route) -> bool {
    route.is_ours() && route.destination.prefix_len() == route.destination.max_prefix_len()
}

fn resolve(socket: &mut Socket, key: &NextHopKey, table: &mut Option<Table>) -> Result<Resolution> {
    if let Some(index) = key.device {
        let link = Link::get(socket, &LinkId::Index(index))?;
        let usable = link.is_some_and(|link| link.up && link.carrier);
        let ways = if usable { vec![(Way::via(key.address, index), 1)] } else { Vec::new() };
        return Ok(Resolution { ways, metric: 0 });
    }
    let Some(found) = Route::lookup(socket, key.address, None)? else { return Ok(Resolution::default()) };
    if found.entry.protocol == marks::LEARNED_PROTOCOL {
        let table = match table {
            Some(table) => table,
            None => table.insert(Table::read(socket)?),
        };
        return Ok(table.resolve(key.address));
    }
    Ok(through(&found.entry, &[(way_of(&found.packet), 1)], key.address))
}

/// The ways of an entry to an address. `packet` are those of its next-hop object.
fn through(entry: &Route, packet: &[(Option<Way>, u8)], address: IpAddr) -> Resolution {
    if entry.kind != RouteKind::Unicast {
        // Our own address is no next hop.
        return Resolution::default();
    }
    let single;
    let ways: &[(Option<Way>, u8)] = if entry.ways.is_empty() {
        packet
    } else {
        single = entry.ways.iter().map(|(way, weight)| (Some(*way), *weight)).collect::<Vec<_>>();
        &single
    };
    let to = |(way, weight): &(Option<Way>, u8)| {
        let way = (*way)?;
        // On a link, the next hop itself is the gateway.
        Some((Way { via: Some(way.via.unwrap_or(address)), onlink: true, ..way }, *weight))
    };
    Resolution { ways: ways.iter().filter_map(to).collect(), metric: entry.metric }
}

fn way_of(route: &Route) -> Option<Way> {
    Some(Way { index: route.index?, via: route.via, onlink: route.onlink, tunnel: route.tunnel })
}

/// The main table without learned routes, for next hops behind one of those.
struct Table {
    routes: HashMap<IpNet, Route>,
    objects: HashMap<u32, Hop>,
}

impl Table {
    fn read(socket: &mut Socket) -> Result<Self> {
        let filter = RouteFilter { table: Some(MAIN_TABLE), ..RouteFilter::default() };
        let mut routes: HashMap<IpNet, Route> = HashMap::new();
        for route in Route::dump(socket, &filter)? {
            if route.protocol == marks::LEARNED_PROTOCOL {
                continue;
            }
            let better = routes.get(&route.destination).is_none_or(|known| route.metric < known.metric);
            if better {
                routes.insert(route.destination, route);
            }
        }
        let objects = NextHop::dump(socket, None).unwrap_or_default();
        Ok(Self { routes, objects: objects.into_iter().map(|object| (object.id, object.hop)).collect() })
    }

    fn resolve(&self, address: IpAddr) -> Resolution {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let candidates = (0..=bits).rev().filter_map(|length| {
            let network = IpNet::new(address, length).ok()?.trunc();
            self.routes.get(&network)
        });
        let Some(entry) = candidates.into_iter().next() else { return Resolution::default() };
        let packet = match entry.nexthop_id {
            None => vec![(way_of(entry), 1)],
            Some(id) => self.ways(id),
        };
        through(entry, &packet, address)
    }

    fn ways(&self, id: u32) -> Vec<(Option<Way>, u8)> {
        match self.objects.get(&id) {
            Some(Hop::Device { index, via, onlink, tunnel, .. }) => {
                vec![(Some(Way { index: *index, via: *via, onlink: *onlink, tunnel: *tunnel }), 1)]
            }
            Some(Hop::Group(members)) => members
                .iter()
                .flat_map(|(id, weight)| self.ways(*id).into_iter().map(move |(way, _)| (way, *weight)))
                .collect(),
            Some(Hop::Blackhole { .. }) | None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Change;

    fn notice(protocol: u8) -> Notice {
        let route = Route { protocol, ..Route::on_link("10.0.0.0/8".parse().unwrap(), 1) };
        Notice { port: 0, event: Event::Route(Change::Put, Box::new(route)) }
    }

    #[test]
    fn a_storm_of_changes_is_looked_at_once_and_not_later_than_patience_allows() {
        let start = Instant::now();
        let mut tracker = Tracker::new();
        tracker.hops.insert(IpAddr::from([192, 0, 2, 1]).into(), None);
        tracker.hear(start, &notice(4));
        assert_eq!(tracker.deadline(), Some(start + QUIET));
        for step in 1..100 {
            tracker.hear(start + Duration::from_millis(10 * step), &notice(4));
        }
        assert_eq!(tracker.deadline(), Some(start + PATIENCE));
    }

    #[test]
    fn learned_routes_move_no_next_hop() {
        let start = Instant::now();
        let mut tracker = Tracker::new();
        tracker.hops.insert(IpAddr::from([192, 0, 2, 1]).into(), None);
        tracker.hear(start, &notice(marks::LEARNED_PROTOCOL));
        assert_eq!(tracker.deadline(), None);
    }

    #[test]
    fn a_new_next_hop_is_due_at_once() {
        let now = Instant::now();
        let mut tracker = Tracker::new();
        tracker.watch(now, IpAddr::from([192, 0, 2, 1]).into());
        assert!(tracker.deadline().is_some_and(|due| due <= now));
    }
}
