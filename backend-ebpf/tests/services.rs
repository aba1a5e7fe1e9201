//! Frontends to entries of maps. Never a kernel.

use backend_ebpf::service::{Key, Object, compile};
use cni_core::backend::ErrorKind;
use cni_core::model::{
    BackendUse, Conditions, FrontendKind, Scheduler, ServiceBackend, ServiceItem, ServiceKey, ServiceName, TrafficScope,
};
use cni_core::policy::model::Protocol;
use ipnet::IpNet;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU32;

fn item(backends: &[(u8, bool)], scheduler: Scheduler, affinity: u32) -> ServiceItem {
    let backends = backends.iter().map(|(number, active)| ServiceBackend {
        address: [10, 0, 0, *number].into(),
        port: 8080,
        usage: if *active { BackendUse::Active } else { BackendUse::Draining },
        conditions: Conditions { ready: *active, serving: true, terminating: !active },
        local: false,
        node: None,
        zone: None,
    });
    ServiceItem {
        key: ServiceKey { address: [10, 96, 0, 1].into(), port: 80, protocol: Protocol(6) },
        service: ServiceName { namespace: "red".into(), name: "shop".into() },
        port_name: "".into(),
        kind: FrontendKind::ClusterIp,
        scope: TrafficScope::Cluster,
        scheduler,
        affinity_seconds: NonZeroU32::new(affinity),
        sources: None,
        health_check_port: None,
        direct_return: false,
        backends: backends.collect(),
    }
}

proptest! {
    #[test]
    fn a_frontend_never_leads_to_a_missing_backend(
        backends in proptest::collection::btree_map(any::<u8>(), any::<bool>(), 0..20),
        maglev in any::<bool>(),
        affinity in 0_u32..3,
        udp in any::<bool>(),
    ) {
        let backends: Vec<(u8, bool)> = backends.into_iter().collect();
        let scheduler = if maglev { Scheduler::Maglev } else { Scheduler::RoundRobin };
        let mut item = item(&backends, scheduler, affinity);
        item.key.protocol = Protocol(if udp { 17 } else { 6 });
        let entries = compile(&item).unwrap();
        let active = backends.iter().filter(|(_, active)| *active).count();
        let slots: BTreeSet<u32> =
            entries.iter().filter_map(|(key, _)| if let Key::Slot(key) = key { Some(key.slot) } else { None }).collect();
        prop_assert_eq!(slots, (0..u32::try_from(active).unwrap()).collect::<BTreeSet<_>>());
        let members = entries.iter().filter(|(key, _)| matches!(key, Key::Member(_))).count();
        let members_wanted = match (affinity, udp) {
            (0, true) => backends.len(),
            (0, false) => 0,
            _ => active,
        };
        prop_assert_eq!(members, members_wanted, "those that affinity may go on with, or that UDP sockets may be connected to");
        for (key, object) in &entries {
            match object {
                Object::Frontend { count, .. } => prop_assert_eq!(*count as usize, active),
                Object::Table(table) => prop_assert!(table.iter().all(|slot| usize::from(*slot) < active)),
                _ => {}
            }
            let above = entries.iter().any(|(other, _)| matches!(other, Key::Frontend(_)) && other.rank().level > key.rank().level);
            prop_assert!(above || matches!(key, Key::Frontend(_)), "{} is written before its frontend", key);
        }
        let keys: BTreeSet<String> = entries.iter().map(|(key, _)| key.to_string()).collect();
        prop_assert_eq!(keys.len(), entries.len(), "names of objects differ");
    }
}

fn range() -> impl Strategy<Value = IpNet> {
    (any::<IpAddr>(), 0_u8..=128).prop_map(|(address, bits)| {
        // Few different ones, so that some are within others or side by side.
        let bits = if address.is_ipv4() { bits % 33 } else { bits };
        let near = match address {
            IpAddr::V4(v4) => IpAddr::from((u32::from(v4) & 0xc000_0003).to_be_bytes()),
            IpAddr::V6(v6) => IpAddr::from((u128::from(v6) & (3 << 126 | 3)).to_be_bytes()),
        };
        IpNet::new(near, bits).expect("at most as many bits as the family has")
    })
}

proptest! {
    #[test]
    fn a_frontend_has_the_clients_of_its_family_that_it_is_for_and_is_not_open_before_it_has_them(
        ranges in proptest::collection::vec(range(), 0..12),
        clients in proptest::collection::vec(range(), 1..40),
    ) {
        let plain = item(&[(1, true)], Scheduler::RoundRobin, 0);
        let entries = compile(&ServiceItem { sources: Some(ranges.clone().into()), ..plain.clone() }).unwrap();
        let written: Vec<IpNet> =
            entries.iter().filter_map(|(key, _)| if let Key::Range(_, range) = key { Some(*range) } else { None }).collect();
        for client in clients.iter().map(IpNet::addr).filter(IpAddr::is_ipv4) {
            let [wanted, found] = [&ranges, &written].map(|of| of.iter().any(|range| range.contains(&client)));
            prop_assert_eq!(wanted, found, "{}", client);
        }
        prop_assert!(written.iter().all(|range| range.addr().is_ipv4()), "{:?}", written);
        let is_flagged = |entries: &[(Key, Object)]| {
            entries.iter().any(|(_, object)| matches!(object, Object::Frontend { limited: 4, .. }))
        };
        prop_assert!(is_flagged(&entries), "also of no range");
        prop_assert!(!is_flagged(&compile(&plain).unwrap()));
        let ranges_first = |(key, _): &(Key, Object)| !matches!(key, Key::Range(..)) || key.rank().level == 0;
        prop_assert!(entries.iter().all(ranges_first));
    }
}

#[test]
fn what_sockets_cannot_know_is_refused() {
    let plain = item(&[(1, true)], Scheduler::RoundRobin, 0);
    let sctp = ServiceItem { key: ServiceKey { protocol: Protocol(132), ..plain.key.clone() }, ..plain.clone() };
    let direct = ServiceItem { direct_return: true, ..plain.clone() };
    let counting = [
        Scheduler::LeastConnections,
        Scheduler::WeightedLeastConnections,
        Scheduler::ShortestExpectedDelay,
        Scheduler::NeverQueue,
    ];
    let counting = counting.map(|scheduler| (ServiceItem { scheduler, ..plain.clone() }, "scheduler"));
    let others = [(sctp, "protocol"), (direct, "direct-server-return")];
    for (item, field) in others.into_iter().chain(counting) {
        let error = compile(&item).unwrap_err();
        assert_eq!((error.kind, error.field), (ErrorKind::Unsupported, Some(field)));
    }
}
