//! Which allocator the configuration asks for, and its calls away from the tasks of the runtime: each waits for the disk.
//! Never decides which address is given.

use super::error::NodeError;
use super::record::Record;
use crate::config::{IpamMode, NodeConfig};
use cni_core::ipam::pools::{PoolIpam, node_owner};
use cni_core::ipam::{AssignRequest, Ipam, Lease, LeaseStore, PodCidrIpam, wait};
use cni_core::model::{EndpointId, NodeName, Underlay};
use cni_core::store::resources::Node;
use cni_core::store::{Event, Kind, ObjectKey, Store, StoreExt};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

type Journal = Arc<dyn LeaseStore>;

/// The source of addresses of this node.
pub(super) enum Source {
    /// Blocks of cluster pools.
    Pools(PoolIpam<Journal>),
    /// The node's own `podCIDRs`.
    PodCidr { ipam: PodCidrIpam<Journal>, node: NodeName, store: Arc<dyn Store>, prefixes: Mutex<Vec<IpNet>> },
}

impl Source {
    pub(super) async fn open(config: &NodeConfig, store: Arc<dyn Store>, journal: Journal) -> Result<Self, NodeError> {
        let (node, cool_down) = (config.name.clone(), config.ipam.cool_down);
        Ok(match config.ipam.mode {
            IpamMode::Pools => Self::Pools(PoolIpam::open(node, store, journal, cool_down).await?),
            IpamMode::PodCidr => Self::PodCidr {
                ipam: PodCidrIpam::open(node.clone(), &[], Vec::new(), journal, cool_down)?,
                node,
                store,
                prefixes: Mutex::new(Vec::new()),
            },
        })
    }

    /// For calls that do not wait for the disk.
    pub(super) fn get(&self) -> &dyn Ipam {
        match self {
            Self::Pools(ipam) => ipam,
            Self::PodCidr { ipam, .. } => ipam,
        }
    }

    /// Reads what the store has now.
    pub(super) async fn refresh(&self) -> Result<(), NodeError> {
        match self {
            Self::Pools(ipam) => ipam.refresh().await?,
            Self::PodCidr { node, store, .. } => {
                let object = store.find(&ObjectKey::cluster(Kind::NODE, node.as_str())).await?;
                let node = object.as_deref().map(Node::try_from).transpose();
                self.set_prefixes(node.map_err(cni_core::store::Error::from)?.as_ref())?;
            }
        }
        Ok(())
    }

    fn set_prefixes(&self, node: Option<&Node>) -> Result<(), NodeError> {
        if let (Self::PodCidr { ipam, prefixes, .. }, Some(node)) = (self, node) {
            let mut held = prefixes.lock().unwrap_or_else(PoisonError::into_inner);
            if *held != node.pod_cidrs {
                ipam.set_prefixes(&node.pod_cidrs)?;
                held.clone_from(&node.pod_cidrs);
            }
        }
        Ok(())
    }

