//! Attaching, checking, detaching and reaping pods, in fresh network namespaces that play the host and the pods.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use cni_core::backend::{ErrorKind, Known, Op};
use cni_core::cni;
use cni_core::model::{EndpointId, MacAddr};
use net_linux::addr::Address;
use net_linux::attach::{AttachError, AttachRequest, Attacher, Detached};
use net_linux::endpoint;
use net_linux::link::{Link, LinkChange, LinkFilter, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::marks;
use net_linux::neigh::Neighbour;
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use net_linux::route::{Route, RouteFilter, RouteKind};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// `RTPROT_KERNEL` of `include/uapi/linux/rtnetlink.h`.
const RTPROT_KERNEL: u8 = 2;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn id(container: &str) -> EndpointId {
    EndpointId::of(container, "eth0").unwrap()
}

fn request(container: &str, last: u8) -> AttachRequest {
    let addresses = vec![ip(&format!("10.1.2.{last}")), ip(&format!("2001:db8::{last:x}"))];
    AttachRequest::new(id(container), addresses, 1450)
}

/// Runs a test in a fresh namespace that plays the host.
fn on_host(test: impl FnOnce(&mut Attacher, &mut Socket) + Send) {
    let inside = || test(&mut Attacher::open().unwrap(), &mut Socket::route().unwrap());
    NetNs::new().unwrap().run(inside).unwrap();
}

fn links(socket: &mut Socket) -> Vec<String> {
    let mut names: Vec<_> =
        Link::dump(socket, &LinkFilter::default()).unwrap().into_iter().map(|link| link.name).collect();
    names.sort();
    names
}

fn put_endpoint(socket: &mut Socket, objects: Vec<(endpoint::EndpointKey, endpoint::EndpointObject)>) {
    let put = |(key, object)| Op::Put { key, present: Known::Absent, object };
    let ops: Vec<_> = objects.into_iter().map(put).collect();
    for result in endpoint::apply(socket, &ops) {
        result.unwrap();
    }
}

fn change_in(namespace: &NetNs, change: impl FnOnce(&mut Batch, u32) + Send) {
    let inside = || {
        let mut socket = Socket::route().unwrap();
        let index = Link::get(&mut socket, &LinkId::Name("eth0")).unwrap().unwrap().index;
        let mut batch = Batch::new();
        change(&mut batch, index);
        socket.run_all(&mut batch).unwrap();
    };
    namespace.run(inside).unwrap();
}

#[test]
fn two_pods_reach_each_other_over_both_families_at_once() {
    on_host(|attacher, socket| {
        for sysctl in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            fs::write(format!("/proc/sys/net/{sysctl}"), "1").unwrap();
        }
        let pods = [NetNs::new().unwrap(), NetNs::new().unwrap()];
        let requests = [request("a", 1), request("b", 2)];
        for (pod, request) in pods.iter().zip(&requests) {
            let attachment = attacher.attach(pod, request).unwrap();
            put_endpoint(socket, endpoint::compile(&attachment.endpoint(None)).unwrap());
        }
        for address in &requests[1].addresses {
            // Nothing waits for duplicate address detection: the address takes a socket now.
            let listener = pods[1].run(|| TcpListener::bind((*address, 0)).unwrap()).unwrap();
            let port = listener.local_addr().unwrap().port();
            let target = (*address, port).into();
            let mut client =
                pods[0].run(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)).unwrap()).unwrap();
            let (mut server, from) = listener.accept().unwrap();
            assert!(requests[0].addresses.contains(&from.ip()), "{from}");
            client.write_all(b"hello").unwrap();
            let mut text = [0; 5];
            server.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"hello");
        }
        for (pod, request) in pods.iter().zip(&requests) {
            assert_eq!(attacher.check(pod, request, &[]).unwrap(), []);
        }
    });
}

#[test]
fn no_address_waits_for_duplicate_detection() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        let attachment = attacher.attach(&pod, &request("a", 1)).unwrap();
        let inside = pod.run(|| Address::dump(&mut Socket::route().unwrap(), Some(attachment.pod_index)).unwrap());
        let inside = inside.unwrap();
        assert_eq!(inside.len(), 3, "{inside:?}");
        assert!(inside.iter().all(|address| !address.tentative), "{inside:?}");
        let host = Address::dump(socket, Some(attachment.host_index)).unwrap();
        assert_eq!(host, [], "the host's end has no address");
    });
}

