//! The backend as agents and embedders open it. Never writes to the kernel: the first commit does.

use crate::config::{Config, refused};
use crate::driver::BgpDriver;
use crate::probe::{needed, probe};
use crate::table::Table;
use crate::watch::BgpWatch;
use async_trait::async_trait;
use cni_core::backend::{Backend, OpenRequest, Parts, Reconciler, Result};

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
        let capabilities = probe();
        capabilities.require(&needed(&config, request.node.masquerade.is_some()))?;
        let table = Table::default();
        let driver = BgpDriver::open(&config, &request.node, capabilities, table)?;
        let interface = request.node.underlay.interface.clone();
        let watch = BgpWatch::open(driver.watched().clone(), interface, driver.ports())?;
        let (pod_mtu_bytes, attributes) = (driver.compiler().pod_mtu_bytes(), driver.compiler().attributes());
        let mut parts = Parts::new(Box::new(Reconciler::new(driver)?), pod_mtu_bytes);
        parts.attributes = attributes;
        parts.drift = Some(Box::new(watch));
        Ok(parts)
    }
}
