//! A node's state, put together from what its parts say. Never asks the kernel.

use super::Inner;
use super::engine::{EngineHandle, EngineState};
use super::error::NodeError;
use super::policy::Policy;
use super::status::{EndpointStatus, NodeStatus, PoolStatus, Problem};
use cni_core::backend::{Capabilities, Support};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

/// Each with why not, or nothing.
fn told(capabilities: &Capabilities) -> BTreeMap<String, Option<String>> {
    let told = capabilities.iter().map(|(capability, support)| {
        let why_not = match support {
            Support::Yes => None,
            Support::No { reason } => Some(reason.clone()),
        };
        (capability.to_string(), why_not)
    });
    told.collect()
}

impl Inner {
    /// Of all engines but the datapath.
    fn other_states(&self) -> impl Iterator<Item = EngineState> {
        let others = self.policy.iter().map(|policy| policy.engine().state());
        let others = others.chain(self.proxy.iter().map(EngineHandle::state));
        others.chain(self.clients.iter().map(EngineHandle::state))
    }

    pub(super) fn ready(&self) -> Result<(), NodeError> {
        if let Some(problem) = self.cluster.lost_underlay() {
            return Err(NodeError::UnderlayUnusable { problem });
        }
        if let Some(error) = self.datapath.state().node_refused {
            return Err(NodeError::UnderlayUnusable { problem: error.to_string() });
        }
        for state in std::iter::once(self.datapath.state()).chain(self.other_states()) {
            if let Some(error) = &state.unreadable {
                return Err(NodeError::DatapathLost { problem: format!("the kernel cannot be read: {error}") });
            }
            // The node's own objects: without its device or base chains nothing works. One peer's failure is no reason to stop.
            let own = state.last_commit.failed.iter().find(|failure| failure.items.is_empty());
            if let Some(failure) = own {
                return Err(NodeError::DatapathLost { problem: format!("{}: {}", failure.object, failure.error) });
            }
        }
        Ok(self.ipam.get().status(SystemTime::now())?)
    }

    pub(super) fn status(&self) -> NodeStatus {
        let state = self.datapath.state();
        let texts = |map: &BTreeMap<Arc<str>, Arc<str>>| {
            map.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect()
        };
        let mut problems = self.cluster.problems();
        problems.extend(Problem::of_commit(&state.last_commit));
        problems.extend(self.policy.iter().flat_map(Policy::problems));
        problems.extend(self.service_problems());
        problems.extend(self.meters.problems());
        problems.extend(self.former_policy.load(Ordering::Relaxed).then(|| Problem {
            object: "policy".to_owned(),
            error: "the datapath was not all there at the start, so what another engine enforced stays until the next start"
                .to_owned(),
            state: "beside another".to_owned(),
        }));
        let pools = self.ipam.get().usage(SystemTime::now());
        if let Err(error) = &pools {
            problems.push(Problem {
                object: "address management".to_owned(),
                error: error.to_string(),
                state: "waiting".to_owned(),
            });
        }
        NodeStatus {
            node: self.config.name.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            backend: self.config.backend.clone(),
            policy: self.policy.as_ref().map(|_| self.config.policy.engine.clone()),
            services: self.proxy_name(),
            capabilities: told(self.datapath.capabilities()),
            service_capabilities: self.proxy.as_ref().map(|proxy| told(proxy.capabilities())).unwrap_or_default(),
            attributes: texts(&self.attributes),
            notices: self.notices.clone(),
            underlay: self.cluster.context().underlay,
            pod_mtu_bytes: self.pod_mtu_bytes,
            not_ready: self.ready().err().map(|error| error.to_string()),
            peers: self.cluster.peers(),
            pools: pools.unwrap_or_default().into_iter().map(PoolStatus::from).collect(),
            endpoints: self
                .records
                .all()
                .iter()
                .map(|record| EndpointStatus {
                    endpoint: record.endpoint.clone(),
                    network: record.network.to_string(),
                    attached_unix_ms: record.attached_unix_ms,
                })
                .collect(),
            hosts: self.policy.iter().flat_map(Policy::hosts).collect(),
            problems,
            drifted: std::iter::once(state.drifted).chain(self.other_states().map(|state| state.drifted)).sum(),
            resyncs: state.resyncs,
        }
    }
}
