//! Reading what is in the kernel. Never writes.

use super::pool::{Content, Pool};
use super::table::{Fib, Lead};
use crate::netlink::{Error, Socket};
use crate::nexthop::NextHop;
use crate::route::{Route, RouteFilter, RouteKind, Way};
use ipnet::IpNet;
use nix::errno::Errno;
use std::collections::HashMap;

impl Fib {
    /// Reads our routes and next-hop objects back, and queues what is not as it shall be. After a restart this is how the
    /// work of the predecessor is taken over.
    ///
    /// # Errors
    /// The kernel refused, or the socket failed; what was known before stays.
    pub fn observe(&mut self, socket: &mut Socket) -> Result<(), Error> {
        let mut objects = Vec::new();
        if self.options.objects {
            match NextHop::dump(socket, None) {
                Ok(found) => objects = found,
                Err(error) if matches!(error.errno(), Some(Errno::EOPNOTSUPP | Errno::EINVAL)) => self.objects = false,
                Err(error) => return Err(error),
            }
        }
        let filter = RouteFilter {
            protocol: Some(self.options.protocol),
            table: Some(self.options.table),
            ..RouteFilter::default()
        };
        let routes = Route::dump(socket, &filter)?;
        self.adopt_objects(objects);
        self.adopt_routes(routes);
        self.observed = true;
        Ok(())
    }

    fn adopt_objects(&mut self, objects: Vec<NextHop>) {
        let pool = &mut self.pool;
        pool.taken.clear();
        for (_, slot) in pool.slots_mut() {
            (slot.written, slot.present) = (None, 0);
        }
        // Members before the groups that count them.
        let (groups, ways): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|object| matches!(object.hop, crate::nexthop::Hop::Group(_)));
        for object in ways.into_iter().chain(groups) {
            let ours = object.protocol == self.options.protocol && self.options.ids.contains(&object.id);
            let content = Content::read(&object.hop).filter(|_| ours);
            match content {
                Some(content) => adopt(pool, object.id, content),
                None => {
                    pool.taken.insert(object.id);
                }
            }
        }
        let all: Vec<u32> = pool.slots_mut().map(|(id, _)| *id).collect();
        pool.due.extend(all);
    }

    fn adopt_routes(&mut self, routes: Vec<Route>) {
        self.strays.clear();
        let mut found: HashMap<IpNet, Lead> = HashMap::with_capacity(routes.len());
        for route in routes {
            if route.metric == self.options.metric {
                let lead = self.lead_of(&route);
                found.insert(route.destination, lead);
            } else {
                self.strays.push(route);
            }
        }
        let known: Vec<IpNet> = self.entries.keys().copied().collect();
        // Counts begin anew: those of objects were cleared.
        for entry in self.entries.values_mut() {
            entry.present = None;
        }
        for (destination, lead) in &found {
            self.set_present(*destination, Some(*lead));
        }
        for destination in known {
            let Some(entry) = self.entries.get(&destination) else { continue };
            if entry.wanted.is_none() && entry.present.is_none() && !entry.queued {
                self.entries.remove(&destination);
            } else if entry.wanted != entry.present && (entry.wanted.is_some() || self.synced) {
                self.enqueue(destination);
            }
        }
        if self.synced {
            for destination in found.keys() {
                if self.entries.get(destination).is_some_and(|entry| entry.wanted.is_none()) {
                    self.enqueue(*destination);
                }
            }
        }
        self.unscanned = true;
    }

    fn lead_of(&mut self, route: &Route) -> Lead {
        if route.kind != RouteKind::Unicast {
            return Lead::Refuse(route.kind);
        }
        let ways = match (route.nexthop_id, route.index) {
            (Some(id), _) if self.objects && self.pool.slot(id).is_some() => return Lead::Object(id),
            (None, Some(index)) if !self.objects => {
                vec![(Way { index, via: route.via, onlink: route.onlink, tunnel: route.tunnel }, 1)]
            }
            (None, None) if !self.objects && !route.ways.is_empty() => route.ways.clone(),
            _ => return Lead::Other,
        };
        self.pool.intern(&ways, route.destination.addr().is_ipv6()).map_or(Lead::Other, Lead::Object)
    }
}

/// Takes an object of ours from the kernel into the pool.
fn adopt(pool: &mut Pool, id: u32, content: Content) {
    match pool.slot_mut(id) {
        Some(slot) => slot.written = Some(content),
        None => pool.insert(id, content.clone(), Some(content)),
    }
}
