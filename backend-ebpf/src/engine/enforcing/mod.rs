//! The engine's verbs. Opening never writes to the kernel: the first commit does.

mod clear;
mod commit;
mod hosts;
mod left;
mod plan;
mod resync;

use super::meter::Metered;
use super::objects::{Key, View};
use super::place::Place;
use super::running::{self, Running, pins};
use super::telling::Telling;
use super::watch::PolicyWatch;
use super::{Config, acceptable, probe, refused};
use crate::bpffs::BPFFS;
use crate::flows::Flows;
use crate::kernel::{Hook, Hooks, Program as _, Sizes, Way};
use crate::placed::{ByHook, Placed};
use crate::policy::{PolicyError, Tables};
use async_trait::async_trait;
pub use clear::{clear, is_there};
use cni_core::backend::{
    Blocked, Capabilities, Capability, Change, CommitReport, Drift, Engine, Error, ErrorKind, Failure, Item as _, Plan,
    PolicyParts, Result, Retry,
};
use cni_core::model::InterfaceName;
use cni_core::policy::program::{PolicyEngine, PolicyItem, PolicyKey};
use left::Left;
pub use left::{observe, observe_at};
use net_linux::netns::NetNs;
use resync::node_addresses;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// Why the node is not guarded at an interface.
const NO_ETHERNET: &str = "its packets have no Ethernet headers, so these programs cannot read them and all of them pass; use policy: nftables";

/// The place of the calling thread's network namespace.
fn here() -> Result<Place> {
    let place = NetNs::current().and_then(|netns| Place::of(&netns));
    place.map_err(|error| Error::new(ErrorKind::Kernel, "open", "policy in eBPF", error))
}

/// The engine.
struct Enforcing {
    netns: NetNs,
    place: Place,
    /// Where programs are.
    hooks: Hooks,
    capabilities: Capabilities,
    sizes: Sizes,
    telling: Telling,
    metered: Metered,
    tables: Tables,
    /// Items that are not acceptable.
    refused: BTreeMap<PolicyKey, Error>,
    /// Items that are enforced in part, and what of them is not.
    in_part: BTreeMap<PolicyKey, Error>,
    /// What was removed before the whole first state was there.
    removed_early: BTreeSet<PolicyKey>,
    in_sync: bool,
    begun: bool,
    left: Left,
    running: Option<Running>,
    /// Whether interfaces of the node were looked for.
    devices_known: bool,
    last_generation: u32,
    /// What runs cannot go on: a map is full, or sizes are others.
    worn: bool,
    /// Maps of other sizes may be kept: ours before a change of them, or a predecessor's.
    other_kept: bool,
    /// Programs of ours took the place of others, and verdicts of those may count still.
    replaced: bool,
    view: View,
    names: BTreeMap<u32, InterfaceName>,
    /// What was staged since all was in force.
    touched: BTreeSet<PolicyKey>,
    /// Interfaces whose endpoints are gone, while they are there.
    leaving: BTreeSet<InterfaceName>,
    /// What is looked for at its hooks.
    placed: Placed,
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
    open_at(config, capabilities, Hook::probe())
}

/// The same at hooks of this kind, whatever this kernel has beside.
///
/// # Errors
/// As [`open`].
pub fn open_at(config: &Config, capabilities: Capabilities, hook: Hook) -> Result<Box<dyn PolicyEngine>> {
    Ok(Box::new(Enforcing::open(config, capabilities, hook)?))
}

/// The engine with all that it has beside it: a watch that asks for a resync when the node's own addresses or interfaces change or a
/// program was taken off, and what the programs tell.
///
/// # Errors
/// As [`open`].
pub fn open_parts(config: &Config) -> Result<PolicyParts> {
    open_parts_at(config, Hook::probe())
}

/// The same at hooks of this kind, whatever this kernel has beside. A datapath in eBPF on the same node has to be at the same.
///
/// # Errors
/// As [`open`].
pub fn open_parts_at(config: &Config, hook: Hook) -> Result<PolicyParts> {
    let mut engine = Enforcing::open(config, probe(), hook)?;
    let watch = PolicyWatch::open(engine.placed.clone(), hook)?;
    let endings = &engine.metered.endings;
    let (over, own_epoch) = (endings.reader()?, endings.own_epoch.clone());
    let flows = Flows::expecting(engine.telling.reader(), engine.tables.rule_names(), over, own_epoch)?;
    let meter = engine.metered.clone();
    let mut parts = PolicyParts::new(Box::new(engine));
    parts.meter = Some(Arc::new(meter));
    parts.drift = Some(Box::new(watch));
    parts.flows = Some(Box::new(flows));
    Ok(parts)
}

