//! ADD, DEL and CHECK of one endpoint. Never leaves a half: what fails is undone before the error is returned.
//!
//! ```text
//!  ADD   refuse what can be refused -> lease + record (one transaction) -> veth -> stage, commit -> answer
//!  DEL   stage, commit (route gone) -> link down and doomed -> lease and record released -> answer -> device dies after
//! ```
//!
//! Killed at any point: a record without a veth, or a veth without a record, is what the next start finds and cleans.
//! An attachment whose ADD was finished keeps its kernel objects over a restart, whoever is running.

use super::error::NodeError;
use super::record::Record;
use super::{Inner, unix_ms};
use cni_core::backend::{self, Change};
use cni_core::cni::Route;
use cni_core::ipam::LeaseOp;
use cni_core::model::{Endpoint, EndpointId, MacAddr, NetworkItem, NetworkKey, NetworkName, PodRef};
use cni_core::rpc::Attachment;
use net_linux::attach::AttachError;
use net_linux::marks;
use net_linux::netns::NetNs;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// What is to be attached.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// Container and interface.
    pub endpoint: EndpointId,
    /// The container's network namespace.
    pub netns: NetNs,
    /// The network it belongs to: a GC of one network leaves the others alone.
    pub network: NetworkName,
    /// The pod, where it is known: for pools that select by namespace, and for status pages.
    pub pod: Option<PodRef>,
    /// Addresses that must be given.
    pub requested: Vec<IpAddr>,
    /// Addresses that somebody else manages: taken as they are, without a lease.
    pub assigned: Vec<IpAddr>,
    /// The MAC address of the pod's end; `None`: derived from the endpoint's id.
    pub mac: Option<MacAddr>,
    /// The MTU in bytes; `None`: the node's.
    pub mtu_bytes: Option<u32>,
}

/// What is to be compared, and what the runtime remembers of it.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// Container and interface.
    pub endpoint: EndpointId,
    /// The container's network namespace.
    pub netns: NetNs,
    /// The addresses that ADD gave this interface.
    pub addresses: Vec<IpAddr>,
    /// All routes of the container that anybody told of, as in `prevResult`. A further one that leads this interface's
    /// traffic elsewhere is drift.
    pub routes: Vec<Route>,
}

impl AttachRequest {
    /// One interface of one container, everything else as the node is configured, in the network `cnidarian`.
    #[must_use]
    pub fn new(endpoint: EndpointId, netns: NetNs) -> Self {
        Self {
            endpoint,
            netns,
            network: NetworkName::new("cnidarian").expect("these letters are a network's name"),
            pod: None,
            requested: Vec::new(),
            assigned: Vec::new(),
            mac: None,
            mtu_bytes: None,
        }
    }
}

impl Inner {
    pub(super) async fn attach(&self, request: &AttachRequest) -> Result<Attachment, NodeError> {
        let id = &request.endpoint;
        let _held = self.locks.endpoint(id).await;
        // A DEL that came while we were away is older than this ADD.
        self.bury(id).await?;
        if let Some(earlier) = self.records.get(id) {
            if self.kernel.is_alive(id.clone()).await? {
                let host_interface = earlier.endpoint.host_interface.clone();
                return Err(if earlier.netns_inode == request.netns.id().inode {
                    AttachError::AlreadyAttached { id: id.clone(), host_interface }.into()
                } else {
                    NodeError::AttachedElsewhere { endpoint: id.clone(), host_interface, inode: earlier.netns_inode }
                });
            }
            // The container's namespace is gone: what is left of it here goes first.
            self.undo(&earlier.endpoint).await?;
        }
        let record = self.reserve(request).await?;
        match self.build(request, &record).await {
            Ok(()) => Ok(record.attachment()),
            Err(error) => {
                tracing::warn!(endpoint = %id, %error, "ADD failed; undoing it");
                if let Err(left) = self.undo(&record.endpoint).await {
                    tracing::error!(endpoint = %id, error = %left, "could not undo all of it; DEL or the next start will");
                }
                Err(error)
            }
        }
    }

