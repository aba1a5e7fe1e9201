//! The driver: what [`super::compile`] wants, in maps and at hooks. Never diffs, orders or retries: the engine does.

use super::clients::ClientDriver;
use super::compile::{Key, Object, compile};
use super::config::{Config, Sizes};
use super::flush;
use super::hooks::{Cgroup, error_of, name};
use super::maps::{Entry, is_of_one_call};
use super::meter::Metered;
use super::object::{Hook, Programs};
use super::pins::Pins;
use super::probe;
use crate::kernel::KernelError;
use async_trait::async_trait;
use cni_core::backend::{Capabilities, Driver, Error, ErrorKind, Meter, Op, Rank, Result, described};
use cni_core::model::{NodeContext, ServiceItem};
use net_linux::netns::NetNs;
use std::fmt::Display;
use std::sync::Arc;

/// Services of one node, at the sockets of one cgroup.
pub struct SocketDriver {
    config: Config,
    capabilities: Capabilities,
    programs: Programs,
    pins: Pins,
    /// An earlier configuration's, in another bpffs: its programs would go on with backends that are none any more.
    elsewhere: Vec<Pins>,
    cgroup: Cgroup,
    /// The node's own network namespace.
    own: NetNs,
    tags: Vec<(Hook, u64)>,
}

impl SocketDriver {
    /// Loads the programs, with the maps that an earlier agent of this network namespace left. Attaches nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without cgroup v2 or where the kernel lacks what the programs need; what else the kernel
    /// refuses.
    pub fn open(config: &Config) -> Result<Self> {
        let (cgroup, own) = probe::needs(config)?;
        let cgroup = Cgroup::open(&cgroup)?;
        let pins = Pins::make(&config.bpffs, &config.maps)?;
        let programs = Programs::load(&config.maps, Some(&pins.maps())).map_err(probe::unloadable)?;
        let tag = |hook| Ok((hook, programs.tag(hook).map_err(|error| error_of("open", "services.o", error))?));
        let tags = Hook::ALL.into_iter().map(tag).collect::<Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            capabilities: probe::capabilities(config),
            programs,
            elsewhere: Pins::elsewhere(&config.bpffs, &config.maps)?,
            pins,
            cgroup,
            own,
            tags,
        })
    }

    /// Whose sockets are served: in the maps of these programs. The network namespace of the calling thread always is; its own
    /// addresses are those of the node.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn clients(&self, node: &NodeContext) -> Result<ClientDriver> {
        let failed = |error| Error::new(ErrorKind::Kernel, "open", "network namespace", &error).because(error);
        let cookie = self.own.cookie().map_err(failed)?;
        let mut driver = ClientDriver::open(&self.pins.maps(), (cookie, self.own.id().inode), self.config.maps)?;
        driver.adopt(node)?;
        Ok(driver)
    }

    /// How full the maps of these programs are.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn meter(&self) -> Result<Arc<dyn Meter>> {
        Ok(Arc::new(Metered::open(&self.config.maps, &self.pins.maps())?))
    }

    /// What is no entry of a map.
    fn write(&mut self, op: &Op<Key, Object>) -> Result<()> {
        let operation = if matches!(op, Op::Put { .. }) { "create" } else { "delete" };
        match op {
            Op::Put { key: Key::Hook(hook, number), .. } if *number == self.cgroup.number => {
                self.programs.attach(*hook, &self.cgroup, &self.pins)
            }
            Op::Delete { key: Key::Hook(hook, number), .. } => self.pins.remove(&name(*hook, *number)),
            Op::Delete { key: Key::OldMaps(version), .. } => self.pins.remove_old_maps(*version),
            Op::Delete { key: Key::Elsewhere(place), .. } => self.elsewhere.get(*place).map_or(Ok(()), Pins::clear),
            Op::Put { key: Key::Pins, .. } => {
                self.pins.make_folders()?;
                let pinned = self.programs.pin_missing(&self.config.maps, &self.pins.maps());
                pinned.map_err(|error| error_of(operation, op.key(), error))
            }
            Op::Put { key, .. } | Op::Delete { key, .. } => {
                Err(error_of(operation, key, KernelError::Missing { name: "place for such an object" }))
            }
        }
    }

    /// In order, and what one call of the kernel can write, by one.
    fn write_all(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        let mut told = Vec::with_capacity(batch.len());
        while let Some(op) = batch.get(told.len()) {
            let first = entry(op);
            let rest = batch[told.len()..].iter().map(entry);
            let run: Vec<_> = rest.take_while(|next| is_of_one_call(&first, next)).collect();
            if run.is_empty() {
                told.push(self.write(op));
                continue;
            }
            let operation = if first.1.is_some() { "create" } else { "delete" };
            let written = self.programs.write(&run).into_iter().zip(&run);
            told.extend(
                written.map(|(done, (key, _))| done.map_err(|error| refused(operation, key, error, &self.config.maps))),
            );
        }
        told
    }
}

