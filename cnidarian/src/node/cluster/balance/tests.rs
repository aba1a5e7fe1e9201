//! Several nodes, one record.

use super::*;
use cni_core::store::MemoryStore;
use serde_json::{Value, json};
use std::sync::Arc;

fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}

fn pool(name: &str, prefixes: &[&str]) -> Object {
    object(json!({"apiVersion": "cnidarian.io/v1", "kind": "LoadBalancerPool", "metadata": {"name": name},
        "spec": {"prefixes": prefixes}}))
}

fn service(name: &str) -> Object {
    object(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}))
}

async fn record(store: &dyn Store) -> Vec<String> {
    let Some(object) = store.find(&BalancerRecord::key()).await.unwrap() else { return Vec::new() };
    let record = BalancerRecord::try_from(&*object).unwrap();
    record.services.iter().map(|(service, addresses)| format!("{} {}", service.name, addresses[0])).collect()
}

async fn write(store: &dyn Store, keep_gone: bool) -> bool {
    write_record(store, &NodeName::new("node-1").unwrap(), &[], keep_gone).await.unwrap()
}

async fn remove(store: &dyn Store, object: &Object) {
    let there = store.get(&object.key).await.unwrap();
    store.delete(&object.key, there.metadata.resource_version.as_ref().unwrap()).await.unwrap();
}

/// However nodes and services come, no address is of two, and nobody moves.
#[test]
fn nodes_that_write_at_once_give_no_address_twice_and_take_none_back() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = Arc::new(MemoryStore::new());
    runtime().block_on(store.create(&pool("a", &["203.0.113.0/26"]))).unwrap();
    let nodes = (0..6).map(|node| {
        let store = store.clone();
        let work = async move {
            let name = NodeName::new(&format!("node-{node}")).unwrap();
            for round in 0..6 {
                store.create(&service(&format!("s-{node}-{round}"))).await.unwrap();
                let before = record(&*store).await;
                // Who loses all races begins again later.
                let _ = write_record(&*store, &name, &[], false).await;
                let after = record(&*store).await;
                assert!(before.iter().all(|one| after.contains(one)), "{before:?} {after:?}");
            }
        };
        std::thread::spawn(move || runtime().block_on(work))
    });
    for node in nodes.collect::<Vec<_>>() {
        node.join().unwrap();
    }
    let all = runtime().block_on(async {
        write(&*store, false).await;
        assert!(!write(&*store, false).await, "nothing is left to write");
        record(&*store).await
    });
    let addresses: std::collections::BTreeSet<&str> = all.iter().map(|one| one.split(' ').nth(1).unwrap()).collect();
    assert_eq!((all.len(), addresses.len()), (36, 36));
}

#[tokio::test]
async fn an_address_stays_until_its_service_or_its_pool_goes() {
    let store = MemoryStore::new();
    store.create(&service("a")).await.unwrap();
    assert!(!write(&store, false).await, "without a pool there is nothing to give");
    store.create(&pool("p", &["203.0.113.0/30"])).await.unwrap();
    store.create(&service("b")).await.unwrap();
    assert!(write(&store, false).await);
    assert_eq!(record(&store).await, ["a 203.0.113.1", "b 203.0.113.2"]);
    remove(&store, &service("a")).await;
    assert!(!write(&store, true).await, "perhaps it cannot be read only");
    store.create(&service("c")).await.unwrap();
    write(&store, true).await;
    assert_eq!(
        record(&store).await,
        ["a 203.0.113.1", "b 203.0.113.2"],
        "an address of one who is perhaps there is not given"
    );
    write(&store, false).await;
    assert_eq!(record(&store).await, ["b 203.0.113.2", "c 203.0.113.1"]);
    store.create(&pool("q", &["198.51.100.0/30"])).await.unwrap();
    assert!(!write(&store, false).await, "another pool moves nobody");
    remove(&store, &pool("p", &[])).await;
    write(&store, false).await;
    assert_eq!(record(&store).await, ["b 198.51.100.1", "c 198.51.100.2"]);
    remove(&store, &pool("q", &[])).await;
    write(&store, false).await;
    assert_eq!(record(&store).await, [""; 0]);
}

#[tokio::test]
async fn what_cannot_be_read_moves_nobody() {
    let store = MemoryStore::new();
    store.create(&pool("p", &["203.0.113.0/30"])).await.unwrap();
    store.create(&service("a")).await.unwrap();
    write(&store, false).await;
    let broken = |object: &mut Object| {
        object.fields["spec"]["prefixes"] = json!(["203.0.113.0/30", "nonsense"]);
        Ok(())
    };
    store.modify(&pool("p", &[]).key, broken).await.unwrap();
    store.create(&service("b")).await.unwrap();
    assert!(!write(&store, false).await);
    let written = |object: &mut Object| {
        object.fields["spec"]["prefixes"] = json!(["203.0.113.0/30"]);
        Ok(())
    };
    store.modify(&pool("p", &[]).key, written).await.unwrap();
    store
        .modify(&service("a").key, |object| {
            object.fields["spec"]["type"] = json!("LoadBalanced");
            Ok(())
        })
        .await
        .unwrap();
    write(&store, false).await;
    assert_eq!(record(&store).await, ["a 203.0.113.1", "b 203.0.113.2"], "a service that cannot be read is there");
    store
        .modify(&BalancerRecord::key(), |object| {
            object.fields["spec"]["services"] = json!("nonsense");
            Ok(())
        })
        .await
        .unwrap();
    assert!(!write(&store, false).await, "a record that cannot be read is not written over");
}

#[tokio::test]
async fn addresses_of_nodes_and_of_others_services_are_given_to_nobody() {
    let store = MemoryStore::new();
    store.create(&pool("p", &["192.0.2.0/29"])).await.unwrap();
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}});
    store.create(&object(node)).await.unwrap();
    let mut other = service("other");
    other.fields["spec"]["loadBalancerClass"] = json!("example.com/other");
    other.fields.insert("status".into(), json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}}));
    store.create(&other).await.unwrap();
    let api = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "ports": [{"port": 6443}], "endpoints": [{"addresses": ["192.0.2.3"]}]});
    store.create(&object(api)).await.unwrap();
    store.create(&service("a")).await.unwrap();
    write(&store, false).await;
    assert_eq!(record(&store).await, ["a 192.0.2.4"]);
    let mut by_hand = service("b");
    by_hand.fields.insert("status".into(), json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.5"}]}}));
    store.create(&by_hand).await.unwrap();
    write(&store, false).await;
    assert_eq!(record(&store).await, ["a 192.0.2.4", "b 192.0.2.5"], "what stands in its status is kept");
}
