//! Frontends that are not for all clients, at sockets and for clients outside: who is in a range is served, and nobody else. In
//! namespaces and a cgroup of the test's own. Never a wait for a denied client's last try: outside it tries once.

use crate::outside::{behind, commit};
use crate::place::run;
use crate::services::{Proxy, V4, V6, item};
use crate::sockets::{client, client_in, in_a_namespace, with_backends};
use backend_ebpf::service::outside::OutsideDriver;
use backend_ebpf::service::{Config, Sizes};
use cni_core::backend::{Change, Engine, Reconciler};
use cni_core::model::{EndpointId, ServiceItem};
use ipnet::IpNet;
use net_linux::netns::NetNs;
use std::net::IpAddr;
use testlab::bed::{Cgroup, Client};

const WAYS: [(&str, &str); 6] =
    [("tcp", V4), ("tcp", V6), ("connected", V4), ("connected", V6), ("udp", V4), ("udp", V6)];
const DENIED: &str = "TimedOut";

fn nets(ranges: &[&str]) -> Vec<IpNet> {
    ranges.iter().map(|range| range.parse().unwrap()).collect()
}

/// The service at both families, over TCP and UDP, for these clients.
fn limited(backends: &str, ranges: &[IpNet]) -> Vec<ServiceItem> {
    let both = [V4, V6].into_iter().flat_map(|address| [6, 17].map(|protocol| (address, protocol)));
    both.map(|(address, protocol)| ServiceItem { sources: Some(ranges.into()), ..item(address, protocol, backends) })
        .collect()
}

fn endpoint(interface: &str) -> EndpointId {
    EndpointId::of("c0ffee", interface).unwrap()
}

fn told(client: &mut Client, (how, to): (&str, &str)) -> Result<String, String> {
    client.ask(how, to).map(|(server, _)| server)
}

#[test]
fn a_pod_and_the_node_are_served_by_their_addresses_and_others_time_out() {
    let Some(cgroup) = Cgroup::new() else { return };
    let pod = NetNs::new().unwrap();
    with_backends(&pod);
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        let mut node = client(&cgroup.0);
        let mut in_pod = pod.run(|| client(&cgroup.0)).unwrap();
        proxy.serve_as(endpoint("eth0"), &pod, &["10.244.0.5", "fd44::5"]);
        proxy.put(limited("a", &nets(&["10.244.0.0/29", "fd44::4/127", "198.51.100.0/24"])));
        for way in WAYS {
            assert_eq!(told(&mut in_pod, way).as_deref(), Ok("a"), "{way:?}");
            assert_eq!(told(&mut node, way).unwrap_err(), DENIED, "{way:?}");
        }
        // Those of the node of the suite.
        proxy.put(limited("a", &nets(&["192.0.2.1/32", "2001:db8::/64"])));
        for way in WAYS {
            assert_eq!(told(&mut node, way).as_deref(), Ok("a"), "{way:?}");
            assert_eq!(told(&mut in_pod, way).unwrap_err(), DENIED, "{way:?}");
        }
        proxy.put(limited("", &nets(&["192.0.2.1/32", "2001:db8::/64"])));
        for way in WAYS {
            assert_eq!(told(&mut node, way).unwrap_err(), "ConnectionRefused", "{way:?}: no backend");
            assert_eq!(told(&mut in_pod, way).unwrap_err(), DENIED, "{way:?}: not even that");
        }
        proxy.put(limited("a", &[]));
        assert_eq!(told(&mut node, WAYS[0]).unwrap_err(), DENIED, "of no range: nobody");
        proxy.put(vec![item(V4, 6, "a")]);
        assert_eq!(told(&mut node, WAYS[0]).as_deref(), Ok("a"), "for everybody again");
        assert_eq!(told(&mut node, WAYS[1]).unwrap_err(), DENIED, "another frontend is as it was");
    });
}

#[test]
fn a_client_is_its_pods_first_interface_and_one_without_a_known_address_is_in_no_range() {
    let Some(cgroup) = Cgroup::new() else { return };
    let pod = NetNs::new().unwrap();
    with_backends(&pod);
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        let mut in_pod = pod.run(|| client(&cgroup.0)).unwrap();
        proxy.put(limited("a", &nets(&["0.0.0.0/0", "::/0"])));
        proxy.serve_as(endpoint("net1"), &pod, &["10.245.0.5", "fd45::5"]);
        for way in WAYS {
            assert_eq!(told(&mut in_pod, way).unwrap_err(), DENIED, "{way:?}: no address is known");
        }
        proxy.serve_as(endpoint("eth0"), &pod, &["10.244.0.5"]);
        assert_eq!(told(&mut in_pod, ("tcp", V4)).as_deref(), Ok("a"));
        assert_eq!(told(&mut in_pod, ("tcp", V6)).unwrap_err(), DENIED, "it has no IPv6 address");
        proxy.put(limited("a", &nets(&["10.245.0.5/32"])));
        assert_eq!(told(&mut in_pod, ("tcp", V4)).unwrap_err(), DENIED, "it does not come from there");
    });
}

/// An address just before, at both ends of, and just behind each range.
fn edges(ranges: &[IpNet]) -> Vec<IpAddr> {
    let near = |address: IpAddr| match address {
        IpAddr::V4(v4) => [u32::from(v4).wrapping_sub(1), u32::from(v4), u32::from(v4).wrapping_add(1)]
            .map(|number| IpAddr::from(number.to_be_bytes())),
        IpAddr::V6(v6) => [u128::from(v6).wrapping_sub(1), u128::from(v6), u128::from(v6).wrapping_add(1)]
            .map(|number| IpAddr::from(number.to_be_bytes())),
    };
    ranges.iter().flat_map(|range| [range.network(), range.broadcast()]).flat_map(near).collect()
}

