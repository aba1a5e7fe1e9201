//! The proxy in a registry. Never more than the way in.

use super::both::Both;
use super::config::Config;
use super::driver::SocketDriver;
use super::outside::{self, OutsideDriver};
use super::pins::Pins;
use async_trait::async_trait;
use cni_core::backend::{
    Capability, Driver as _, OpenRequest, ProxyBackend, ProxyParts, Reconciler, Result, Translation,
};
use serde_json::Value;

/// Services in eBPF, for [`cni_core::backend::Registry::with_proxy`].
#[derive(Debug, Clone, Copy, Default)]
pub struct EbpfServices;

#[async_trait]
impl ProxyBackend for EbpfServices {
    fn name(&self) -> &str {
        "ebpf"
    }

    fn check(&self, config: &Value) -> Result<()> {
        Config::from_json(config).map(drop)
    }

    fn needs_host_stack(&self) -> bool {
        false
    }

    fn translates(&self) -> Translation {
        Translation::Socket
    }

    async fn open(&self, request: OpenRequest) -> Result<ProxyParts> {
        let driver = SocketDriver::open(&Config::from_json(&request.config)?)?;
        let clients = Reconciler::new(driver.clients()?)?;
        let outside = if driver.capabilities().has(Capability::OutsideClients) {
            Some(Reconciler::new(OutsideDriver::open()?)?)
        } else {
            // What an earlier configuration served.
            outside::clear()?;
            None
        };
        let mut parts = ProxyParts::new(Box::new(Both { sockets: Reconciler::new(driver)?, outside }));
        parts.clients = Some(Box::new(clients));
        Ok(parts)
    }

    /// Of the default BPF file system and this network namespace.
    fn clear(&self) -> Result<()> {
        let Config { bpffs, maps, .. } = Config::default();
        outside::clear()?;
        Pins::of_this_namespace(&bpffs, &maps)?.clear()
    }
}
