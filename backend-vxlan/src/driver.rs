//! The driver: what [`crate::compile`] wants, in the kernel. Never diffs, orders or retries: the engine does.
//!
//! | objects | where they live | how ours are known |
//! |---|---|---|
//! | devices | `driver/device.rs` | alias |
//! | forwarding entries, neighbours, addresses | `driver/table.rs` | by their device |
//! | next hops, routes | `driver/table.rs` | protocol number |
//! | settings, nftables | [`Host`] | only those wanted are looked at; nftables table |
//! | sockets, user-space forwarding | `driver/local.rs` | all of the running pump |

mod device;
mod local;
mod table;

use crate::checksum::{Decision, Tester};
use crate::compile::Compiler;
use crate::config::{Config, refused};
use crate::object::{Key, Object, of_host};
use crate::probe::needed;
use crate::udp::Pump;
use crate::watch::Watched;
use async_trait::async_trait;
use cni_core::backend::{Capabilities, Driver, Error, ErrorKind, Op, Rank, Result};
use cni_core::model::{InterfaceName, NetworkItem, NodeContext};
use device::Devices;
use net_linux::ethtool::Ethtool;
use net_linux::host::{self, Host};
use net_linux::netlink::Socket;
use std::collections::HashMap;
use table::NextHops;

/// The driver of one node, bound to the network namespace that it was opened in.
pub struct VxlanDriver {
    compiler: Compiler,
    capabilities: Capabilities,
    host: Host,
    socket: Socket,
    next_hops: NextHops,
    decision: Decision,
    /// `None` where the kernel has no ethtool over netlink.
    ethtool: Option<Ethtool>,
    /// The `udp` mode's packets; its table outlives the device.
    pump: Pump,
    watched: Watched,
    /// Ends with the driver.
    tester: Option<Tester>,
}

impl VxlanDriver {
    /// A driver in the network namespace of the calling thread. Reads and writes nothing yet.
    ///
    /// # Errors
    /// The node cannot carry this configuration, or no netlink socket can be had.
    pub fn open(config: &Config, node: &NodeContext, capabilities: Capabilities, decision: Decision) -> Result<Self> {
        let compiler = Compiler::new(config, node, &capabilities)?;
        let host = Host::open()?;
        let socket = Socket::route()?;
        Ok(Self {
            compiler,
            capabilities,
            host,
            socket,
            next_hops: NextHops::default(),
            decision,
            ethtool: Ethtool::open().ok(),
            pump: Pump::default(),
            watched: Watched::default(),
            tester: None,
        })
    }

    /// The node's part of the translation.
    #[must_use]
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// Reads what there is. Not async: the kernel answers at once.
    ///
    /// # Errors
    /// The kernel could not be read.
    fn read(&mut self) -> Result<Vec<(Key, Object)>> {
        let devices = self.devices()?;
        let mut found = Vec::new();
        self.watched.set_devices(devices.ours().map(|(_, link)| link.index));
        self.read_devices(&devices, &mut found)?;
        self.read_tables(&devices, &mut found)?;
        let wanted = self.compiler.base().into_iter().filter_map(|(key, _)| match key {
            Key::Host(key) => Some(key),
            _ => None,
        });
        let found_there = self.host.observe(wanted)?;
        found.extend(of_host(found_there));
        self.read_local(&mut found);
        Ok(found)
    }

    fn write(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        let mut results: HashMap<usize, Result<()>> = HashMap::with_capacity(batch.len());
        let (at, for_host): (Vec<_>, Vec<_>) =
            batch.iter().enumerate().filter_map(|(index, op)| Some((index, host_op(op)?))).unzip();
        results.extend(at.into_iter().zip(self.host.apply(&for_host)));
        let mut tables = Vec::new();
        for (index, op) in batch.iter().enumerate() {
            if results.contains_key(&index) {
                continue;
            }
            let result = match op.key() {
                Key::Link(name) => self.write_device(name, op),
                Key::Socket(_) | Key::Forward(_) => self.write_local(op),
                // The host has taken all but an object under the key of another kind, which is refused.
                Key::Host(_) => self.write_local(op),
                Key::Address(..)
                | Key::Fdb(..)
                | Key::Neighbour(..)
                | Key::PodNeighbour(..)
                | Key::NextHop(_)
                | Key::StrayNextHop(_)
                | Key::Route(_)
                | Key::StrayRoute(..)
                | Key::LearnedRoute(..) => {
                    tables.push((index, op));
                    continue;
                }
            };
            results.insert(index, result);
        }
        if !tables.is_empty() {
            self.write_tables(&tables, &mut results);
        }
        (0..batch.len())
            .map(|index| {
                results.remove(&index).unwrap_or_else(|| {
                    Err(Error::new(ErrorKind::Kernel, "write", batch[index].key(), "the write was not answered"))
                })
            })
            .collect()
    }

