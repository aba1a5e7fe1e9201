//! Every kernel object reads back as it was written, errors carry the kernel's words, foreign objects stay.
//! All in fresh network namespaces.

#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use cni_core::backend::{Error as BorderError, ErrorKind};
use cni_core::model::MacAddr;
use ipnet::IpNet;
use net_linux::addr::Address;
use net_linux::fdb::FdbEntry;
use net_linux::link::{Link, LinkChange, LinkFilter, LinkId, LinkKind, NewLink, NewLinkKind, VethPeer, Vxlan};
use net_linux::neigh::Neighbour;
use net_linux::netlink::{Batch, Error, Socket};
use net_linux::netns::NetNs;
use net_linux::nexthop::{Hop, NextHop};
use net_linux::objects::{Object, Write, write};
use net_linux::route::{Route, RouteFilter, RouteKind, Scope, TunnelKey};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn veth<'a>(name: &'a str, peer: &'a str) -> NewLink<'a> {
    NewLink { up: true, ..NewLink::new(name, NewLinkKind::Veth(VethPeer { name: peer, mac: None, namespace: None })) }
}

/// Runs `test` in a fresh namespace with a veth pair `v0`, `v1`, both up; gives the index of `v0`.
fn with_veth(test: impl FnOnce(&mut Socket, u32) + Send) {
    let inside = || {
        let mut socket = Socket::route().unwrap();
        let mut batch = Batch::new();
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name("lo"));
        veth("v0", "v1").create(&mut socket).unwrap();
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name("v1"));
        socket.run_all(&mut batch).unwrap();
        let index = Link::get(&mut socket, &LinkId::Name("v0")).unwrap().unwrap().index;
        test(&mut socket, index);
    };
    NetNs::new().unwrap().run(inside).unwrap();
}

#[test]
fn a_vxlan_device_reads_back_as_it_was_made() {
    with_veth(|socket, index| {
        let mut batch = Batch::new();
        Address::new(index, net("192.0.2.1/24")).create(&mut batch);
        socket.run_all(&mut batch).unwrap();
        let plain = Vxlan { local: Some(ip("192.0.2.1")), underlay_index: index, ttl: 64, ..Vxlan::new(4096, 8472) };
        let shared = Vxlan { collect_metadata: true, ..Vxlan::new(0, 8473) };
        let six = Vxlan { local: Some(ip("2001:db8::1")), zero_checksum6: true, ..Vxlan::new(7, 8474) };
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        for (name, vxlan) in [("x0", &plain), ("x1", &shared), ("x2", &six)] {
            let then = LinkChange { alias: Some("cnidarian:vtep"), no_ipv6_autoconf: true, ..LinkChange::default() };
            let kind = NewLinkKind::Vxlan(vxlan.clone());
            let new = NewLink { mac: Some(mac), mtu_bytes: 1400, up: true, then, ..NewLink::new(name, kind) };
            new.create(socket).unwrap();
        }
        let links = Link::dump(socket, &LinkFilter { kind: Some("vxlan"), ..LinkFilter::default() }).unwrap();
        let found: Vec<_> = links.iter().map(|link| (link.name.as_str(), &link.kind)).collect();
        let expected = [plain, shared, six].map(LinkKind::Vxlan);
        let expected: Vec<_> = ["x0", "x1", "x2"].into_iter().zip(&expected).collect();
        assert_eq!(found, expected);
        for link in &links {
            assert_eq!((link.mac, link.mtu_bytes, link.up), (Some(mac), 1400, true));
            assert_eq!((link.our_id(), link.ipv6_autoconf), (Some("vtep"), Some(false)));
        }
    });
}

