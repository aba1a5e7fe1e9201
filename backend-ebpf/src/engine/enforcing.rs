//! The engine's verbs. Opening never writes to the kernel: the first commit does.

use super::objects::{Key, Object, Objects, View, differing};
use super::place::{BPFFS, Place};
use super::running::{self, Earlier, Running, pins};
use super::watch::AddressWatch;
use super::{Config, acceptable, probe, refused};
use crate::kernel::{Hook, Sizes};
use crate::policy::{PolicyError, Tables, Write};
use async_trait::async_trait;
use cni_core::backend::{
    Action, Blocked, Capabilities, Capability, Change, CommitReport, Drift, DriftWatch, Engine, Error, ErrorKind,
    Failure, Item as _, Plan, Result, Retry, Step,
};
use cni_core::model::InterfaceName;
use cni_core::policy::program::{PolicyEngine, PolicyItem, PolicyKey};
use net_linux::addr::Address;
use net_linux::netlink::Socket;
use net_linux::netns::NetNs;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;

/// What a predecessor left in force, until all of ours is.
#[derive(Default)]
struct Left {
    generations: Vec<u32>,
    objects: Objects,
    interfaces: BTreeSet<InterfaceName>,
}

impl Left {
    /// All generations that are pinned.
    fn read(place: &Place, hook: &Hook) -> Result<Self> {
        let names = running::interfaces()?;
        let mut left = Self { interfaces: running::linked(place)?, ..Self::default() };
        for number in place.generations().map_err(|error| pins("list", &error))? {
            left.generations.push(number);
            let Some(earlier) = Earlier::read(place, number, hook, &names)? else { continue };
            let mut view = View::default();
            earlier.meant.iter().for_each(|write| view.take(write, &names));
            earlier.attached.iter().for_each(|name| view.set_attached(name, true));
            left.interfaces.extend(earlier.attached.iter().cloned());
            for (key, object) in view.objects() {
                // Of two generations with one interface, that whose programs are there is in force.
                let in_force = !matches!(object, Object::Interface { attached: false, .. });
                if in_force || !left.objects.contains_key(key) {
                    left.objects.insert(key.clone(), object.clone());
                }
            }
        }
        Ok(left)
    }
}

/// What is in force in the calling thread's network namespace, read from its pins.
///
/// # Errors
/// The kernel could not be read.
pub fn observe() -> Result<Objects> {
    let place = here()?;
    Left::read(&place, &Hook::probe(&place.links())).map(|left| left.objects)
}

/// The place of the calling thread's network namespace.
fn here() -> Result<Place> {
    let place = NetNs::current().and_then(|netns| Place::of(&netns));
    place.map_err(|error| Error::new(ErrorKind::Kernel, "open", "policy in eBPF", error))
}

/// The engine.
struct Enforcing {
    netns: NetNs,
    place: Place,
    hook: Hook,
    capabilities: Capabilities,
    sizes: Sizes,
    tables: Tables,
    /// Items that are not acceptable.
    refused: BTreeMap<PolicyKey, Error>,
    /// Chains that are enforced, but for their logs.
    unlogged: BTreeMap<PolicyKey, Error>,
    /// What was removed before the whole first state was there.
    removed_early: BTreeSet<PolicyKey>,
    in_sync: bool,
    begun: bool,
    left: Left,
    running: Option<Running>,
    last_generation: u32,
    /// What runs cannot go on: a map is full, or sizes are others.
    worn: bool,
    view: View,
    names: BTreeMap<u32, InterfaceName>,
    /// What was staged since all was in force.
    touched: BTreeSet<PolicyKey>,
    /// Interfaces whose endpoints are gone, while they are there.
    leaving: BTreeSet<InterfaceName>,
}

/// A policy engine in the network namespace of the calling thread.
///
/// # Errors
/// [`ErrorKind::Unsupported`] with the reason when this kernel cannot do it.
pub fn open(config: &Config) -> Result<Box<dyn PolicyEngine>> {
    open_probed(config, probe())
}