#[test]
fn a_second_attach_is_refused_and_changes_nothing() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        let request = request("a", 1);
        attacher.attach(&pod, &request).unwrap();
        let before = links(socket);
        assert!(matches!(attacher.attach(&pod, &request), Err(AttachError::AlreadyAttached { .. })));
        let other = NetNs::new().unwrap();
        assert!(matches!(attacher.attach(&other, &request), Err(AttachError::AlreadyAttached { .. })));
        // Another container's id, the same namespace: the pod has an eth0.
        let intruder = self::request("b", 2);
        assert!(matches!(attacher.attach(&pod, &intruder), Err(AttachError::InterfaceExists { .. })));
        assert_eq!(links(socket), before);
        assert_eq!(attacher.check(&pod, &request, &[]).unwrap(), []);
    });
}

#[test]
fn an_attach_reaps_the_doomed_link_in_its_way() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        attacher.attach(&pod, &request("a", 1)).unwrap();
        assert_eq!(attacher.detach(&id("a")).unwrap(), Detached::Doomed);
        // The same endpoint again, then another container's in the same namespace.
        attacher.attach(&pod, &request("a", 1)).unwrap();
        assert_eq!(attacher.check(&pod, &request("a", 1), &[]).unwrap(), []);
        attacher.detach(&id("a")).unwrap();
        attacher.attach(&pod, &request("b", 2)).unwrap();
        assert_eq!(attacher.check(&pod, &request("b", 2), &[]).unwrap(), []);
        let host_interface = marks::host_interface(&id("b")).to_string();
        assert_eq!(links(socket), [host_interface, "lo".to_owned()]);
    });
}

#[test]
fn a_failed_attach_leaves_nothing() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        // The kernel refuses the second of two equal routes, late on the pod's side.
        let mut twice = request("a", 1);
        twice.routes.extend(twice.routes.clone());
        let error = attacher.attach(&pod, &twice).unwrap_err();
        assert!(matches!(&error, AttachError::Netlink { source, .. } if source.is_exists()), "{error}");
        assert_eq!(links(socket), ["lo"]);
        assert_eq!(pod.run(|| links(&mut Socket::route().unwrap())).unwrap(), ["lo"]);
        attacher.attach(&pod, &request("a", 1)).unwrap();
    });
}

#[test]
fn what_is_not_acceptable_is_refused_by_field_before_anything_is_touched() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        let good = request("a", 1);
        let cases = [
            ("mtu", AttachRequest { mtu_bytes: 1279, ..good.clone() }),
            ("mtu", AttachRequest { mtu_bytes: 65_536, ..good.clone() }),
            ("addresses", AttachRequest { addresses: Vec::new(), ..good.clone() }),
            ("addresses", AttachRequest { addresses: vec![ip("ff02::1")], ..good.clone() }),
            ("addresses", AttachRequest { addresses: vec![ip("127.0.0.1")], ..good.clone() }),
            ("addresses", AttachRequest { addresses: vec![ip("10.0.0.1"); 2], ..good.clone() }),
            ("routes", AttachRequest { addresses: vec![ip("10.0.0.1")], ..good.clone() }),
            ("mac", AttachRequest { pod_mac: Some(MacAddr([1, 0, 0, 0, 0, 1])), ..good.clone() }),
        ];
        for (wrong, request) in cases {
            let error = attacher.attach(&pod, &request).unwrap_err();
            assert!(matches!(error, AttachError::Invalid { field, .. } if field == wrong), "{wrong}: {error}");
        }
        let here = NetNs::current().unwrap();
        assert!(matches!(attacher.attach(&here, &good), Err(AttachError::HostNamespace { .. })));
        assert_eq!(links(socket), ["lo"]);
    });
}

#[test]
fn a_foreign_interface_of_our_name_stays() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        let name = marks::host_interface(&id("a"));
        NewLink::new(name.as_str(), NewLinkKind::Bridge).create(socket).unwrap();
        let before = Link::get(socket, &LinkId::Name(name.as_str())).unwrap();
        let error = attacher.attach(&pod, &request("a", 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Foreign, "{error}");
        assert_eq!(attacher.detach(&id("a")).unwrap(), Detached::Gone);
        assert_eq!(Link::get(socket, &LinkId::Name(name.as_str())).unwrap(), before);
    });
}