#[test]
fn a_link_takes_every_change_and_an_empty_alias_removes_it() {
    with_veth(|socket, index| {
        let id = LinkId::Index(index);
        let mac = MacAddr([2, 1, 1, 1, 1, 1]);
        let bridge = NewLink::new("br0", NewLinkKind::Bridge).create(socket).unwrap();
        let mut batch = Batch::new();
        LinkChange { up: Some(false), ..LinkChange::default() }.add(&mut batch, &id);
        LinkChange {
            mtu_bytes: Some(1300),
            mac: Some(mac),
            alias: Some("cnidarian:a/b"),
            group: Some(77),
            master: Some(bridge),
            name: Some("other"),
            ..LinkChange::default()
        }
        .add(&mut batch, &id);
        socket.run_all(&mut batch).unwrap();
        let link = Link::get(socket, &LinkId::Name("other")).unwrap().unwrap();
        assert_eq!((link.index, link.mtu_bytes, link.mac, link.group), (index, 1300, Some(mac), 77));
        assert_eq!((link.our_id(), link.master, link.up), (Some("a/b"), Some(bridge), false));
        let mut batch = Batch::new();
        LinkChange { alias: Some(""), ..LinkChange::default() }.add(&mut batch, &id);
        id.delete(&mut batch);
        let mut first = Batch::new();
        LinkChange { alias: Some(""), ..LinkChange::default() }.add(&mut first, &id);
        socket.run_all(&mut first).unwrap();
        assert_eq!(Link::get(socket, &id).unwrap().unwrap().alias, None);
        socket.run_all(&mut batch).unwrap();
        assert_eq!(Link::get(socket, &id).unwrap(), None);
    });
}

#[test]
fn making_a_device_never_touches_the_one_that_has_its_name() {
    with_veth(|socket, index| {
        let before = Link::get(socket, &LinkId::Index(index)).unwrap();
        let then = LinkChange { alias: Some("cnidarian:mine"), up: Some(false), ..LinkChange::default() };
        let error = NewLink { then, ..NewLink::new("v0", NewLinkKind::Bridge) }.create(socket).unwrap_err();
        assert!(error.is_exists(), "{error}");
        assert_eq!(Link::get(socket, &LinkId::Index(index)).unwrap(), before);
    });
}

#[test]
fn an_ipv6_address_is_usable_at_once() {
    with_veth(|socket, index| {
        let wanted = [net("10.0.0.1/24"), net("2001:db8::1/64"), net("fe80::1:1/64")];
        let mut batch = Batch::new();
        for address in wanted {
            Address::new(index, address).create(&mut batch);
        }
        socket.run_all(&mut batch).unwrap();
        let found = Address::dump(socket, Some(index)).unwrap();
        for address in wanted {
            let address = Address::new(index, address);
            assert!(found.contains(&address), "{address} in {found:?}");
        }
        assert_eq!(socket.run_all(&mut batch).unwrap_err().errno(), Some(nix::errno::Errno::EEXIST));
        let mut batch = Batch::new();
        Address::new(index, wanted[1]).delete(&mut batch);
        socket.run_all(&mut batch).unwrap();
        let left = Address::dump(socket, None).unwrap();
        assert!(!left.iter().any(|address| address.address == wanted[1]));
    });
}

