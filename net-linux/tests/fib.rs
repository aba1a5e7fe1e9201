//! Learned routes stand in the kernel as they were set, survive restarts and strangers, and touch nothing of others.
//! All in fresh network namespaces.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use ipnet::IpNet;
use net_linux::addr::Address;
use net_linux::fib::{Fib, FibOptions, NextHopKey, Report, Target, Tracker};
use net_linux::link::{LinkChange, LinkId, NewLink, NewLinkKind, VethPeer, Vxlan};
use net_linux::marks::{LEARNED_METRIC, LEARNED_NEXTHOP_IDS, LEARNED_PROTOCOL};
use net_linux::monitor::{Event, Group, Monitor};
use net_linux::netlink::{Batch, Error, Socket};
use net_linux::netns::NetNs;
use net_linux::nexthop::{Hop, NextHop};
use net_linux::route::{Route, RouteFilter, RouteKind, TunnelKey, Way};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const ALL: usize = usize::MAX;
const FOREIGN: u8 = 4;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// Runs `test` in a fresh namespace with a veth `v0` that is up and has addresses; gives its index.
fn with_veth(test: impl FnOnce(&mut Socket, u32) + Send) {
    let inside = || {
        let mut socket = Socket::route().unwrap();
        let kind = NewLinkKind::Veth(VethPeer { name: "v1", mac: None, namespace: None });
        let index = NewLink { up: true, ..NewLink::new("v0", kind) }.create(&mut socket).unwrap();
        let mut batch = Batch::new();
        for name in ["lo", "v1"] {
            LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name(name));
        }
        Address::new(index, net("192.0.2.1/24")).create(&mut batch);
        Address::new(index, net("2001:db8::1/64")).create(&mut batch);
        socket.run_all(&mut batch).unwrap();
        test(&mut socket, index);
    };
    NetNs::new().unwrap().run(inside).unwrap();
}

/// A table whose stale entries go at once.
fn synced(objects: bool) -> Fib {
    let mut fib = Fib::new(options(objects));
    fib.in_sync();
    fib
}

/// Objects change in place wherever they can.
fn options(objects: bool) -> FibOptions {
    FibOptions { objects, in_place_from: 1, ..FibOptions::default() }
}

fn commit(fib: &mut Fib, socket: &mut Socket) -> Report {
    let report = fib.commit(socket, ALL).unwrap();
    assert_eq!(report.failed, []);
    assert_eq!(report.left, 0);
    report
}

/// What stands in the kernel: destination to the ways there (sorted), or the type of a route that refuses.
fn present(socket: &mut Socket) -> BTreeMap<IpNet, String> {
    let objects: BTreeMap<u32, Hop> =
        NextHop::dump(socket, None).unwrap().into_iter().map(|object| (object.id, object.hop)).collect();
    fn text(objects: &BTreeMap<u32, Hop>, id: u32, weight: u8) -> Vec<String> {
        match &objects[&id] {
            Hop::Device { index, via, .. } => vec![format!("{via:?} on {index} x{weight}")],
            Hop::Group(members) => members.iter().flat_map(|(id, weight)| text(objects, *id, *weight)).collect(),
            Hop::Blackhole { .. } => vec!["blackhole".to_owned()],
        }
    }
    let filter = RouteFilter { protocol: Some(LEARNED_PROTOCOL), ..RouteFilter::default() };
    let describe = |route: &Route| {
        let mut ways = match route.nexthop_id {
            Some(id) => text(&objects, id, 1),
            None => {
                route.ways.iter().map(|(way, weight)| format!("{:?} on {} x{weight}", way.via, way.index)).collect()
            }
        };
        if let Some(index) = route.index {
            ways.push(format!("{:?} on {index} x1", route.via));
        }
        ways.sort();
        if ways.is_empty() { format!("{:?}", route.kind) } else { ways.join(", ") }
    };
    Route::dump(socket, &filter)
        .unwrap()
        .iter()
        .map(|route| {
            assert_eq!(route.metric, LEARNED_METRIC);
            (route.destination, describe(route))
        })
        .collect()
}

fn objects(socket: &mut Socket) -> usize {
    NextHop::dump(socket, None).unwrap().iter().filter(|object| LEARNED_NEXTHOP_IDS.contains(&object.id)).count()
}

