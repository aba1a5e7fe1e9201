//! The driver: what [`crate::compile`] wants, in the kernel. Never diffs, orders or retries: the engine does.
//!
//! | objects | where they live | how ours are known |
//! |---|---|---|
//! | the tunnel device | `driver/device.rs` | alias |
//! | programs and entries of their maps | `driver/programs.rs` | name; held by the interfaces they are attached to |
//! | masquerading by programs | `driver/masquerade.rs` | the same |
//! | addresses, neighbours, routes | `driver/tables.rs` | by the device; protocol number |
//! | settings, nftables | [`Host`] | only those wanted are looked at; nftables table |

mod device;
mod masquerade;
mod meter;
mod programs;
mod tables;

use crate::compile::Compiler;
use crate::config::{Config, refused};
use crate::kernel::{Hook, Hooks, KernelError};
use crate::object::{Key, Object, of_host};
use crate::probe::needed;
use crate::watch::Watched;
use async_trait::async_trait;
use cni_core::backend::{Capabilities, Driver, Error, ErrorKind, Op, Rank, Result};
use cni_core::model::{InterfaceName, NetworkItem, NodeContext};
use device::Devices;
pub(crate) use meter::Metered;
use net_linux::host::{self, Host};
use net_linux::netlink::Socket;
use programs::Held;
use std::collections::HashMap;

/// The driver of one node, bound to the network namespace that it was opened in.
pub struct EbpfDriver {
    compiler: Compiler,
    capabilities: Capabilities,
    host: Host,
    socket: Socket,
    /// Where programs are.
    hooks: Hooks,
    held: Held,
    watched: Watched,
    metered: Metered,
}

impl EbpfDriver {
    /// A driver in the network namespace of the calling thread. Reads and writes nothing yet.
    ///
    /// # Errors
    /// The node cannot carry this configuration, or no netlink socket can be had.
    pub fn open(config: &Config, node: &NodeContext, capabilities: Capabilities) -> Result<Self> {
        Self::open_at(config, node, capabilities, Hook::probe())
    }

    /// The same with programs at hooks of this kind.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(config: &Config, node: &NodeContext, capabilities: Capabilities, hook: Hook) -> Result<Self> {
        let compiler = Compiler::new(config, node, &capabilities)?;
        let (host, socket) = (Host::open()?, Socket::route()?);
        let (held, watched, metered) = (Held::default(), Watched::default(), Metered::default());
        let mut hooks = hook.open().map_err(|error| kernel_error("open", &Key::Programs, error))?;
        hooks.leave_clsact(compiler.config().leave_clsact);
        Ok(Self { compiler, capabilities, host, socket, hooks, held, watched, metered })
    }

    /// The node's part of the translation.
    #[must_use]
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    pub(crate) fn watched(&self) -> &Watched {
        &self.watched
    }

    pub(crate) fn metered(&self) -> &Metered {
        &self.metered
    }

    /// The netlink ports that our own changes carry.
    pub(crate) fn ports(&self) -> (u32, Option<u32>) {
        (self.socket.port(), self.host.nft_port())
    }

    /// Reads what there is. Not async: the kernel answers at once.
    fn read(&mut self) -> Result<Vec<(Key, Object)>> {
        let devices = self.devices()?;
        self.watched.set_devices(devices.ours().map(|(_, link)| link.index));
        let mut found = Vec::new();
        self.read_devices(&devices, &mut found)?;
        self.read_programs(&devices, &mut found)?;
        self.read_masquerading(&devices, &mut found)?;
        self.read_tables(&devices, &mut found)?;
        let wanted = self.compiler.base().into_iter().filter_map(|(key, _)| match key {
            Key::Host(key) => Some(key),
            _ => None,
        });
        let found_there = self.host.observe(wanted)?;
        found.extend(of_host(found_there));
        Ok(found)
    }

    fn write(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        let mut results: HashMap<usize, Result<()>> = HashMap::with_capacity(batch.len());
        let (at, for_host): (Vec<_>, Vec<_>) =
            batch.iter().enumerate().filter_map(|(index, op)| Some((index, host_op(op)?))).unzip();
        results.extend(at.into_iter().zip(self.host.apply(&for_host)));
        let (mut tables, mut programs) = (Vec::new(), Vec::new());
        for (index, op) in batch.iter().enumerate().filter(|(_, op)| !matches!(op.key(), Key::Host(_))) {
            match op.key() {
                Key::Link(name) => {
                    results.insert(index, self.write_device(name, op));
                }
                Key::Masquerade => {
                    results.insert(index, self.write_masquerading(op));
                }
                key if key.is_of_programs() => programs.push((index, op)),
                _ => tables.push((index, op)),
            }
        }
        if !programs.is_empty() {
            self.write_programs(&programs, &mut results);
        }
        if !tables.is_empty() {
            self.write_tables(&tables, &mut results);
        }
        let unanswered =
            |op: &Op<_, _>| Err(Error::new(ErrorKind::Kernel, "write", op.key(), "the write was not answered"));
        batch.iter().enumerate().map(|(index, op)| results.remove(&index).unwrap_or_else(|| unanswered(op))).collect()
    }

    fn devices(&mut self) -> Result<Devices> {
        Devices::read(&mut self.socket)
    }
}