#[test]
fn a_veth_that_a_crash_left_half_made_is_swept_or_replaced() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        let name = marks::host_interface(&id("a"));
        let half_made = |socket: &mut Socket| {
            let peer = VethPeer { name: "eth0", mac: None, namespace: Some(pod.as_fd()) };
            let new = NewLink::new(name.as_str(), NewLinkKind::Veth(peer));
            NewLink { group: marks::STAGED_LINK_GROUP, ..new }.create(socket).unwrap();
        };
        half_made(socket);
        assert_eq!((attacher.sweep().unwrap(), attacher.sweep().unwrap()), (1, 0));
        assert_eq!(links(socket), ["lo"]);
        half_made(socket);
        attacher.attach(&pod, &request("a", 1)).unwrap();
        assert_eq!(attacher.check(&pod, &request("a", 1), &[]).unwrap(), []);
        assert_eq!(attacher.sweep().unwrap(), 0, "a finished attachment is not swept");
    });
}

#[test]
fn one_reap_deletes_a_hundred_detached_pods_and_no_foreign_link() {
    on_host(|attacher, socket| {
        let pods: Vec<_> = (0..100).map(|_| NetNs::new().unwrap()).collect();
        let names: Vec<_> = (0..100).map(|at| format!("c{at}")).collect();
        for ((pod, name), last) in pods.iter().zip(&names).zip(1..) {
            attacher.attach(pod, &request(name, last)).unwrap();
        }
        assert_eq!(attacher.list().unwrap().iter().filter(|attached| attached.up && !attached.doomed).count(), 100);
        for name in &names {
            assert_eq!(attacher.detach(&id(name)).unwrap(), Detached::Doomed);
            assert_eq!(attacher.detach(&id(name)).unwrap(), Detached::Doomed, "detach is repeatable");
        }
        assert_eq!(attacher.list().unwrap().iter().filter(|attached| attached.doomed && !attached.up).count(), 100);
        assert_eq!(attacher.reap().unwrap(), 100);
        assert_eq!((attacher.reap().unwrap(), attacher.list().unwrap()), (0, Vec::new()));
        assert_eq!(attacher.detach(&id("c0")).unwrap(), Detached::Gone);
        assert_eq!(links(socket), ["lo"]);

        // A foreign link in our group: ours go one by one, it stays.
        let stranger = NewLink { group: marks::DOOMED_LINK_GROUP, ..NewLink::new("stranger", NewLinkKind::Bridge) };
        stranger.create(socket).unwrap();
        attacher.attach(&pods[0], &request("c0", 1)).unwrap();
        attacher.detach(&id("c0")).unwrap();
        assert_eq!(attacher.reap().unwrap(), 1);
        assert_eq!(links(socket), ["lo", "stranger"]);
    });
}

#[test]
fn detaching_takes_routes_and_neighbours_with_it_and_needs_no_pod_namespace() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        let attachment = attacher.attach(&pod, &request("a", 1)).unwrap();
        put_endpoint(socket, endpoint::compile(&attachment.endpoint(None)).unwrap());
        assert_eq!(endpoint::observe(socket).unwrap().len(), 4);
        attacher.detach(&id("a")).unwrap();
        assert_eq!(endpoint::observe(socket).unwrap(), []);
        drop(pod);
        let deadline = Instant::now() + Duration::from_secs(20);
        while links(socket).len() > 1 {
            assert!(Instant::now() < deadline, "the veth outlives its pod's namespace");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(attacher.detach(&id("a")).unwrap(), Detached::Gone);
    });
}

#[test]
fn a_pod_with_ipv6_switched_off_gets_it_on_its_interface() {
    on_host(|attacher, _| {
        let pod = NetNs::new().unwrap();
        let off = || {
            for conf in ["all", "default"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{conf}/disable_ipv6"), "1").unwrap();
            }
        };
        pod.run(off).unwrap();
        attacher.attach(&pod, &request("a", 1)).unwrap();
        assert_eq!(attacher.check(&pod, &request("a", 1), &[]).unwrap(), []);
    });
}

