//! Changes are told with their table, object and sender; loss is told, too. In fresh network namespaces.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use cni_core::backend::DriftWatch;
use cni_core::model::MacAddr;
use net_linux::addr::Address;
use net_linux::fdb::FdbEntry;
use net_linux::link::{LinkChange, LinkId, NewLink, NewLinkKind, VethPeer, Vxlan};
use net_linux::monitor::{Change, DriftMonitor, Event, Group, Monitor, Notice, Scope};
use net_linux::neigh::Neighbour;
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use net_linux::nexthop::NextHop;
use net_linux::route::Route;
use net_linux::sysctl;
use std::time::Duration;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

/// Runs a test on a runtime inside a fresh namespace with a veth `v0` that is up; gives its index.
fn with_veth<F: Future<Output = ()>>(test: impl FnOnce(Socket, u32) -> F + Send) {
    let inside = || {
        let mut socket = Socket::route().unwrap();
        let kind = NewLinkKind::Veth(VethPeer { name: "v1", mac: None, namespace: None });
        let index = NewLink { up: true, ..NewLink::new("v0", kind) }.create(&mut socket).unwrap();
        let mut batch = Batch::new();
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name("v1"));
        socket.run_all(&mut batch).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(socket, index));
    };
    NetNs::new().unwrap().run(inside).unwrap();
}

/// Waits for one event of a kind.
async fn wait_for(monitor: &mut Monitor, mut wanted: impl FnMut(&Event) -> bool) -> Notice {
    loop {
        let notice = timeout(DEADLINE, monitor.next()).await.expect("the event comes").unwrap();
        if wanted(&notice.event) {
            return notice;
        }
    }
}

#[test]
fn every_table_tells_what_came_and_went_and_who_did_it() {
    with_veth(|mut socket, index| async move {
        let vxlan = NewLink { up: true, ..NewLink::new("x0", NewLinkKind::Vxlan(Vxlan::new(1, 8472))) };
        let vxlan = vxlan.create(&mut socket).unwrap();
        let mut monitor = Monitor::open(&Group::ALL).unwrap();
        let mac = MacAddr([2; 6]);
        let address = Address::new(index, "10.0.0.1/24".parse().unwrap());
        let route = Route::on_link("10.1.0.0/16".parse().unwrap(), index);
        let route6 = Route::on_link("2001:db8::/64".parse().unwrap(), index);
        let neighbour = Neighbour::permanent(index, "10.0.0.9".parse().unwrap(), mac);
        let nexthop = NextHop::via(7, "10.0.0.9".parse().unwrap(), index);
        let entry = FdbEntry::new(vxlan, mac, "192.0.2.1".parse().unwrap());
        let mut batch = Batch::new();
        address.create(&mut batch);
        route.create(&mut batch);
        route6.create(&mut batch);
        neighbour.create(&mut batch);
        nexthop.create(&mut batch);
        entry.create(&mut batch);
        LinkChange { mtu_bytes: Some(1400), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(index));
        entry.delete(&mut batch);
        nexthop.delete(&mut batch);
        neighbour.delete(&mut batch);
        route6.delete(&mut batch);
        route.delete(&mut batch);
        address.delete(&mut batch);
        LinkId::Index(index).delete(&mut batch);
        socket.run_all(&mut batch).unwrap();
        let events = |change| {
            [
                Event::Address(change, address.clone()),
                Event::Route(change, Box::new(route.clone())),
                Event::Route(change, Box::new(route6.clone())),
                Event::NextHop(change, nexthop.clone()),
            ]
        };
        let mut wanted: Vec<Event> = events(Change::Put).into_iter().chain(events(Change::Deleted)).collect();
        let mut tables = vec!["neighbour", "neighbour", "entry", "entry", "link", "link"];
        while !(wanted.is_empty() && tables.is_empty()) {
            let still = format!("{wanted:?} {tables:?}");
            let notice = timeout(DEADLINE, monitor.next()).await.expect(&still).unwrap();
            let table = match &notice.event {
                Event::Neighbour(_, found) if found.address == neighbour.address => Some("neighbour"),
                Event::Fdb(_, found) if found.mac == mac => Some("entry"),
                Event::Link(Change::Put, link) if link.mtu_bytes == 1400 && link.index == index => Some("link"),
                Event::Link(Change::Deleted, link) if link.index == index => Some("link"),
                _ => None,
            };
            let before = wanted.len() + tables.len();
            wanted.retain(|event| *event != notice.event);
            if let Some(at) = tables.iter().position(|name| Some(*name) == table) {
                tables.remove(at);
            }
            // The kernel does not say who changed a link or a forwarding entry.
            let told = !matches!(notice.event, Event::Fdb(..) | Event::Link(..));
            if told && wanted.len() + tables.len() < before {
                assert_eq!(notice.port, socket.port(), "{:?}", notice.event);
            }
        }
    });
}