    /// Durable addresses and record.
    async fn reserve(&self, request: &AttachRequest) -> Result<Record, NodeError> {
        let id = &request.endpoint;
        let record = |addresses: Vec<IpAddr>| Record {
            version: 1,
            endpoint: Endpoint {
                id: id.clone(),
                pod: request.pod.clone(),
                host_interface: marks::host_interface(id),
                host_mac: MacAddr::from_name(&format!("host {id}")),
                pod_mac: request.mac.unwrap_or_else(|| MacAddr::from_name(&format!("pod {id}"))),
                addresses,
            },
            network: request.network.clone(),
            mtu_bytes: request.mtu_bytes.unwrap_or(self.pod_mtu_bytes),
            netns_inode: request.netns.id().inode,
            delegated: !request.assigned.is_empty(),
            attached_unix_ms: unix_ms(SystemTime::now()),
        };
        if request.assigned.is_empty() {
            let pod = self.cluster.pod(request.pod.as_ref()).await?;
            let template = record(Vec::new());
            let wanted = if request.requested.is_empty() { pod.hints.addresses } else { request.requested.clone() };
            let leases = self.ipam.assign(template.clone(), wanted, pod.hints.pools, pod.namespace_labels).await?;
            let record = template.with(&leases);
            // No lease speaks for what another IPAM plugin gave.
            if let Some((address, holder)) = self.records.holder(&record.endpoint.addresses, id) {
                self.ipam.release(id).await?;
                return Err(NodeError::AddressInUse { endpoint: id.clone(), address, holder });
            }
            self.records.insert(record.clone());
            return Ok(record);
        }
        if let Some((address, holder)) = self.records.holder(&request.assigned, id) {
            return Err(NodeError::AddressInUse { endpoint: id.clone(), address, holder });
        }
        for address in &request.assigned {
            if let Some(holder) = self.cluster.holder(*address) {
                let detail = format!("has {address}, which {holder}; correct the range of the IPAM plugin");
                return Err(backend::Error::invalid(format!("endpoint {id}"), "addresses", detail).into());
            }
        }
        let record = record(request.assigned.clone());
        self.journal(vec![LeaseOp::PutEndpoint { id: id.clone(), record: record.to_bytes() }]).await?;
        self.records.insert(record.clone());
        Ok(record)
    }

    async fn build(&self, request: &AttachRequest, record: &Record) -> Result<(), NodeError> {
        let endpoint = &record.endpoint;
        self.kernel.attach(request.netns.clone(), record.link()).await?;
        let item = NetworkItem::Endpoint(endpoint.clone());
        self.datapath.change(vec![Change::Put(item)], NetworkKey::Endpoint(endpoint.id.clone())).await?;
        Ok(())
    }

    pub(super) async fn detach(&self, id: &EndpointId) -> Result<(), NodeError> {
        let _held = self.locks.endpoint(id).await;
        self.detach_held(id).await
    }

    /// DEL, for a caller that holds the endpoint.
    pub(super) async fn detach_held(&self, id: &EndpointId) -> Result<(), NodeError> {
        let endpoint = self.records.get(id).map_or_else(
            || Endpoint {
                id: id.clone(),
                pod: None,
                host_interface: marks::host_interface(id),
                host_mac: MacAddr::from_name(&format!("host {id}")),
                pod_mac: MacAddr::from_name(&format!("pod {id}")),
                addresses: Vec::new(),
            },
            |record| record.endpoint.clone(),
        );
        self.undo(&endpoint).await?;
        self.forget_tombstone(id).await
    }

    /// Takes back all that an ADD makes, in the reverse order. Does nothing where there is nothing.
    pub(super) async fn undo(&self, endpoint: &Endpoint) -> Result<(), NodeError> {
        let key = NetworkKey::Endpoint(endpoint.id.clone());
        self.datapath.change(vec![Change::Remove(key.clone())], key).await?;
        self.kernel.detach(endpoint.id.clone()).await?;
        self.reap.notify_one();
        self.ipam.release(&endpoint.id).await?;
        if self.records.get(&endpoint.id).is_some_and(|record| record.delegated) {
            self.journal(vec![LeaseOp::DeleteEndpoint(endpoint.id.clone())]).await?;
        }
        self.records.remove(&endpoint.id);
        Ok(())
    }

    pub(super) async fn check(&self, request: &CheckRequest) -> Result<(), NodeError> {
        let id = &request.endpoint;
        let _held = self.locks.endpoint(id).await;
        let Some(record) = self.records.get(id) else {
            return Err(NodeError::NotAttached { endpoint: id.clone() });
        };
        let mut findings = Vec::new();
        let (mut ours, mut theirs) = (record.endpoint.addresses.clone(), request.addresses.clone());
        ours.sort_unstable();
        theirs.sort_unstable();
        if ours != theirs {
            findings.push(format!("prevResult has the addresses {theirs:?}, the agent gave {ours:?}"));
        }
        if !record.delegated
            && let Err(error) = self.ipam.get().check(id, &record.endpoint.addresses)
        {
            findings.push(error.to_string());
        }
        findings.extend(self.kernel.check(request.netns.clone(), record.link(), request.routes.clone()).await?);
        if findings.is_empty() { Ok(()) } else { Err(NodeError::Drifted { endpoint: id.clone(), findings }) }
    }

    /// One durable transaction, away from the tasks of the runtime.
    pub(super) async fn journal(&self, ops: Vec<LeaseOp>) -> Result<(), NodeError> {
        let leases = Arc::clone(&self.leases);
        tokio::task::spawn_blocking(move || leases.commit(&ops)).await.map_err(|_| NodeError::Closing)??;
        Ok(())
    }
}