#[test]
fn every_kind_of_route_reads_back_as_it_was_written() {
    with_veth(|socket, index| {
        let mut batch = Batch::new();
        for address in [net("10.0.0.1/24"), net("2001:db8::1/64")] {
            Address::new(index, address).create(&mut batch);
        }
        let metadata = NewLinkKind::Vxlan(Vxlan { collect_metadata: true, ..Vxlan::new(0, 8472) });
        let vxlan = NewLink { up: true, ..NewLink::new("x0", metadata) }.create(socket).unwrap();
        for nexthop in [NextHop::via(71, ip("10.0.0.9"), index), NextHop::via(72, ip("2001:db8::9"), index)] {
            nexthop.create(&mut batch);
        }
        socket.run_all(&mut batch).unwrap();
        let tunnel = TunnelKey { id: 4096, destination: ip("192.0.2.9"), source: None };
        let mut wanted = vec![
            Route { via: Some(ip("2001:db8::9")), index: Some(index), ..Route::new(net("10.9.0.0/16")) },
            Route { tunnel: Some(tunnel), ..Route::on_link(net("10.8.0.0/16"), vxlan) },
            Route { source: Some(ip("10.0.0.1")), ..Route::on_link(net("10.7.0.0/16"), index) },
            Route { scope: Scope::Universe, ..Route::on_link(net("10.6.0.0/16"), index) },
        ];
        for (prefix, gateway, nexthop) in [("10.1", "10.0.0.9", 71), ("2001:db8:1", "2001:db8::9", 72)] {
            let net = |part: u8| match nexthop {
                71 => net(&format!("{prefix}.{part}.0/24")),
                _ => net(&format!("{prefix}:{part}::/64")),
            };
            wanted.extend([
                Route::on_link(net(1), index),
                Route::via_on_link(net(2), ip(gateway), index),
                Route::through(net(3), nexthop),
                Route::refusing(net(4), RouteKind::Blackhole),
                Route::refusing(net(5), RouteKind::Unreachable),
                Route::refusing(net(6), RouteKind::Prohibit),
                Route { table: 1000, metric: 50, ..Route::on_link(net(7), index) },
                Route { mtu_bytes: Some(1300), advertised_mss: Some(1200), ..Route::on_link(net(8), index) },
            ]);
        }
        let writes: Vec<Write> = wanted.iter().map(|route| Write::Create(Object::Route(route.clone()))).collect();
        for result in write(socket, &writes) {
            result.unwrap();
        }
        let found = Route::dump(socket, &RouteFilter::ours()).unwrap();
        for route in &wanted {
            assert!(found.contains(route), "{route:?} is not among {found:#?}");
        }
        assert_eq!(found.len(), wanted.len());
        let table = RouteFilter { table: Some(1000), ..RouteFilter::ours() };
        assert_eq!(Route::dump(socket, &table).unwrap().len(), 2);
        assert_eq!(Route::dump(socket, &RouteFilter { table: Some(999), ..table }).unwrap(), []);
        let deletes: Vec<Write> = wanted.into_iter().map(|route| Write::Delete(Object::Route(route))).collect();
        for _ in 0..2 {
            for result in write(socket, &deletes) {
                result.unwrap();
            }
        }
        assert_eq!(Route::dump(socket, &RouteFilter::ours()).unwrap(), []);
    });
}

#[test]
fn nexthops_neighbours_and_forwarding_entries_read_back_as_they_were_written() {
    with_veth(|socket, index| {
        let kind = NewLinkKind::Vxlan(Vxlan::new(1, 8472));
        let vxlan = NewLink { up: true, ..NewLink::new("x0", kind) }.create(socket).unwrap();
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let device = |ipv6| Hop::Device { index, via: None, onlink: false, ipv6, tunnel: None };
        let nexthops = [
            NextHop::via(1, ip("10.0.0.9"), index),
            NextHop::via(2, ip("fe80::9"), index),
            NextHop::new(3, device(false)),
            NextHop::new(4, device(true)),
            NextHop::new(5, Hop::Blackhole { ipv6: true }),
            NextHop::new(6, Hop::Group(vec![(1, 1), (3, 200)])),
        ];
        let neighbours =
            [Neighbour::permanent(index, ip("10.0.0.9"), mac), Neighbour::permanent(index, ip("2001:db8::9"), mac)];
        let entries = [
            FdbEntry::new(vxlan, mac, ip("192.0.2.9")),
            FdbEntry { port: Some(9999), vni: Some(77), ..FdbEntry::new(vxlan, MacAddr([2; 6]), ip("192.0.2.8")) },
        ];
        let objects = || {
            let nexthops = nexthops.iter().cloned().map(Object::NextHop);
            nexthops
                .chain(neighbours.iter().cloned().map(Object::Neighbour))
                .chain(entries.iter().cloned().map(Object::Fdb))
        };
        for _ in 0..2 {
            let writes: Vec<_> = objects().map(Write::Create).collect();
            for (result, object) in write(socket, &writes).into_iter().zip(objects()) {
                result.unwrap_or_else(|error| panic!("{object}: {error}"));
            }
            assert_eq!(NextHop::dump(socket, None).unwrap(), nexthops);
            let mut found = Neighbour::dump(socket, Some(index)).unwrap();
            found.retain(Neighbour::is_ours);
            assert_eq!(found, neighbours);
            let found = FdbEntry::dump(socket, vxlan).unwrap();
            assert!(entries.iter().all(|entry| found.contains(entry)), "{found:?}");
        }
        let writes: Vec<_> = objects().map(Write::Delete).collect();
        for _ in 0..2 {
            for (result, object) in write(socket, &writes).into_iter().zip(objects()) {
                result.unwrap_or_else(|error| panic!("{object}: {error}"));
            }
        }
        assert_eq!(NextHop::dump(socket, None).unwrap(), []);
        assert_eq!(FdbEntry::dump(socket, vxlan).unwrap(), []);
        assert!(!Neighbour::dump(socket, None).unwrap().iter().any(Neighbour::is_ours));
    });
}

