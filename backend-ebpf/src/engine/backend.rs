//! The engine in a registry. Never more than the way in.

use super::Config;
use async_trait::async_trait;
use cni_core::backend::{Error, ErrorKind, PolicyBackend, PolicyParts, Result, Translation};
use serde_json::Value;

/// Policy in eBPF programs, for [`cni_core::backend::Registry::with_policy`].
#[derive(Debug, Clone, Copy, Default)]
pub struct EbpfPolicy;

#[async_trait]
impl PolicyBackend for EbpfPolicy {
    fn name(&self) -> &str {
        "ebpf"
    }

    fn check(&self, config: &Value) -> Result<()> {
        Config::from_json(config).map(drop)
    }

    fn needs_host_stack(&self) -> bool {
        false
    }

    fn judges_after(&self, translation: Translation) -> Result<()> {
        if translation == Translation::Socket {
            return Ok(());
        }
        let detail = "it judges what a pod sends at the pod's interface, where a packet to a service has no endpoint's address \
                      yet: choose policy nftables, or a proxy that translates at sockets";
        Err(Error::new(ErrorKind::Unsupported, "open", "policy ebpf", detail))
    }

    async fn open(&self, config: &Value, _: Option<Translation>) -> Result<PolicyParts> {
        super::open_parts(&Config::from_json(config)?)
    }

    fn is_there(&self) -> Result<bool> {
        super::is_there()
    }

    fn clear(&self) -> Result<()> {
        super::clear()
    }
}
