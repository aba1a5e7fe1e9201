//! The backend as agents and embedders open it. Never writes to the kernel: the first commit does.

use crate::config::{Config, TunnelKind, refused};
use crate::driver::BgpDriver;
use crate::inspect::Inspector;
use crate::probe::{needed, probe};
use crate::table::Table;
use crate::task::Task;
use crate::watch::BgpWatch;
use async_trait::async_trait;
use cni_core::backend::{
    Backend, Capabilities, Change, CommitReport, Drift, Engine, NetworkChange, OpenRequest, Parts, Plan, Reconciler,
    Result,
};
use cni_core::model::NetworkItem;
use cni_core::policy::failsafe::ProtocolPort;
use cni_core::policy::model::Protocol;
use std::sync::Arc;

/// The `bgp` backend. Opened within a tokio runtime, in the network namespace of the calling thread.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bgp;

#[async_trait]
impl Backend for Bgp {
    fn name(&self) -> &str {
        "bgp"
    }

    fn check(&self, config: &serde_json::Value) -> Result<()> {
        Config::from_json(config).map(|_| ()).map_err(refused)
    }

    async fn open(&self, request: OpenRequest) -> Result<Parts> {
        let config = Config::from_json(&request.config).map_err(refused)?;
        let capabilities = probe(config.tunnel.as_ref().map(|tunnel| &tunnel.kind));
        capabilities.require(&needed(&config, request.node.masquerade.is_some()))?;
        let table = Table::default();
        let driver = BgpDriver::open(&config, &request.node, capabilities, table.clone())?;
        let driver = driver.with_task(Task::start(table.clone())?);
        let interface = request.node.underlay.interface.clone();
        let watch = BgpWatch::open(driver.watched().clone(), interface, driver.ports())?;
        let (pod_mtu_bytes, attributes) = (driver.compiler().pod_mtu_bytes(), driver.compiler().attributes());
        let inspector = Inspector { table: table.clone() };
        let datapath = Datapath { engine: Reconciler::new(driver)?, table, staged: false };
        let mut parts = Parts::new(Box::new(datapath), pod_mtu_bytes);
        parts.attributes = attributes;
        parts.drift = Some(Box::new(watch));
        parts.inspect = Some(Arc::new(inspector));
        parts.node_ports = node_ports(&config);
        Ok(parts)
    }
}

/// The port of sessions among nodes, and the tunnel's where it has one.
fn node_ports(config: &Config) -> Vec<ProtocolPort> {
    let session = ProtocolPort { protocol: Protocol::TCP, port: config.port.get() };
    let tunnel = config.tunnel.as_ref().and_then(|tunnel| match tunnel.kind {
        TunnelKind::Vxlan { port, .. } => Some(ProtocolPort { protocol: Protocol::UDP, port: port.get() }),
        TunnelKind::Ipip => None,
    });
    std::iter::once(session).chain(tunnel).collect()
}

/// The engine, which tells the speaker when the first whole state is there: before that it must not speak.
struct Datapath {
    engine: Reconciler<BgpDriver>,
    table: Table,
    /// In sync is staged; the next commit makes it so.
    staged: bool,
}

#[async_trait]
impl Engine<NetworkItem> for Datapath {
    fn capabilities(&self) -> &Capabilities {
        self.engine.capabilities()
    }

    fn stage(&mut self, change: NetworkChange) -> Result<()> {
        self.staged |= matches!(change, Change::InSync);
        self.engine.stage(change)
    }

    fn plan(&self) -> Plan {
        self.engine.plan()
    }

    async fn commit(&mut self) -> CommitReport {
        let report = self.engine.commit().await;
        if std::mem::take(&mut self.staged) {
            self.table.set_in_sync();
        }
        report
    }

    async fn resync(&mut self) -> Result<Drift> {
        self.engine.resync().await
    }
}
