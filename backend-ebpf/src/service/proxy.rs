//! The proxy in a registry. Never more than the way in.

use super::both::Both;
use super::config::Config;
use super::driver::SocketDriver;
use super::outside::{self, OutsideDriver, OutsideWatch};
use super::pins::Pins;
use async_trait::async_trait;
use cni_core::backend::{
    Capability, DriftWatch, Driver as _, OpenRequest, ProxyBackend, ProxyParts, Reconciler, Result, Translation,
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
        let config = Config::from_json(&request.config)?;
        let driver = SocketDriver::open(&config)?;
        let meter = driver.meter()?;
        let clients = Reconciler::new(driver.clients(&request.node)?)?;
        let outside = match (driver.capabilities().has(Capability::OutsideClients), config.outside_clients) {
            (true, _) => Some(OutsideDriver::open()?),
            // What an earlier configuration served goes with the first state.
            (false, false) if outside::refusal().is_none() => Some(OutsideDriver::off()?),
            (false, _) => None,
        };
        let watch = outside.as_ref().map(|outside| OutsideWatch::open(outside.port())).transpose()?;
        let outside = outside.map(Reconciler::new).transpose()?;
        let mut parts = ProxyParts::new(Box::new(Both { sockets: Reconciler::new(driver)?, outside }));
        parts.clients = Some(Box::new(clients));
        parts.meter = Some(meter);
        parts.drift = watch.map(|watch| Box::new(watch) as Box<dyn DriftWatch>);
        Ok(parts)
    }

    /// Of this network namespace, in every BPF file system that is mounted.
    fn clear(&self) -> Result<()> {
        let Config { bpffs, maps, .. } = Config::default();
        outside::clear()?;
        // A kernel that tells of no namespace takes no program of ours either, and is no failure.
        let Ok(pins) = Pins::of_this_namespace(&bpffs, &maps) else { return Ok(()) };
        let elsewhere = Pins::elsewhere(&bpffs, &maps)?;
        elsewhere.iter().fold(pins.clear(), |done, pins| done.and(pins.clear()))
    }
}