#[test]
fn check_names_every_thing_that_drifted() {
    on_host(|attacher, socket| {
        let request = request("a", 1);
        let gateway: IpAddr = ip("169.254.1.1");
        type Damage<'a> = (&'a str, &'a (dyn Fn(&NetNs, &mut Socket) + Sync));
        let host = |socket: &mut Socket, change: LinkChange<'_>| {
            let mut batch = Batch::new();
            change.add(&mut batch, &LinkId::Name(marks::host_interface(&id("a")).as_str()));
            socket.run_all(&mut batch).unwrap();
        };
        let pod_change = |namespace: &NetNs, change: LinkChange<'static>| {
            change_in(namespace, |batch, index| change.add(batch, &LinkId::Index(index)));
        };
        let damages: [Damage<'_>; 17] = [
            ("is down", &|_, socket| host(socket, LinkChange { up: Some(false), ..LinkChange::default() })),
            ("MTU 1400", &|_, socket| host(socket, LinkChange { mtu_bytes: Some(1400), ..LinkChange::default() })),
            ("alias", &|_, socket| host(socket, LinkChange { alias: Some(""), ..LinkChange::default() })),
            ("MAC 02:02", &|_, socket| {
                host(socket, LinkChange { mac: Some(MacAddr([2; 6])), ..LinkChange::default() })
            }),
            ("to be deleted", &|_, socket| {
                host(socket, LinkChange { group: Some(marks::DOOMED_LINK_GROUP), ..LinkChange::default() });
            }),
            ("MTU 1399", &|pod, _| pod_change(pod, LinkChange { mtu_bytes: Some(1399), ..LinkChange::default() })),
            ("MAC 02:03", &|pod, _| {
                pod_change(pod, LinkChange { mac: Some(MacAddr([2, 3, 3, 3, 3, 3])), ..LinkChange::default() });
            }),
            ("pod interface eth0: down", &|pod, _| {
                pod_change(pod, LinkChange { up: Some(false), ..LinkChange::default() })
            }),
            ("address 10.1.2.1/32: missing", &|pod, _| {
                change_in(pod, |batch, index| Address::new(index, "10.1.2.1/32".parse().unwrap()).delete(batch));
            }),
            ("address 10.9.9.9/32: there, should be absent", &|pod, _| {
                change_in(pod, |batch, index| Address::new(index, "10.9.9.9/32".parse().unwrap()).create(batch));
            }),
            ("neighbour 169.254.1.1", &|pod, _| {
                change_in(pod, |batch, index| Neighbour::permanent(index, gateway, MacAddr([2; 6])).replace(batch));
            }),
            ("route 0.0.0.0/0: missing", &|pod, _| {
                change_in(pod, |batch, index| {
                    Route::via_on_link("0.0.0.0/0".parse().unwrap(), gateway, index).delete(batch);
                });
            }),
            ("route ::/0: via fe80::2", &|pod, _| {
                change_in(pod, |batch, index| {
                    Route::via_on_link("::/0".parse().unwrap(), ip("fe80::2"), index).replace(batch);
                });
            }),
            ("route 0.0.0.0/0 via 10.1.2.9 metric 50: there, on this interface, should be absent", &|pod, _| {
                change_in(pod, |batch, index| {
                    let second = Route::via_on_link("0.0.0.0/0".parse().unwrap(), ip("10.1.2.9"), index);
                    Route { metric: 50, ..second }.create(batch);
                });
            }),
            ("route 169.254.0.0/16 metric 0: there, and drops packets, should be absent", &|pod, _| {
                change_in(pod, |batch, _| {
                    Route::refusing("169.254.0.0/16".parse().unwrap(), RouteKind::Blackhole).create(batch);
                });
            }),
            ("route 169.254.1.1/32 table 255 metric 0: there, to the pod itself, should be absent", &|pod, _| {
                // An address of another device.
                change_in(pod, |batch, _| Address::new(1, "169.254.1.1/32".parse().unwrap()).create(batch));
            }),
            ("interface lo: down", &|pod, _| {
                let down = LinkChange { up: Some(false), ..LinkChange::default() };
                change_in(pod, |batch, _| down.add(batch, &LinkId::Name("lo")));
            }),
        ];
        for (named, damage) in damages {
            let pod = NetNs::new().unwrap();
            attacher.attach(&pod, &request).unwrap();
            damage(&pod, socket);
            let drifted: Vec<String> =
                attacher.check(&pod, &request, &[]).unwrap().iter().map(ToString::to_string).collect();
            let wanted = named.trim_start_matches("is ");
            assert!(drifted.iter().any(|line| line.contains(wanted)), "{named}: {drifted:?}");
            let mut batch = Batch::new();
            LinkId::Name(marks::host_interface(&id("a")).as_str()).delete(&mut batch);
            socket.run_all(&mut batch).unwrap();
        }
        let pod = NetNs::new().unwrap();
        let drifted: Vec<String> =
            attacher.check(&pod, &request, &[]).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(drifted.len(), 2, "{drifted:?}");
        assert!(
            drifted[0].starts_with("host interface cni")
                && drifted[1] == "pod interface eth0: missing, should be a veth"
        );
    });
}

