//! IPVS as the kernel has it: what is written stands there, each namespace has its own, and refusals say why. All in fresh
//! network namespaces. A kernel without IPVS says so, and that is all that can be seen on it.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use net_linux::ipvs::{Connections, Destination, Flags, Forward, Ipvs, Service, ServiceId, Stats};
use net_linux::link::{LinkChange, LinkId};
use net_linux::netlink::{Batch, Error, Socket};
use net_linux::netns::NetNs;
use nix::errno::Errno;
use std::process::Command;

/// Runs `test` with IPVS in a fresh namespace, where this kernel has it.
fn with_ipvs(test: impl FnOnce(&mut Ipvs) + Send) {
    // Nothing to load where it is built in, or not there.
    let _ = Command::new("modprobe").args(["-q", "ip_vs"]).status();
    let inside = || match Ipvs::open() {
        Ok(mut ipvs) => {
            // Without any address the kernel takes every destination for a broadcast address.
            let mut batch = Batch::new();
            LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name("lo"));
            Socket::route().unwrap().run_all(&mut batch).unwrap();
            test(&mut ipvs);
        }
        Err(error) => {
            assert_eq!(error.errno(), Some(Errno::ENOENT), "{error}");
            assert!(error.to_string().contains("family IPVS"), "{error}");
            assert!(std::env::var_os("CNIDARIAN_STOCK_KERNEL").is_none(), "a stock kernel has IPVS: {error}");
            println!("skipped: this kernel has no IPVS");
        }
    };
    NetNs::new().unwrap().run(inside).unwrap();
}

fn tcp(address: &str) -> ServiceId {
    ServiceId::address(6, address.parse().unwrap())
}

fn destination(address: &str) -> Destination {
    Destination::new(address.parse().unwrap())
}

fn services(ipvs: &mut Ipvs) -> Vec<Service> {
    let mut found: Vec<Service> = ipvs.services().unwrap().into_iter().map(|(service, _)| service).collect();
    found.sort_by_key(|service| service.id);
    found
}

fn destinations(ipvs: &mut Ipvs, id: &ServiceId) -> Vec<Destination> {
    let found = ipvs.destinations(id).unwrap();
    assert!(found.iter().all(|(_, now, since)| (*now, *since) == (Connections::default(), Stats::default())));
    let mut found: Vec<Destination> = found.into_iter().map(|(destination, ..)| destination).collect();
    found.sort_by_key(|destination| destination.address);
    found
}

fn all_done(results: Vec<Result<(), Error>>) {
    for result in results {
        result.unwrap();
    }
}

fn errno(results: Vec<Result<(), Error>>) -> Vec<Option<Errno>> {
    results.into_iter().map(|result| result.err().and_then(|error| error.errno())).collect()
}

#[test]
fn services_stand_in_the_kernel_as_they_were_written() {
    with_ipvs(|ipvs| {
        let plain = Service::new(tcp("10.96.0.10:80"), "rr");
        let hashed = Service {
            flags: Flags { fallback: true, port: true, ..Flags::default() },
            ..Service::new(tcp("10.96.0.11:443"), "mh")
        };
        let sticky = Service {
            persistence_seconds: Some(10_800),
            client_bits: 24,
            ..Service::new(tcp("10.96.0.12:443"), "wlc")
        };
        let datagrams = Service {
            flags: Flags { one_packet: true, ..Flags::default() },
            ..Service::new(ServiceId::address(17, "10.96.0.10:53".parse().unwrap()), "lc")
        };
        let v6 =
            Service { persistence_seconds: Some(60), client_bits: 64, ..Service::new(tcp("[fd00:96::10]:80"), "sh") };
        let ours = Service { ours: true, ..Service::new(tcp("10.96.0.13:80"), "rr") };
        let mark = Service::new(ServiceId::Mark { mark: 7, ipv6: false }, "wrr");
        let mut wanted = vec![plain.clone(), hashed, sticky, datagrams, v6, ours, mark];
        let mut changes = ipvs.batch();
        wanted.iter().for_each(|service| {
            changes.create(service);
        });
        all_done(ipvs.run(changes));
        wanted.sort_by_key(|service| service.id);
        assert_eq!(services(ipvs), wanted);

        // Our mark stays when a service is changed.
        let changed = Service { scheduler: "wrr".into(), ours: true, ..plain };
        let mut changes = ipvs.batch();
        changes.change(&changed);
        wanted.iter().filter(|service| service.id != changed.id).for_each(|service| {
            changes.delete(&service.id);
        });
        all_done(ipvs.run(changes));
        assert_eq!(services(ipvs), [changed]);
    });
}

