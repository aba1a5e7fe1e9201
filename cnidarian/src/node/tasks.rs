//! What a node does by itself while it is open. Never what it is asked for.

use super::cluster::Following;
use super::error::NodeError;
use super::{Inner, policy};
use cni_core::backend::Change;
use cni_core::store::FilesStore;
use futures_util::StreamExt;
use net_linux::heap;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{MissedTickBehavior, interval, sleep};

/// Detached links wait this long for others, so that the kernel's grace periods are waited for once.
const REAP_PAUSE: Duration = Duration::from_millis(100);
/// Changes of pods wait this long for others before other nodes are told.
const TELL_PAUSE: Duration = Duration::from_millis(20);
/// Between two tries of a write that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How often leaks are looked for, and the underlay is read again.
const LOOK: Duration = Duration::from_secs(10);

impl Inner {
    /// The node's own address in its blocks, so that pods of other nodes can answer it through the tunnel.
    pub(super) async fn take_node_addresses(&self) {
        if let Err(error) = self.ipam.take_node_addresses().await {
            tracing::debug!(%error, "the node has no address of its own in the pools yet");
            return;
        }
        let changes = self.cluster.node_address_changes();
        if !changes.is_empty() {
            let _ = self.datapath.change_all(changes).await;
        }
    }

    /// Some host endpoints are known by the addresses of their interface.
    async fn look_at_interfaces(&self) {
        let Some(policy) = &self.policy else { return };
        let told = match self.kernel.interfaces().await {
            Ok(interfaces) => policy.set_interfaces(interfaces).await,
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::warn!(%error, "addresses of interfaces could not be passed on to policy");
        }
    }
}

pub(super) async fn follow_policy(inner: Arc<Inner>, following: policy::Following) {
    if let Some(policy) = &inner.policy {
        policy.run(following).await;
    }
}

/// Writes down which pods the store has told of.
pub(super) async fn remember_pods(inner: Arc<Inner>) {
    let Some(policy) = &inner.policy else { return };
    loop {
        policy.told_of_pods().await;
        for record in inner.records.all() {
            if let Err(error) = inner.remember_pod(policy, &record).await {
                tracing::warn!(endpoint = %record.endpoint.id, %error, "cannot write down that the store knows its pod");
            }
        }
    }
}

/// Tells other nodes which addresses our pods have: who wrote a pod's manifest does not know them.
pub(super) async fn tell_of_pods(inner: Arc<Inner>) {
    loop {
        if let Err(error) = inner.cluster.publish_endpoints(&inner.records.pods()).await {
            tracing::warn!(%error, "the addresses of our pods cannot be written to the store; trying again");
            sleep(RETRY).await;
            continue;
        }
        inner.records.changed().await;
        // Others come soon after, and the ADD itself still reads the store, which waits for a write.
        sleep(TELL_PAUSE).await;
    }
}

pub(super) async fn follow(inner: Arc<Inner>, following: Following) {
    inner.cluster.run(following, &inner.takers()).await;
}

/// Tells of manifests that are not acceptable.
pub(super) async fn follow_files(inner: Arc<Inner>, files: FilesStore) {
    let Ok(mut problems) = files.follow_problems().await else { return };
    while let Some(problems) = problems.next().await {
        inner.cluster.set_file_problems(problems);
    }
}

/// Deletes detached links, many at once.
pub(super) async fn reap(inner: Arc<Inner>) {
    loop {
        inner.reap.notified().await;
        sleep(REAP_PAUSE).await;
        match inner.kernel.reap().await {
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "detached links cannot be deleted; trying again");
                sleep(Duration::from_secs(1)).await;
                inner.reap.notify_one();
            }
        }
    }
}

/// Leaks, tombstones beside a living agent, another underlay, a Node that somebody changed: of most no event tells.
/// Also gives back what bursts of events left free in the heap.
pub(super) async fn look(inner: Arc<Inner>) {
    let mut clock = interval(LOOK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = BTreeMap::new();
    let mut addresses = inner.kernel.watch_addresses();
    loop {
        tokio::select! {
            _ = clock.tick() => {
                inner.bury_all().await;
                inner.look_for_leaks(&mut seen, inner.config.ipam.leak_grace, Instant::now()).await;
                inner.take_node_addresses().await;
                inner.ipam.maintain().await;
                heap::give_back();
            }
            // Peers send to the old address until they are told.
            () = addresses.changed() => {}
        }
        inner.look_at_interfaces().await;
        let config = inner.config.underlay.clone();
        match inner.kernel.underlay(config).await {
            Ok(found) => {
                let changes = inner.cluster.set_underlay(found);
                if !changes.is_empty() {
                    tracing::info!("the underlay changed");
                    if let Some(clients) = &inner.clients {
                        // The node as a client of services has another address.
                        let _ = clients.change_all(vec![Change::Node(inner.cluster.context())]).await;
                    }
                    let _ = inner.datapath.change_all(changes).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the underlay cannot be found; what was known stays in force");
                inner.cluster.lose_underlay(match error {
                    NodeError::Underlay { problem, .. } => problem,
                    other => other.to_string(),
                });
            }
        }
        if inner.cluster.must_publish(&inner.attributes)
            && let Err(error) = inner.cluster.publish(&inner.attributes).await
        {
            tracing::warn!(%error, "our Node cannot be written to the store; trying again");
        }
    }
}