#[test]
fn an_appended_destination_stands_beside_the_first() {
    with_veth(|socket, _| {
        let kind = NewLinkKind::Vxlan(Vxlan::new(1, 8472));
        let index = NewLink { up: true, ..NewLink::new("x0", kind) }.create(socket).unwrap();
        let entries = ["192.0.2.1", "192.0.2.2"].map(|to| FdbEntry::new(index, MacAddr([0; 6]), ip(to)));
        let mut batch = Batch::new();
        for entry in &entries {
            entry.append(&mut batch);
        }
        socket.run_all(&mut batch).unwrap();
        assert_eq!(FdbEntry::dump(socket, index).unwrap(), entries);
    });
}

#[test]
fn a_batch_of_2000_routes_answers_in_order_and_goes_on_after_the_one_that_fails() {
    with_veth(|socket, index| {
        let route = |at: u32| {
            let destination = IpNet::new(std::net::Ipv4Addr::from(0x0a00_0000 + at * 256).into(), 24).unwrap();
            // No such device.
            Route::on_link(destination, if at == 1234 { 9999 } else { index })
        };
        let mut batch = Batch::new();
        for at in 0..2000 {
            route(at).create(&mut batch);
        }
        let results = socket.run(&mut batch);
        assert_eq!(results.len(), 2000);
        for (at, result) in results.iter().enumerate() {
            assert_eq!(result.is_err(), at == 1234, "{at}: {result:?}");
        }
        let error = results[1234].clone().unwrap_err();
        assert_eq!(error.object(), route(1234).to_string());
        assert_eq!(BorderError::from(error).kind, ErrorKind::Missing);
        assert_eq!(Route::dump(socket, &RouteFilter::ours()).unwrap().len(), 1999);
    });
}

#[test]
fn an_error_carries_the_kernels_own_words() {
    with_veth(|socket, index| {
        let mut batch = Batch::new();
        // A gateway that no route leads to.
        let route = Route { onlink: false, ..Route::via_on_link(net("10.2.0.0/16"), ip("203.0.113.1"), index) };
        route.create(&mut batch);
        let error = socket.run_all(&mut batch).unwrap_err();
        assert_eq!(error.kernel_message(), Some("Nexthop has invalid gateway"), "{error}");
        let border = BorderError::from(error);
        assert_eq!(border.kind, ErrorKind::Missing);
        assert!(border.to_string().contains("route 10.2.0.0/16: Nexthop has invalid gateway"), "{border}");
    });
}

#[test]
fn a_strict_dump_shows_the_asked_for_device_only() {
    with_veth(|socket, index| {
        let other = Link::get(socket, &LinkId::Name("v1")).unwrap().unwrap().index;
        let mut batch = Batch::new();
        Route::on_link(net("10.1.0.0/16"), index).create(&mut batch);
        Route::on_link(net("10.2.0.0/16"), other).create(&mut batch);
        Route { protocol: 4, ..Route::on_link(net("10.3.0.0/16"), index) }.create(&mut batch);
        socket.run_all(&mut batch).unwrap();
        let filter = RouteFilter { index: Some(index), ..RouteFilter::ours() };
        assert_eq!(Route::dump(socket, &filter).unwrap(), [Route::on_link(net("10.1.0.0/16"), index)]);
    });
}

