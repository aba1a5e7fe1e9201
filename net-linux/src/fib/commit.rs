//! Writing what differs. Never reads a table whole, except to say who has a place of ours.

use super::pool::Content;
use super::table::{Fib, Lead};
use crate::netlink::{Batch, Error, Socket};
use crate::nexthop::{Hop, NextHop};
use crate::route::{Route, RouteFilter, Scope};
use ipnet::IpNet;
use std::collections::HashMap;

/// A destination that could not be written. It stays queued, unless somebody else has its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The destination.
    pub destination: IpNet,
    /// Why.
    pub error: Error,
}

/// What a commit did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Routes written or deleted.
    pub routes: usize,
    /// Next-hop objects written or deleted.
    pub objects: usize,
    /// What failed.
    pub failed: Vec<Failure>,
    /// Destinations that still wait, those that failed included.
    pub left: usize,
}

/// One write of a route.
struct Step {
    destination: IpNet,
    wanted: Option<Lead>,
    /// The place was empty, so that whoever has it now is somebody else.
    creates: bool,
}

impl Fib {
    /// Writes up to `most` destinations: objects first, then routes (replaced without a gap), then what has become
    /// superfluous. A write that fails does not stop the others.
    ///
    /// # Errors
    /// When the kernel was not read yet, and that fails: nothing is written then.
    pub fn commit(&mut self, socket: &mut Socket, most: usize) -> Result<Report, Error> {
        if !self.observed {
            self.observe(socket)?;
        }
        let mut report = Report::default();
        self.change_in_place();
        let broken = self.write_objects(socket, &mut report);
        self.write_routes(socket, most, &broken, &mut report);
        self.delete_strays(socket, &mut report);
        self.delete_objects(socket, &mut report);
        report.left = self.queue.len();
        Ok(report)
    }

    /// Finds objects whose every route moves to one new object, and lets them become that one.
    fn change_in_place(&mut self) {
        if !self.objects || !std::mem::take(&mut self.unscanned) {
            return;
        }
        // From the new object to the old, with the number of routes that make the move; `None`: from several.
        let mut moves: HashMap<u32, Option<(u32, usize)>> = HashMap::new();
        for entry in self.queue.iter().filter_map(|destination| self.entries.get(destination)) {
            let Some(Lead::Object(new)) = entry.wanted else { continue };
            let old = match entry.present {
                Some(Lead::Object(old)) if old != new => Some(old),
                _ => None,
            };
            let found = moves.entry(new).or_insert(old.map(|old| (old, 0)));
            *found = found.filter(|(before, _)| Some(*before) == old).map(|(old, count)| (old, count + 1));
        }
        moves.retain(|new, found| {
            let Some((old, count)) = *found else { return false };
            let (Some(fresh), Some(slot)) = (self.pool.slot(*new), self.pool.slot(old)) else { return false };
            let alike = match (&fresh.content, &slot.content) {
                (Content::Way { ipv6: a, .. }, Content::Way { ipv6: b, .. }) => a == b,
                (a, b) => a.is_group() && b.is_group(),
            };
            // All its users are these routes: no group, and no route that stays.
            let enough = count >= self.options.in_place_from;
            enough
                && alike
                && fresh.written.is_none()
                && fresh.wanted == count
                && slot.wanted == 0
                && slot.present == count
        });
        if moves.is_empty() {
            return;
        }
        let queued: Vec<IpNet> = self.queue.iter().copied().collect();
        for destination in queued {
            let Some(entry) = self.entries.get_mut(&destination) else { continue };
            if let Some(Lead::Object(new)) = entry.wanted
                && let Some(Some((old, _))) = moves.get(&new)
            {
                entry.wanted = Some(Lead::Object(*old));
            }
        }
        for (new, found) in moves {
            if let Some((old, _)) = found {
                self.pool.change_in_place(old, new);
            }
        }
    }

