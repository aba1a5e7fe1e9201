//! The proxy in a registry. Never more than the way in.

use super::config::Config;
use super::driver::SocketDriver;
use super::pins::Pins;
use async_trait::async_trait;
use cni_core::backend::{OpenRequest, ProxyBackend, ProxyParts, Reconciler, Result, Translation};
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
        let mut parts = ProxyParts::new(Box::new(Reconciler::new(driver)?));
        let notice = "clients outside of the node do not reach services: programs at sockets see no packets from there";
        parts.notices.push(notice.to_owned());
        Ok(parts)
    }

    /// Of the default BPF file system and this network namespace.
    fn clear(&self) -> Result<()> {
        Pins::of_this_namespace(&Config::default().bpffs)?.clear()
    }
}
