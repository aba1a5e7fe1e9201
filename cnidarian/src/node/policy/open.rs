//! The policy engine that a configuration names. Never what it enforces.

use super::Policy;
use crate::config::{NodeConfig, PolicyConfig};
use crate::node::engine::EngineHandle;
use crate::node::error::NodeError;
use crate::node::events::Observer;
use cni_core::backend::{Meter, PolicyParts, Registry, Translation};
use cni_core::policy::failsafe::ProtocolPort;
use cni_core::store::Store;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// An engine that runs.
pub(in crate::node) struct Opened {
    pub(in crate::node) policy: Policy,
    pub(in crate::node) running: JoinHandle<()>,
    pub(in crate::node) meter: Option<Arc<dyn Meter>>,
}

/// Opens the engine; without one, what others left goes at once.
pub(in crate::node) async fn open(
    config: &NodeConfig,
    registry: &Registry,
    store: Arc<dyn Store>,
    observer: &Arc<dyn Observer>,
    node_ports: Vec<ProtocolPort>,
    translation: Option<Translation>,
) -> Result<Option<Opened>, NodeError> {
    let wanted = config.policy.engine.as_str();
    if wanted == PolicyConfig::NONE {
        return clear_others(wanted, registry).map(|()| None);
    }
    let PolicyParts { engine, drift, counters, flows, meter, .. } =
        registry.policy(wanted)?.open(&config.policy.config, translation).await?;
    let (engine, running) = EngineHandle::start(engine, drift, config.resync_interval, observer.clone());
    let mut failsafe = config.policy.failsafe.clone();
    for ports in [&mut failsafe.ingress, &mut failsafe.egress] {
        ports.extend(&node_ports);
    }
    let policy = Policy::new(config.name.clone(), store, engine, counters, flows, failsafe);
    Ok(Some(Opened { policy, running, meter }))
}

/// What engines that the configuration does not name left in the kernel goes.
pub(in crate::node) fn clear_others(wanted: &str, registry: &Registry) -> Result<(), NodeError> {
    let mut others = registry.policies().filter(|other| other.name() != wanted);
    Ok(others.try_for_each(|other| other.clear())?)
}