impl Enforcing {
    /// Writes nothing.
    fn open(config: &Config, capabilities: Capabilities, hook: Hook) -> Result<Self> {
        capabilities.require(&[Capability::Policy])?;
        let failed =
            |error: net_linux::netns::NetNsError| Error::new(ErrorKind::Kernel, "open", "policy in eBPF", error);
        let netns = NetNs::current().map_err(failed)?;
        let place = Place::of(&netns).map_err(failed)?;
        let metered = Metered::default();
        let mut hooks = hook.open().map_err(refused)?;
        hooks.leave_clsact(config.leave_clsact);
        let mut engine = Self {
            hooks,
            netns,
            place,
            capabilities,
            sizes: config.maps,
            telling: Telling::new(config.flows, config.sample, metered.endings.clone()),
            metered,
            tables: Tables::default(),
            refused: BTreeMap::new(),
            in_part: BTreeMap::new(),
            removed_early: BTreeSet::new(),
            in_sync: false,
            begun: false,
            left: Left::default(),
            running: None,
            devices_known: false,
            last_generation: 0,
            worn: false,
            other_kept: true,
            replaced: false,
            view: View::default(),
            names: BTreeMap::new(),
            touched: BTreeSet::new(),
            leaving: BTreeSet::new(),
            placed: Placed::default(),
        };
        // So that a plan can name them. What fails now is tried again by the first commit.
        engine.devices_known = engine.find_devices().is_ok();
        Ok(engine)
    }

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
        self.make_place()?;
        self.tables.set_node_addresses(node_addresses()?);
        self.left = Left::read(&self.place, &mut self.hooks)?;
        let begun = Instant::now();
        for name in self.left.interfaces.iter().take_while(|_| begun.elapsed() < resync::MOVING) {
            // What stays at clsact is in force there too, and a resync says why.
            let _ = running::settle(&mut self.hooks, name);
        }
        self.place.remove_flows().map_err(|error| pins("remove", &error))?;
        self.last_generation = self.left.generations.last().copied().unwrap_or_default();
        self.begun = true;
        Ok(())
    }

    fn make_place(&self) -> Result<()> {
        self.place.make().map_err(|error| {
            let kind = ErrorKind::Unsupported;
            Error { retry: Retry::Soon, ..Error::new(kind, "mount", format_args!("a bpffs at {BPFFS}"), error) }
        })
    }

    /// Says where programs are that have to stay there.
    fn note_placed(&self) {
        let Some(running) = self.running.as_ref() else { return };
        let mut hooks = ByHook::new();
        for (ways, interfaces) in [(Way::PODS, &running.attached), (Way::HOST, &running.guards)] {
            // Without numbers nothing is looked for, until the next time.
            let Ok(ids) = running.object.program_ids(ways) else { continue };
            let of = move |index| ways.into_iter().zip(ids).map(move |(way, id)| (index, way.side(), id));
            hooks.extend(interfaces.values().copied().flat_map(of));
        }
        self.placed.set(hooks);
    }

    fn blocked(&self) -> Vec<Blocked> {
        let refused = self.refused.iter().chain(&self.in_part);
        let refused = refused.map(|(key, error)| Blocked { item: key.to_string(), error: error.clone() });
        let kind = |error: &PolicyError| match error {
            PolicyError::NoChain { .. } => ErrorKind::Missing,
            PolicyError::TooLarge { .. } => ErrorKind::Unsupported,
        };
        let closed = self.tables.closed().map(|(id, error)| (PolicyKey::Endpoint(id.clone()), error));
        let closed = closed.chain(self.tables.host_error().map(|error| (PolicyKey::Host, error)));
        let closed = closed.map(|(key, error)| {
            let item = key.to_string();
            Blocked { error: Error::new(kind(error), "compile", &item, error), item }
        });
        let unguarded = self.tables.unguarded().map(|name| {
            let item = Key::Host(name.clone()).to_string();
            Blocked { error: Error::new(ErrorKind::Unsupported, "attach", &item, NO_ETHERNET), item }
        });
        refused.chain(closed).chain(unguarded).collect()
    }

    /// Takes an item away.
    fn forget(&mut self, key: &PolicyKey) {
        if let PolicyKey::Endpoint(id) = key {
            self.leaving.extend(self.tables.host_interface(id).cloned());
        }
        self.tables.apply(Change::Remove(key.clone()));
        self.touched.insert(key.clone());
    }

    fn stage_item(&mut self, item: PolicyItem) -> Result<()> {
        let key = item.key();
        self.removed_early.remove(&key);
        self.in_part.remove(&key);
        if let Err(error) = acceptable::check(&item) {
            self.refused.insert(key.clone(), error.clone());
            self.forget(&key);
            return Err(error);
        }
        self.refused.remove(&key);
        match &item {
            PolicyItem::Host(program) => {
                self.in_part.extend(acceptable::unenforced(program).map(|error| (key.clone(), error)));
            }
            PolicyItem::Endpoint(program) => drop(self.leaving.remove(&program.host_interface)),
            _ => {}
        }
        self.touched.insert(key);
        self.tables.apply(Change::Put(item));
        Ok(())
    }
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
                self.in_part.remove(&key);
                if self.in_sync {
                    self.forget(&key);
                } else {
                    self.removed_early.insert(key);
                }
                Ok(())
            }
            Change::Node(_) => Ok(()),
            Change::Config(section) => {
                let Config { flows, sample, maps, leave_clsact } = Config::from_json(&section)?;
                self.hooks.leave_clsact(leave_clsact);
                (self.telling.wanted, self.telling.sample) = (flows, sample);
                self.worn |= maps != self.sizes;
                self.sizes = maps;
                Ok(())
            }
            Change::InSync => {
                self.in_sync = true;
                for key in std::mem::take(&mut self.removed_early) {
                    self.forget(&key);
                }
                Ok(())
            }
        }
    }

    fn plan(&self) -> Plan {
        self.plan_here()
    }

    async fn commit(&mut self) -> CommitReport {
        let committed = self.inside(Self::commit_here);
        self.note_placed();
        committed.unwrap_or_else(|error| {
            let failure = Failure { items: Vec::new(), object: "network namespace".to_owned(), error };
            CommitReport { failed: vec![failure], blocked: self.blocked(), ..CommitReport::default() }
        })
    }

    async fn resync(&mut self) -> Result<Drift> {
        let drift = self.inside(Self::resync_here);
        self.note_placed();
        drift?
    }
}