    fn devices(&mut self) -> Result<Devices> {
        Devices::read(&mut self.socket)
    }

    /// The `udp` mode's packets.
    #[must_use]
    pub fn pump(&self) -> &Pump {
        &self.pump
    }

    /// The same driver with a pump that lives longer than it.
    #[must_use]
    pub fn with_pump(self, pump: Pump) -> Self {
        Self { pump, ..self }
    }

    /// The same driver with a tester that ends with it.
    pub(crate) fn with_tester(self, tester: Option<Tester>) -> Self {
        Self { tester, ..self }
    }

    /// Whether paths are tested or at least answered for.
    #[must_use]
    pub fn answers_probes(&self) -> bool {
        self.tester.is_some()
    }

    /// What a drift watch has to know of our own writes.
    pub(crate) fn watched(&self) -> &Watched {
        &self.watched
    }

    /// The netlink ports that our own changes carry.
    pub(crate) fn ports(&self) -> (u32, Option<u32>) {
        (self.socket.port(), self.host.nft_port())
    }
}

/// The op on an object of the host, in the shared code's terms; `None` for another.
fn host_op(op: &Op<Key, Object>) -> Option<Op<host::Key, host::Object>> {
    let Key::Host(key) = op.key() else { return None };
    op.part(key.clone(), |object| match object {
        Object::Host(object) => Some(object.clone()),
        _ => None,
    })
}

/// The error for a field that pods, peers or tasks of the backend were given when it was opened.
fn opened_anew(field: &'static str) -> Error {
    let detail = "takes effect when the agent is started again";
    Error { field: Some(field), ..Error::new(ErrorKind::Unsupported, "configure", "backend vxlan", detail) }
}

/// The error for an object on a device that is not there.
fn no_device(key: &Key, device: &InterfaceName) -> Error {
    Error::new(ErrorKind::Missing, "write", key, format_args!("device {device} is not there"))
}

#[async_trait]
impl Driver for VxlanDriver {
    type Item = NetworkItem;
    type Key = Key;
    type Object = Object;

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn adopt(&mut self, node: &NodeContext) -> Result<()> {
        self.compiler = Compiler::new(self.compiler.config(), node, &self.capabilities)?;
        Ok(())
    }

    fn configure(&mut self, section: &serde_json::Value) -> Result<()> {
        let (config, former) = (Config::from_json(section).map_err(refused)?, self.compiler.config());
        self.capabilities.require(&needed(&config, self.compiler.node().masquerade.is_some()))?;
        if config.mode.tunnel() != former.mode.tunnel() {
            return Err(opened_anew("mode"));
        }
        if (config.checksum, config.checksum_interval) != (former.checksum, former.checksum_interval) {
            return Err(opened_anew("checksumOffload"));
        }
        let compiler = Compiler::new(&config, self.compiler.node(), &self.capabilities)?;
        if compiler.pod_mtu_bytes() != self.compiler.pod_mtu_bytes() {
            return Err(opened_anew("mtu"));
        }
        if compiler.attributes() != self.compiler.attributes() {
            // What peers were told of this node.
            let differing = [("vni", config.vni != former.vni), ("port", config.port != former.port)];
            let field = differing.iter().find(|(_, differs)| *differs).map_or("underlay", |(field, _)| field);
            return Err(opened_anew(field));
        }
        self.compiler = compiler;
        Ok(())
    }

    fn base(&self) -> Result<Vec<(Key, Object)>> {
        Ok(self.compiler.base())
    }

    fn compile(&self, item: &NetworkItem) -> Result<Vec<(Key, Object)>> {
        self.compiler.compile(item)
    }

    fn rank(&self, key: &Key) -> Rank {
        key.rank()
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        self.read()
    }

    async fn apply(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        self.write(batch)
    }
}