const RANGES: [&str; 9] = [
    "10.0.0.0/8",
    "10.1.0.0/16",
    "192.0.2.128/25",
    "203.0.113.7/32",
    "203.0.113.8/31",
    "fd00::/8",
    "2001:db8::/33",
    "2001:db8:8000::7/128",
    "::/97",
];

#[test]
fn at_every_edge_of_a_range_a_socket_is_served_where_the_range_has_its_address() {
    let Some(cgroup) = Cgroup::new() else { return };
    let pod = NetNs::new().unwrap();
    with_backends(&pod);
    in_a_namespace(|| {
        let ranges = nets(&RANGES);
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(limited("a", &ranges));
        let mut in_pod = pod.run(|| client(&cgroup.0)).unwrap();
        for address in edges(&ranges) {
            proxy.serve_as(endpoint("eth0"), &pod, &[&address.to_string()]);
            let served = told(&mut in_pod, ("tcp", if address.is_ipv4() { V4 } else { V6 })).is_ok();
            assert_eq!(served, ranges.iter().any(|range| range.contains(&address)), "{address}");
        }
    });
}

#[test]
fn where_a_range_finds_no_room_its_clients_are_denied_and_the_key_is_named() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let maps = Sizes { ranges: 1, ..Sizes::default() };
        let mut proxy = Proxy::open_with(&Config { cgroup: Some(cgroup.0.clone()), maps, ..Config::default() });
        let mut node = client(&cgroup.0);
        proxy.put(vec![item(V4, 6, "a")]);
        assert_eq!(told(&mut node, ("tcp", V4)).as_deref(), Ok("a"));
        let ranges = nets(&["10.0.0.0/8", "192.0.2.0/24"]);
        let narrowed = ServiceItem { sources: Some(ranges.into()), ..item(V4, 6, "a") };
        proxy.0.stage(Change::Put(narrowed)).unwrap();
        let report = proxy.1.block_on(proxy.0.commit());
        assert!(report.failed.iter().any(|failure| failure.error.field == Some("maps.ranges")), "{report:?}");
        assert_eq!(told(&mut node, ("tcp", V4)).unwrap_err(), DENIED, "it is not left open");
    });
}

/// Frontends at addresses of the node that clients outside reach.
const NODE_V4: &str = "192.0.2.1:30080";
const NODE_V6: &str = "[2001:db8::1]:30080";

#[test]
fn outside_who_is_in_a_range_is_served_and_the_packets_of_others_are_dropped() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let outside = behind("eth0");
        // One try, of a second.
        outside.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_syn_retries", "1").unwrap()).unwrap();
        let mut client = client_in(&cgroup.0, &outside);
        let mut engine = Reconciler::new(OutsideDriver::open().unwrap()).unwrap();
        let for_clients = |backends, v4: &str, v6: &str| {
            let one = |at, range: &str| ServiceItem { sources: Some(nets(&[range]).into()), ..item(at, 6, backends) };
            vec![one(NODE_V4, v4), one(NODE_V6, v6)]
        };
        let mut ask = |to| client.ask("tcp", to).map(|(server, _)| server);
        commit(&mut engine, for_clients("ab", "192.0.2.2/31", "2001:db8::2/127"));
        assert!(ask(NODE_V4).is_ok() && ask(NODE_V6).is_ok());
        commit(&mut engine, for_clients("ab", "192.0.2.3/32", "2001:db8::3/128"));
        assert_eq!([ask(NODE_V4), ask(NODE_V6)], [DENIED, DENIED].map(|denied| Err(denied.to_owned())));
        commit(&mut engine, for_clients("", "192.0.2.2/32", "2001:db8::3/128"));
        assert_eq!(ask(NODE_V4).unwrap_err(), "ConnectionRefused", "no backend");
        assert_eq!(ask(NODE_V6).unwrap_err(), DENIED, "not even that");
        commit(&mut engine, vec![item(NODE_V4, 6, "c"), item(NODE_V6, 6, "c")]);
        assert_eq!([ask(NODE_V4), ask(NODE_V6)], ["c", "c"].map(|server| Ok(server.to_owned())));
        let left = run("nft list table inet cnidarian-services");
        assert!(!left.contains("sources"), "{left}");
    });
}

#[test]
fn outside_a_range_that_others_change_is_put_right() {
    in_a_namespace(|| {
        let mut engine = Reconciler::new(OutsideDriver::open().unwrap()).unwrap();
        let ranges = nets(&["198.51.100.0/24", "198.51.101.0/25", "203.0.113.7/32"]);
        let one = ServiceItem { sources: Some(ranges.into()), ..item(NODE_V4, 6, "ab") };
        commit(&mut engine, vec![one]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (table, name) = ("inet cnidarian-services", "sources4-6-192.0.2.1-30080");
        let all = run(&format!("nft list table {table}"));
        for line in [
            format!("nft add element {table} {name} {{ 10.0.0.0/8 }}"),
            format!("nft flush set {table} {name}"),
            format!("nft flush chain {table} {name}"),
            format!("nft add rule {table} {name} accept"),
            format!("nft delete table {table}"),
        ] {
            run(&line);
            let drift = runtime.block_on(engine.resync()).unwrap();
            assert!(!drift.is_none() && drift.repair.is_complete(), "{line}: {drift:?}");
            assert!(runtime.block_on(engine.resync()).unwrap().is_none(), "{line}");
            assert_eq!(run(&format!("nft list table {table}")).len(), all.len(), "{line}");
        }
    });
}
