//! The engine in a registry. Never more than the way in.

use crate::config::Config;
use crate::counters::Counters;
use crate::flows::Flows;
use async_trait::async_trait;
use cni_core::backend::{Error, ErrorKind, PolicyBackend, PolicyParts, Result, Translation};
use serde_json::Value;
use std::sync::Arc;

/// Policy on nftables, for [`cni_core::backend::Registry::with_policy`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Nftables;

#[async_trait]
impl PolicyBackend for Nftables {
    fn name(&self) -> &str {
        "nftables"
    }

    fn check(&self, config: &Value) -> Result<()> {
        Config::from_json(config).map(drop)
    }

    fn needs_host_stack(&self) -> bool {
        true
    }

    fn judges_after(&self, translation: Translation) -> Result<()> {
        match translation {
            Translation::Socket | Translation::Delivery => Ok(()),
            other => {
                let detail = format!("it has no hooks for packets that are translated at {other:?}");
                Err(Error::new(ErrorKind::Unsupported, "open", "policy nftables", detail))
            }
        }
    }

    async fn open(&self, config: &Value, translation: Option<Translation>) -> Result<PolicyParts> {
        let (engine, drift) = crate::open_watched(&Config { translation, ..Config::from_json(config)? })?;
        let mut parts = PolicyParts::new(engine);
        parts.drift = Some(drift);
        let counters = Arc::new(Counters::open()?);
        parts.counters = Some(counters.clone());
        parts.meter = Some(counters);
        parts.flows = Some(Box::new(Flows::open()?));
        Ok(parts)
    }

    fn is_there(&self) -> Result<bool> {
        crate::is_there()
    }

    fn clear(&self) -> Result<()> {
        crate::clear()
    }
}
