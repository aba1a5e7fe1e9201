//! Whose sockets see services: this node's own, and those of pods that its agent attached. Never a namespace that nobody told
//! of: several agents may have their programs at one cgroup, and each leaves the others' sockets alone.

use super::config::Sizes;
use super::driver::refused;
use crate::kernel::KernelError;
use async_trait::async_trait;
use aya::maps::{HashMap, Map, MapData, MapError};
use cni_core::backend::{Capabilities, Driver, Error, ErrorKind, Op, Rank, Result};
use cni_core::model::{NodeContext, ServiceClient};
use std::fmt;
use std::io;
use std::path::Path;

const MAP: &str = "CLIENTS";

/// A network namespace, by its number (`SO_NETNS_COOKIE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Namespace(pub u64);

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sockets of network namespace {}", self.0)
    }
}

/// That it is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// The namespace's inode, with which it can be opened again.
    pub inode: u32,
}

impl Served {
    /// With an inode of nsfs, which has 32 bits.
    pub(super) fn of(inode: u64) -> Self {
        Self { inode: u32::try_from(inode).unwrap_or_default() }
    }
}

/// Namespaces in the kernel.
pub struct ClientDriver {
    map: HashMap<MapData, u64, u32>,
    own: (Namespace, Served),
    sizes: Sizes,
    capabilities: Capabilities,
}

impl ClientDriver {
    /// On the pinned map in this folder. `own` is the node's own namespace.
    pub(super) fn open(maps: &Path, own: (Namespace, Served), sizes: Sizes) -> Result<Self> {
        let opened = MapData::from_pin(maps.join(MAP)).map(Map::HashMap).and_then(HashMap::try_from);
        let failed = |source| refused("open", MAP, KernelError::Map { map: MAP, verb: "opened", source }, &sizes);
        let map = opened.map_err(failed)?;
        Ok(Self { map, own, sizes, capabilities: Capabilities::default() })
    }

    fn write(&mut self, op: &Op<Namespace, Served>) -> Result<()> {
        let done = match op {
            Op::Put { key: Namespace(cookie), object, .. } => self.map.insert(cookie, object.inode, 0),
            Op::Delete { key: Namespace(cookie), .. } => match self.map.remove(cookie) {
                Err(MapError::KeyNotFound) => Ok(()),
                Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
                done => done,
            },
        };
        let failed = |source| KernelError::Map { map: MAP, verb: "written", source };
        done.map_err(|source| refused("write", op.key(), failed(source), &self.sizes))
    }
}

#[async_trait]
impl Driver for ClientDriver {
    type Item = ServiceClient;
    type Key = Namespace;
    type Object = Served;

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn adopt(&mut self, _node: &NodeContext) -> Result<()> {
        Ok(())
    }

    fn configure(&mut self, _section: &serde_json::Value) -> Result<()> {
        let detail = "the section is the proxy's";
        Err(Error::new(ErrorKind::Unsupported, "configure", "clients of services", detail))
    }

    fn base(&self) -> Result<Vec<(Namespace, Served)>> {
        Ok(vec![self.own])
    }

    fn compile(&self, client: &ServiceClient) -> Result<Vec<(Namespace, Served)>> {
        Ok(vec![(Namespace(client.netns_cookie), Served::of(client.netns_inode))])
    }

    fn rank(&self, _: &Namespace) -> Rank {
        Rank::level(0)
    }

    fn describe(&self, _: &Namespace, _: Option<&Served>, to: Option<&Served>) -> String {
        if to.is_some() { "see services" } else { "see no services" }.to_owned()
    }

    async fn observe(&mut self) -> Result<Vec<(Namespace, Served)>> {
        let failed = |source| KernelError::Map { map: MAP, verb: "read", source };
        let found = self.map.iter().map(|entry| entry.map(|(cookie, inode)| (Namespace(cookie), Served { inode })));
        found
            .collect::<std::result::Result<_, _>>()
            .map_err(|source| refused("observe", MAP, failed(source), &self.sizes))
    }

    async fn apply(&mut self, batch: &[Op<Namespace, Served>]) -> Vec<Result<()>> {
        batch.iter().map(|op| self.write(op)).collect()
    }
}
