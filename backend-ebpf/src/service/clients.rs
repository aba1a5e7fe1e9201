//! Whose sockets see services: this node's own, and those of pods that its agent attached. Never a namespace that nobody told
//! of: several agents may have their programs at one cgroup, and each leaves the others' sockets alone.

use super::config::Sizes;
use super::driver::refused;
use crate::kernel::raw::Raw;
use crate::kernel::{KernelError, address_of, bytes};
use async_trait::async_trait;
use aya::Pod;
use aya::maps::{HashMap, Map, MapData, MapError};
use backend_ebpf_abi::{AddressKey, Frontend};
use cni_core::backend::{Capabilities, Driver, Error, ErrorKind, Op, Rank, Result};
use cni_core::model::{NodeContext, ServiceClient};
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;

const CLIENTS: &str = "CLIENTS";
const ADDRESSES: &str = "ADDRESSES";

/// The interface of a pod by which it reaches services, as runtimes name the one of its first network.
const FIRST_INTERFACE: &str = "eth0";

/// What is kept of a network namespace, by the namespace's number (`SO_NETNS_COOKIE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClientKey {
    /// That its sockets are served.
    Namespace(u64),
    /// The IPv4 address that it has for others.
    V4(u64),
    /// The IPv6 address that it has for others.
    V6(u64),
}

impl fmt::Display for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace(cookie) => write!(f, "sockets of network namespace {cookie}"),
            Self::V4(cookie) => write!(f, "IPv4 address of network namespace {cookie}"),
            Self::V6(cookie) => write!(f, "IPv6 address of network namespace {cookie}"),
        }
    }
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientObject {
    /// Served, with the namespace's inode, with which it can be opened again.
    Served {
        /// 32 bits, as nsfs has them.
        inode: u32,
    },
    /// An address.
    Address(IpAddr),
}

type Entry = (ClientKey, ClientObject);

/// That a namespace is served.
pub(super) fn served(cookie: u64, inode: u64) -> Entry {
    (ClientKey::Namespace(cookie), ClientObject::Served { inode: u32::try_from(inode).unwrap_or_default() })
}

/// The first address of each family.
fn addresses(cookie: u64, of: &[IpAddr]) -> impl Iterator<Item = Entry> {
    let v4 = of.iter().find(|address| address.is_ipv4()).map(|address| (ClientKey::V4(cookie), *address));
    let v6 = of.iter().find(|address| address.is_ipv6()).map(|address| (ClientKey::V6(cookie), *address));
    v4.into_iter().chain(v6).map(|(key, address)| (key, ClientObject::Address(address)))
}

/// Namespaces in the kernel.
pub struct ClientDriver {
    served: HashMap<MapData, u64, u32>,
    addresses: HashMap<MapData, Raw<AddressKey>, [u8; 16]>,
    /// The node's own namespace: cookie and inode.
    own: (u64, u64),
    /// The node's own addresses.
    own_addresses: Vec<IpAddr>,
    sizes: Sizes,
    capabilities: Capabilities,
}

/// A map that is pinned in this folder.
fn open<K: Pod, V: Pod>(maps: &Path, name: &'static str, sizes: &Sizes) -> Result<HashMap<MapData, K, V>> {
    let opened = MapData::from_pin(maps.join(name)).map(Map::HashMap).and_then(HashMap::try_from);
    opened.map_err(|source| refused("open", name, KernelError::Map { map: name, verb: "opened", source }, sizes))
}

