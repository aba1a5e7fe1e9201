//! The driver: what [`mod@crate::compile`] wants, in the kernel. Never diffs, orders or retries: the engine does.
//!
//! | objects | where they live | how ours are known |
//! |---|---|---|
//! | virtual services, destinations | `driver/balance.rs` | a mark in a service's flags |
//! | device, its addresses | `driver/device.rs` | alias |
//! | the device for tunnels | `driver/tunnel.rs` | alias |
//! | chains, rules, sets | `driver/firewall.rs` | our table, names with our prefix |
//! | settings | `driver/settings.rs` | only those wanted are looked at; what they were is kept ([`crate::former`]) |

mod balance;
mod device;
mod firewall;
mod settings;
mod tunnel;

use crate::compile::{self, compile};
use crate::config::Config;
use crate::drain::Ledger;
use crate::former::Record;
use crate::object::{Key, Object};
use crate::watch::Watched;
use async_trait::async_trait;
use cni_core::backend::{Capabilities, Capability, Driver, Error, ErrorKind, Op, Rank, Result};
use cni_core::model::{NodeContext, ServiceItem};
use net_linux::ipvs::Ipvs;
use net_linux::netlink::Socket;
use net_linux::netns::NetNs;
use net_linux::nft::Nft;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

pub use balance::Drainer;
pub(crate) use firewall::{everything, is_of_services};

type Write = Op<Key, Object>;

/// What the driver and whoever watches draining destinations share.
#[derive(Clone)]
pub(crate) struct Draining {
    ledger: Arc<Mutex<Ledger>>,
    patience: Arc<Mutex<Duration>>,
    /// The first one drains.
    pub(crate) begun: Arc<Notify>,
}

impl Draining {
    fn new(patience: Duration) -> Self {
        Self { ledger: Arc::default(), patience: Arc::new(Mutex::new(patience)), begun: Arc::new(Notify::new()) }
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn patience(&self) -> Duration {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver of one node, bound to the network namespace that it was opened in.
pub struct IpvsDriver {
    capabilities: Capabilities,
    netns: NetNs,
    route: Socket,
    nft: Nft,
    ipvs: Ipvs,
    draining: Draining,
    watched: Watched,
    /// What settings were, as far as this process knows.
    former: Record,
}

impl IpvsDriver {
    /// A driver in the network namespace of the calling thread. Reads and writes nothing yet.
    ///
    /// # Errors
    /// This kernel has no IPVS or no nftables, or no netlink socket can be had.
    pub fn open(config: &Config, capabilities: Capabilities) -> Result<Self> {
        let netns = NetNs::current()
            .map_err(|error| Error::new(ErrorKind::Kernel, "open", "network namespace", &error).because(error))?;
        Ok(Self {
            capabilities,
            netns,
            route: Socket::route()?,
            nft: Nft::open()?,
            ipvs: Ipvs::open_loading()?,
            draining: Draining::new(config.drain),
            watched: Watched::default(),
            former: Record::default(),
        })
    }

    /// What drains.
    pub(crate) fn draining(&self) -> Draining {
        self.draining.clone()
    }

    /// What a watch has to know.
    pub(crate) fn watched(&self) -> Watched {
        self.watched.clone()
    }

    /// The netlink port that our changes of nftables carry.
    pub(crate) fn nft_port(&self) -> u32 {
        self.nft.port()
    }

    /// Reads what there is. Not async: the kernel answers at once.
    fn read(&mut self) -> Result<Vec<(Key, Object)>> {
        let mut found = self.read_device()?;
        found.extend(self.read_tunnel()?);
        found.extend(firewall::read(&mut self.nft, &mut self.former)?);
        self.read_balance(&mut found)?;
        found.extend(self.read_settings()?);
        Ok(found)
    }

    fn write(&mut self, batch: &[Write]) -> Vec<Result<()>> {
        let mut results: Vec<Option<Result<()>>> = batch.iter().map(|_| None).collect();
        let of = |wanted: fn(&Key) -> bool| -> Vec<(usize, &Write)> {
            batch.iter().enumerate().filter(|(_, op)| wanted(op.key())).collect()
        };
        for (at, op) in of(|key| matches!(key, Key::Device | Key::Tunnel | Key::Rules | Key::Sysctl(_))) {
            results[at] = Some(match op.key() {
                Key::Device => self.write_device(op),
                Key::Tunnel => self.write_tunnel(op),
                Key::Rules => firewall::write_rules(&mut self.nft, op, &self.former),
                _ => self.write_setting(op),
            });
        }
        let elements = of(|key| matches!(key, Key::Element(..)));
        let services = of(|key| matches!(key, Key::Service(_)));
        let destinations = of(|key| matches!(key, Key::Destination(..)));
        let addresses = of(|key| matches!(key, Key::Address(_)));
        let mut note = |ops: Vec<(usize, &Write)>, written: Vec<Result<()>>| {
            ops.into_iter().zip(written).for_each(|((at, _), result)| results[at] = Some(result));
        };
        let plain = |ops: &[(usize, &Write)]| -> Vec<Write> { ops.iter().map(|(_, op)| (*op).clone()).collect() };
        let written = firewall::write_elements(&mut self.nft, &plain(&elements));
        note(elements, written);
        let written = self.write_services(&plain(&services));
        note(services, written);
        let written = self.write_destinations(&plain(&destinations));
        note(destinations, written);
        let written = self.write_addresses(&plain(&addresses));
        note(addresses, written);
        results.into_iter().zip(batch).map(|(result, op)| result.unwrap_or_else(|| Err(unanswered(op.key())))).collect()
    }

    /// Runs something that depends on the thread's network namespace.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.netns
            .run(work)
            .map_err(|error| Error::new(ErrorKind::Kernel, "enter", self.netns.id(), &error).because(error))
    }
}

/// Takes away all that drivers ever made in the network namespace of the calling thread, and puts back the settings that only
/// IPVS reads. Loads no module. The addresses go first, so that nothing is answered in part.
///
/// # Errors
/// The kernel refused; what is left goes with the next call.
pub(crate) fn clear() -> Result<()> {
    let mut route = Socket::route()?;
    device::clear(&mut route)?;
    tunnel::clear(&mut route)?;
    // Without the module there are no services either.
    if let Ok(mut ipvs) = Ipvs::open() {
        balance::clear(&mut ipvs)?;
    }
    let mut nft = Nft::open()?;
    settings::restore(&mut nft)?;
    // With it the record of settings goes.
    firewall::clear(&mut nft)
}

/// A write that the kernel did not answer.
fn unanswered(key: &Key) -> Error {
    Error::new(ErrorKind::Kernel, "write", key, "the write was not answered")
}

/// The error for an object under the key of another kind.
fn another(key: &Key) -> Error {
    Error::new(ErrorKind::Invalid, "write", key, "its object is of another kind")
}

#[async_trait]
impl Driver for IpvsDriver {
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
        let config = Config::from_json(section)?;
        *self.draining.patience.lock().unwrap_or_else(PoisonError::into_inner) = config.drain;
        Ok(())
    }

    fn base(&self) -> Result<Vec<(Key, Object)>> {
        Ok(compile::base(self.capabilities.has(Capability::Ipv6)))
    }

    fn compile(&self, item: &ServiceItem) -> Result<Vec<(Key, Object)>> {
        if item.key.address.is_ipv6() {
            self.capabilities.require(&[Capability::Ipv6])?;
        }
        compile(item)
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