    /// Writes objects that are wanted and not as they shall be. Gives those that failed.
    fn write_objects(&mut self, socket: &mut Socket, report: &mut Report) -> HashMap<u32, Error> {
        let mut broken = HashMap::new();
        if !self.objects {
            return broken;
        }
        for groups in [false, true] {
            let mut batch = Batch::new();
            let mut ids = Vec::new();
            for id in &self.pool.due {
                let Some(slot) = self.pool.slot(*id) else { continue };
                let used = slot.wanted > 0 || slot.present > 0;
                if !used || slot.content.is_group() != groups || slot.written.as_ref() == Some(&slot.content) {
                    continue;
                }
                let object = self.object(*id, slot.content.hop());
                // An id of our range that is not known to be ours may be anybody's.
                if slot.written.is_none() {
                    object.create(&mut batch)
                } else {
                    object.replace(&mut batch)
                }
                ids.push(*id);
            }
            for (id, result) in ids.into_iter().zip(socket.run(&mut batch)) {
                match result {
                    Ok(()) => {
                        report.objects += 1;
                        if let Some(slot) = self.pool.slot_mut(id) {
                            slot.written = Some(slot.content.clone());
                        }
                        self.pool.due.remove(&id);
                    }
                    Err(error) => {
                        broken.insert(id, error);
                    }
                }
            }
        }
        broken
    }

    fn write_routes(&mut self, socket: &mut Socket, most: usize, broken: &HashMap<u32, Error>, report: &mut Report) {
        let mut batch = Batch::new();
        let mut steps = Vec::new();
        for _ in 0..most.min(self.queue.len()) {
            let Some(destination) = self.queue.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(&destination) else { continue };
            entry.queued = false;
            let (wanted, present) = (entry.wanted, entry.present);
            if wanted == present {
                self.foreign.remove(&destination);
                if wanted.is_none() {
                    self.entries.remove(&destination);
                }
                continue;
            }
            if let Some(Lead::Object(id)) = wanted
                && let Some(error) = broken.get(&id)
            {
                report.failed.push(Failure { destination, error: error.clone() });
                continue;
            }
            match wanted {
                Some(lead) if present.is_some() => self.route(destination, lead).replace(&mut batch),
                Some(lead) => self.route(destination, lead).create(&mut batch),
                None => self.route_to_delete(destination).delete(&mut batch),
            }
            steps.push(Step { destination, wanted, creates: present.is_none() });
        }
        let mut taken = Vec::new();
        for (step, result) in steps.into_iter().zip(socket.run(&mut batch)) {
            let result = match result {
                Err(error) if step.wanted.is_none() && error.is_gone() => Ok(()),
                result => result,
            };
            match result {
                Ok(()) => {
                    report.routes += 1;
                    self.foreign.remove(&step.destination);
                    self.set_present(step.destination, step.wanted);
                    if step.wanted.is_none() {
                        self.entries.remove(&step.destination);
                    }
                }
                Err(error) if step.creates && error.is_exists() => taken.push(step.destination),
                Err(error) => report.failed.push(Failure { destination: step.destination, error }),
            }
        }
        self.report_foreign(socket, taken, report);
        let again: Vec<IpNet> = report.failed.iter().map(|failure| failure.destination).collect();
        for destination in
            again.into_iter().filter(|destination| !self.foreign.contains(destination)).collect::<Vec<_>>()
        {
            self.enqueue(destination);
        }
    }

    /// Says whose the routes are that stand where ours should.
    fn report_foreign(&mut self, socket: &mut Socket, taken: Vec<IpNet>, report: &mut Report) {
        if taken.is_empty() {
            return;
        }
        let filter = RouteFilter { table: Some(self.options.table), ..RouteFilter::default() };
        let found = Route::dump(socket, &filter).unwrap_or_default();
        let at = |route: &Route| route.metric == self.options.metric;
        let owners: HashMap<IpNet, u8> =
            found.iter().filter(|route| at(route)).map(|route| (route.destination, route.protocol)).collect();
        for destination in taken {
            let found = match owners.get(&destination) {
                Some(protocol) => format!("protocol {protocol}"),
                None => "gone by now".to_owned(),
            };
            let object = format!("route {destination}");
            report.failed.push(Failure { destination, error: Error::Foreign { operation: "create", object, found } });
            // One that has gone meanwhile is tried again; the other when its going is told.
            if owners.contains_key(&destination) {
                self.foreign.insert(destination);
            }
        }
    }

