//! The driver: what [`crate::compile`] wants, in the kernel and in the speaker's table. Never diffs, orders or retries: the
//! engine does. Never writes a learned route: the speaker's task does.
//!
//! | objects | where they live | how ours are known |
//! |---|---|---|
//! | the tunnel device | `driver/device.rs` | alias |
//! | its neighbours and addresses | `driver/tables.rs` | by the device |
//! | routes | `driver/tables.rs` | protocol number |
//! | settings, nftables | [`Host`] | only those wanted are looked at; nftables table |
//! | the speaker, its peers, announcements | [`Table`] | all of them |

mod describe;
mod device;
mod tables;

use describe::describe;

use crate::compile::Compiler;
use crate::config::{Config, refused};
use crate::object::{Key, Object, of_host};
use crate::probe::needed;
use crate::table::Table;
use crate::task::Task;
use crate::task::setup;
use crate::watch::Watched;
use async_trait::async_trait;
use cni_core::backend::{Capabilities, Driver, Error, ErrorKind, Op, Rank, Result};
use cni_core::model::{NetworkItem, NodeContext};
use cni_core::strict::StrictError;
use net_linux::host::{self, Host};
use net_linux::netlink::Socket;
use std::collections::HashMap;

/// The driver of one node, bound to the network namespace that it was opened in.
pub struct BgpDriver {
    compiler: Compiler,
    capabilities: Capabilities,
    host: Host,
    socket: Socket,
    /// Kinds of link that may be ours.
    kinds: Vec<&'static str>,
    table: Table,
    watched: Watched,
    /// Ends with the driver.
    task: Option<Task>,
}

impl BgpDriver {
    /// A driver in the network namespace of the calling thread, for a speaker with this table. Reads and writes nothing
    /// yet.
    ///
    /// # Errors
    /// The node cannot carry this configuration, or no netlink socket can be had.
    pub fn open(config: &Config, node: &NodeContext, capabilities: Capabilities, table: Table) -> Result<Self> {
        let compiler = Compiler::new(config, node, &capabilities)?;
        let host = Host::open()?;
        let mut socket = Socket::route()?;
        let kinds = device::kinds(&mut socket, config)?;
        Ok(Self { compiler, capabilities, host, socket, kinds, table, watched: Watched::default(), task: None })
    }

    /// The node's part of the translation.
    #[must_use]
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// The same driver with a speaker that ends with it.
    pub(crate) fn with_task(self, task: Task) -> Self {
        Self { task: Some(task), ..self }
    }

    /// Whether the table has a speaker that heeds it.
    #[must_use]
    pub fn has_speaker(&self) -> bool {
        self.task.is_some()
    }

    pub(crate) fn watched(&self) -> &Watched {
        &self.watched
    }

    /// The netlink ports that our own changes carry.
    pub(crate) fn ports(&self) -> (u32, Option<u32>) {
        (self.socket.port(), self.host.nft_port())
    }

    /// Reads what there is. Not async: the kernel answers at once.
    fn read(&mut self) -> Result<Vec<(Key, Object)>> {
        let mut found = self.table.objects();
        let device = self.device()?;
        self.watched.set_device(device.as_ref().map(|(_, link)| link.index));
        self.read_tables(device.as_ref(), &mut found)?;
        if let Some((name, link)) = &device {
            found.push((Key::Link(name.clone()), self.read_device(name, link)?));
        }
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
        let mut tables = Vec::new();
        let mut told = false;
        for (index, op) in batch.iter().enumerate() {
            if results.contains_key(&index) {
                continue;
            }
            let result = match op.key() {
                key if key.is_of_speaker() => {
                    told = true;
                    self.write_table(op)
                }
                Key::Link(name) => self.write_device(name, op),
                _ => {
                    tables.push((index, op));
                    continue;
                }
            };
            results.insert(index, result);
        }
        if told {
            self.table.announce_change();
        }
        if !tables.is_empty() {
            self.write_tables(&tables, &mut results);
        }
        let unanswered =
            |op: &Op<_, _>| Err(Error::new(ErrorKind::Kernel, "write", op.key(), "the write was not answered"));
        batch.iter().enumerate().map(|(index, op)| results.remove(&index).unwrap_or_else(|| unanswered(op))).collect()
    }

    fn write_table(&self, op: &Op<Key, Object>) -> Result<()> {
        match op {
            Op::Put { key, object, .. } if !self.table.put(key, object) => Err(not_for(key, object)),
            Op::Put { .. } => Ok(()),
            Op::Delete { key, .. } => {
                self.table.delete(key);
                Ok(())
            }
        }
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

/// The error for a field that pods or other nodes were told of when the backend was opened.
fn opened_anew(field: &'static str) -> Error {
    let detail = "takes effect when the agent is started again";
    Error { field: Some(field), ..Error::new(ErrorKind::Unsupported, "configure", "backend bgp", detail) }
}

fn not_for(key: &Key, object: &Object) -> Error {
    Error::new(ErrorKind::Invalid, "create", key, format_args!("can't be {object:?}"))
}

#[async_trait]
impl Driver for BgpDriver {
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
        let config = Config::from_json(section).map_err(refused)?;
        self.capabilities.require(&needed(&config, self.compiler.node().masquerade.is_some()))?;
        let compiler = Compiler::new(&config, self.compiler.node(), &self.capabilities)?;
        if compiler.pod_mtu_bytes() != self.compiler.pod_mtu_bytes() {
            return Err(opened_anew("encapsulation"));
        }
        if let Some(field) = compiler.told_otherwise(&self.compiler) {
            return Err(opened_anew(field));
        }
        // At the start a secret may come later; here the former configuration is better than a session less.
        for (path, file) in config.password_files(&self.compiler.node().labels) {
            setup::password(file).map_err(|problem| refused(StrictError { path, problem: problem.to_string() }))?;
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

    fn describe(&self, _: &Key, from: Option<&Object>, to: Option<&Object>) -> String {
        describe(&self.compiler, from, to)
    }

    async fn observe(&mut self) -> Result<Vec<(Key, Object)>> {
        self.read()
    }

    async fn apply(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        self.write(batch)
    }
}
