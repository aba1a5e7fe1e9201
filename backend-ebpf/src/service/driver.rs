//! The driver: what [`super::compile`] wants, in maps and at hooks. Never diffs, orders or retries: the engine does.

use super::compile::{Key, Object, compile};
use super::config::Config;
use super::hooks::{Cgroup, error_of, name};
use super::object::{Hook, Programs};
use super::pins::{self, Pins};
use async_trait::async_trait;
use cni_core::backend::{Capabilities, Capability, Driver, Error, ErrorKind, Op, Rank, Result};
use cni_core::model::{NodeContext, ServiceItem};

/// Services of one node, at the sockets of one cgroup.
pub struct SocketDriver {
    config: Config,
    capabilities: Capabilities,
    programs: Programs,
    pins: Pins,
    cgroup: Cgroup,
    tags: Vec<(Hook, u64)>,
}

impl SocketDriver {
    /// Loads the programs, with the maps that an earlier agent of this network namespace left. Attaches nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] without cgroup v2 or where the kernel lacks what the programs need; what else the kernel
    /// refuses.
    pub fn open(config: &Config) -> Result<Self> {
        let cgroup = Cgroup::open(&pins::cgroup(config.cgroup.as_deref())?)?;
        let pins = Pins::make(&config.bpffs)?;
        let programs = Programs::load(Some(&pins.maps())).map_err(|error| error_of("open", "services.o", error))?;
        let tag = |hook| Ok((hook, programs.tag(hook).map_err(|error| error_of("open", "services.o", error))?));
        let tags = Hook::ALL.into_iter().map(tag).collect::<Result<_>>()?;
        let capabilities = Capabilities::default()
            .with(Capability::Ipv4)
            .with(Capability::Ipv6)
            .with(Capability::SurvivesAgent)
            .without(Capability::OutsideClients, "programs at sockets see no packets from outside of the node");
        Ok(Self { config: config.clone(), capabilities, programs, pins, cgroup, tags })
    }

    fn write(&mut self, op: &Op<Key, Object>) -> Result<()> {
        let operation = if matches!(op, Op::Put { .. }) { "create" } else { "delete" };
        match op {
            Op::Put { key: Key::Hook(hook, number), .. } if *number == self.cgroup.number => {
                self.programs.attach(*hook, &self.cgroup, &self.pins)
            }
            Op::Delete { key: Key::Hook(hook, number), .. } => self.pins.remove(&name(*hook, *number)),
            Op::Delete { key: Key::OldMaps(version), .. } => self.pins.remove_old_maps(*version),
            Op::Put { key, object, .. } => {
                self.programs.entry(key, Some(object)).map_err(|error| error_of(operation, key, error))
            }
            Op::Delete { key, .. } => self.programs.entry(key, None).map_err(|error| error_of(operation, key, error)),
        }
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
        let detail = "another cgroup or BPF file system takes effect with a new start";
        Err(Error::new(ErrorKind::Unsupported, "configure", "services in eBPF", detail))
    }

    fn base(&self) -> Result<Vec<(Key, Object)>> {
        let hook = |(hook, tag): &(Hook, u64)| (Key::Hook(*hook, self.cgroup.number), Object::Hook(*tag));
        Ok(self.tags.iter().map(hook).collect())
    }

    fn compile(&self, item: &ServiceItem) -> Result<Vec<(Key, Object)>> {
        compile(item)
    }

    fn rank(&self, key: &Key) -> Rank {
        key.rank()
    }

    fn describe(&self, _: &Key, from: Option<&Object>, to: Option<&Object>) -> String {
        match (from, to) {
            (Some(from), Some(to)) => format!("{from} -> {to}"),
            (None, Some(object)) | (Some(object), None) => object.to_string(),
            (None, None) => "unknown".to_owned(),
        }
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        let mut found = self.programs.entries().map_err(|error| error_of("observe", "services", error))?;
        found.extend(self.programs.attached(&self.pins)?);
        found.extend(self.pins.old_maps()?.into_iter().map(|version| (Key::OldMaps(version), Object::OldMaps)));
        Ok(found)
    }

    async fn apply(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        batch.iter().map(|op| self.write(op)).collect()
    }
}
