//! What cluster pools promise beside the laws: who may take from which pool, how blocks are shared and given back.

use super::{COOL_DOWN, pool, store_with};
use async_trait::async_trait;
use cni_core::ipam::pools::{IpBlockSpec, PoolIpam, node_owner, pool_key};
use cni_core::ipam::{AssignRequest, Ipam, IpamError, Lease, MemoryLeaseStore, wait};
use cni_core::model::EndpointId;
use cni_core::store::{
    Error, Event, Kind, List, MemoryStore, Object, ObjectKey, Query, Result as StoreResult, Store, StoreExt, Version,
    Watch,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

type Node = PoolIpam<MemoryLeaseStore>;

fn node(name: &str, store: &Arc<MemoryStore>) -> Node {
    wait(PoolIpam::open(name.parse().unwrap(), store.clone(), MemoryLeaseStore::new(), COOL_DOWN)).unwrap()
}

fn owner(number: usize) -> EndpointId {
    EndpointId::of(&format!("c{number}"), "eth0").unwrap()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
}

fn assign(node: &Node, number: usize) -> Result<Vec<Lease>, IpamError> {
    wait(node.assign(&AssignRequest::new(&owner(number)), at(0)))
}

fn one(node: &Node, number: usize) -> IpAddr {
    assign(node, number).unwrap()[0].address
}

fn assign_all(node: &Node, numbers: std::ops::Range<usize>) {
    numbers.for_each(|number| assert!(assign(node, number).is_ok()));
}

fn release(node: &Node, number: usize) {
    wait(node.release(&owner(number), at(0))).unwrap();
}

fn blocks(store: &MemoryStore) -> Vec<IpBlockSpec> {
    let blocks = wait(store.list_kind(Kind::IP_BLOCK)).unwrap().objects;
    blocks.iter().map(|block| IpBlockSpec::from_object(block).unwrap()).collect()
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_full_node_borrows_single_addresses_and_routes_each() {
    let spec = json!({"cidr": "10.0.0.0/29", "blockSize": 29});
    let store = store_with(&[pool("default", spec)]);
    let (one_node, two_node) = (node("one", &store), node("two", &store));
    assert_eq!(one(&one_node, 1).to_string(), "10.0.0.0");
    assert_eq!(one(&two_node, 2).to_string(), "10.0.0.7", "the pool's only block is the other node's");
    let prefixes = |node: &Node| node.local_blocks().iter().map(|block| block.prefix.to_string()).collect::<Vec<_>>();
    assert_eq!((prefixes(&one_node), prefixes(&two_node)), (vec!["10.0.0.0/29".into()], vec!["10.0.0.7/32".into()]));
    let given: BTreeSet<IpAddr> = (3..9).map(|number| one(&one_node, number)).collect();
    assert_eq!(given.len(), 6, "the owner gets all the rest");
    assert!(matches!(assign(&two_node, 10), Err(IpamError::Exhausted { .. })));
}

#[test]
fn a_pool_on_the_underlay_gives_nothing_new_and_what_was_given_stays() {
    let store = store_with(&[pool("default", json!({"cidr": "10.0.0.0/24"}))]);
    let node = node("one", &store);
    let first = one(&node, 1);
    node.set_underlay(vec!["10.0.0.128/25".parse().unwrap()]);
    let error = assign(&node, 2).unwrap_err().to_string();
    assert!(error.contains("default: spec.cidr: 10.0.0.0/24 overlaps 10.0.0.128/25"), "{error}");
    assert_eq!(one(&node, 1), first);
    wait(node.refresh()).unwrap();
    assert!(assign(&node, 2).is_err(), "a fresh view knows it too");
    node.set_underlay(vec!["192.0.2.0/24".parse().unwrap()]);
    assert!(assign(&node, 2).is_ok());
}

#[test]
fn strict_affinity_never_borrows_and_claims_a_block_at_once() {
    let spec = json!({"cidr": "10.0.0.0/29", "blockSize": 29, "strictAffinity": true});
    let store = store_with(&[pool("default", spec)]);
    let (one_node, two_node) = (node("one", &store), node("two", &store));
    one(&one_node, 1);
    assert_eq!(blocks(&store)[0].unclaimed_addresses(), 0);
    assert!(matches!(assign(&two_node, 2), Err(IpamError::Exhausted { .. })));
    let wanted = ["10.0.0.5".parse().unwrap()];
    let error = wait(two_node.assign(&AssignRequest::new(&owner(2)).addresses(&wanted), at(0))).unwrap_err();
    assert!(error.to_string().contains("node one holds it (block 10.0.0.0/29)"), "{error}");
}

#[test]
fn the_limit_of_blocks_is_kept_and_exhaustion_names_all_numbers() {
    let spec = json!({
        "cidr": "10.0.0.0/28", "blockSize": 30, "strictAffinity": true, "maxBlocksPerNode": 2,
        "reservations": ["10.0.0.0"],
    });
    let store = store_with(&[pool("red", spec)]);
    let node = node("one", &store);
    assign_all(&node, 0..7);
    release(&node, 0);
    assert_eq!(one(&node, 0).to_string(), "10.0.0.1", "the cooling address rather than none");
    let error = assign(&node, 8).unwrap_err();
    let words = "no IPv4 address is left on this node; pool red (10.0.0.0/28): 16 addresses, here 7 used, 0 cooling, \
                 0 free; 1 reserved, 8 unclaimed; blocks per node: one 2 (at most 2)";
    assert_eq!(error.to_string(), words);
    assert_eq!(node.status(at(0)).unwrap_err().to_string(), words, "STATUS says the same");
}

#[test]
fn selectors_of_nodes_and_namespaces_choose_the_pool() {
    let node_pool = json!({"cidr": "10.1.0.0/24", "nodeSelector": {"matchLabels": {"zone": "a"}}});
    let team_pool = json!({"cidr": "10.2.0.0/24", "namespaceSelector": {"matchLabels": {"team": "red"}}});
    let store = store_with(&[pool("zone-a", node_pool), pool("team-red", team_pool)]);
    let mut object = Object::new(ObjectKey::cluster(Kind::NODE, "one"));
    object.metadata.labels = labels(&[("zone", "a")]);
    wait(store.create(&object)).unwrap();
    let (one_node, two_node) = (node("one", &store), node("two", &store));
    let red = labels(&[("team", "red")]);
    let from = |node: &Node, number, namespace: Option<&BTreeMap<String, String>>| {
        let leases = wait(node.assign(&AssignRequest::new(&owner(number)).namespace_labels(namespace), at(0)));
        leases.map(|leases| leases[0].pool.clone()).map_err(|error| error.to_string())
    };
    assert_eq!(from(&one_node, 1, None), Ok("zone-a".to_owned()));
    assert_eq!(from(&two_node, 2, Some(&red)), Ok("team-red".to_owned()));
    let refused = "no pool can be used: team-red does not select the pod's namespace; zone-a does not select node two";
    assert_eq!(from(&two_node, 3, None), Err(refused.to_owned()));
    let pools = ["team-red".to_owned()];
    let own = node_owner();
    let named = AssignRequest::new(&own).pools(&pools).namespace_labels(Some(&red)).addresses(&[]);
    assert_eq!(wait(one_node.assign(&named, at(0))).unwrap()[0].pool, "team-red", "a named pool comes first");
    let unknown = ["blue".to_owned()];
    let error = wait(one_node.assign(&AssignRequest::new(&owner(9)).pools(&unknown), at(0))).unwrap_err();
    assert_eq!(error.to_string(), "no pool can be used: there is no pool blue; the pod asks for it");
}

#[test]
fn a_static_address_is_claimed_wherever_it_is_free() {
    let store = store_with(&[pool("default", json!({"cidr": "10.0.0.0/24", "reservations": ["10.0.0.9"]}))]);
    let (one_node, two_node) = (node("one", &store), node("two", &store));
    let want = |node: &Node, number: usize, address: &str| {
        let wanted = [address.parse().unwrap()];
        let leases = wait(node.assign(&AssignRequest::new(&owner(number)).addresses(&wanted), at(0)));
        leases.map(|leases| leases[0].address.to_string()).map_err(|error| error.to_string())
    };
    assert_eq!(want(&one_node, 1, "10.0.0.200"), Ok("10.0.0.200".to_owned()));
    assert_eq!(want(&two_node, 2, "10.0.0.201"), Ok("10.0.0.201".to_owned()), "borrowed from the same block");
    let taken = want(&one_node, 3, "10.0.0.201").unwrap_err();
    assert!(taken.contains("node two holds it"), "{taken}");
    let reserved = want(&one_node, 3, "10.0.0.9").unwrap_err();
    assert_eq!(reserved, "address 10.0.0.9 cannot be given: pool default reserves it (spec.reservations)");
    let outside = want(&one_node, 3, "10.9.0.1").unwrap_err();
    assert_eq!(outside, "address 10.9.0.1 cannot be given: it is in no pool");
    release(&one_node, 1);
    assert_eq!(want(&one_node, 1, "10.0.0.200"), Ok("10.0.0.200".to_owned()), "the same pod need not wait");
}

#[test]
fn a_disabled_pool_keeps_leases_and_gives_no_new_ones() {
    let store = store_with(&[pool("default", json!({"cidr": "10.0.0.0/24"}))]);
    let node = node("one", &store);
    let held = one(&node, 1);
    let disabled = pool("default", json!({"cidr": "10.0.0.0/24", "disabled": true}));
    node.observe(&Event::Put(Arc::new(disabled))).unwrap();
    assert_eq!(one(&node, 1), held);
    let error = assign(&node, 2).unwrap_err();
    assert_eq!(error.to_string(), "no pool can be used: default is disabled");
    assert!(node.status(at(0)).is_err());
    release(&node, 1);
    wait(node.maintain(at(31))).unwrap();
    assert_eq!(blocks(&store), [], "its blocks are given back when they are empty");
}

#[test]
fn bad_pools_are_refused_and_the_good_ones_stay_in_force() {
    let store = store_with(&[pool("good", json!({"cidr": "10.0.0.0/24"}))]);
    let node = node("one", &store);
    let put = |name: &str, spec| node.observe(&Event::Put(Arc::new(pool(name, spec)))).unwrap_err().to_string();
    let words = "pools good (10.0.0.0/24) and large (10.0.0.0/16) overlap: spec.cidr of one of them must change";
    assert_eq!(put("large", json!({"cidr": "10.0.0.0/16"})), words);
    assert!(put("good", json!({"cidr": "10.0.0.1/24"})).starts_with("pool good: spec.cidr: "));
    assert_eq!(node.problems().len(), 2);
    assert_eq!(one(&node, 1).to_string(), "10.0.0.0", "the last good pool");
}

#[test]
fn both_families_are_given_and_a_pool_of_either_is_enough() {
    let (v4, v6) = (json!({"cidr": "10.0.0.0/24"}), json!({"cidr": "fd00::/64"}));
    let store = store_with(&[pool("v4", v4)]);
    let node = node("one", &store);
    assert_eq!(assign(&node, 1).unwrap().len(), 1);
    wait(store.create(&pool("v6", v6))).unwrap();
    wait(node.refresh()).unwrap();
    let addresses: Vec<String> = assign(&node, 2).unwrap().iter().map(|lease| lease.address.to_string()).collect();
    assert_eq!(addresses, ["10.0.0.1", "fd00::"]);
    assert_eq!(assign(&node, 1).unwrap().len(), 1, "who has leases keeps them as they are");
}

#[test]
fn empty_blocks_are_given_back_after_the_rest_but_one() {
    let store = store_with(&[pool("default", json!({"cidr": "10.0.0.0/28", "blockSize": 30}))]);
    let (node, other) = (node("one", &store), node("two", &store));
    assign_all(&node, 0..12);
    let borrowed = one(&other, 1);
    assign_all(&other, 100..103);
    (0..12).for_each(|number| release(&node, number));
    assert_eq!(wait(node.maintain(at(29))).unwrap(), [], "nothing before the rest is over");
    assert_eq!(wait(node.maintain(at(31))).unwrap().len(), 2);
    let left: Vec<_> = blocks(&store).into_iter().filter(|block| block.owner == Some("one".parse().unwrap())).collect();
    assert_eq!(left.len(), 1, "one stays, for the next pod");
    assert!(other.check(&owner(1), &[borrowed]).is_ok());
    assert_eq!(wait(node.maintain(at(62))).unwrap(), [], "again gives nothing back");
}

#[test]
fn the_nodes_own_address_is_a_lease_that_gc_keeps() {
    let store = store_with(&[pool("default", json!({"cidr": "10.0.0.0/24", "encapsulation": "Always"}))]);
    let node = node("one", &store);
    let own = wait(node.node_addresses(at(0))).unwrap();
    assert_eq!(wait(node.gc(&BTreeSet::new(), at(0))).unwrap(), []);
    assert_eq!(wait(node.node_addresses(at(0))).unwrap(), own);
    let blocks = node.local_blocks();
    assert_eq!((blocks.len(), blocks[0].node_address), (1, Some(own[0].address)));
    assert!(blocks[0].encapsulation.is_some());
}

#[test]
fn a_block_that_somebody_deleted_is_claimed_again_for_its_leases() {
    let store = store_with(&[pool("default", json!({"cidr": "10.0.0.0/24"}))]);
    let node = node("one", &store);
    let held = one(&node, 1);
    let object = wait(store.list_kind(Kind::IP_BLOCK)).unwrap().objects[0].clone();
    wait(store.delete(&object.key, object.metadata.resource_version.as_ref().unwrap())).unwrap();
    node.observe(&Event::Delete(object.key.clone())).unwrap();
    assert_eq!(node.unbacked().iter().map(|lease| lease.address).collect::<Vec<_>>(), [held]);
    wait(node.maintain(at(0))).unwrap();
    assert_eq!(node.unbacked(), []);
    assert_eq!(blocks(&store)[0].holder(held), Some(&"one".parse().unwrap()));
}

/// A node that owns one block and borrows one address, which cools already.
fn borrower() -> (Arc<MemoryStore>, Node, Node, Arc<Object>) {
    let store = store_with(&[pool("default", json!({"cidr": "10.0.0.0/30", "blockSize": 30}))]);
    let (owner_node, borrower) = (node("one", &store), node("two", &store));
    one(&owner_node, 1);
    one(&borrower, 2);
    let lent = wait(store.list_kind(Kind::IP_BLOCK)).unwrap().objects[0].clone();
    release(&borrower, 2);
    (store, owner_node, borrower, lent)
}

#[test]
fn a_late_event_brings_no_claim_back_that_was_given_back() {
    let (store, owner_node, borrower, lent) = borrower();
    assert_eq!(wait(borrower.maintain(at(31))).unwrap().len(), 1);
    let given: BTreeSet<IpAddr> = (2..5).map(|number| one(&owner_node, number)).collect();
    assert_eq!(given.len(), 3, "the owner has the whole block again");
    borrower.observe(&Event::Put(lent)).unwrap();
    assert!(matches!(assign(&borrower, 9), Err(IpamError::Exhausted { .. })), "all four are the owner's");
    drop(store);
}

#[test]
fn a_late_event_brings_no_block_back_that_was_deleted() {
    let spec = |disabled| json!({"cidr": "10.0.0.0/30", "blockSize": 30, "strictAffinity": true, "disabled": disabled});
    let store = store_with(&[pool("default", spec(false))]);
    let (one_node, two_node) = (node("one", &store), node("two", &store));
    one(&one_node, 1);
    let before = wait(store.list_kind(Kind::IP_BLOCK)).unwrap().objects[0].clone();
    release(&one_node, 1);
    one_node.observe(&Event::Put(Arc::new(pool("default", spec(true))))).unwrap();
    assert_eq!(wait(one_node.maintain(at(31))).unwrap().len(), 1, "a disabled pool's last block goes, too");
    one(&two_node, 2);
    one_node.observe(&Event::Put(Arc::new(pool("default", spec(false))))).unwrap();
    one_node.observe(&Event::Put(before)).unwrap();
    assert!(matches!(assign(&one_node, 3), Err(IpamError::Exhausted { .. })), "the block is the other node's now");
}

/// Deletes and updates are done, but their answers are lost.
struct LostAnswers(Arc<MemoryStore>, AtomicBool);

#[async_trait]
impl Store for LostAnswers {
    async fn get(&self, key: &ObjectKey) -> StoreResult<Arc<Object>> {
        self.0.get(key).await
    }
    async fn list(&self, query: &Query) -> StoreResult<List> {
        self.0.list(query).await
    }
    async fn watch(&self, query: &Query, from: &Version) -> StoreResult<Watch> {
        self.0.watch(query, from).await
    }
    async fn create(&self, object: &Object) -> StoreResult<Arc<Object>> {
        self.0.create(object).await
    }
    async fn update(&self, object: &Object) -> StoreResult<Arc<Object>> {
        let answer = self.0.update(object).await;
        match self.1.load(Ordering::Relaxed) {
            true => Err(Error::Unavailable { operation: "update", detail: "the answer was lost".to_owned() }),
            false => answer,
        }
    }
    async fn delete(&self, key: &ObjectKey, expected: &Version) -> StoreResult<()> {
        self.0.delete(key, expected).await
    }
}

#[test]
fn nothing_is_given_from_a_block_while_nobody_knows_whether_it_was_given_back() {
    let spec = json!({"cidr": "10.0.0.0/30", "blockSize": 30});
    let store = store_with(&[pool("default", spec.clone())]);
    let link = Arc::new(LostAnswers(store.clone(), AtomicBool::new(false)));
    let owner_node = node("one", &store);
    one(&owner_node, 1);
    let journal = MemoryLeaseStore::new();
    let borrower = wait(PoolIpam::open("two".parse().unwrap(), link.clone(), journal, COOL_DOWN)).unwrap();
    one(&borrower, 2);
    release(&borrower, 2);
    link.1.store(true, Ordering::Relaxed);
    assert!(wait(borrower.maintain(at(31))).is_err());
    link.1.store(false, Ordering::Relaxed);
    let given: BTreeSet<IpAddr> = (2..5).map(|number| one(&owner_node, number)).collect();
    assert_eq!(given.len(), 3, "the address was given back, and the owner gave it on");
    let touched = wait(store.modify(&pool_key("default"), |pool| {
        pool.metadata.labels.insert("touched".to_owned(), "yes".to_owned());
        Ok(())
    }));
    borrower.observe(&Event::Put(touched.unwrap())).unwrap();
    assert!(matches!(assign(&borrower, 9), Err(IpamError::Exhausted { .. })), "it must not be given again");
}