#[test]
fn every_kind_of_target_stands_in_the_kernel_and_goes_with_its_objects() {
    for with_objects in [true, false] {
        with_veth(|socket, index| {
            let vxlan = NewLinkKind::Vxlan(Vxlan { collect_metadata: true, ..Vxlan::new(0, 4789) });
            let tunnel = NewLink { up: true, ..NewLink::new("x0", vxlan) }.create(socket).unwrap();
            let key = TunnelKey { id: 7, destination: ip("203.0.113.9"), source: None };
            let a = Way::via(ip("192.0.2.2"), index);
            let b = Way::via(ip("192.0.2.3"), index);
            let six = Way::via(ip("2001:db8::2"), index);
            let mut fib = synced(with_objects);
            let targets = [
                ("10.1.0.0/26", Target::way(a)),
                ("10.1.0.64/26", Target::Ways(vec![(b, 1), (a, 1)])),
                ("10.1.0.128/26", Target::Ways(vec![(a, 1), (b, 1)])),
                ("10.1.0.192/26", Target::Refuse(RouteKind::Blackhole)),
                ("10.2.0.0/26", Target::way(six)),
                ("10.3.0.0/26", Target::way(Way::on_link(index))),
                ("10.4.0.0/26", Target::way(Way::tunnelled(ip("203.0.113.9"), tunnel, key))),
                ("10.5.0.0/26", Target::Ways(vec![])),
                ("fd00:1::/122", Target::way(six)),
                ("fd00:2::/122", Target::way(Way::on_link(index))),
                ("fd00:3::/122", Target::Refuse(RouteKind::Unreachable)),
                ("fd00:4::/122", Target::Ways(vec![(six, 1), (Way::via(ip("2001:db8::3"), index), 3)])),
            ];
            for (destination, target) in &targets {
                fib.set(net(destination), target);
            }
            assert_eq!(commit(&mut fib, socket).routes, targets.len());
            let found = present(socket);
            let v4 = |text: &str| format!("Some({text}) on {index} x1");
            assert_eq!(found[&net("10.1.0.64/26")], format!("{}, {}", v4("192.0.2.2"), v4("192.0.2.3")));
            assert_eq!(found[&net("10.1.0.64/26")], found[&net("10.1.0.128/26")]);
            assert_eq!(found[&net("10.2.0.0/26")], v4("2001:db8::2"));
            assert_eq!(found[&net("10.3.0.0/26")], format!("None on {index} x1"));
            assert_eq!(found[&net("10.5.0.0/26")], "Unreachable");
            assert_eq!(found[&net("10.1.0.192/26")], "Blackhole");
            assert_eq!(found[&net("fd00:3::/122")], "Unreachable");
            assert!(found[&net("fd00:4::/122")].contains("2001:db8::3) on"));
            // a, b, six, 2001:db8::3, the tunnel, on the link in each family; two sets.
            assert_eq!(objects(socket), if with_objects { 9 } else { 0 });
            // A second look, and the same set again, write nothing.
            fib.observe(socket).unwrap();
            for (destination, target) in &targets {
                fib.set(net(destination), target);
            }
            assert_eq!(commit(&mut fib, socket), Report::default());
            for (destination, _) in &targets {
                fib.remove(net(destination));
            }
            commit(&mut fib, socket);
            assert_eq!((present(socket), objects(socket)), (BTreeMap::new(), 0));
        });
    }
}

