//! Several nodes on one store: random interleavings, crashes at any write, watches that lag, operators that change pools.

use super::{COOL_DOWN, pool, store_with};
use async_trait::async_trait;
use cni_core::ipam::pools::{IpBlockSpec, PoolIpam, RawIpPoolSpec, pool_key};
use cni_core::ipam::{AssignRequest, Ipam, IpamError, LeaseStore, MemoryLeaseStore, wait};
use cni_core::model::{EndpointId, NodeName};
use cni_core::store::{
    Error, Kind, List, MemoryStore, Object, ObjectKey, Query, Result, Store, StoreExt, Version, Watch,
};
use futures_util::{FutureExt, StreamExt};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A node's way to the store: a write may fail before or after it was done.
struct Unreliable {
    store: Arc<MemoryStore>,
    /// Counts down with every write; at 0 it fails before, at `AFTER` after the effect. Negative: reliable.
    before: AtomicI64,
    after: AtomicI64,
}

impl Unreliable {
    fn lost() -> Error {
        Error::Unavailable { operation: "write", detail: "the connection was lost".to_owned() }
    }

    async fn write<T>(&self, write: impl Future<Output = Result<T>>) -> Result<T> {
        if self.before.fetch_sub(1, Ordering::Relaxed) == 0 {
            return Err(Self::lost());
        }
        let answer = write.await;
        if self.after.fetch_sub(1, Ordering::Relaxed) == 0 { Err(Self::lost()) } else { answer }
    }
}

#[async_trait]
impl Store for Unreliable {
    async fn get(&self, key: &ObjectKey) -> Result<Arc<Object>> {
        self.store.get(key).await
    }
    async fn list(&self, query: &Query) -> Result<List> {
        self.store.list(query).await
    }
    async fn watch(&self, query: &Query, from: &Version) -> Result<Watch> {
        self.store.watch(query, from).await
    }
    async fn create(&self, object: &Object) -> Result<Arc<Object>> {
        self.write(self.store.create(object)).await
    }
    async fn update(&self, object: &Object) -> Result<Arc<Object>> {
        self.write(self.store.update(object)).await
    }
    async fn delete(&self, key: &ObjectKey, expected: &Version) -> Result<()> {
        self.write(self.store.delete(key, expected)).await
    }
}

struct Node {
    name: NodeName,
    link: Arc<Unreliable>,
    leases: MemoryLeaseStore,
    ipam: PoolIpam<MemoryLeaseStore>,
    events: Watch,
}

impl Node {
    fn start(name: NodeName, store: &Arc<MemoryStore>, leases: MemoryLeaseStore) -> Self {
        let link = Arc::new(Unreliable { store: store.clone(), before: (-1).into(), after: (-1).into() });
        let ipam = wait(PoolIpam::open(name.clone(), link.clone(), leases.clone(), COOL_DOWN)).unwrap();
        let events = wait(store.follow(&Query::kind(Kind::IP_BLOCK))).unwrap();
        Self { name, link, leases, ipam, events }
    }

    /// What survives a crash is the journal and the store.
    fn restart(&mut self, store: &Arc<MemoryStore>) {
        *self = Self::start(self.name.clone(), store, self.leases.clone());
    }

