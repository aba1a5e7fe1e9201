//! What one frontend becomes.

use super::*;
use cni_core::model::{Conditions, ServiceKey, ServiceName};
use proptest::prelude::*;
use std::net::IpAddr;
use std::num::NonZeroU32;

fn backend(address: &str, usage: BackendUse) -> ServiceBackend {
    let place: SocketAddr = address.parse().unwrap();
    ServiceBackend {
        address: place.ip(),
        port: place.port(),
        usage,
        weight: 1,
        conditions: Conditions { ready: true, serving: true, terminating: false },
        local: false,
        node: Some("node-2".into()),
        zone: None,
    }
}

fn item(address: &str, backends: Vec<ServiceBackend>) -> ServiceItem {
    let place: SocketAddr = address.parse().unwrap();
    ServiceItem {
        key: ServiceKey { address: place.ip(), port: place.port(), protocol: Protocol::TCP },
        service: ServiceName { namespace: "default".into(), name: "web".into() },
        port_name: "".into(),
        kind: FrontendKind::ClusterIp,
        scope: TrafficScope::Cluster,
        scheduler: Scheduler::default(),
        affinity_seconds: None,
        sources: None,
        health_check_port: None,
        direct_return: false,
        backends: backends.into(),
    }
}

fn names(objects: &Objects) -> Vec<String> {
    let mut names: Vec<String> = objects.iter().map(|(key, _)| key.to_string()).collect();
    names.sort();
    names
}