#[test]
fn a_restart_writes_the_difference_only_and_what_is_stale_goes_after_in_sync() {
    for with_objects in [true, false] {
        with_veth(|socket, index| {
            let way = |last: u8| Target::way(Way::via(IpAddr::from([192, 0, 2, last]), index));
            let both = Target::Ways(vec![(Way::via(ip("192.0.2.2"), index), 1), (Way::via(ip("192.0.2.3"), index), 1)]);
            let mut before = synced(with_objects);
            before.set(net("10.0.0.0/24"), &way(2));
            before.set(net("10.0.1.0/24"), &both);
            before.set(net("10.0.2.0/24"), &way(9));
            commit(&mut before, socket);
            let standing = present(socket);
            // Another metric of an earlier configuration.
            let old = Route { protocol: LEARNED_PROTOCOL, metric: 7, ..Route::on_link(net("10.9.0.0/24"), index) };
            let mut batch = Batch::new();
            old.create(&mut batch);
            socket.run_all(&mut batch).unwrap();

            let mut fib = Fib::new(options(with_objects));
            fib.set(net("10.0.0.0/24"), &way(2));
            fib.set(net("10.0.1.0/24"), &both);
            fib.observe(socket).unwrap();
            assert_eq!(commit(&mut fib, socket), Report::default());
            fib.set(net("10.0.3.0/24"), &way(3));
            fib.observe(socket).unwrap();
            assert_eq!(commit(&mut fib, socket).routes, 1);
            let filter = RouteFilter { protocol: Some(LEARNED_PROTOCOL), ..RouteFilter::default() };
            assert_eq!(Route::dump(socket, &filter).unwrap().len(), 5);
            fib.in_sync();
            assert_eq!(commit(&mut fib, socket).routes, 2);
            let mut expected = standing;
            expected.remove(&net("10.0.2.0/24"));
            expected.insert(net("10.0.3.0/24"), format!("Some(192.0.2.3) on {index} x1"));
            assert_eq!(present(socket), expected);
            assert_eq!(objects(socket), if with_objects { 3 } else { 0 });
        });
    }
}

#[test]
fn a_next_hop_that_moves_under_all_its_routes_costs_one_message() {
    with_veth(|socket, index| {
        let mut fib = synced(true);
        let routes: Vec<IpNet> = (0..20).map(|at| net(&format!("10.0.{at}.0/24"))).collect();
        let way = |last: u8| Way::via(IpAddr::from([192, 0, 2, last]), index);
        let set = |fib: &mut Fib, target: &Target| routes.iter().for_each(|route| fib.set(*route, target));
        set(&mut fib, &Target::way(way(2)));
        commit(&mut fib, socket);
        set(&mut fib, &Target::way(way(3)));
        let report = commit(&mut fib, socket);
        assert_eq!((report.routes, report.objects), (0, 1));
        assert_eq!(present(socket)[&routes[7]], format!("Some(192.0.2.3) on {index} x1"));
        // So does a set of ways under all its routes; its new member is one more, its lost one another.
        set(&mut fib, &Target::Ways(vec![(way(3), 1), (way(4), 1)]));
        commit(&mut fib, socket);
        set(&mut fib, &Target::Ways(vec![(way(4), 1), (way(5), 1)]));
        let report = commit(&mut fib, socket);
        assert_eq!((report.routes, report.objects), (0, 3));
        let expected = format!("Some(192.0.2.4) on {index} x1, Some(192.0.2.5) on {index} x1");
        assert!(present(socket).values().all(|found| *found == expected), "{:?}", present(socket));
        // One route that stays keeps its object as it is.
        set(&mut fib, &Target::way(way(6)));
        commit(&mut fib, socket);
        routes[1..].iter().for_each(|route| fib.set(*route, &Target::way(way(7))));
        commit(&mut fib, socket);
        assert_eq!(present(socket)[&routes[0]], format!("Some(192.0.2.6) on {index} x1"));
        assert_eq!(present(socket)[&routes[1]], format!("Some(192.0.2.7) on {index} x1"));
        assert_eq!(objects(socket), 2);
    });
}

#[test]
fn a_foreign_route_keeps_its_place_and_is_reported_until_it_goes() {
    with_veth(|socket, index| {
        let mut other = Socket::route().unwrap();
        let place = |route: Route| Route { protocol: FOREIGN, metric: LEARNED_METRIC, ..route };
        let foreign = [
            place(Route::via_on_link(net("10.0.0.0/24"), ip("192.0.2.99"), index)),
            place(Route::via_on_link(net("fd00::/64"), ip("2001:db8::99"), index)),
        ];
        let mut batch = Batch::new();
        foreign.iter().for_each(|route| route.create(&mut batch));
        other.run_all(&mut batch).unwrap();
        let mut fib = synced(true);
        let four = Target::way(Way::via(ip("192.0.2.2"), index));
        fib.set(net("10.0.0.0/24"), &four);
        fib.set(net("fd00::/64"), &Target::way(Way::via(ip("2001:db8::2"), index)));
        fib.set(net("10.0.1.0/24"), &four);
        let report = fib.commit(socket, ALL).unwrap();
        assert_eq!((report.routes, report.failed.len(), report.left), (1, 2, 0));
        for failure in &report.failed {
            assert!(matches!(&failure.error, Error::Foreign { found, .. } if found == "protocol 4"), "{failure:?}");
        }
        assert_eq!(fib.foreign().len(), 2);
        let mut found =
            Route::dump(socket, &RouteFilter { protocol: Some(FOREIGN), ..RouteFilter::default() }).unwrap();
        found.sort_by_key(|route| route.destination);
        assert_eq!(found, foreign);
        let mut batch = Batch::new();
        foreign.iter().for_each(|route| route.delete(&mut batch));
        other.run_all(&mut batch).unwrap();
        fib.observe(socket).unwrap();
        assert_eq!(commit(&mut fib, socket).routes, 2);
        assert_eq!((fib.foreign().len(), present(socket).len()), (0, 3));
    });
}

