//! Pods whose objects come late or go early. A restart never opens them.

use crate::verbs::{address, talks};
use crate::world::{Pod, World, until};
use serde_json::{Value, json};

fn write(world: &World, file: &str, manifest: &Value) {
    let directory = world.dir.path().join("cluster");
    let (new, file) = (directory.join(".new"), directory.join(file));
    std::fs::write(&new, manifest.to_string()).unwrap();
    std::fs::rename(new, file).unwrap();
}

#[test]
fn a_pod_that_the_store_told_of_after_its_add_stays_closed_over_a_restart_without_its_object() {
    let mut world = World::started();
    write(
        &world,
        "policy.json",
        &json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "closed", "namespace": "shop"},
            "spec": {"podSelector": {"matchLabels": {"app": "db"}}}}),
    );
    let (client, db) = (Pod::new("client"), Pod::new("db"));
    world.cni("ADD", &client).ok();
    let named = [("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db")];
    let target = address(&world.cni_with("ADD", &db, &world.conf(), &named).ok());
    assert!(talks(&client, &db, target), "a pod that nobody told of has no labels");
    write(
        &world,
        "pod.json",
        &json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "db", "namespace": "shop", "labels": {"app": "db"}}, "spec": {"nodeName": "node-1"}}),
    );
    until("its object closes it", || if talks(&client, &db, target) { Err("open".to_owned()) } else { Ok(()) });
    until("it is written down", || {
        let log = world.log();
        if log.contains("told of its pod after its ADD") { Ok(()) } else { Err(log) }
    });
    std::fs::remove_file(world.dir.path().join("cluster/pod.json")).unwrap();
    world.kill();
    world.start();
    assert!(!talks(&client, &db, target), "opened by a restart");
}

#[test]
fn an_agent_that_cannot_read_a_manifest_does_not_start_and_opens_nothing() {
    let mut world = World::started();
    let close = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": "shop"}, "spec": {"podSelector": {}}});
    write(&world, "policy.json", &close);
    let (client, db) = (Pod::new("client"), Pod::new("db"));
    world.cni("ADD", &client).ok();
    let named = [("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=db")];
    let target = address(&world.cni_with("ADD", &db, &world.conf(), &named).ok());
    until("the policy is in force", || if talks(&client, &db, target) { Err("open".to_owned()) } else { Ok(()) });
    let file = world.dir.path().join("cluster/policy.json");
    std::fs::write(&file, "{ broken").unwrap();
    world.kill();
    let config = world.config();
    world.spawn(&config);
    assert!(!world.wait_for_end().success(), "it started without the policy");
    assert!(world.log().contains("policy.json"), "{}", world.log());
    assert!(!talks(&client, &db, target), "opened by a start that failed");
    write(&world, "policy.json", &close);
    world.start();
    assert!(!talks(&client, &db, target), "opened by a restart");
}
