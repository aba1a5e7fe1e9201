//! The first state of a node that is open: what its parts are told first, and in which order. Never a change after that.

use super::Inner;
use super::cluster;
use super::error::NodeError;
use super::policy::{self, Policy};
use cni_core::backend::Registry;
use std::sync::atomic::Ordering;

/// What is followed from the first state on.
pub(super) struct Following {
    pub(super) cluster: cluster::Following,
    /// `None`: no policy is enforced.
    pub(super) policy: Option<policy::Following>,
}

impl Inner {
    /// Pods have the network that they had at every moment, and are as closed as they were.
    pub(super) async fn begin(&self, registry: &Registry) -> Result<Following, NodeError> {
        let attached = self.recover().await?;
        // Before the datapath: it may begin to take packets past an engine that saw them so far.
        let policy = match &self.policy {
            None => None,
            Some(policy) => Some(self.begin_policy(policy, registry).await?),
        };
        self.datapath.change_all(attached).await?;
        let mut cluster = self.cluster.follow().await?;
        self.cluster.first_sync(&mut cluster, &self.takers()).await?;
        if policy.is_some() {
            self.end_former_policy(registry)?;
        }
        self.take_node_addresses().await;
        self.bury_all().await;
        Ok(Following { cluster, policy })
    }

    async fn begin_policy(&self, policy: &Policy, registry: &Registry) -> Result<policy::Following, NodeError> {
        let engine = &self.config.policy.engine;
        let mut following = policy.follow().await?;
        let interfaces = self.kernel.interfaces().await?;
        let was_there = registry.policy(engine)?.is_there()?;
        let pods = self.records.all();
        policy.first_sync(&mut following, &pods, interfaces).await?;
        refuse_two_engines(policy, engine, registry)?;
        if !was_there && !pods.is_empty() {
            refuse_open_pods(policy, engine, registry)?;
        }
        Ok(following)
    }

    /// What another engine enforced is in force until this one does, and sees all packets: pods are open at no moment.
    fn end_former_policy(&self, registry: &Registry) -> Result<(), NodeError> {
        if self.datapath.state().last_commit.failed.is_empty() {
            return policy::clear_others(&self.config.policy.engine, registry);
        }
        let others = registry.policies().filter(|other| other.name() != self.config.policy.engine);
        let is_there = others.map(|other| other.is_there()).collect::<Result<Vec<_>, _>>()?.contains(&true);
        self.former_policy.store(is_there, Ordering::Relaxed);
        tracing::error!("the datapath is not all there; what another engine enforced stays, until the next start");
        Ok(())
    }
}

/// While policy is not all in force here, what another engine enforced has to stay; and the datapath may be one that takes packets
/// past that one.
fn refuse_two_engines(policy: &Policy, wanted: &str, registry: &Registry) -> Result<(), NodeError> {
    let Some(failure) = policy.engine().state().last_commit.failed.into_iter().next() else { return Ok(()) };
    for other in registry.policies().filter(|other| other.name() != wanted) {
        if other.is_there()? {
            let (wanted, other) = (wanted.to_owned(), other.name().to_owned());
            return Err(NodeError::NotInForce { wanted, other, why: failure.error });
        }
    }
    Ok(())
}

/// Pods that are open, because nobody enforced policy so far, would stay open. What the engine wrote goes: it would be taken for
/// something that was in force.
fn refuse_open_pods(policy: &Policy, wanted: &str, registry: &Registry) -> Result<(), NodeError> {
    let Some(failure) = policy.engine().state().last_commit.failed.into_iter().next() else { return Ok(()) };
    registry.policy(wanted)?.clear()?;
    Err(NodeError::PodsOpen { wanted: wanted.to_owned(), why: failure.error })
}