fn removed(done: std::result::Result<(), MapError>) -> std::result::Result<(), MapError> {
    match done {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

impl ClientDriver {
    /// On the pinned maps in this folder. `own` is the node's own namespace: its cookie and its inode.
    pub(super) fn open(maps: &Path, own: (u64, u64), sizes: Sizes) -> Result<Self> {
        Ok(Self {
            served: open(maps, CLIENTS, &sizes)?,
            addresses: open(maps, ADDRESSES, &sizes)?,
            own,
            own_addresses: Vec::new(),
            sizes,
            capabilities: Capabilities::default(),
        })
    }

    fn write(&mut self, op: &Op<ClientKey, ClientObject>) -> Result<()> {
        let version = |client, version| Raw(AddressKey { client, version, unused: 0 });
        let (map, done) = match (*op.key(), op) {
            (ClientKey::Namespace(cookie), Op::Put { object: ClientObject::Served { inode }, .. }) => {
                (CLIENTS, self.served.insert(cookie, inode, 0))
            }
            (ClientKey::Namespace(cookie), _) => (CLIENTS, removed(self.served.remove(&cookie))),
            (ClientKey::V4(cookie) | ClientKey::V6(cookie), op) => {
                let is_v4 = matches!(op.key(), ClientKey::V4(_));
                let key = version(cookie, if is_v4 { Frontend::V4 } else { Frontend::V6 });
                let done = match op {
                    Op::Put { object: ClientObject::Address(address), .. } => {
                        self.addresses.insert(key, bytes(*address), 0)
                    }
                    _ => removed(self.addresses.remove(&key)),
                };
                (ADDRESSES, done)
            }
        };
        let failed = |source| KernelError::Map { map, verb: "written", source };
        done.map_err(|source| refused("write", op.key(), failed(source), &self.sizes))
    }
}

#[async_trait]
impl Driver for ClientDriver {
    type Item = ServiceClient;
    type Key = ClientKey;
    type Object = ClientObject;

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn adopt(&mut self, node: &NodeContext) -> Result<()> {
        let (v4, v6) = (node.underlay.v4.map(|net| net.addr().into()), node.underlay.v6.map(|net| net.addr().into()));
        self.own_addresses = v4.into_iter().chain(v6).collect();
        Ok(())
    }

    fn configure(&mut self, _section: &serde_json::Value) -> Result<()> {
        let detail = "the section is the proxy's";
        Err(Error::new(ErrorKind::Unsupported, "configure", "clients of services", detail))
    }

    fn base(&self) -> Result<Vec<Entry>> {
        let (cookie, inode) = self.own;
        Ok(std::iter::once(served(cookie, inode)).chain(addresses(cookie, &self.own_addresses)).collect())
    }

    fn compile(&self, client: &ServiceClient) -> Result<Vec<Entry>> {
        let cookie = client.netns_cookie;
        // A pod's further interfaces are of other networks, and their addresses nobody's who connects to a service.
        let is_first = client.endpoint.interface() == FIRST_INTERFACE;
        let known = if is_first { &client.addresses[..] } else { &[] };
        Ok(std::iter::once(served(cookie, client.netns_inode)).chain(addresses(cookie, known)).collect())
    }

    fn rank(&self, key: &ClientKey) -> Rank {
        match key {
            ClientKey::V4(_) | ClientKey::V6(_) => Rank::level(0),
            ClientKey::Namespace(_) => Rank::level(1),
        }
    }

    fn describe(&self, key: &ClientKey, from: Option<&ClientObject>, to: Option<&ClientObject>) -> String {
        match (key, to.or(from)) {
            (ClientKey::V4(_) | ClientKey::V6(_), Some(ClientObject::Address(address))) => address.to_string(),
            _ if to.is_some() => "see services".to_owned(),
            _ => "see no services".to_owned(),
        }
    }

    async fn observe(&mut self) -> Result<Vec<Entry>> {
        let failed = |map, source| refused("observe", map, KernelError::Map { map, verb: "read", source }, &self.sizes);
        let mut found = Vec::new();
        for entry in self.served.iter() {
            let (cookie, inode) = entry.map_err(|source| failed(CLIENTS, source))?;
            found.push((ClientKey::Namespace(cookie), ClientObject::Served { inode }));
        }
        for entry in self.addresses.iter() {
            let (Raw(key), address) = entry.map_err(|source| failed(ADDRESSES, source))?;
            let of = if key.version == Frontend::V4 { ClientKey::V4 } else { ClientKey::V6 };
            found.push((of(key.client), ClientObject::Address(address_of(address))));
        }
        Ok(found)
    }

    async fn apply(&mut self, batch: &[Op<ClientKey, ClientObject>]) -> Vec<Result<()>> {
        batch.iter().map(|op| self.write(op)).collect()
    }
}