/// The same with capabilities that were probed before.
///
/// # Errors
/// As [`open`].
pub fn open_probed(config: &Config, capabilities: Capabilities) -> Result<Box<dyn PolicyEngine>> {
    capabilities.require(&[Capability::Policy])?;
    let failed = |error: net_linux::netns::NetNsError| Error::new(ErrorKind::Kernel, "open", "policy in eBPF", error);
    let netns = NetNs::current().map_err(failed)?;
    let place = Place::of(&netns).map_err(failed)?;
    Ok(Box::new(Enforcing {
        hook: Hook::probe(&place.links()),
        netns,
        place,
        capabilities,
        sizes: config.maps,
        tables: Tables::default(),
        refused: BTreeMap::new(),
        unlogged: BTreeMap::new(),
        removed_early: BTreeSet::new(),
        in_sync: false,
        begun: false,
        left: Left::default(),
        running: None,
        last_generation: 0,
        worn: false,
        view: View::default(),
        names: BTreeMap::new(),
        touched: BTreeSet::new(),
        leaving: BTreeSet::new(),
    }))
}

/// The same, with a watch that asks for a resync when the node's own addresses change.
///
/// # Errors
/// As [`open`].
pub fn open_watched(config: &Config) -> Result<(Box<dyn PolicyEngine>, Box<dyn DriftWatch>)> {
    let watch = AddressWatch::open()?;
    Ok((open(config)?, Box::new(watch)))
}

/// Takes all programs of ours in the calling thread's network namespace off, and removes all maps and pins: for a node whose
/// policy is switched off, or enforced otherwise. Foreign programs stay, and so does an empty clsact.
///
/// # Errors
/// The kernel refused.
pub fn clear() -> Result<()> {
    // Where there is no bpffs there is nothing of ours, so a kernel without eBPF is no failure.
    let Ok(place) = NetNs::current().and_then(|netns| Place::of(&netns)) else { return Ok(()) };
    if !place.exists() {
        return Ok(());
    }
    let hook = Hook::probe(&place.links());
    let mut all: BTreeSet<InterfaceName> = running::interfaces()?.into_values().collect();
    all.extend(running::linked(&place)?);
    for name in all {
        running::detach(&hook, &name).map_err(refused)?;
    }
    place.remove_all().map_err(|error| pins("remove", &error))
}

impl Enforcing {
    /// Runs `work` in our network namespace: interfaces are found, and programs attached, in the calling thread's.
    fn inside<T: Send>(&mut self, work: impl FnOnce(&mut Self) -> T + Send) -> Result<T> {
        let netns = self.netns.clone();
        let failed = |error: net_linux::netns::NetNsError| Error::new(ErrorKind::Kernel, "enter", "namespace", error);
        if NetNs::current().map_err(failed)? == netns {
            return Ok(work(self));
        }
        netns.run(|| work(self)).map_err(failed)
    }

    /// Looks once at what a predecessor left.
    fn begin(&mut self) -> Result<()> {
        if self.begun {
            return Ok(());
        }
        self.place.make().map_err(|error| {
            let kind = ErrorKind::Unsupported;
            Error { retry: Retry::Soon, ..Error::new(kind, "mount", format_args!("a bpffs at {BPFFS}"), error) }
        })?;
        self.tables.set_node_addresses(node_addresses()?);
        self.left = Left::read(&self.place, &self.hook)?;
        self.last_generation = self.left.generations.last().copied().unwrap_or_default();
        self.begun = true;
        Ok(())
    }

    /// What is in the kernel: ours, and what a predecessor left.
    fn present(&self) -> Objects {
        let mut all = self.left.objects.clone();
        all.extend(self.view.objects().iter().map(|(key, object)| (key.clone(), object.clone())));
        all
    }

    /// What shall be there.
    fn wanted(&self) -> Objects {
        let mut tables = self.tables.renewed();
        for key in &self.removed_early {
            tables.apply(Change::Remove(key.clone())).expect("what was put can be removed");
        }
        // Only then it is known what cannot be enforced.
        let _ = tables.drain();
        let mut all: Objects =
            tables.identities().map(|(net, digest)| (Key::Identity(net), Object::Identity(digest))).collect();
        all.extend(
            tables
                .enforced()
                .into_iter()
                .map(|(name, addresses)| (Key::Interface(name), Object::Interface { addresses, attached: true })),
        );
        all
    }

