//! Every allocator of the crate keeps the laws of `Ipam`, and several nodes on one store never share an address.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]
#![cfg(feature = "testkit")]

#[path = "ipam_laws/cluster.rs"]
mod cluster;
#[path = "ipam_laws/pools.rs"]
mod pools;

use cni_core::ipam::conformance::IpamSuite;
use cni_core::ipam::host_local::{HostLocal, HostLocalConfig};
use cni_core::ipam::pools::{PoolIpam, pool_key};
use cni_core::ipam::{LeaseStore, MemoryLeaseStore, PodCidrIpam, wait};
use cni_core::store::{MemoryStore, Object, Store};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const COOL_DOWN: Duration = Duration::from_secs(30);

fn pool(name: &str, spec: Value) -> Object {
    let mut object = Object::new(pool_key(name));
    object.fields.insert("spec".to_owned(), spec);
    object
}

fn store_with(pools: &[Object]) -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    for pool in pools {
        wait(store.create(pool)).unwrap();
    }
    store
}

#[test]
fn host_local_keeps_the_laws() {
    let open = |directory: &TempDir| {
        let ipam = json!({
            "ranges": [[{"subnet": "10.0.0.0/28"}], [{"subnet": "fd00::/124"}]],
            "dataDir": directory.path(), "coolDownSeconds": 30,
        });
        let net = json!({"cniVersion": "1.1.0", "name": "net", "ipam": ipam});
        HostLocal::new(HostLocalConfig::parse(net.to_string().as_bytes(), "").unwrap())
    };
    IpamSuite::new(|| tempfile::tempdir().unwrap(), open).cool_down(COOL_DOWN).run();
}

#[test]
fn pod_cidrs_keep_the_laws() {
    for prefixes in [vec!["10.0.0.0/28"], vec!["10.0.0.0/29", "10.0.1.0/29", "fd00::/64"]] {
        let open = move |disk: &MemoryLeaseStore| {
            let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
            let reserved = vec!["10.0.0.0".parse().unwrap()];
            PodCidrIpam::open("node-1".parse().unwrap(), &prefixes, reserved, disk.clone(), COOL_DOWN).unwrap()
        };
        IpamSuite::new(MemoryLeaseStore::new, open)
            .cool_down(COOL_DOWN)
            .records(|disk| disk.load().unwrap().endpoints)
            .run();
    }
}

#[test]
fn cluster_pools_keep_the_laws() {
    for (block_size, strict) in [(28, false), (29, true), (32, false), (27, true)] {
        let disk = move || {
            let v4 = json!({"cidr": "10.0.0.0/27", "blockSize": block_size, "strictAffinity": strict,
                            "reservations": ["10.0.0.0", "10.0.0.8-10.0.0.17"]});
            let v6 = json!({"cidr": "fd00::/120", "strictAffinity": strict});
            (store_with(&[pool("v4", v4), pool("v6", v6)]), MemoryLeaseStore::new())
        };
        let open = |(store, leases): &(Arc<MemoryStore>, MemoryLeaseStore)| {
            let node = "node-1".parse().unwrap();
            wait(PoolIpam::open(node, store.clone(), leases.clone(), COOL_DOWN)).unwrap()
        };
        IpamSuite::new(disk, open).cool_down(COOL_DOWN).records(|(_, leases)| leases.load().unwrap().endpoints).run();
    }
}
