//! From what is staged to maps and programs. Never puts a program at an interface before its maps are whole.

use super::super::objects::{Key, Objects, View, differing};
use super::super::refused;
use super::super::running::{self, Running, pins};
use super::Enforcing;
use super::left::Left;
use crate::bpffs;
use crate::policy::Write;
use cni_core::backend::{CommitReport, Error, ErrorKind, Failure, Result, Retry};
use cni_core::model::{EndpointId, InterfaceName};
use cni_core::policy::program::PolicyKey;

impl Enforcing {
    pub(super) fn commit_here(&mut self) -> CommitReport {
        let mut report = CommitReport::default();
        if let Err(error) = self.begin() {
            let failure = Failure {
                items: Vec::new(),
                object: "kernel state".to_owned(),
                error: Error { retry: Retry::Soon, ..error },
            };
            report.failed.push(failure);
            report.blocked = self.blocked();
            return report;
        }
        let before = (!self.in_sync || !self.left.generations.is_empty()).then(|| self.present());
        let absent = self.find_interfaces();
        report.failed.extend(absent.iter().map(|(key, name)| {
            let error = Error::new(
                ErrorKind::Missing,
                "attach",
                format_args!("policy at {name}"),
                "there is no such interface",
            );
            Failure { items: vec![key.to_string()], object: format!("interface {name}"), error }
        }));
        if let Err(error) = self.find_devices() {
            report.failed.push(Failure {
                items: vec![PolicyKey::Host.to_string()],
                object: "interfaces of the node".to_owned(),
                error: Error { retry: Retry::Soon, ..error },
            });
        }
        match self.write() {
            Ok(()) => {
                self.guard(&mut report);
                let bare = self.attach(&mut report);
                self.end_replacement(&mut report);
                if self.in_sync && report.failed.is_empty() {
                    self.succeed(&mut report);
                }
                self.own_epoch();
                self.touched = absent.into_iter().map(|(key, _)| key).chain(bare).collect();
            }
            Err(error) => {
                self.guard(&mut report);
                self.attach(&mut report);
                self.end_replacement(&mut report);
                // Before anything is in force it is the engine itself that failed.
                let touched = self.running.as_ref().map(|_| self.touched.iter().map(ToString::to_string).collect());
                let items = touched.unwrap_or_default();
                report.failed.push(Failure { items, object: "policy in eBPF".to_owned(), error });
            }
        }
        self.look_at_leaving();
        let settled = self.view.settle();
        report.written = before.map_or(settled, |before| differing(&before, &self.present()));
        if !self.in_sync {
            let wanted = self.wanted();
            report.waiting_for_sync = self.present().keys().filter(|key| !wanted.contains_key(key)).count();
        }
        report.blocked = self.blocked();
        report
    }

    /// Tells the tables where endpoints' interfaces are. Answers with those that are not there.
    pub(super) fn find_interfaces(&mut self) -> Vec<(PolicyKey, InterfaceName)> {
        let of = |(id, name): (&EndpointId, &InterfaceName)| (PolicyKey::Endpoint(id.clone()), name.clone());
        let named: Vec<_> = match self.running.is_none() || self.worn {
            true => self.tables.host_interfaces().map(of).collect(),
            false => self.touched_interfaces().map(of).collect(),
        };
        let mut absent = Vec::new();
        for (key, name) in named {
            let index = running::index(&name);
            self.tables.set_interface(&name, index);
            match index {
                Some(index) => drop(self.names.insert(index, name)),
                None => absent.push((key, name)),
            }
        }
        absent
    }

    /// Writes what is staged: into the maps that are in force, or all of it into new ones.
    pub(super) fn write(&mut self) -> Result<()> {
        if let Some(running) = self.running.as_mut().filter(|_| !self.worn) {
            self.telling.tell(&mut running.object)?;
            let writes = self.tables.drain();
            let (written, result) = running.object.write_all(&writes);
            writes[..written].iter().for_each(|write| self.view.take(write, &self.names));
            // What was written counts for open connections as well.
            let Err(_) = result.or_else(|error| running.object.write(&Write::Advance).and(Err(error))) else {
                return Ok(());
            };
            // Without what nobody uses any more there may be room.
            self.worn = true;
        }
        self.renew()
    }

    /// Fills new maps with all that is staged, and puts their programs in the place of those that are in force.
    pub(super) fn renew(&mut self) -> Result<()> {
        let mut tables = self.tables.renewed();
        let writes = tables.drain();
        self.last_generation += 1;
        self.make_place()?;
        // New maps go on with what is pinned.
        if let Some(running) = &mut self.running {
            running.pin_missing()?;
        }
        let mut fresh = Running::load(&self.place, self.last_generation, &self.sizes)?;
        let last_epoch = fresh.object.epoch();
        if let (_, Err(error)) = fresh.object.write_all(&writes) {
            self.other_kept = true;
            let discarded = fresh.discard();
            return discarded.and(Err(refused(error)));
        }
        let mut view = View::default();
        writes.iter().for_each(|write| view.take(write, &self.names));
        let ready = fresh.used_maps().and_then(|maps| self.telling.begin(&mut fresh.object).map(|()| maps));
        let ready = ready.and_then(|maps| Ok((maps, last_epoch.map_err(refused)?)));
        let last_epoch = match ready {
            Ok((maps, last_epoch)) => {
                self.metered.set(maps);
                last_epoch
            }
            Err(error) => {
                self.other_kept = true;
                let discarded = fresh.discard();
                return discarded.and(Err(error));
            }
        };
        if self.running.as_ref().is_some_and(|old| !old.keeps_with(&fresh)) {
            self.metered.endings.own_epoch.begin_after(last_epoch);
            self.other_kept = true;
        }
        let old = self.running.replace(fresh);
        self.replaced = true;
        tables.succeed(&self.tables);
        self.tables = tables;
        self.view = view;
        self.worn = false;
        self.touched.extend(self.tables.host_interfaces().map(|(id, _)| PolicyKey::Endpoint(id.clone())));
        if let Some(old) = old {
            // Interfaces without an endpoint are closed, and stay so.
            let mut report = CommitReport::default();
            let left: Vec<InterfaceName> = old.attached.keys().cloned().collect();
            left.iter().for_each(|name| self.attach_one(name, Vec::new(), &mut report));
            old.guards.keys().for_each(|name| self.guard_one(name, &mut report));
            let result = report.failed.pop().map_or(Ok(()), |failure| Err(failure.error));
            return result.and(self.end_change()).and(old.discard());
        }
        Ok(())
    }

