//! Another configuration for a node that runs. Never the way to one that needs the node to be opened anew: that is refused,
//! with the key.

use super::{Node, NodeError};
use crate::config::NodeConfig;
use cni_core::backend::Plan;
use serde_json::Value;

/// The sections that may change while a node runs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sections {
    backend: Value,
    policy: Value,
}

impl Sections {
    pub(super) fn of(config: &NodeConfig) -> Self {
        Self { backend: config.backend_config.clone(), policy: config.policy.config.clone() }
    }
}

impl Node {
    /// Puts another configuration in force: the backend's own section, and that of the policy engine. Pods and what else
    /// stands keep their network meanwhile.
    ///
    /// # Errors
    /// [`NodeError::NeedsStart`] with the key when something else differs, or what a section has that is not acceptable or
    /// cannot change now. Nothing has changed then, except that a backend's section is in force when only the policy
    /// engine's is refused.
    pub async fn reconfigure(&self, config: &NodeConfig) -> Result<(), NodeError> {
        self.differs_in_sections_only(config)?;
        let mut in_force = self.inner.sections.lock().await;
        let wanted = Sections::of(config);
        if wanted.backend != in_force.backend {
            self.inner.datapath.configure(wanted.backend.clone()).await?;
            in_force.backend = wanted.backend;
        }
        if let Some(policy) = self.inner.policy.as_ref().filter(|_| wanted.policy != in_force.policy) {
            policy.engine().configure(wanted.policy.clone()).await?;
            in_force.policy = wanted.policy;
        }
        Ok(())
    }

    /// What [`reconfigure`](Self::reconfigure) would write, and what waits to be written anyway.
    ///
    /// # Errors
    /// As [`reconfigure`](Self::reconfigure).
    pub async fn plan_for(&self, config: &NodeConfig) -> Result<Plan, NodeError> {
        self.differs_in_sections_only(config)?;
        let in_force = self.inner.sections.lock().await;
        let wanted = Sections::of(config);
        let mut plan = self.inner.datapath.propose(wanted.backend, in_force.backend.clone()).await?;
        if let Some(policy) = &self.inner.policy {
            plan = plan.and(policy.engine().propose(wanted.policy, in_force.policy.clone()).await?);
        }
        Ok(plan)
    }

    fn differs_in_sections_only(&self, wanted: &NodeConfig) -> Result<(), NodeError> {
        let now = &self.inner.config;
        let keys = [
            ("nodeName", now.name != wanted.name),
            ("backend", now.backend != wanted.backend),
            ("policy.engine", now.policy.engine != wanted.policy.engine),
            ("policy.failsafe", now.policy.failsafe != wanted.policy.failsafe),
            ("underlay", now.underlay != wanted.underlay),
            ("ipam", now.ipam != wanted.ipam),
            ("masquerade", now.masquerade != wanted.masquerade),
            ("services", now.services != wanted.services),
            ("mtu", now.mtu_bytes != wanted.mtu_bytes),
            ("store", now.store != wanted.store),
            ("stateDir", now.state != wanted.state),
            ("resyncSeconds", now.resync_interval != wanted.resync_interval),
        ];
        match keys.into_iter().find(|(_, differs)| *differs) {
            Some((key, _)) => Err(NodeError::NeedsStart { key }),
            None => Ok(()),
        }
    }
}