#[test]
fn destinations_stand_in_the_kernel_as_they_were_written() {
    with_ipvs(|ipvs| {
        let id = tcp("10.96.0.10:80");
        let masqueraded = Destination { upper_threshold: 100, lower_threshold: 50, ..destination("10.244.1.2:8080") };
        let mut wanted = vec![
            masqueraded.clone(),
            Destination { forward: Forward::DirectRoute, weight: 0, ..destination("10.244.1.3:80") },
            Destination { forward: Forward::Ipip, weight: 7, ..destination("10.244.1.4:80") },
            Destination { forward: Forward::Gue { port: 6080 }, ..destination("10.244.1.5:80") },
            Destination { forward: Forward::Gre, ..destination("10.244.1.6:80") },
        ];
        let v6 = tcp("[fd00:96::10]:80");
        let there = destination("[fd00:10::2]:8080");
        let mut changes = ipvs.batch();
        changes.create(&Service::new(id, "rr")).create(&Service::new(v6, "rr")).create_destination(&v6, &there);
        wanted.iter().for_each(|destination| {
            changes.create_destination(&id, destination);
        });
        all_done(ipvs.run(changes));
        assert_eq!(destinations(ipvs, &id), wanted);
        assert_eq!(destinations(ipvs, &v6), [there]);

        // Drained, and another one gone.
        wanted[0] = Destination { weight: 0, ..masqueraded };
        let gone = wanted.remove(1);
        let mut changes = ipvs.batch();
        changes.change_destination(&id, &wanted[0]).delete_destination(&id, &gone);
        all_done(ipvs.run(changes));
        assert_eq!(destinations(ipvs, &id), wanted);
    });
}

#[test]
fn the_kernel_says_what_is_there_already_and_what_is_not() {
    with_ipvs(|ipvs| {
        let (id, other) = (tcp("10.96.0.10:80"), tcp("10.96.0.11:80"));
        let (service, there) = (Service::new(id, "rr"), destination("10.244.1.2:8080"));
        let mut changes = ipvs.batch();
        changes.create(&service).create(&service).create(&Service::new(other, "no-such"));
        changes.create_destination(&id, &there).create_destination(&id, &there).create_destination(&other, &there);
        changes.delete_destination(&id, &destination("10.244.1.3:8080")).delete(&other);
        let found = errno(ipvs.run(changes));
        let (exists, no_service, missing) = (Some(Errno::EEXIST), Some(Errno::ESRCH), Some(Errno::ENOENT));
        assert_eq!(found, [None, exists, missing, None, exists, no_service, missing, no_service]);
        assert!(destinations(ipvs, &other).is_empty(), "of a service that is not there");
    });
}

#[test]
fn each_namespace_has_services_of_its_own() {
    with_ipvs(|ipvs| {
        let mut changes = ipvs.batch();
        changes.create(&Service::new(tcp("10.96.0.10:80"), "rr"));
        all_done(ipvs.run(changes));
        let elsewhere = NetNs::new().unwrap().run(|| services(&mut Ipvs::open().unwrap())).unwrap();
        assert!(elsewhere.is_empty(), "{elsewhere:?}");
        assert_eq!(services(ipvs).len(), 1);
    });
}