#[test]
fn foreign_objects_stay_and_are_named() {
    with_veth(|socket, index| {
        let mac = MacAddr([2, 0, 0, 0, 0, 9]);
        let route = Route::on_link(net("10.1.0.0/16"), index);
        let route6 = Route::on_link(net("2001:db8:1::/64"), index);
        let neighbour = Neighbour::permanent(index, ip("10.0.0.9"), mac);
        let nexthop = NextHop::via(7, ip("10.0.0.9"), index);
        let mut batch = Batch::new();
        for route in [&route, &route6] {
            Route { protocol: 4, advertised_mss: Some(1000), ..route.clone() }.create(&mut batch);
        }
        Neighbour { protocol: 4, mac: Some(MacAddr([2; 6])), ..neighbour.clone() }.create(&mut batch);
        NextHop { protocol: 4, ..nexthop.clone() }.create(&mut batch);
        socket.run_all(&mut batch).unwrap();
        let before = (Route::dump(socket, &RouteFilter::default()).unwrap(), NextHop::dump(socket, None).unwrap());
        let ours = [
            Object::Route(route.clone()),
            Object::Route(route6.clone()),
            Object::Neighbour(neighbour),
            Object::NextHop(nexthop),
        ];
        for (result, object) in write(socket, &ours.map(Write::Create)).into_iter().zip(0..) {
            let error = result.unwrap_err();
            assert!(matches!(&error, Error::Foreign { found, .. } if found.contains("protocol 4")), "{object} {error}");
            assert_eq!(BorderError::from(error).kind, ErrorKind::Foreign);
        }
        for result in write(socket, &[Write::Delete(Object::Route(route)), Write::Delete(Object::Route(route6))]) {
            result.unwrap();
        }
        let after = (Route::dump(socket, &RouteFilter::default()).unwrap(), NextHop::dump(socket, None).unwrap());
        assert_eq!(before, after);
    });
}

#[test]
fn lost_answers_are_unknown_results_and_the_socket_goes_on() {
    with_veth(|socket, index| {
        let route = Route::on_link(net("10.1.0.0/16"), index);
        let mut batch = Batch::new();
        for _ in 0..200 {
            route.create(&mut batch);
        }
        // The smallest that the kernel gives: two or three of the 199 errors fit.
        setsockopt(&*socket, sockopt::RcvBuf, &1).unwrap();
        let results = socket.run(&mut batch);
        assert_eq!(results.len(), 200);
        assert!(results.iter().any(|result| matches!(result, Err(Error::Lost { .. }))), "{results:?}");
        assert!(results.iter().all(Result::is_err), "silence is no success after a loss");
        let lost = results.into_iter().find(|result| matches!(result, Err(Error::Lost { .. }))).unwrap();
        assert_eq!(BorderError::from(lost.unwrap_err()).kind, ErrorKind::Busy);
        // What is written again comes out right: no late answer is taken for another request's.
        for _ in 0..3 {
            let results = write(socket, &[Write::Create(Object::Route(route.clone()))]);
            assert_eq!(results, [Ok(())]);
        }
        assert_eq!(Route::dump(socket, &RouteFilter::ours()).unwrap(), [route]);
    });
}

/// Ends the other thread when this one panics, too.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_dump_that_the_kernel_cuts_short_is_repeated() {
    const FIXED: u32 = 4000;
    with_veth(|socket, index| {
        let nexthop = |id| NextHop::new(id, Hop::Device { index, via: None, onlink: false, ipv6: false, tunnel: None });
        let mut batch = Batch::new();
        for id in 1..=FIXED {
            nexthop(id).create(&mut batch);
        }
        socket.run_all(&mut batch).unwrap();
        let stop = AtomicBool::new(false);
        let here = NetNs::current().unwrap();
        let churn = || {
            let mut socket = Socket::route().unwrap();
            while !stop.load(Ordering::Relaxed) {
                let mut batch = Batch::new();
                nexthop(FIXED + 1).create(&mut batch);
                nexthop(FIXED + 1).delete(&mut batch);
                socket.run_all(&mut batch).unwrap();
            }
        };
        thread::scope(|scope| {
            scope.spawn(|| here.run(churn).unwrap());
            let _stop = StopOnDrop(&stop);
            let deadline = Instant::now() + Duration::from_secs(60);
            while socket.dump_retries() == 0 && Instant::now() < deadline {
                match NextHop::dump(socket, None) {
                    Ok(found) => {
                        assert_eq!(found.into_iter().filter(|nexthop| nexthop.id <= FIXED).count(), FIXED as usize);
                    }
                    // Too much churn for any whole dump: said so, not shown in part.
                    Err(Error::Interrupted { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        assert!(socket.dump_retries() > 0, "no dump was cut short within a minute");
    });
}