    /// What was written, and by whom it is asked now, counts for open connections as well.
    pub(super) fn end_change(&mut self) -> Result<()> {
        self.running.as_mut().map_or(Ok(()), |running| running.object.write(&Write::Advance)).map_err(refused)
    }

    /// Programs in whose place ours are now judged by another policy while new maps were filled, and kept verdicts under the epoch that those
    /// maps began: they do not count from here on. While one may be in force still, each commit says so again.
    fn end_replacement(&mut self, report: &mut CommitReport) {
        if !self.replaced {
            return;
        }
        match self.end_change() {
            Ok(()) => self.replaced = !report.failed.is_empty(),
            Err(error) => {
                report.failed.push(Failure { items: Vec::new(), object: "the epoch of verdicts".to_owned(), error });
            }
        }
    }

    /// From now on no program of a predecessor's judges, so verdicts have our numbers.
    fn own_epoch(&self) {
        let own = &self.metered.endings.own_epoch;
        if let (Some(running), true, false) = (&self.running, self.left.is_empty(), own.is_known()) {
            // Without it nobody is said to have decided, until the next commit.
            let _ = running.object.epoch().map(|epoch| own.set(epoch));
        }
    }

    /// The interfaces of endpoints that were touched.
    fn touched_interfaces(&self) -> impl Iterator<Item = (&EndpointId, &InterfaceName)> {
        self.touched_endpoints().filter_map(|id| Some((id, self.tables.host_interface(id)?)))
    }

    /// Puts programs at the interfaces of endpoints that were touched. Answers with those where they cannot be put.
    pub(super) fn attach(&mut self, report: &mut CommitReport) -> Vec<PolicyKey> {
        let named = self.touched_interfaces().map(|(id, name)| (PolicyKey::Endpoint(id.clone()), name.clone()));
        let named: Vec<_> = named.collect();
        let mut bare = Vec::new();
        for (key, name) in named {
            let failed = report.failed.len();
            self.attach_one(&name, vec![key.to_string()], report);
            if report.failed.len() > failed {
                bare.push(key);
            }
        }
        bare
    }

    pub(super) fn attach_one(&mut self, name: &InterfaceName, items: Vec<String>, report: &mut CommitReport) {
        let (Some(running), Some(index)) = (&mut self.running, running::index(name)) else { return };
        match running.attach(&mut self.hooks, name, index) {
            Ok(()) => self.view.set_attached(Key::Interface(name.clone()), true),
            Err(error) => report.failed.push(Failure { items, object: format!("policy at {name}"), error }),
        }
    }

    /// All of ours is in force: what a predecessor left goes, and what is kept in other sizes. Interfaces that it closed stay closed.
    pub(super) fn succeed(&mut self, report: &mut CommitReport) {
        self.take_over(report);
        if !self.other_kept || !self.left.is_empty() {
            return;
        }
        match self.place.remove_other_kept(&self.sizes) {
            Ok(()) => self.other_kept = false,
            Err(error) => {
                let (object, error) = ("maps of other sizes".to_owned(), pins("remove", &error));
                report.failed.push(Failure { items: Vec::new(), object, error });
            }
        }
    }

    fn take_over(&mut self, report: &mut CommitReport) {
        if self.left.is_empty() {
            return;
        }
        let left = std::mem::take(&mut self.left);
        for name in &left.interfaces {
            self.attach_one(name, Vec::new(), report);
        }
        let mut result = self.unguard(&left.guards).and(self.end_change());
        for number in &left.generations {
            let removed = bpffs::remove(&self.place.generation(*number));
            result = result.and(removed.map_err(|error| pins("remove", &error)));
        }
        if let Err(error) = result {
            report.failed.push(Failure { items: Vec::new(), object: "a predecessor's maps".to_owned(), error });
            self.left = Left { objects: Objects::new(), ..left };
        }
    }

    /// Forgets interfaces that are gone.
    pub(super) fn look_at_leaving(&mut self) {
        let gone: Vec<InterfaceName> =
            self.leaving.iter().filter(|name| running::index(name).is_none()).cloned().collect();
        for name in gone {
            self.leaving.remove(&name);
            self.view.set_attached(Key::Interface(name.clone()), false);
            if let Some(index) = self.running.as_mut().and_then(|running| running.attached.remove(&name)) {
                self.names.remove(&index);
            }
        }
    }
}