    /// Delivers so many events, as late as they are.
    fn catch_up(&mut self, most: usize) {
        for _ in 0..most {
            let Some(Some(event)) = self.events.next().now_or_never() else { return };
            self.ipam.observe(&event.unwrap()).unwrap();
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Assign { node: usize, owner: u8 },
    AssignThis { node: usize, owner: u8, address: u8 },
    Release { node: usize, owner: u8 },
    Gc { node: usize, keep: u8 },
    Maintain { node: usize },
    CatchUp { node: usize, events: usize },
    Restart { node: usize },
    FailWrite { node: usize, nth: u8, after: bool },
    FailJournal { node: usize },
    Wait { seconds: u8 },
    Pool { strict: bool, disabled: bool, limit: Option<u8> },
    LoseBlock { nth: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let node = 0..3_usize;
    prop_oneof![
        10 => (node.clone(), 0..8_u8).prop_map(|(node, owner)| Step::Assign { node, owner }),
        1 => (node.clone(), 0..8_u8, 0..32_u8)
            .prop_map(|(node, owner, address)| Step::AssignThis { node, owner, address }),
        4 => (node.clone(), 0..8_u8).prop_map(|(node, owner)| Step::Release { node, owner }),
        2 => (node.clone(), 0..9_u8).prop_map(|(node, keep)| Step::Gc { node, keep }),
        3 => node.clone().prop_map(|node| Step::Maintain { node }),
        3 => (node.clone(), 1..9_usize).prop_map(|(node, events)| Step::CatchUp { node, events }),
        1 => node.clone().prop_map(|node| Step::Restart { node }),
        2 => (node.clone(), 0..3_u8, any::<bool>())
            .prop_map(|(node, nth, after)| Step::FailWrite { node, nth, after }),
        1 => node.prop_map(|node| Step::FailJournal { node }),
        3 => prop::sample::select(vec![1, 15, 31]).prop_map(|seconds| Step::Wait { seconds }),
        1 => (any::<bool>(), prop::bool::weighted(0.2), prop::option::of(1..3_u8))
            .prop_map(|(strict, disabled, limit)| Step::Pool { strict, disabled, limit }),
        1 => any::<usize>().prop_map(|nth| Step::LoseBlock { nth }),
    ]
}

fn owner(node: usize, number: u8) -> EndpointId {
    EndpointId::of(&format!("n{node}-c{number}"), "eth0").unwrap()
}

fn raw_pool(block_size: u8, strict: bool, disabled: bool, limit: Option<u8>) -> RawIpPoolSpec {
    RawIpPoolSpec {
        cidr: "10.0.0.0/27".to_owned(),
        block_size: Some(block_size),
        strict_affinity: strict,
        disabled,
        max_blocks_per_node: limit.map(u32::from),
        reservations: vec!["10.0.0.0".to_owned(), "10.0.0.14-10.0.0.17".to_owned()],
        ..RawIpPoolSpec::default()
    }
}

struct Cluster {
    block_size: u8,
    store: Arc<MemoryStore>,
    nodes: Vec<Node>,
    now: SystemTime,
    /// Who released an address last, and when.
    released: BTreeMap<IpAddr, (usize, SystemTime)>,
    /// Somebody deleted a block behind the nodes' backs: then nobody can promise anything about other nodes.
    vandalised: bool,
}

impl Cluster {
    fn new(block_size: u8) -> Self {
        let store = store_with(&[pool("default", json!(raw_pool(block_size, false, false, None)))]);
        let start =
            |number: usize| Node::start(format!("node-{number}").parse().unwrap(), &store, MemoryLeaseStore::new());
        let nodes = (0..3).map(start).collect();
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Self { block_size, store, nodes, now, released: BTreeMap::new(), vandalised: false }
    }

    fn assign(&mut self, node: usize, number: u8, wanted: &[IpAddr]) {
        let owner = owner(node, number);
        let held: BTreeSet<IpAddr> = self.held(node, &owner);
        let outcome = wait(self.nodes[node].ipam.assign(&AssignRequest::new(&owner).addresses(wanted), self.now));
        match outcome {
            Ok(leases) => {
                for lease in leases.iter().filter(|lease| !held.contains(&lease.address)) {
                    if let Some((by, at)) = self.released.get(&lease.address) {
                        let rested = self.now.duration_since(*at).unwrap();
                        let fine = *by == node || rested >= COOL_DOWN || self.vandalised;
                        assert!(fine, "{} of node {by} came to node {node} after {rested:?}", lease.address);
                    }
                }
            }
            Err(IpamError::Store(_) | IpamError::Leases(_)) => self.crash(node),
            Err(error) => {
                assert!(!matches!(error, IpamError::Contended { .. } | IpamError::Busy { .. }), "{error}");
                assert_eq!(self.held(node, &owner), held, "a failing assign changed something: {error}");
            }
        }
    }

    fn held(&self, node: usize, owner: &EndpointId) -> BTreeSet<IpAddr> {
        let leases = self.nodes[node].ipam.leases().unwrap();
        leases.into_iter().filter(|lease| lease.owner == *owner).map(|lease| lease.address).collect()
    }

    fn crash(&mut self, node: usize) {
        self.nodes[node].restart(&self.store);
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Assign { node, owner } => self.assign(node, owner, &[]),
            Step::AssignThis { node, owner, address } => self.assign(node, owner, &[[10, 0, 0, address].into()]),
            Step::Release { node, owner: number } => {
                match wait(self.nodes[node].ipam.release(&owner(node, number), self.now)) {
                    Ok(leases) => self.released.extend(leases.iter().map(|lease| (lease.address, (node, self.now)))),
                    Err(_) => self.crash(node),
                }
            }
            Step::Gc { node, keep } => {
                let valid: BTreeSet<EndpointId> = (keep..8).map(|number| owner(node, number)).collect();
                match wait(self.nodes[node].ipam.gc(&valid, self.now)) {
                    Ok(leases) => self.released.extend(leases.iter().map(|lease| (lease.address, (node, self.now)))),
                    Err(_) => self.crash(node),
                }
            }
            // A failure here is no crash: the node goes on with what it then believes.
            Step::Maintain { node } => drop(wait(self.nodes[node].ipam.maintain(self.now))),
            Step::CatchUp { node, events } => self.nodes[node].catch_up(events),
            Step::Restart { node } => self.crash(node),
            Step::FailWrite { node, nth, after } => {
                let link = &self.nodes[node].link;
                if after { &link.after } else { &link.before }.store(nth.into(), Ordering::Relaxed);
            }
            Step::FailJournal { node } => self.nodes[node].leases.fail_commit(0),
            Step::Wait { seconds } => self.now += Duration::from_secs(seconds.into()),
            Step::Pool { strict, disabled, limit } => {
                let spec = raw_pool(self.block_size, strict, disabled, limit);
                let key = pool_key("default");
                let changed = wait(self.store.modify(&key, |pool| Ok(pool.set("spec", &spec)?))).unwrap();
                for node in &self.nodes {
                    node.ipam.observe(&cni_core::store::Event::Put(changed.clone())).unwrap();
                }
            }
            Step::LoseBlock { nth } => {
                // Only a block without leases of others may be lost without two nodes getting one address.
                let blocks = wait(self.store.list_kind(Kind::IP_BLOCK)).unwrap().objects;
                let Some(object) = blocks.get(nth % blocks.len().max(1)) else { return };
                let spec = IpBlockSpec::from_object(object).unwrap();
                let used = self.nodes.iter().flat_map(|node| node.leases.load().unwrap().leases.into_keys());
                if used.into_iter().all(|address| !spec.cidr.contains(&address)) {
                    let version = object.metadata.resource_version.clone().unwrap();
                    wait(self.store.delete(&object.key, &version)).unwrap();
                    // The nodes hear of it before anybody else can claim the block again.
                    for node in &mut self.nodes {
                        node.catch_up(usize::MAX);
                    }
                    self.vandalised = true;
                }
            }
        }
    }

    fn check(&self) {
        let mut claims: BTreeMap<IpAddr, NodeName> = BTreeMap::new();
        for object in wait(self.store.list_kind(Kind::IP_BLOCK)).unwrap().objects {
            let spec = IpBlockSpec::from_object(&object).expect("claims never overlap");
            assert!(!spec.is_abandoned(), "an abandoned block stays");
            for slot in 0..32_u8 {
                let address = IpAddr::from([10, 0, 0, slot]);
                claims.extend(spec.holder(address).map(|node| (address, node.clone())));
            }
        }
        let mut given: BTreeMap<IpAddr, usize> = BTreeMap::new();
        for (number, node) in self.nodes.iter().enumerate() {
            let durable: BTreeSet<IpAddr> = node.leases.load().unwrap().leases.into_keys().collect();
            let known: BTreeSet<IpAddr> = node.ipam.leases().unwrap().iter().map(|lease| lease.address).collect();
            assert_eq!(known, durable, "memory and journal of {}", node.name);
            for address in durable {
                assert_eq!(given.insert(address, number), None, "{address} is leased on two nodes");
                assert_eq!(
                    claims.get(&address),
                    Some(&node.name),
                    "{address} is leased on {} without a claim",
                    node.name
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_address_is_in_two_leases_whatever_happens(
        block_size in 29..=31_u8,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut cluster = Cluster::new(block_size);
        for step in &steps {
            cluster.take(step);
            cluster.check();
        }
    }
}

#[test]
fn nodes_in_parallel_use_the_whole_pool_and_share_no_address() {
    let spec = json!({"cidr": "fd00::/119", "blockSize": 124});
    let store = store_with(&[pool("default", spec)]);
    let barrier = Arc::new(Barrier::new(8));
    let worker = |number: usize| {
        let (store, barrier) = (store.clone(), barrier.clone());
        std::thread::spawn(move || {
            // Two threads on each of four nodes would be two agents; one node is one PoolIpam, so each has its own.
            let name = format!("node-{number}").parse().unwrap();
            let ipam = wait(PoolIpam::open(name, store, MemoryLeaseStore::new(), COOL_DOWN)).unwrap();
            barrier.wait();
            let mut given = Vec::new();
            for pod in 0..64 {
                let leases = wait(ipam.assign(&AssignRequest::new(&owner(number, pod)), UNIX_EPOCH)).unwrap();
                given.extend(leases.iter().map(|lease| lease.address));
            }
            given
        })
    };
    let workers: Vec<_> = (0..8).map(worker).collect();
    let given: Vec<IpAddr> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
    let distinct: BTreeSet<&IpAddr> = given.iter().collect();
    assert_eq!((given.len(), distinct.len()), (512, 512), "the pool has exactly 512 addresses");
}

#[test]
fn threads_of_one_node_share_no_address_and_claim_no_more_than_needed() {
    let store = store_with(&[pool("default", json!({"cidr": "10.0.0.0/16"}))]);
    let journal = MemoryLeaseStore::new();
    let ipam = wait(PoolIpam::open("node-1".parse().unwrap(), store.clone(), journal.clone(), COOL_DOWN)).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let ipam = &ipam;
            scope.spawn(move || {
                for pod in 0..16 {
                    wait(ipam.assign(&AssignRequest::new(&owner(worker, pod)), UNIX_EPOCH)).unwrap();
                }
            });
        }
    });
    let addresses: BTreeSet<IpAddr> = ipam.leases().unwrap().iter().map(|lease| lease.address).collect();
    assert_eq!(addresses.len(), 64);
    assert_eq!(journal.commits(), 64, "one durable transaction per ADD");
    assert_eq!(wait(store.list_kind(Kind::IP_BLOCK)).unwrap().objects.len(), 1, "64 pods fit into one block");
}
