//! The proxy in a registry. Never more than the way in and the way out.

use crate::config::Config;
use crate::counters::Counters;
use crate::driver::clear;
use crate::leftovers::leftovers;
use async_trait::async_trait;
use cni_core::backend::{OpenRequest, ProxyBackend, ProxyParts, Result, Translation};
use serde_json::Value;
use std::sync::Arc;

/// Services on IPVS, for [`cni_core::backend::Registry::with_proxy`].
#[derive(Debug, Clone, Copy, Default)]
pub struct IpvsServices;

#[async_trait]
impl ProxyBackend for IpvsServices {
    fn name(&self) -> &str {
        "ipvs"
    }

    fn check(&self, config: &Value) -> Result<()> {
        Config::from_json(config).map(drop)
    }

    fn needs_host_stack(&self) -> bool {
        true
    }

    fn translates(&self) -> Translation {
        Translation::Delivery
    }

    async fn open(&self, request: OpenRequest) -> Result<ProxyParts> {
        let (proxy, drift) = crate::open_watched(&Config::from_json(&request.config)?)?;
        let mut parts = ProxyParts::new(proxy);
        parts.drift = Some(drift);
        parts.notices = leftovers()?;
        parts.counters = Some(Arc::new(Counters::open()?));
        Ok(parts)
    }

    fn clear(&self) -> Result<()> {
        clear()
    }
}