/// What somebody else does to ours is told, and repaired by a look and a commit.
#[test]
fn changes_of_ours_by_others_are_told_and_repaired() {
    with_veth(|socket, index| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut other = Socket::route().unwrap();
            let mut fib = synced(true);
            let destinations: Vec<IpNet> = (0..50).map(|at| net(&format!("10.0.{at}.0/24"))).collect();
            for (at, destination) in destinations.iter().enumerate() {
                let gateway = if at % 2 == 0 { "192.0.2.2" } else { "192.0.2.3" };
                fib.set(*destination, &Target::way(Way::via(ip(gateway), index)));
            }
            fib.set(net("fd00::/64"), &Target::way(Way::via(ip("2001:db8::2"), index)));
            commit(&mut fib, socket);
            let whole = present(socket);
            let filter = RouteFilter { protocol: Some(LEARNED_PROTOCOL), ..RouteFilter::default() };
            let ours = Route::dump(socket, &filter).unwrap();
            let object = NextHop::dump(socket, None).unwrap().remove(0);
            let stranger = Route { protocol: FOREIGN, nexthop_id: None, ..ours[3].clone() };
            let stranger = Route { index: Some(index), ..stranger };
            let link = |up| LinkChange { up: Some(up), ..LinkChange::default() };
            type Harm<'a> = Box<dyn Fn(&mut Batch) + 'a>;
            let harms: [(&str, Harm<'_>); 5] = [
                ("a route deleted", Box::new(|batch| ours[0].delete(batch))),
                ("an object deleted", Box::new(|batch| object.delete(batch))),
                ("a route of ours that we did not write", {
                    let extra = Route { destination: net("10.77.0.0/16"), ..ours[1].clone() };
                    Box::new(move |batch| extra.create(batch))
                }),
                ("an object changed", {
                    let changed =
                        NextHop { protocol: LEARNED_PROTOCOL, ..NextHop::via(object.id, ip("192.0.2.77"), index) };
                    Box::new(move |batch| changed.replace(batch))
                }),
                ("the device down and up", {
                    Box::new(move |batch| {
                        link(false).add(batch, &LinkId::Index(index));
                        link(true).add(batch, &LinkId::Index(index));
                        Address::new(index, net("2001:db8::1/64")).replace(batch);
                    })
                }),
            ];
            for (name, harm) in harms {
                let mut monitor = Monitor::open(&[Group::Routes, Group::NextHops, Group::Links]).unwrap();
                let mut batch = Batch::new();
                harm(&mut batch);
                other.run_all(&mut batch).unwrap();
                let heard = async {
                    loop {
                        let notice = monitor.next().await.unwrap();
                        if notice.port != socket.port() && fib.concerns(&notice.event) {
                            break;
                        }
                    }
                };
                tokio::time::timeout(Duration::from_secs(20), heard).await.expect(name);
                fib.observe(socket).unwrap();
                commit(&mut fib, socket);
                assert_eq!(present(socket), whole, "{name}");
                assert_eq!(objects(socket), 3, "{name}");
            }
            // One that takes our place is told, and stays.
            let mut monitor = Monitor::open(&[Group::Routes]).unwrap();
            let mut batch = Batch::new();
            stranger.replace(&mut batch);
            other.run_all(&mut batch).unwrap();
            let notice = tokio::time::timeout(Duration::from_secs(20), monitor.next()).await.unwrap().unwrap();
            assert!(fib.concerns(&notice.event), "{notice:?}");
            fib.observe(socket).unwrap();
            let report = fib.commit(socket, ALL).unwrap();
            assert!(matches!(report.failed[0].error, Error::Foreign { .. }), "{report:?}");
        });
    });
}