    /// Takes an event of the store in. What is not acceptable is said by the allocator's problems and the log.
    pub(super) async fn observe(&self, event: &Event, own: Option<&Node>) {
        let outcome = match self {
            Self::Pools(ipam) if matches!(event, Event::Resynced(_)) => ipam.refresh().await.map_err(NodeError::from),
            Self::Pools(ipam) => ipam.observe(event).map_err(NodeError::from),
            Self::PodCidr { .. } => self.set_prefixes(own),
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "address management: a change is not acceptable; what was known stays in force");
        }
    }

    /// Takes in where no pod may have an address: on the underlay.
    pub(super) fn set_underlay(&self, underlay: &Underlay) {
        if let Self::Pools(ipam) = self {
            ipam.set_underlay(underlay.segments().collect());
        }
    }

    /// Objects of the store that could not be used.
    pub(super) fn problems(&self) -> Vec<String> {
        match self {
            Self::Pools(ipam) => ipam.problems().iter().map(ToString::to_string).collect(),
            Self::PodCidr { .. } => Vec::new(),
        }
    }

    /// The node's own addresses, each with its block.
    pub(super) fn node_addresses(&self) -> Vec<(IpNet, IpAddr)> {
        let own = node_owner();
        let leases = self.get().leases().unwrap_or_default().into_iter();
        leases.filter(|lease| lease.owner == own).map(|lease| (lease.subnet, lease.address)).collect()
    }

    /// Leases of pods: all but the node's own.
    pub(super) fn pod_leases(&self) -> Result<Vec<Lease>, NodeError> {
        let own = node_owner();
        Ok(self.get().leases()?.into_iter().filter(|lease| lease.owner != own).collect())
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let source = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&source)).await.unwrap_or(Err(NodeError::Closing))
    }

    /// Durable leases for an attachment, with its record in the same transaction. `chosen` is called with the record as
    /// soon as the addresses are chosen and nobody else can get them, so that work goes on beside the disk's.
    pub(super) async fn assign(
        self: &Arc<Self>,
        record: Record,
        wanted: Vec<IpAddr>,
        pools: Vec<String>,
        namespace_labels: Option<BTreeMap<String, String>>,
        chosen: impl FnOnce(Record) + Send + 'static,
    ) -> Result<(), NodeError> {
        self.blocking(move |source| {
            let chosen = Mutex::new(Some(chosen));
            let bytes = |leases: &[Lease]| {
                let record = record.clone().with(leases);
                let bytes = record.to_bytes();
                if let Some(chosen) = chosen.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    chosen(record);
                }
                bytes
            };
            let request = AssignRequest::new(&record.endpoint.id)
                .pod(record.endpoint.pod.as_ref())
                .addresses(&wanted)
                .pools(&pools)
                .namespace_labels(namespace_labels.as_ref())
                .record(&bytes);
            wait(source.get().assign(&request, SystemTime::now()))?;
            Ok(())
        })
        .await
    }

    pub(super) async fn release(self: &Arc<Self>, owner: &EndpointId) -> Result<(), NodeError> {
        let owner = owner.clone();
        self.blocking(move |source| source.release_here(&owner)).await
    }

    /// As [`Self::release`], on the calling thread.
    pub(super) fn release_here(&self, owner: &EndpointId) -> Result<(), NodeError> {
        wait(self.get().release(owner, SystemTime::now()))?;
        Ok(())
    }

    pub(super) async fn gc(self: &Arc<Self>, mut valid: BTreeSet<EndpointId>) -> Result<Vec<Lease>, NodeError> {
        valid.insert(node_owner());
        self.blocking(move |source| Ok(wait(source.get().gc(&valid, SystemTime::now()))?)).await
    }

    /// The node's own addresses, one per family, taken at the first call.
    pub(super) async fn take_node_addresses(self: &Arc<Self>) -> Result<(), NodeError> {
        self.blocking(|source| {
            let owner = node_owner();
            wait(source.get().assign(&AssignRequest::new(&owner), SystemTime::now()))?;
            Ok(())
        })
        .await
    }

    /// Gives back what has been empty for long.
    pub(super) async fn maintain(&self) {
        if let Self::Pools(ipam) = self {
            match ipam.maintain(SystemTime::now()).await {
                Ok(given_back) => {
                    for prefix in given_back {
                        tracing::info!(%prefix, "gave an empty block back");
                    }
                }
                Err(error) => tracing::warn!(%error, "empty blocks cannot be given back"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni_core::ipam::MemoryLeaseStore;
    use cni_core::model::{Endpoint, MacAddr, NetworkName};
    use cni_core::store::MemoryStore;
    use std::time::Duration;
    use tokio::sync::oneshot;

    fn record() -> Record {
        Record {
            version: 1,
            endpoint: Endpoint {
                id: EndpointId::of("c0ffee", "eth0").unwrap(),
                pod: None,
                host_interface: net_linux::marks::host_interface(&EndpointId::of("c0ffee", "eth0").unwrap()),
                host_mac: MacAddr::from_name("host"),
                pod_mac: MacAddr::from_name("pod"),
                addresses: Vec::new(),
            },
            network: NetworkName::new("pods").unwrap(),
            mtu_bytes: 1450,
            netns_inode: 1,
            netns_cookie: None,
            delegated: false,
            pod_known: false,
            attached_unix_ms: 0,
        }
    }

    fn source(journal: &MemoryLeaseStore) -> Arc<Source> {
        let (node, prefixes) = (NodeName::new("node").unwrap(), ["10.1.0.0/24".parse().unwrap()]);
        let journal: Journal = Arc::new(journal.clone());
        let ipam = PodCidrIpam::open(node.clone(), &prefixes, Vec::new(), journal, Duration::ZERO).unwrap();
        Arc::new(Source::PodCidr { ipam, node, store: Arc::new(MemoryStore::new()), prefixes: Mutex::default() })
    }

    #[tokio::test]
    async fn the_kernel_may_begin_before_the_disk_and_the_disk_has_the_last_word() {
        let disk = MemoryLeaseStore::new();
        let source = source(&disk);
        for disk_fails in [true, false] {
            if disk_fails {
                disk.fail_commit(0);
            }
            let (tell, told) = oneshot::channel();
            let (before, at_disk) = (disk.commits(), disk.clone());
            let chosen = move |record: Record| tell.send((record.endpoint.addresses, at_disk.commits())).unwrap();
            let durable = source.assign(record(), Vec::new(), Vec::new(), None, chosen).await;
            assert_eq!(durable.is_err(), disk_fails);
            let (addresses, commits) = told.await.unwrap();
            assert_eq!((addresses.len(), commits), (1, before));
            assert_eq!(source.pod_leases().unwrap().len(), usize::from(!disk_fails));
        }
    }
}