fn the_service(objects: &Objects) -> Service {
    let found = objects.iter().find_map(|(_, object)| match object {
        Object::Service(service) => Some((**service).clone()),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_cluster_ip_has_an_address_and_a_node_port_has_none() {
    let web = item("10.96.0.10:80", vec![backend("10.244.1.2:8080", BackendUse::Active)]);
    let wanted = [
        "IPVS service tcp 10.96.0.10:80",
        "address 10.96.0.10/32 dev svc-cnidarian",
        "destination 10.244.1.2:8080 of IPVS service tcp 10.96.0.10:80",
        "element 10.96.0.10 . 6 . 80 of svc-frontends4",
        "element 10.96.0.10 . 6 . 80 of svc-masqueraded4",
        "element 10.96.0.10 of svc-addresses4",
    ];
    assert_eq!(names(&compile(&web).unwrap()), wanted);
    let port = ServiceItem { kind: FrontendKind::NodePort, scope: TrafficScope::Local, ..web };
    let wanted = [
        "IPVS service tcp 10.96.0.10:80",
        "destination 10.244.1.2:8080 of IPVS service tcp 10.96.0.10:80",
        "element 10.96.0.10 . 6 . 80 of svc-frontends4",
    ];
    assert_eq!(names(&compile(&port).unwrap()), wanted, "and a client's address is kept with Local");
}

#[test]
fn schedulers_have_the_kernel_s_names_and_hashes_fall_back() {
    let of = |scheduler| the_service(&compile(&ServiceItem { scheduler, ..item("10.96.0.10:80", vec![]) }).unwrap());
    let fallback = Flags { fallback: true, ..Flags::default() };
    for (scheduler, name, flags) in [
        (Scheduler::RoundRobin, "rr", Flags::default()),
        (Scheduler::WeightedRoundRobin, "wrr", Flags::default()),
        (Scheduler::LeastConnections, "lc", Flags::default()),
        (Scheduler::WeightedLeastConnections, "wlc", Flags::default()),
        (Scheduler::ShortestExpectedDelay, "sed", Flags::default()),
        (Scheduler::NeverQueue, "nq", Flags::default()),
        (Scheduler::SourceHash, "sh", fallback),
        (Scheduler::DestinationHash, "dh", Flags::default()),
        (Scheduler::Maglev, "mh", Flags { port: true, ..fallback }),
    ] {
        let service = of(scheduler);
        assert_eq!((service.scheduler.as_str(), service.flags, service.ours), (name, flags, true));
    }
}

#[test]
fn direct_return_tunnels_where_no_endpoint_is_here_and_serves_where_one_is() {
    let at = |place: &str, local| ServiceBackend { local, ..backend(place, BackendUse::Active) };
    let of = |places: &[(&str, bool)]| ServiceItem {
        direct_return: true,
        kind: FrontendKind::ExternalIp,
        ..item("203.0.113.9:80", places.iter().map(|(place, local)| at(place, *local)).collect())
    };
    let (far, near) = (("10.244.2.2:8080", false), ("10.244.1.2:8080", true));
    let away = names(&compile(&of(&[far])).unwrap());
    assert!(away.iter().any(|name| name.ends_with("of svc-away4")), "{away:?}");
    let here = names(&compile(&of(&[far, near])).unwrap());
    assert!(here.contains(&"link svc-tunnel".to_owned()), "{here:?}");
    assert!(here.contains(&"element 10.244.1.2 of svc-tunnelled4".to_owned()), "{here:?}");
    for names in [&away, &here] {
        assert!(!names.iter().any(|name| name.contains("svc-masqueraded4")), "{names:?}");
        assert_eq!(names.iter().filter(|name| name.starts_with("destination")).count(), 1, "{names:?}");
    }
    let mut nowhere = of(&[far]);
    nowhere.backends =
        nowhere.backends.iter().cloned().map(|backend| ServiceBackend { node: None, ..backend }).collect();
    let mut over_ipv6 = item("[fd00:96::10]:80", vec![]);
    over_ipv6.direct_return = true;
    for refused in [nowhere, over_ipv6] {
        let error = compile(&refused).unwrap_err();
        assert_eq!((error.kind, error.field), (ErrorKind::Unsupported, Some("direct-server-return")));
    }
}

#[test]
fn affinity_is_persistence_of_single_clients() {
    let sticky = ServiceItem { affinity_seconds: NonZeroU32::new(10_800), ..item("[fd00:96::10]:80", vec![]) };
    let service = the_service(&compile(&sticky).unwrap());
    assert_eq!((service.persistence_seconds, service.client_bits), (Some(10_800), 128));
}

#[test]
fn one_that_serves_has_the_weight_of_its_endpoint_where_the_scheduler_weighs() {
    let heavy = ServiceBackend { weight: 5, ..backend("10.244.1.2:8080", BackendUse::Active) };
    for (scheduler, weight) in [(Scheduler::WeightedRoundRobin, 5), (Scheduler::Maglev, 5), (Scheduler::SourceHash, 1)]
    {
        let item = ServiceItem { scheduler, ..item("10.96.0.10:80", vec![heavy.clone()]) };
        let objects = compile(&item).unwrap();
        let weights = objects.iter().filter_map(|(_, object)| match object {
            Object::Destination(destination) => Some(destination.weight),
            _ => None,
        });
        assert_eq!(weights.collect::<Vec<_>>(), [weight], "{scheduler}");
    }
}

#[test]
fn one_that_drains_has_weight_0_and_one_that_may_be_here_may_reach_itself() {
    let mut here = backend("10.244.1.2:8080", BackendUse::Draining);
    here.local = true;
    let objects = compile(&item("10.96.0.10:80", vec![here])).unwrap();
    let weights: Vec<u32> = objects
        .iter()
        .filter_map(|(_, object)| match object {
            Object::Destination(destination) => Some(destination.weight),
            _ => None,
        })
        .collect();
    assert_eq!(weights, [0]);
    assert!(names(&objects).contains(&"element 10.244.1.2 . 10.244.1.2 of svc-hairpin4".to_owned()));
}

#[test]
fn clients_are_elements_that_do_not_overlap_and_of_none_nobody() {
    let nets: Vec<IpNet> =
        ["192.0.2.0/25", "192.0.2.128/25", "192.0.2.7/32", "2001:db8::/32"].map(|net| net.parse().unwrap()).into();
    let limited = ServiceItem { sources: Some(nets.into()), ..item("198.51.100.7:443", vec![]) };
    let found = names(&compile(&limited).unwrap());
    let allowed: Vec<&String> = found.iter().filter(|name| name.contains("svc-allowed")).collect();
    assert_eq!(
        allowed,
        ["element 198.51.100.7 . 6 . 443 . 192.0.2.0-198.51.100.7 . 6 . 443 . 192.0.2.255 of svc-allowed4"]
    );
    let nobody = ServiceItem { sources: Some([].into()), ..limited };
    let found = names(&compile(&nobody).unwrap());
    assert!(found.iter().any(|name| name.ends_with("svc-limited4")));
    assert!(!found.iter().any(|name| name.contains("svc-allowed")));
}

#[test]
fn what_is_not_acceptable_is_refused_with_the_field() {
    let mut odd = item("10.96.0.10:80", vec![]);
    odd.key.protocol = Protocol::ICMP;
    assert_eq!(compile(&odd).unwrap_err().kind, ErrorKind::Unsupported);
    let error = compile(&item("10.96.0.10:0", vec![])).unwrap_err();
    assert_eq!((error.kind, error.field), (ErrorKind::Invalid, Some("port")));
    let error = compile(&item("10.96.0.10:80", vec![backend("[fd00::2]:80", BackendUse::Active)])).unwrap_err();
    assert_eq!((error.kind, error.field), (ErrorKind::Invalid, Some("backends")));
}

proptest! {
    /// Every destination hangs on the one service, and everything of a frontend is of its family.
    #[test]
    fn all_objects_of_a_frontend_are_of_its_family(v6: bool, places in proptest::collection::btree_set(1..=250_u8, 0..8)) {
        let at = |host: u8| if v6 { format!("[fd00::{host:x}]:8080") } else { format!("10.244.1.{host}:8080") };
        let backends = places.iter().map(|host| backend(&at(*host), BackendUse::Active)).collect();
        let objects = compile(&item(if v6 { "[fd00:96::10]:80" } else { "10.96.0.10:80" }, backends)).unwrap();
        let services = objects.iter().filter(|(key, _)| matches!(key, Key::Service(_))).count();
        prop_assert_eq!(services, 1);
        for (key, _) in &objects {
            let same = match key {
                Key::Element(set, _) => set.ipv6 == v6,
                Key::Service(id) => id.is_ipv6() == v6,
                Key::Destination(id, place) => id.is_ipv6() == v6 && place.is_ipv6() == v6,
                Key::Address(address) => matches!(address.addr(), IpAddr::V6(_)) == v6,
                _ => false,
            };
            prop_assert!(same, "{}", key);
        }
        let destinations = objects.iter().filter(|(key, _)| matches!(key, Key::Destination(..))).count();
        prop_assert_eq!(destinations, places.len());
    }
}