/// Runs `work` in the driver's network namespace, whose hooks TCX means.
fn inside<T: Send>(
    host: &Host,
    work: impl FnOnce() -> std::result::Result<T, KernelError> + Send,
) -> std::result::Result<T, KernelError> {
    host.inside(work).map_err(|_| KernelError::Missing { name: "network namespace" })?
}

/// The op on an object of the host, in the shared code's terms; `None` for another.
fn host_op(op: &Op<Key, Object>) -> Option<Op<host::Key, host::Object>> {
    let Key::Host(key) = op.key() else { return None };
    op.part(key.clone(), |object| match object {
        Object::Host(object) => Some(object.clone()),
        _ => None,
    })
}

/// The error for a field that pods, peers or maps were made with when the backend was opened.
fn opened_anew(field: &'static str) -> Error {
    let detail = "takes effect when the agent is started again";
    Error { field: Some(field), ..Error::new(ErrorKind::Unsupported, "configure", "backend ebpf", detail) }
}

/// The error for an object on a device that is not there.
fn no_device(key: &Key, device: &InterfaceName) -> Error {
    Error::new(ErrorKind::Missing, "write", key, format_args!("device {device} is not there"))
}

fn not_for(key: &Key, object: &Object) -> Error {
    Error::new(ErrorKind::Invalid, "create", key, format_args!("can't be {object:?}"))
}

/// An error of eBPF as the engine knows it.
fn kernel_error(operation: &'static str, key: &Key, error: KernelError) -> Error {
    let room = if matches!(key, Key::Masquerade) { "maxMasqueraded" } else { "maxPods, maxPrefixes" };
    let full =
        error.full_map().map(|map| format!("the map {map} is full: write more ({room}), and start the agent again"));
    let told = error.told(operation, key, room);
    Error { detail: full.unwrap_or_else(|| told.detail.clone()), ..told }
}

#[async_trait]
impl Driver for EbpfDriver {
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
        let differing = [
            ("mode", config.mode != former.mode),
            // Programs go with their device, and their maps with them.
            ("deviceName", config.device != former.device),
            ("fastPath", config.fast_path != former.fast_path),
            ("maxPods", config.max_pods != former.max_pods),
            ("maxPrefixes", config.max_prefixes != former.max_prefixes),
            ("masquerade", config.masquerade != former.masquerade),
            ("masqueradePorts", config.masquerade_ports != former.masquerade_ports),
            ("maxMasqueraded", config.max_masqueraded != former.max_masqueraded),
        ];
        if let Some((field, _)) = differing.into_iter().find(|(_, differs)| *differs) {
            return Err(opened_anew(field));
        }
        self.capabilities.require(&needed(&config, self.compiler.node().masquerade.is_some()))?;
        let compiler = Compiler::new(&config, self.compiler.node(), &self.capabilities)?;
        if compiler.pod_mtu_bytes() != self.compiler.pod_mtu_bytes() {
            return Err(opened_anew("mtu"));
        }
        if compiler.attributes() != self.compiler.attributes() {
            // What peers were told of this node.
            return Err(opened_anew(if config.vni == former.vni { "port" } else { "vni" }));
        }
        self.compiler = compiler;
        self.hooks.leave_clsact(config.leave_clsact);
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
