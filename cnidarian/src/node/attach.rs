//! ADD, DEL and CHECK of one endpoint. Never leaves a half: what fails is undone before the error is returned.
//!
//! ```text
//!  ADD   refuse what can be refused -> addresses set aside -+-> lease + record durable (one transaction) -+-> answer
//!                                                           +-> veth -> policy -> up -> stage, commit -----+
//!  DEL   stage, commit (route gone) -> link down and doomed -> lease and record released -> answer -> device dies after
//! ```
//!
//! The disk and the kernel work at the same time, and ADD answers when both are done: what was answered is durable. The host's
//! end of the veth is down until its policy is in force, so no engine has to close what it does not know yet.
//! Killed at any point: a record without a veth, or a veth without a record, is what the next start finds and cleans
//! before it gives any address away.
//! An attachment whose ADD was finished keeps its kernel objects over a restart, whoever is running.

use super::error::NodeError;
use super::kernel::Attaching;
use super::policy::Policy;
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
use tokio::sync::oneshot;

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

/// An endpoint of which nothing but its name is known.
fn nothing_known(id: &EndpointId) -> Endpoint {
    Endpoint {
        id: id.clone(),
        pod: None,
        host_interface: marks::host_interface(id),
        host_mac: MacAddr::from_name(&format!("host {id}")),
        pod_mac: MacAddr::from_name(&format!("pod {id}")),
        addresses: Vec::new(),
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
        match self.make(request).await {
            Ok(record) => Ok(record.attachment(self.policy.is_some())),
            Err(error) => {
                tracing::warn!(endpoint = %id, %error, "ADD failed; undoing it");
                if let Err(left) = self.undo(&nothing_known(id)).await {
                    tracing::error!(endpoint = %id, error = %left, "could not undo all of it; DEL or the next start will");
                }
                Err(error)
            }
        }
    }

    /// Lease, record and kernel objects. Ends when each of them is there or has failed.
    async fn make(&self, request: &AttachRequest) -> Result<Record, NodeError> {
        let id = &request.endpoint;
        let mut template = Record {
            version: 1,
            endpoint: Endpoint {
                pod: request.pod.clone(),
                pod_mac: request.mac.unwrap_or_else(|| MacAddr::from_name(&format!("pod {id}"))),
                ..nothing_known(id)
            },
            network: request.network.clone(),
            mtu_bytes: request.mtu_bytes.unwrap_or(self.pod_mtu_bytes),
            netns_inode: request.netns.id().inode,
            netns_cookie: None,
            delegated: !request.assigned.is_empty(),
            pod_known: false,
            attached_unix_ms: unix_ms(SystemTime::now()),
        };
        let (pod, netns_cookie) =
            tokio::join!(self.cluster.pod(request.pod.as_ref()), self.kernel.cookie(request.netns.clone()));
        let pod = pod?;
        template.netns_cookie = netns_cookie;
        template.pod_known = pod.known;
        if template.delegated {
            return self.make_delegated(request, template).await;
        }
        let wanted = if request.requested.is_empty() { pod.hints.addresses } else { request.requested.clone() };
        let (tell, told) = oneshot::channel();
        let (kernel, records, netns) = (self.kernel.clone(), self.records.clone(), request.netns.clone());
        let chosen = move |record: Record| {
            // No lease speaks for what another IPAM plugin gave.
            let claimed = records.claim(record.clone());
            let begun = claimed.map(|()| (kernel.begin_attach(netns, record.link()), record));
            let _nobody_waits_when_the_node_closes = tell.send(begun);
        };
        let durable = self.ipam.assign(template, wanted, pod.hints.pools, pod.namespace_labels, chosen);
        let built = async {
            // The error says no more than that `durable` has one.
            let (link, record) = told.await.map_err(|_| NodeError::Closing)??;
            self.build(link, &record).await.map(|()| record)
        };
        let (durable, built) = tokio::join!(durable, built);
        durable?;
        built
    }

    /// The same with addresses of another IPAM plugin: a record, no lease.
    async fn make_delegated(&self, request: &AttachRequest, template: Record) -> Result<Record, NodeError> {
        let id = &request.endpoint;
        for address in &request.assigned {
            if let Some(holder) = self.cluster.holder(*address) {
                let detail = format!("has {address}, which {holder}; correct the range of the IPAM plugin");
                return Err(backend::Error::invalid(format!("endpoint {id}"), "addresses", detail).into());
            }
        }
        let mut record = template;
        record.endpoint.addresses.clone_from(&request.assigned);
        self.records.claim(record.clone())?;
        let durable = self.journal(vec![LeaseOp::PutEndpoint { id: id.clone(), record: record.to_bytes() }]);
        let link = self.kernel.begin_attach(request.netns.clone(), record.link());
        let (durable, built) = tokio::join!(durable, self.build(link, &record));
        durable?;
        built.map(|()| record)
    }

    /// The kernel's part, whose link was begun.
    async fn build(&self, link: Attaching, record: &Record) -> Result<(), NodeError> {
        let Attaching { made, done } = link;
        // Engines find the interface there, and nothing passes it before they are done.
        let policy = async {
            match (made.await, &self.policy) {
                (Ok(()), Some(policy)) => policy.attach(record).await,
                // Without an interface: `done` says why.
                (Err(_), _) | (_, None) => Ok(()),
            }
        };
        let (link, policy, served) = tokio::join!(done, policy, self.serve(record));
        link.unwrap_or(Err(NodeError::Closing))?;
        policy?;
        served?;
        self.kernel.open_up(record.endpoint.id.clone()).await?;
        let item = NetworkItem::Endpoint(record.endpoint.clone());
        let key = NetworkKey::Endpoint(record.endpoint.id.clone());
        Ok(self.datapath.change(vec![Change::Put(item)], key).await?)
    }

    pub(super) async fn detach(&self, id: &EndpointId) -> Result<(), NodeError> {
        let _held = self.locks.endpoint(id).await;
        self.detach_held(id).await
    }

    /// DEL, for a caller that holds the endpoint.
    pub(super) async fn detach_held(&self, id: &EndpointId) -> Result<(), NodeError> {
        let endpoint = self.records.get(id).map_or_else(|| nothing_known(id), |record| record.endpoint.clone());
        self.undo(&endpoint).await?;
        self.forget_tombstone(id).await
    }

    /// Takes back all that an ADD makes, in the reverse order. Does nothing where there is nothing.
    pub(super) async fn undo(&self, endpoint: &Endpoint) -> Result<(), NodeError> {
        let key = NetworkKey::Endpoint(endpoint.id.clone());
        // Without its program its interface is closed.
        let closed = async {
            match &self.policy {
                Some(policy) => policy.detach(&endpoint.id).await,
                None => Ok(()),
            }
        };
        let routed = self.datapath.change(vec![Change::Remove(key.clone())], key);
        let (routed, closed, left) = tokio::join!(routed, closed, self.serve_no_more(&endpoint.id));
        routed?;
        closed?;
        left?;
        let (ipam, owner) = (self.ipam.clone(), endpoint.id.clone());
        // The address is free only when nothing can use it.
        let released = self.kernel.detach_then(endpoint.id.clone(), move || ipam.release_here(&owner)).await;
        self.reap.notify_one();
        released?;
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

    /// A pod whose object came after its ADD is one that the store knew, also for the next start.
    pub(super) async fn remember_pod(&self, policy: &Policy, record: &Record) -> Result<(), NodeError> {
        let id = &record.endpoint.id;
        if record.pod_known || !policy.knows(record).await {
            return Ok(());
        }
        let _held = self.locks.endpoint(id).await;
        // It may be gone, or another one, by now.
        let Some(record) = self.records.get(id).filter(|now| now.endpoint.pod == record.endpoint.pod) else {
            return Ok(());
        };
        let record = Record { pod_known: true, ..Record::clone(&record) };
        self.journal(vec![LeaseOp::PutEndpoint { id: id.clone(), record: record.to_bytes() }]).await?;
        self.records.insert(record);
        tracing::debug!(endpoint = %id, "the store told of its pod after its ADD");
        Ok(())
    }

    /// One durable transaction, away from the tasks of the runtime.
    pub(super) async fn journal(&self, ops: Vec<LeaseOp>) -> Result<(), NodeError> {
        let leases = Arc::clone(&self.leases);
        tokio::task::spawn_blocking(move || leases.commit(&ops)).await.map_err(|_| NodeError::Closing)??;
        Ok(())
    }
}