/// A write as maps have it.
const fn entry(op: &Op<Key, Object>) -> Entry<'_> {
    match op {
        Op::Put { key, object, .. } => (key, Some(object)),
        Op::Delete { key, .. } => (key, None),
    }
}

/// What the kernel refused of a map, with the key of the configuration where the map is full.
pub(super) fn refused(operation: &'static str, object: impl Display, error: KernelError, sizes: &Sizes) -> Error {
    let full = error.full_map().and_then(|map| sizes.key_of(map));
    let told = error_of(operation, object, error);
    match full {
        Some((key, entries)) => {
            let detail = format!("all {entries} entries are in use; write more, and start the agent anew");
            Error { field: Some(key), detail, ..told }
        }
        None => told,
    }
}

#[async_trait]
impl Driver for SocketDriver {
    type Item = ServiceItem;
    type Key = Key;
    type Object = Object;

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn adopt(&mut self, _node: &NodeContext) -> Result<()> {
        Ok(())
    }

    fn configure(&mut self, section: &serde_json::Value) -> Result<()> {
        if Config::from_json(section)? == self.config {
            return Ok(());
        }
        let detail = "another cgroup, BPF file system, size of maps or outsideClients takes effect with a new start";
        Err(Error::new(ErrorKind::Unsupported, "configure", "services in eBPF", detail))
    }

    fn base(&self) -> Result<Vec<(Key, Object)>> {
        let hook = |(hook, tag): &(Hook, u64)| (Key::Hook(*hook, self.cgroup.number), Object::Hook(*tag));
        Ok(std::iter::once((Key::Pins, Object::Pins { intact: true })).chain(self.tags.iter().map(hook)).collect())
    }

    fn compile(&self, item: &ServiceItem) -> Result<Vec<(Key, Object)>> {
        compile(item)
    }

    fn rank(&self, key: &Key) -> Rank {
        key.rank()
    }

    fn describe(&self, _: &Key, from: Option<&Object>, to: Option<&Object>) -> String {
        described(from, to, Object::to_string)
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        let mut found = self.programs.entries().map_err(|error| error_of("observe", "services", error))?;
        let intact = self.programs.are_pinned(&self.config.maps, &self.pins.maps());
        found.push((Key::Pins, Object::Pins { intact }));
        found.extend(self.programs.attached(&self.pins, &self.cgroup)?);
        found.extend(self.pins.old_maps()?.into_iter().map(|version| (Key::OldMaps(version), Object::Old)));
        let elsewhere = self.elsewhere.iter().enumerate().filter(|(_, pins)| pins.exist());
        found.extend(elsewhere.map(|(place, _)| (Key::Elsewhere(place), Object::Old)));
        Ok(found)
    }

    async fn apply(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        let written = self.write_all(batch);
        let gone = batch.iter().zip(&written).filter_map(|(op, done)| match op {
            Op::Delete { key: Key::Member(member), .. } if done.is_ok() => Some(*member),
            _ => None,
        });
        self.programs.end_udp(&self.own, gone.filter(|member| member.frontend.protocol == flush::UDP).collect());
        written
    }
}