#[test]
fn check_leaves_routes_alone_that_prev_result_lists_or_that_are_another_interfaces() {
    on_host(|attacher, _| {
        let (pod, request) = (NetNs::new().unwrap(), request("a", 1));
        attacher.attach(&pod, &request).unwrap();
        change_in(&pod, |batch, index| {
            let second = Route::via_on_link("0.0.0.0/0".parse().unwrap(), ip("10.1.2.9"), index);
            Route { metric: 50, protocol: 3, ..second }.create(batch);
        });
        let net1 = || {
            let mut socket = Socket::route().unwrap();
            let peer = VethPeer { name: "peer1", mac: None, namespace: None };
            let net1 = NewLink::new("net1", NewLinkKind::Veth(peer)).create(&mut socket).unwrap();
            let mut batch = Batch::new();
            LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(net1));
            for address in ["192.0.2.7/24", "2001:db8:9::7/64"] {
                Address::new(net1, address.parse().unwrap()).create(&mut batch);
            }
            Route::via_on_link("198.51.100.0/24".parse().unwrap(), ip("192.0.2.1"), net1).create(&mut batch);
            socket.run_all(&mut batch).unwrap();
        };
        pod.run(net1).unwrap();
        let listed = cni::Route::new("0.0.0.0/0".parse().unwrap(), Some(ip("10.1.2.9")));
        assert_eq!(attacher.check(&pod, &request, &[listed]).unwrap(), []);
        assert_eq!(attacher.check(&pod, &request, &[]).unwrap().len(), 1);
    });
}

#[test]
fn an_attachment_lives_as_long_as_its_pods_namespace_and_no_longer() {
    on_host(|attacher, socket| {
        assert!(!attacher.is_alive(&id("a")).unwrap(), "never attached");
        for container in ["a", "b"] {
            let pod = NetNs::new().unwrap();
            attacher.attach(&pod, &request(container, 1)).unwrap();
            assert!(attacher.is_alive(&id(container)).unwrap());
            if container == "b" {
                attacher.detach(&id("b")).unwrap();
                assert!(!attacher.is_alive(&id("b")).unwrap(), "doomed");
            }
        }
        // The namespace of "a" has died by now; its veth may still be shown for a moment.
        let end = Instant::now() + Duration::from_secs(10);
        while attacher.is_alive(&id("a")).unwrap() {
            assert!(Instant::now() < end, "{:?}", links(socket));
            std::thread::yield_now();
        }
    });
}

#[test]
fn an_endpoints_objects_read_back_and_foreign_ones_are_never_shown() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        let attachment = attacher.attach(&pod, &request("a", 1)).unwrap();
        let index = attachment.host_index;
        let kind = NewLinkKind::Veth(VethPeer { name: "foreign1", mac: None, namespace: None });
        let foreign = NewLink { up: true, ..NewLink::new("foreign0", kind) }.create(socket).unwrap();
        let mut batch = Batch::new();
        Route::on_link("10.5.0.1/32".parse().unwrap(), foreign).create(&mut batch);
        Route { protocol: 4, ..Route::on_link("10.5.0.2/32".parse().unwrap(), index) }.create(&mut batch);
        Neighbour { protocol: 0, ..Neighbour::permanent(index, ip("10.5.0.3"), MacAddr([2; 6])) }.create(&mut batch);
        socket.run_all(&mut batch).unwrap();
        // The kernel makes its own for link-local addresses when it gets to it.
        let theirs = |socket: &mut Socket| {
            let all = Route::dump(socket, &RouteFilter::default()).unwrap();
            all.into_iter().filter(|route| route.protocol != RTPROT_KERNEL).collect::<Vec<_>>()
        };
        let routes = theirs(socket);
        assert_eq!(endpoint::observe(socket).unwrap(), []);
        let mut wanted = endpoint::compile(&attachment.endpoint(None)).unwrap();
        put_endpoint(socket, wanted.clone());
        put_endpoint(socket, wanted.clone());
        let mut found = endpoint::observe(socket).unwrap();
        wanted.sort_by(|a, b| a.0.cmp(&b.0));
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, wanted);
        let delete = |(key, _)| Op::Delete { key, present: Known::Unknown };
        let ops: Vec<_> = wanted.into_iter().map(delete).collect();
        for _ in 0..2 {
            for result in endpoint::apply(socket, &ops) {
                result.unwrap();
            }
        }
        assert_eq!(endpoint::observe(socket).unwrap(), []);
        assert_eq!(theirs(socket), routes);
    });
}

