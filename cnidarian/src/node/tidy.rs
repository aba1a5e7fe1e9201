//! What brings leases, records and veths together again: the start, the search for leaks, GC. Never touches what is not
//! marked as ours.

use super::Inner;
use super::error::NodeError;
use super::record::Record;
use cni_core::backend::{Change, NetworkChange};
use cni_core::ipam::{Lease, LeaseOp};
use cni_core::model::{EndpointId, NetworkItem, NetworkName};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// What does not fit together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamFindings {
    /// Leases whose interface is gone.
    pub leaked: Vec<IpAddr>,
    /// Endpoints whose addresses are not leased.
    pub unleased: Vec<EndpointId>,
}

impl IpamFindings {
    /// Whether all fits.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.leaked.is_empty() && self.unleased.is_empty()
    }
}

impl Inner {
    /// Takes in a predecessor's attachments, and clears away what it left half done. Answers what the datapath has to have of
    /// those that were finished.
    pub(super) async fn recover(&self) -> Result<Vec<NetworkChange>, NodeError> {
        let state = self.leases.load()?;
        let links = self.kernel.list().await?;
        let mut wanted = BTreeSet::new();
        let mut changes = Vec::new();
        let mut clients = Vec::new();
        let mut half = Vec::new();
        for (id, bytes) in &state.endpoints {
            let Some(record) = Record::parse(bytes) else {
                tracing::error!(endpoint = %id, "the record of this endpoint cannot be read; it stays, DEL frees it");
                wanted.insert(id.clone());
                continue;
            };
            self.records.insert(record.clone());
            if links.iter().any(|link| link.id == *id && link.up) {
                wanted.insert(id.clone());
                clients.extend(record.client().map(Change::Put));
                changes.push(Change::Put(NetworkItem::Endpoint(record.endpoint)));
            } else {
                half.push(record.endpoint);
            }
        }
        let (found, cleared) = (changes.len(), half.len());
        clients.push(Change::InSync);
        if let Some(served) = &self.clients {
            served.change_all(clients).await?;
        }
        for endpoint in half {
            tracing::info!(endpoint = %endpoint.id, "its interface is not there; freeing what it had");
            self.free(&endpoint.id).await?;
        }
        for link in links.iter().filter(|link| !wanted.contains(&link.id)) {
            tracing::info!(endpoint = %link.id, interface = %link.host_interface, "no record of this interface; removing it");
            self.kernel.detach(link.id.clone()).await?;
        }
        self.reap.notify_one();
        tracing::info!(found, cleared, "attachments of a predecessor");
        Ok(changes)
    }

    /// Frees leases and record of an endpoint that has no interface.
    async fn free(&self, id: &EndpointId) -> Result<(), NodeError> {
        self.ipam.release(id).await?;
        self.journal(vec![LeaseOp::DeleteEndpoint(id.clone())]).await?;
        self.records.remove(id);
        Ok(())
    }

    /// Detaches what belongs to a network and is not valid any more. Goes on over failures.
    pub(super) async fn gc(
        &self,
        network: &NetworkName,
        valid: &BTreeSet<EndpointId>,
    ) -> Result<Vec<EndpointId>, NodeError> {
        let _alone = self.locks.all().await;
        let records = self.records.all();
        let stale = records.iter().filter(|record| record.network == *network);
        let stale = stale.map(|record| &record.endpoint.id).filter(|id| !valid.contains(*id));
        let (mut gone, mut problems) = (Vec::new(), Vec::new());
        for id in stale {
            let _held = self.locks.endpoint_in_gc(id).await;
            match self.detach_held(id).await {
                Ok(()) => gone.push(id.clone()),
                Err(error) => problems.push(format!("{id}: {error}")),
            }
        }
        // Leases that no record speaks for.
        let attached: BTreeSet<EndpointId> =
            self.records.all().iter().map(|record| record.endpoint.id.clone()).collect();
        match self.ipam.gc(attached).await {
            Ok(freed) => gone.extend(freed.into_iter().map(|lease| lease.owner)),
            Err(error) => problems.push(error.to_string()),
        }
        gone.sort();
        gone.dedup();
        if problems.is_empty() { Ok(gone) } else { Err(NodeError::Several { problems }) }
    }

    /// Leases without interface, endpoints without lease.
    pub(super) async fn findings(&self) -> Result<IpamFindings, NodeError> {
        let links = self.kernel.list().await?;
        let leases: Vec<Lease> = self.ipam.pod_leases()?;
        let leaked = leases.iter().filter(|lease| !links.iter().any(|link| link.id == lease.owner));
        let records = self.records.all();
        let unleased = records.iter().filter(|record| {
            !record.delegated && self.ipam.get().check(&record.endpoint.id, &record.endpoint.addresses).is_err()
        });
        Ok(IpamFindings {
            leaked: leaked.map(|lease| lease.address).collect(),
            unleased: unleased.map(|record| record.endpoint.id.clone()).collect(),
        })
    }

    /// Frees one address by hand, if nothing uses it.
    pub(super) async fn release_address(&self, address: IpAddr) -> Result<(), NodeError> {
        let leases = self.ipam.pod_leases()?;
        let Some(lease) = leases.into_iter().find(|lease| lease.address == address) else {
            return Err(NodeError::NotLeased { address });
        };
        let _held = self.locks.endpoint(&lease.owner).await;
        if self.kernel.list().await?.iter().any(|link| link.id == lease.owner) {
            return Err(NodeError::InUse { address, holder: lease.owner });
        }
        self.detach_held(&lease.owner).await
    }

    /// One look for owners of leases or records whose interface is gone. Those seen gone before, and for longer than
    /// the grace, are detached. A container's namespace that vanishes takes its veth along without any DEL.
    pub(super) async fn look_for_leaks(&self, seen: &mut BTreeMap<EndpointId, Instant>, grace: Duration, now: Instant) {
        let links = match self.kernel.list().await {
            Ok(links) => links,
            Err(error) => {
                tracing::warn!(%error, "cannot look for leaks");
                return;
            }
        };
        let Ok(leases) = self.ipam.pod_leases() else { return };
        let records = self.records.all();
        let owners = leases.iter().map(|lease| &lease.owner).chain(records.iter().map(|record| &record.endpoint.id));
        let gone: BTreeSet<&EndpointId> = owners.filter(|owner| !links.iter().any(|link| link.id == **owner)).collect();
        seen.retain(|id, _| gone.contains(id));
        for id in gone {
            let first = *seen.entry(id.clone()).or_insert(now);
            if now.duration_since(first) < grace || first == now {
                continue;
            }
            let _held = self.locks.endpoint(id).await;
            // It may have been attached since the look.
            if self.kernel.list().await.is_ok_and(|links| links.iter().any(|link| link.id == *id)) {
                continue;
            }
            match self.detach_held(id).await {
                Ok(()) => tracing::warn!(endpoint = %id, "leaked: its interface is gone without a DEL; freed"),
                Err(error) => tracing::warn!(endpoint = %id, %error, "leaked, and cannot be freed"),
            }
            seen.remove(id);
        }
    }
}