#[test]
fn loss_is_told() {
    with_veth(|mut socket, index| async move {
        let mut monitor = Monitor::open(&[Group::Routes]).unwrap();
        // Far more than the receive buffer takes.
        for block in 0..200u32 {
            let mut batch = Batch::new();
            for at in 0..256 {
                let route = Route::on_link(format!("10.{block}.{at}.0/24").parse().unwrap(), index);
                route.create(&mut batch);
                route.delete(&mut batch);
            }
            socket.run_all(&mut batch).unwrap();
        }
        wait_for(&mut monitor, |event| *event == Event::Lost).await;
        // It goes on after that.
        let mut batch = Batch::new();
        let last = Route::on_link("203.0.113.0/24".parse().unwrap(), index);
        last.create(&mut batch);
        while monitor.try_next().unwrap().is_some() {}
        socket.run_all(&mut batch).unwrap();
        wait_for(&mut monitor, |event| *event == Event::Route(Change::Put, Box::new(last.clone()))).await;
    });
}

#[test]
fn a_drift_watch_wakes_for_others_and_not_for_us() {
    with_veth(|mut ours, index| async move {
        let mut other = Socket::route().unwrap();
        let concerns = |event: &Event| matches!(event, Event::Route(_, route) if route.is_ours());
        let mut watch = DriftMonitor::open(&[Group::Routes], vec![ours.port()], concerns).unwrap();
        let route = Route::on_link("10.1.0.0/16".parse().unwrap(), index);
        let foreign = Route { protocol: 4, ..Route::on_link("10.2.0.0/16".parse().unwrap(), index) };
        let mut batch = Batch::new();
        route.create(&mut batch);
        ours.run_all(&mut batch).unwrap();
        let mut batch = Batch::new();
        foreign.create(&mut batch);
        other.run_all(&mut batch).unwrap();
        // Both are queued already: were one of them to wake the watch, it would now.
        assert!(timeout(Duration::from_millis(50), watch.changed()).await.is_err());
        let mut batch = Batch::new();
        route.delete(&mut batch);
        other.run_all(&mut batch).unwrap();
        timeout(DEADLINE, watch.changed()).await.unwrap().unwrap();
    });
}

#[test]
fn a_monitor_of_another_namespace_hears_that_one() {
    let there = NetNs::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut monitor = Monitor::open_in(&there, &[Group::Links]).unwrap();
        let make = || NewLink::new("br0", NewLinkKind::Bridge).create(&mut Socket::route().unwrap()).unwrap();
        there.run(make).unwrap();
        wait_for(&mut monitor, |event| matches!(event, Event::Link(Change::Put, link) if link.name == "br0")).await;
    });
}

#[test]
fn forwarding_and_reverse_path_filtering_are_told_when_somebody_changes_them() {
    with_veth(|_, index| async move {
        let mut monitor = Monitor::open(&[Group::Settings]).unwrap();
        for (path, v6, scope) in [
            ("net/ipv4/ip_forward", false, Scope::All),
            ("net/ipv6/conf/all/forwarding", true, Scope::All),
            ("net/ipv4/conf/v0/forwarding", false, Scope::Device(index)),
        ] {
            let after = if sysctl::read(path).unwrap() == "1" { 0 } else { 1 };
            sysctl::write(path, &after.to_string()).unwrap();
            let wanted = |event: &Event| match event {
                Event::Settings(told) => (told.v6, told.scope, told.forwarding) == (v6, scope, Some(after)),
                _ => false,
            };
            assert_eq!(wait_for(&mut monitor, wanted).await.port, 0, "{path}");
        }
        sysctl::write("net/ipv4/conf/v0/rp_filter", "2").unwrap();
        sysctl::write("net/ipv4/conf/v0/rp_filter", "1").unwrap();
        let told = |event: &Event| match event {
            Event::Settings(told) => (told.scope, told.rp_filter) == (Scope::Device(index), Some(1)),
            _ => false,
        };
        wait_for(&mut monitor, told).await;
    });
}