#[test]
fn a_veth_that_somebody_set_down_comes_up_with_its_routes_and_a_detached_one_stays_down() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        let attachment = attacher.attach(&pod, &request("a", 1)).unwrap();
        let wanted = endpoint::compile(&attachment.endpoint(None)).unwrap();
        put_endpoint(socket, wanted.clone());
        let mut batch = Batch::new();
        LinkChange { up: Some(false), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(attachment.host_index));
        socket.run_all(&mut batch).unwrap();
        put_endpoint(socket, wanted.clone());
        assert_eq!(endpoint::observe(socket).unwrap().len(), wanted.len());

        attacher.detach(&id("a")).unwrap();
        let put = |(key, object)| Op::Put { key, present: Known::Absent, object };
        endpoint::apply(socket, &wanted.into_iter().map(put).collect::<Vec<_>>());
        assert!(!Link::get(socket, &LinkId::Index(attachment.host_index)).unwrap().unwrap().up);
    });
}

#[test]
fn an_endpoint_whose_interface_is_missing_or_foreign_is_refused_alone() {
    on_host(|attacher, socket| {
        let pod = NetNs::new().unwrap();
        let good = attacher.attach(&pod, &request("a", 1)).unwrap().endpoint(None);
        let mut gone = good.clone();
        gone.host_interface = "nowhere".parse().unwrap();
        gone.addresses = vec![ip("10.1.2.2")];
        let mut foreign = good.clone();
        foreign.host_interface = "lo".parse().unwrap();
        foreign.addresses = vec![ip("10.1.2.3")];
        let ops: Vec<_> = [gone, good, foreign]
            .iter()
            .flat_map(|endpoint| endpoint::compile(endpoint).unwrap())
            .map(|(key, object)| Op::Put { key, present: Known::Absent, object })
            .collect();
        let kinds: Vec<_> =
            endpoint::apply(socket, &ops).into_iter().map(|result| result.err().map(|e| e.kind)).collect();
        let (missing, taken) = (Some(ErrorKind::Missing), Some(ErrorKind::Foreign));
        assert_eq!(kinds, [missing, missing, None, None, None, None, taken, taken]);
    });
}

#[test]
fn an_endpoint_that_no_pod_can_be_does_not_compile() {
    let endpoint = cni_core::model::Endpoint {
        id: id("a"),
        pod: None,
        host_interface: marks::host_interface(&id("a")),
        host_mac: MacAddr([2; 6]),
        pod_mac: MacAddr([2; 6]),
        addresses: vec![ip("10.0.0.1")],
    };
    assert_eq!(endpoint::compile(&endpoint).unwrap().len(), 2);
    for addresses in [vec![], vec![ip("0.0.0.0")], vec![ip("224.0.0.1")], vec![ip("::1")], vec![ip("169.254.0.1")]] {
        let error = endpoint::compile(&cni_core::model::Endpoint { addresses, ..endpoint.clone() }).unwrap_err();
        assert_eq!((error.kind, error.field), (ErrorKind::Invalid, Some("addresses")));
    }
    let mac = cni_core::model::Endpoint { pod_mac: MacAddr([0; 6]), ..endpoint };
    assert_eq!(endpoint::compile(&mac).unwrap_err().field, Some("podMac"));
}

/// What the interface of a pod has sent, in packets.
fn sent() -> u64 {
    let shown = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = shown.lines().find_map(|line| line.trim().strip_prefix("eth0:")).unwrap();
    line.split_whitespace().nth(9).unwrap().parse().unwrap()
}

#[test]
fn what_a_pod_sends_first_is_not_dropped() {
    on_host(|attacher, _| {
        for round in 0..200 {
            let (pod, name) = (NetNs::new().unwrap(), format!("pod-{round}"));
            attacher.attach(&pod, &request(&name, 1)).unwrap();
            let first = || {
                let before = sent();
                UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"first", "192.0.2.9:9").unwrap();
                sent() - before
            };
            assert!(pod.run(first).unwrap() > 0, "round {round}");
            attacher.detach(&id(&name)).unwrap();
        }
        attacher.reap().unwrap();
    });
}