    fn delete_strays(&mut self, socket: &mut Socket, report: &mut Report) {
        if !self.synced || self.strays.is_empty() {
            return;
        }
        let mut batch = Batch::new();
        for stray in &self.strays {
            stray.delete(&mut batch);
        }
        let strays = std::mem::take(&mut self.strays);
        for (stray, result) in strays.into_iter().zip(socket.run(&mut batch)) {
            match result {
                Err(error) if !error.is_gone() => {
                    report.failed.push(Failure { destination: stray.destination, error });
                    self.strays.push(stray);
                }
                _ => report.routes += 1,
            }
        }
    }

    /// Deletes objects without users: groups first, so that their members have none either.
    fn delete_objects(&mut self, socket: &mut Socket, report: &mut Report) {
        for _groups_then_members in 0..2 {
            let mut batch = Batch::new();
            let mut gone = Vec::new();
            for id in std::mem::take(&mut self.pool.due) {
                let Some(slot) = self.pool.slot(id) else { continue };
                if slot.wanted > 0 || slot.present > 0 {
                    if slot.written.as_ref() != Some(&slot.content) {
                        self.pool.due.insert(id);
                    }
                } else if slot.written.is_none() {
                    gone.push((id, false));
                } else if self.synced {
                    self.object(id, Hop::Group(Vec::new())).delete(&mut batch);
                    gone.push((id, true));
                } else {
                    self.pool.due.insert(id);
                }
            }
            let mut results = socket.run(&mut batch).into_iter();
            for (id, written) in gone {
                match if written { results.next() } else { None } {
                    Some(Err(error)) if !error.is_gone() => {
                        self.pool.due.insert(id);
                    }
                    deleted => {
                        report.objects += usize::from(deleted.is_some());
                        self.pool.forget(id);
                    }
                }
            }
        }
    }

    fn object(&self, id: u32, hop: Hop) -> NextHop {
        NextHop { id, protocol: self.options.protocol, hop }
    }

    /// A route of ours that leads there.
    fn route(&self, destination: IpNet, lead: Lead) -> Route {
        let options = &self.options;
        let base = Route {
            table: options.table,
            metric: options.metric,
            protocol: options.protocol,
            ..Route::new(destination)
        };
        match lead {
            Lead::Refuse(kind) => Route { kind, ..base },
            Lead::Object(id) if self.objects => Route { nexthop_id: Some(id), ..base },
            Lead::Object(id) => {
                let ways = self.pool.ways(id);
                match ways.as_slice() {
                    [(way, _)] => {
                        let link = way.via.is_none() && destination.addr().is_ipv4();
                        let scope = if link { Scope::Link } else { Scope::Universe };
                        let (index, via, onlink, tunnel) = (Some(way.index), way.via, way.onlink, way.tunnel);
                        Route { index, via, onlink, tunnel, scope, ..base }
                    }
                    _ => Route { ways, ..base },
                }
            }
            Lead::Other => base,
        }
    }

    /// The route as its deletion names it: of whatever type it is in the kernel.
    fn route_to_delete(&self, destination: IpNet) -> Route {
        let kind = match self.entries.get(&destination).and_then(|entry| entry.present) {
            Some(Lead::Refuse(kind)) => Some(kind),
            _ => None,
        };
        let mut route = self.route(destination, Lead::Other);
        if let Some(kind) = kind {
            route.kind = kind;
        }
        route
    }
}
