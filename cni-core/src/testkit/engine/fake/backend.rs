//! The fake as a backend of a registry, for tests of what stands above. Never touches the real kernel.

use super::{FakeDriver, FakeKernel};
use crate::backend::{Backend, Error, OpenRequest, Parts, Reconciler, Result};
use crate::testkit::engine::Faulty;
use async_trait::async_trait;

/// A backend named `fake` on a [`FakeKernel`]. Its configuration is `null` or `{}`.
pub struct FakeBackend {
    kernel: FakeKernel,
}

impl FakeBackend {
    /// A backend on this kernel.
    #[must_use]
    pub fn new(kernel: FakeKernel) -> Self {
        Self { kernel }
    }
}

#[async_trait]
impl Backend for FakeBackend {
    fn name(&self) -> &str {
        "fake"
    }

    fn check(&self, config: &serde_json::Value) -> Result<()> {
        if config.is_null() || config.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(());
        }
        Err(Error::invalid(
            "backend fake",
            "config",
            format!("{config} is given, this backend has no settings: leave it out"),
        ))
    }

    async fn open(&self, request: OpenRequest) -> Result<Parts> {
        self.check(&request.config)?;
        let pod_mtu_bytes = request.node.underlay.mtu_bytes;
        let driver = FakeDriver::new(self.kernel.clone(), request.node);
        let engine = Reconciler::new(Faulty::new(driver, self.kernel.faults()))?;
        Ok(Parts::new(Box::new(engine), pod_mtu_bytes))
    }
}