#[test]
fn a_device_that_is_not_there_fails_its_own_routes_only_and_they_stay_queued() {
    with_veth(|socket, index| {
        let mut fib = synced(true);
        fib.set(net("10.0.0.0/24"), &Target::way(Way::via(ip("192.0.2.2"), 9999)));
        fib.set(net("10.0.1.0/24"), &Target::way(Way::via(ip("192.0.2.2"), index)));
        let report = fib.commit(socket, ALL).unwrap();
        assert_eq!((report.routes, report.failed.len(), report.left), (1, 1, 1));
        assert_eq!(report.failed[0].destination, net("10.0.0.0/24"));
        fib.set(net("10.0.0.0/24"), &Target::way(Way::via(ip("192.0.2.2"), index)));
        commit(&mut fib, socket);
        assert_eq!((present(socket).len(), objects(socket)), (2, 1));
    });
}

/// Before: one next hop behind a learned route would resolve through itself.
#[test]
fn next_hops_resolve_through_the_kernels_routes_and_never_through_learned_ones() {
    with_veth(|socket, index| {
        let mut batch = Batch::new();
        Route::via_on_link(net("198.51.100.0/24"), ip("192.0.2.254"), index).create(&mut batch);
        let ways = vec![(Way::via(ip("192.0.2.7"), index), 1), (Way::via(ip("192.0.2.8"), index), 2)];
        Route { metric: 5, ways: ways.clone(), ..Route::new(net("203.0.113.0/24")) }.create(&mut batch);
        NextHop { protocol: FOREIGN, ..NextHop::via(9, ip("192.0.2.66"), index) }.create(&mut batch);
        Route { protocol: FOREIGN, ..Route::through(net("100.64.0.0/10"), 9) }.create(&mut batch);
        Route::refusing(net("100.64.1.0/24"), RouteKind::Unreachable).create(&mut batch);
        socket.run_all(&mut batch).unwrap();
        let mut fib = synced(true);
        fib.set(net("172.16.0.0/16"), &Target::way(Way::via(ip("192.0.2.9"), index)));
        fib.set(net("198.51.100.5/32"), &Target::way(Way::via(ip("192.0.2.9"), index)));
        fib.set(net("100.64.0.1/32"), &Target::way(Way::via(ip("192.0.2.9"), index)));
        commit(&mut fib, socket);
        let now = Instant::now();
        let mut tracker = Tracker::new();
        let via = |gateway: &str| vec![(Way::via(ip(gateway), index), 1)];
        let expected = [
            ("192.0.2.2", via("192.0.2.2")),
            ("2001:db8::2", via("2001:db8::2")),
            ("198.51.100.1", via("192.0.2.254")),
            ("203.0.113.1", ways),
            ("100.64.9.9", via("192.0.2.66")),
            // Behind learned routes: the kernel's own entry behind them counts, and where there is none, nothing.
            ("198.51.100.5", via("192.0.2.254")),
            ("100.64.0.1", via("192.0.2.66")),
            ("172.16.1.1", vec![]),
            ("100.64.1.1", vec![]),
            ("192.0.2.1", vec![]),
            ("8.8.8.8", vec![]),
        ];
        for (address, _) in &expected {
            tracker.watch(now, ip(address).into());
        }
        let link_local = NextHopKey { address: ip("fe80::1"), device: Some(index) };
        tracker.watch(now, link_local);
        assert_eq!(tracker.refresh(socket).unwrap().len(), expected.len() + 1);
        for (address, ways) in &expected {
            assert_eq!(tracker.resolution(&ip(address).into()).unwrap().ways, *ways, "{address}");
        }
        assert_eq!(tracker.resolution(&link_local).unwrap().ways, via("fe80::1"));
        assert_eq!(tracker.resolution(&ip("203.0.113.1").into()).unwrap().metric, 5);
        // Nothing changed, nothing told; then the link goes.
        assert_eq!(tracker.refresh(socket).unwrap(), []);
        let mut batch = Batch::new();
        LinkChange { up: Some(false), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(index));
        socket.run_all(&mut batch).unwrap();
        let gone = tracker.refresh(socket).unwrap();
        assert!(gone.len() >= 8 && gone.iter().all(|(_, found)| found.ways.is_empty()), "{gone:?}");
    });
}

