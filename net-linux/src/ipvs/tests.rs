//! What is written is what is read, and nothing that is read panics. What the kernel makes of it: `tests/ipvs.rs`.

use super::{Destination, Flags, Forward, Service, ServiceId, Stats, destination, service, stats};
use crate::netlink::{Attrs, Message};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

fn written(body: impl FnOnce(&mut Message<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    body(&mut Message::new(&mut bytes));
    bytes
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(address, port)| SocketAddr::new(address, port))
}

fn id() -> impl Strategy<Value = ServiceId> {
    prop_oneof![
        (any::<u8>(), address()).prop_map(|(protocol, address)| ServiceId::address(protocol, address)),
        (1_u32.., any::<bool>()).prop_map(|(mark, ipv6)| ServiceId::Mark { mark, ipv6 }),
    ]
}

fn a_service() -> impl Strategy<Value = Service> {
    (id(), "[a-z]{1,15}", any::<[bool; 4]>(), any::<Option<u32>>(), 1..=128_u8).prop_map(
        |(id, scheduler, [one_packet, fallback, port, ours], persistence_seconds, bits)| Service {
            id,
            scheduler,
            flags: Flags { one_packet, fallback, port },
            persistence_seconds,
            client_bits: if id.is_ipv6() { bits } else { bits.min(32) },
            ours,
        },
    )
}

fn a_destination() -> impl Strategy<Value = Destination> {
    let forward = prop_oneof![
        Just(Forward::Masquerade),
        Just(Forward::DirectRoute),
        Just(Forward::Ipip),
        any::<u16>().prop_map(|port| Forward::Gue { port }),
        Just(Forward::Gre),
    ];
    (address(), forward, any::<[u32; 3]>()).prop_map(
        |(address, forward, [weight, upper_threshold, lower_threshold])| Destination {
            address,
            forward,
            weight,
            upper_threshold,
            lower_threshold,
        },
    )
}

#[test]
fn a_netmask_of_ipv4_is_in_network_order_and_one_of_ipv6_is_a_length() {
    let netmask = |address: &str, client_bits| {
        let service = Service { client_bits, ..Service::new(ServiceId::address(6, address.parse().unwrap()), "rr") };
        let bytes = written(|message| service.write(message));
        Attrs::new(&bytes).get(9).unwrap().value.to_vec()
    };
    assert_eq!(netmask("10.0.0.1:80", 24), [255, 255, 255, 0]);
    assert_eq!(netmask("10.0.0.1:80", 32), [255, 255, 255, 255]);
    assert_eq!(netmask("[fd00::1]:80", 64), 64_u32.to_ne_bytes());
}

#[test]
fn counters_of_both_widths_are_read() {
    for (kind, wide) in [(12, true), (10, false)] {
        let bytes = written(|message| {
            message.nest(kind, |nest| {
                let _ = if wide { nest.attr(1, &7_u64.to_ne_bytes()) } else { nest.u32(1, 7) };
            });
        });
        assert_eq!(stats::of(Attrs::new(&bytes), 12, 10), Stats { connections: 7, ..Stats::default() });
    }
}

proptest! {
    #[test]
    fn a_service_is_read_as_it_was_written(service in a_service()) {
        let bytes = written(|message| service.write(message));
        prop_assert_eq!(service::parse(Attrs::new(&bytes)), Some((service, Stats::default())));
    }

    #[test]
    fn a_destination_is_read_as_it_was_written(destination in a_destination(), ipv6: bool) {
        let bytes = written(|message| destination.write(message));
        let (read, _, _) = destination::parse(Attrs::new(&bytes), ipv6).unwrap();
        prop_assert_eq!(read, destination);
    }

    #[test]
    fn reading_what_a_kernel_says_never_panics(payload: Vec<u8>, ipv6: bool) {
        let _ = service::parse(Attrs::new(&payload));
        let _ = destination::parse(Attrs::new(&payload), ipv6);
    }
}
