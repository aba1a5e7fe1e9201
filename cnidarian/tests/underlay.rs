//! What a node says when the network below it is not what it needs. In network namespaces of the test's own; needs root.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]
#![cfg(feature = "vxlan")]

use cni_core::cni::ErrorCode;
use cni_core::model::NodeName;
use cnidarian::config::{NodeConfig, PoolConfig};
use cnidarian::{Node, NodeError, built_in};
use ipnet::IpNet;
use net_linux::addr::Address;
use net_linux::link::{LinkChange, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const V4: &str = "192.0.2.1/24";
const V6: &str = "2001:db8::1/64";

/// Runs a test in a fresh namespace with an uplink that has an address of each family; gives the uplink's index.
fn on_an_uplink<F: Future<Output = ()>>(test: impl FnOnce(u32) -> F + Send) {
    let inside = || {
        let mut socket = Socket::route().unwrap();
        let peer = VethPeer { name: "wire", mac: None, namespace: None };
        let index = NewLink::new("uplink", NewLinkKind::Veth(peer)).create(&mut socket).unwrap();
        let mut batch = Batch::new();
        for name in ["uplink", "wire"] {
            LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name(name));
        }
        [V4, V6].iter().for_each(|address| Address::new(index, address.parse().unwrap()).create(&mut batch));
        socket.run_all(&mut batch).unwrap();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test(index));
    };
    NetNs::new().unwrap().run(inside).unwrap();
}

fn config(pool: &str) -> NodeConfig {
    let mut config = NodeConfig::new(NodeName::new("node-1").unwrap());
    config.underlay.interface = Some("uplink".parse().unwrap());
    let cidr: IpNet = pool.parse().unwrap();
    config.ipam.pools = vec![PoolConfig { name: "pods".to_owned(), cidr, block_size: None, encapsulation: None }];
    config
}

fn change(write: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    write(&mut batch);
    Socket::route().unwrap().run_all(&mut batch).unwrap();
}

async fn until_ready(node: &Node, wanted: impl Fn(&Result<(), NodeError>) -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !wanted(&node.ready()) {
        assert!(Instant::now() < end, "still {:?}", node.ready());
        sleep(Duration::from_millis(10)).await;
    }
}

fn is_unusable(ready: &Result<(), NodeError>, said: &str) -> bool {
    match ready {
        Err(error @ NodeError::UnderlayUnusable { problem }) => {
            assert_eq!(error.code(), ErrorCode::NotAvailable);
            problem.contains(said)
        }
        _ => false,
    }
}

#[test]
fn a_node_whose_underlay_lost_its_address_is_not_ready_until_it_has_one_again() {
    on_an_uplink(|index| async move {
        let node = Node::open(config("10.99.0.0/24"), &built_in()).await.unwrap();
        node.ready().unwrap();
        let all = || [V4, V6].map(|address| Address::new(index, address.parse().unwrap()));
        change(|batch| all().iter().for_each(|address| address.delete(batch)));
        until_ready(&node, |ready| is_unusable(ready, "uplink has no usable address")).await;
        let status = node.status();
        assert!(status.not_ready.unwrap().contains("uplink"));
        assert!(status.problems.iter().any(|problem| problem.object == "underlay"));
        change(|batch| all().iter().for_each(|address| address.create(batch)));
        until_ready(&node, Result::is_ok).await;
    });
}

#[test]
fn a_node_that_lost_the_family_of_its_tunnel_is_not_ready() {
    on_an_uplink(|index| async move {
        let mut config = config("10.99.0.0/24");
        config.backend_config = serde_json::json!({ "underlay": "ipv4" });
        let node = Node::open(config, &built_in()).await.unwrap();
        let v4 = Address::new(index, V4.parse().unwrap());
        change(|batch| v4.delete(batch));
        until_ready(&node, |ready| is_unusable(ready, "no IPv4 address")).await;
        change(|batch| v4.create(batch));
        until_ready(&node, Result::is_ok).await;
    });
}

#[test]
fn a_pool_on_the_underlay_is_refused_with_its_name_and_field() {
    on_an_uplink(|_| async {
        for (pool, said) in [
            ("192.0.0.0/16", "pool pods: cidr: 192.0.0.0/16 overlaps 192.0.2.0/24 of the underlay (uplink)"),
            ("2001:db8::/112", "pool pods: cidr: 2001:db8::/112 overlaps 2001:db8::/64 of the underlay (uplink)"),
        ] {
            let error = Node::open(config(pool), &built_in()).await.err().expect("it is refused");
            assert_eq!(error.code(), ErrorCode::InvalidConfig);
            assert!(error.to_string().contains(said), "{error}");
        }
    });
}