    fn blocked(&self) -> Vec<Blocked> {
        let refused = self.refused.iter().chain(&self.unlogged);
        let refused = refused.map(|(key, error)| Blocked { item: key.to_string(), error: error.clone() });
        let closed = self.tables.closed().map(|(id, error)| {
            let item = PolicyKey::Endpoint(id.clone()).to_string();
            let kind = match error {
                PolicyError::NoChain { .. } => ErrorKind::Missing,
                PolicyError::TooLarge { .. } | PolicyError::HostProgram => ErrorKind::Unsupported,
            };
            Blocked { error: Error::new(kind, "compile", &item, error), item }
        });
        refused.chain(closed).collect()
    }

    fn commit_here(&mut self) -> CommitReport {
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
        if self.in_sync {
            for key in std::mem::take(&mut self.removed_early) {
                self.forget(&key);
            }
        }
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
        match self.write() {
            Ok(()) => {
                self.attach(&mut report);
                if self.in_sync && report.failed.is_empty() {
                    self.succeed(&mut report);
                }
                self.touched = absent.into_iter().map(|(key, _)| key).collect();
            }
            Err(error) => {
                self.attach(&mut report);
                let items = self.touched.iter().map(ToString::to_string).collect();
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
    fn find_interfaces(&mut self) -> Vec<(PolicyKey, InterfaceName)> {
        let all = self.running.is_none() || self.worn;
        let named = self.tables.host_interfaces().map(|(id, name)| (PolicyKey::Endpoint(id.clone()), name.clone()));
        let named: Vec<_> = named.filter(|(key, _)| all || self.touched.contains(key)).collect();
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
    fn write(&mut self) -> Result<()> {
        if let Some(running) = self.running.as_mut().filter(|_| !self.worn) {
            let mut result = Ok(());
            for write in self.tables.drain() {
                if let Err(error) = running.object.write(&write) {
                    // What was written counts for open connections as well.
                    result = running.object.write(&Write::Advance).and(Err(error));
                    break;
                }
                self.view.take(&write, &self.names);
            }
            let Err(_) = result else { return Ok(()) };
            // Without what nobody uses any more there may be room.
            self.worn = true;
        }
        self.renew()
    }

    /// Fills new maps with all that is staged, and puts their programs in the place of those that are in force.
    fn renew(&mut self) -> Result<()> {
        let mut tables = self.tables.renewed();
        let writes = tables.drain();
        self.last_generation += 1;
        let mut fresh = Running::load(&self.place, self.last_generation, &self.sizes)?;
        let mut view = View::default();
        for write in &writes {
            if let Err(error) = fresh.object.write(write) {
                let discarded = fresh.discard();
                return discarded.and(Err(refused(error)));
            }
            view.take(write, &self.names);
        }
        let old = self.running.replace(fresh);
        self.tables = tables;
        self.view = view;
        self.worn = false;
        self.touched.extend(self.tables.host_interfaces().map(|(id, _)| PolicyKey::Endpoint(id.clone())));
        if let Some(old) = old {
            // Interfaces without an endpoint are closed, and stay so.
            let mut report = CommitReport::default();
            let left: Vec<InterfaceName> = old.attached.keys().cloned().collect();
            left.iter().for_each(|name| self.attach_one(name, Vec::new(), &mut report));
            let result = report.failed.pop().map_or(Ok(()), |failure| Err(failure.error));
            return result.and(self.end_change()).and(old.discard());
        }
        Ok(())
    }

    /// What was written, and by whom it is asked now, counts for open connections as well.
    fn end_change(&mut self) -> Result<()> {
        self.running.as_mut().map_or(Ok(()), |running| running.object.write(&Write::Advance)).map_err(refused)
    }

    /// Puts programs at the interfaces of endpoints that were touched.
    fn attach(&mut self, report: &mut CommitReport) {
        let Some(running) = &self.running else { return };
        let named = self.tables.host_interfaces().filter(|(id, name)| {
            !running.attached.contains_key(*name) || self.touched.contains(&PolicyKey::Endpoint((*id).clone()))
        });
        let named: Vec<_> = named.map(|(id, name)| (PolicyKey::Endpoint(id.clone()), name.clone())).collect();
        for (key, name) in named {
            self.attach_one(&name, vec![key.to_string()], report);
        }
    }

    fn attach_one(&mut self, name: &InterfaceName, items: Vec<String>, report: &mut CommitReport) {
        let (Some(running), Some(index)) = (&mut self.running, running::index(name)) else { return };
        match running.attach(&self.hook, name, index) {
            Ok(()) => self.view.set_attached(name, true),
            Err(error) => report.failed.push(Failure { items, object: format!("policy at {name}"), error }),
        }
    }

    /// All of ours is in force: what a predecessor left goes. Interfaces that it closed stay closed.
    fn succeed(&mut self, report: &mut CommitReport) {
        if self.left.generations.is_empty() && self.left.interfaces.is_empty() {
            return;
        }
        let left = std::mem::take(&mut self.left);
        for name in &left.interfaces {
            if running::index(name).is_some() {
                self.attach_one(name, Vec::new(), report);
            } else {
                self.leaving.insert(name.clone());
            }
        }
        let mut result = self.end_change();
        for number in &left.generations {
            let removed = super::place::remove(&self.place.generation(*number));
            result = result.and(removed.map_err(|error| pins("remove", &error)));
        }
        let kept = self.place.remove_other_kept(&self.sizes).map_err(|error| pins("remove", &error));
        if let Err(error) = result.and(kept) {
            report.failed.push(Failure { items: Vec::new(), object: "a predecessor's maps".to_owned(), error });
            self.left = Left { objects: Objects::new(), ..left };
        }
    }

    /// Forgets interfaces that are gone.
    fn look_at_leaving(&mut self) {
        let gone: Vec<InterfaceName> =
            self.leaving.iter().filter(|name| running::index(name).is_none()).cloned().collect();
        for name in gone {
            // A pin of a link that leads nowhere: the next attachment of that name takes it away too.
            let _ = running::detach(&self.hook, &name);
            self.leaving.remove(&name);
            self.view.set_attached(&name, false);
            if let Some(index) = self.running.as_mut().and_then(|running| running.attached.remove(&name)) {
                self.names.remove(&index);
            }
        }
    }

    /// Takes an item away.
    fn forget(&mut self, key: &PolicyKey) {
        if let PolicyKey::Endpoint(id) = key {
            let of_id = self.tables.host_interfaces().find(|(other, _)| *other == id);
            self.leaving.extend(of_id.map(|(_, name)| name.clone()));
        }
        self.tables.apply(Change::Remove(key.clone())).expect("whatever there is can be removed");
        self.touched.insert(key.clone());
    }

    fn stage_item(&mut self, item: PolicyItem) -> Result<()> {
        let key = item.key();
        self.removed_early.remove(&key);
        self.unlogged.remove(&key);
        if let Err(error) = acceptable::check(&item) {
            self.refused.insert(key.clone(), error.clone());
            self.forget(&key);
            return Err(error);
        }
        self.refused.remove(&key);
        match &item {
            PolicyItem::Chain(chain) => {
                self.unlogged.extend(acceptable::unlogged(chain).map(|error| (key.clone(), error)));
            }
            PolicyItem::Endpoint(program) => drop(self.leaving.remove(&program.host_interface)),
            _ => {}
        }
        self.touched.insert(key);
        self.tables
            .apply(Change::Put(item))
            .map_err(|error| Error::new(ErrorKind::Unsupported, "compile", "item", error))
    }

    fn resync_here(&mut self) -> Result<Drift> {
        self.begin()?;
        self.tables.set_node_addresses(node_addresses()?);
        let mut drift = Drift::default();
        if self.running.is_none() || self.worn {
            drift.repair = self.commit_here();
            return Ok(drift);
        }
        self.look_at_interfaces()?;
        let running = self.running.as_mut().expect("looked at above");
        let actual: HashSet<Write> = running.object.entries().map_err(refused)?.into_iter().collect();
        let expected: HashSet<Write> = self.tables.entries().into_iter().collect();
        let keys: HashSet<Write> = expected.iter().map(|write| write.removal()).collect();
        let mut wrong: Vec<Write> = expected.difference(&actual).copied().collect();
        wrong.sort_by_key(Write::level);
        let mut needless: Vec<Write> =
            actual.iter().map(|write| write.removal()).filter(|removal| !keys.contains(removal)).collect();
        needless.sort_by_key(|write| std::cmp::Reverse(write.level()));
        let mut seen = View::default();
        let mut entries: Vec<&Write> = actual.iter().collect();
        entries.sort_by_key(|write| write.level());
        entries.iter().for_each(|write| seen.take(write, &self.names));
        for name in running.attached.keys().cloned().collect::<Vec<_>>() {
            let is_there = running.is_at(&self.hook, &name)?;
            seen.set_attached(&name, is_there);
            if !is_there || self.hook == Hook::Clsact {
                running.attached.remove(&name);
                self.touched.extend(
                    self.tables
                        .host_interfaces()
                        .filter(|(_, other)| **other == name)
                        .map(|(id, _)| PolicyKey::Endpoint(id.clone())),
                );
            }
        }
        let known = self.view.objects();
        for (key, object) in seen.objects() {
            match known.get(key) {
                None => drift.unexpected.push(key.to_string()),
                Some(other) if other != object => drift.changed.push(key.to_string()),
                Some(_) => {}
            }
        }
        drift.missing = known.keys().filter(|key| !seen.objects().contains_key(key)).map(ToString::to_string).collect();
        let found = differing(seen.objects(), known);
        let changed = !(wrong.is_empty() && needless.is_empty());
        for write in wrong.iter().chain(&needless) {
            if let Err(error) = running.object.write(write) {
                self.worn = true;
                return Err(refused(error));
            }
        }
        if changed {
            self.end_change()?;
        }
        drift.repair = self.commit_here();
        drift.repair.written += found;
        Ok(drift)
    }

    /// Interfaces may have been made anew behind our back.
    fn look_at_interfaces(&mut self) -> Result<()> {
        self.touched.extend(self.tables.host_interfaces().map(|(id, _)| PolicyKey::Endpoint(id.clone())));
        Ok(())
    }
}

/// The addresses of the node, but for those of its loopback network: no packet of a pod has those.
fn node_addresses() -> Result<BTreeSet<IpAddr>> {
    let failed =
        |error: net_linux::netlink::Error| Error::new(ErrorKind::Kernel, "list", "addresses of the node", error);
    let all = Address::dump(&mut Socket::route().map_err(failed)?, None).map_err(failed)?;
    Ok(all.into_iter().map(|address| address.address.addr()).filter(|address| !address.is_loopback()).collect())
}

#[async_trait]
impl Engine<PolicyItem> for Enforcing {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn stage(&mut self, change: Change<PolicyItem>) -> Result<()> {
        match change {
            Change::Put(item) => self.stage_item(item),
            Change::Remove(key) => {
                self.refused.remove(&key);
                self.unlogged.remove(&key);
                if self.in_sync {
                    self.forget(&key);
                } else {
                    self.removed_early.insert(key);
                }
                Ok(())
            }
            Change::Node(_) => Ok(()),
            Change::Config(section) => {
                let Config { maps } = Config::from_json(&section)?;
                self.worn |= maps != self.sizes;
                self.sizes = maps;
                Ok(())
            }
            Change::InSync => {
                self.in_sync = true;
                Ok(())
            }
        }
    }

    fn plan(&self) -> Plan {
        let (present, wanted) = (self.present(), self.wanted());
        let mut plan = Plan { blocked: self.blocked(), ..Plan::default() };
        for (key, object) in &wanted {
            let (action, detail) = match present.get(key) {
                Some(old) if old == object => continue,
                Some(old) => (Action::Update, format!("{old} -> {object}")),
                None => (Action::Create, object.to_string()),
            };
            plan.steps.push(Step { action, object: key.to_string(), detail });
        }
        for (key, object) in present.iter().filter(|(key, _)| !wanted.contains_key(key)) {
            if self.in_sync {
                plan.steps.push(Step { action: Action::Delete, object: key.to_string(), detail: object.to_string() });
            } else {
                plan.waiting_for_sync += 1;
            }
        }
        plan
    }

    async fn commit(&mut self) -> CommitReport {
        self.inside(Self::commit_here).unwrap_or_else(|error| {
            let failure = Failure { items: Vec::new(), object: "network namespace".to_owned(), error };
            CommitReport { failed: vec![failure], blocked: self.blocked(), ..CommitReport::default() }
        })
    }

    async fn resync(&mut self) -> Result<Drift> {
        self.inside(Self::resync_here)?
    }
}