#[test]
fn the_tracker_hears_what_moves_next_hops() {
    with_veth(|socket, index| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut tracker = Tracker::new();
            tracker.watch(Instant::now(), ip("198.51.100.1").into());
            tracker.refresh(socket).unwrap();
            let mut monitor = Monitor::open(&[Group::Routes]).unwrap();
            let mut batch = Batch::new();
            Route::via_on_link(net("198.51.100.0/24"), ip("192.0.2.254"), index).create(&mut batch);
            socket.run_all(&mut batch).unwrap();
            let notice = monitor.next().await.unwrap();
            assert!(matches!(notice.event, Event::Route(..)));
            tracker.hear(Instant::now(), &notice);
            tokio::time::sleep_until(tracker.deadline().unwrap().into()).await;
            let found = tracker.refresh(socket).unwrap();
            assert_eq!(found[0].1.ways, [(Way::via(ip("192.0.2.254"), index), 1)]);
            assert_eq!(tracker.deadline(), None);
        });
    });
}

#[derive(Debug, Clone)]
enum Step {
    Set(u8, Vec<u8>),
    Refuse(u8),
    Remove(u8),
    Commit(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let destination = 0..12u8;
    // Some ways are shared by much, some by nothing.
    let way = || prop_oneof![2..4u8, 4..60u8];
    prop_oneof![
        6 => (destination.clone(), proptest::collection::vec(way(), 1..4)).prop_map(|(at, ways)| Step::Set(at, ways)),
        1 => destination.clone().prop_map(Step::Refuse),
        3 => destination.prop_map(Step::Remove),
        3 => (1..20usize).prop_map(Step::Commit),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn any_history_ends_in_what_was_set_last(steps in proptest::collection::vec(step(), 1..60), with_objects: bool) {
        with_veth(move |socket, index| {
            let mut wanted: BTreeMap<IpNet, Target> = BTreeMap::new();
            let mut fib = synced(with_objects);
            let place = |at: u8| match at % 3 {
                0 => net(&format!("fd00:0:0:{at}::/64")),
                _ => net(&format!("10.0.{at}.0/24")),
            };
            let way = |at: u8, last: u8| match at % 3 {
                0 => Way::via(ip(&format!("2001:db8::{last}")), index),
                _ => Way::via(IpAddr::from([192, 0, 2, last]), index),
            };
            for step in steps {
                match step {
                    Step::Set(at, ways) => {
                        let target = Target::Ways(ways.into_iter().map(|last| (way(at, last), 1)).collect());
                        fib.set(place(at), &target);
                        wanted.insert(place(at), target);
                    }
                    Step::Refuse(at) => {
                        let target = Target::Refuse(RouteKind::Unreachable);
                        fib.set(place(at), &target);
                        wanted.insert(place(at), target);
                    }
                    Step::Remove(at) => {
                        fib.remove(place(at));
                        wanted.remove(&place(at));
                    }
                    Step::Commit(most) => assert_eq!(fib.commit(socket, most).unwrap().failed, []),
                    Step::Restart => {
                        fib = Fib::new(options(with_objects));
                        fib.observe(socket).unwrap();
                        wanted.iter().for_each(|(at, target)| fib.set(*at, target));
                        fib.in_sync();
                    }
                }
            }
            commit(&mut fib, socket);
            let found = present(socket);
            let mut used = std::collections::BTreeSet::new();
            let expected: BTreeMap<IpNet, String> = wanted.iter().map(|(at, target)| {
                let Target::Ways(ways) = target else { return (*at, "Unreachable".to_owned()) };
                let mut weights: BTreeMap<IpAddr, u32> = BTreeMap::new();
                ways.iter().for_each(|(way, weight)| *weights.entry(way.via.unwrap()).or_default() += u32::from(*weight));
                if weights.len() == 1 {
                    weights.values_mut().for_each(|weight| *weight = 1);
                } else {
                    used.insert(format!("{weights:?}"));
                }
                weights.keys().for_each(|via| { used.insert(via.to_string()); });
                let mut texts: Vec<String> =
                    weights.iter().map(|(via, weight)| format!("Some({via}) on {index} x{weight}")).collect();
                texts.sort();
                (*at, texts.join(", "))
            }).collect();
            assert_eq!(found, expected);
            assert_eq!(objects(socket), if with_objects { used.len() } else { 0 });
            fib.observe(socket).unwrap();
            assert_eq!(commit(&mut fib, socket), Report::default());
        });
    }
}
