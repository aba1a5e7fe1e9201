//! The programs of each object with what they have to know. Never attached.

use crate::bed::INTERFACE;
use crate::host::frames::{ETH0, devices};
use crate::items::{host, walk};
use crate::pod::{ADDRESSES, Open, Pod, open_ports};
use backend_ebpf::abi::Pod as At;
use backend_ebpf::abi::{FORWARD_VERSION, MASQUERADE_VERSION, Masquerading, Settings, Way as Route, mapped};
use backend_ebpf::enforce::Enforcer;
use backend_ebpf::kernel::forward::{Forward, Generation};
use backend_ebpf::kernel::masquerade::{Loaded, Masquerade, Room};
use backend_ebpf::kernel::{MasqueradeMaps, Which};
use backend_ebpf::lengths::PrefixLength;
use cni_core::backend::Change;
use cni_core::policy::program::HostInterface;
use std::net::IpAddr;

/// `TC_ACT_UNSPEC`, `TC_ACT_SHOT` and `TC_ACT_REDIRECT`.
pub(super) const NEXT: i32 = -1;
pub(super) const DROP: i32 = 2;
pub(super) const ELSEWHERE: i32 = 7;

pub(super) const PEER: [&str; 2] = ["192.0.2.9", "2001:db8::9"];
pub(super) const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// Of other nodes: behind the tunnel, and as it is.
pub(super) const WRAPPED: [&str; 2] = ["10.1.0.7", "fd00:1::7"];
pub(super) const ROUTED: [&str; 2] = ["10.2.0.7", "fd00:2::7"];

/// Pods' prefixes.
pub(super) const POOLS: [&str; 2] = ["10.0.0.0/16", "fd00::/64"];

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn ips(texts: [&str; 2]) -> [IpAddr; 2] {
    texts.map(ip)
}

/// A pod that is reached at one port by TCP, UDP and SCTP and answers echoes, and that may go anywhere.
pub(super) fn pod() -> Enforcer {
    const OPEN: [Open; 5] = [(6, 53), (17, 53), (132, 53), (1, 0x0800), (58, 0x8000)];
    open_ports(&Pod { ingress: Some(&OPEN), egress: None })
}

/// A node that nothing reaches at `eth0`, and that may go anywhere.
pub(super) fn closed_node() -> Enforcer {
    let mut enforcer = crate::bed::enforcer();
    enforcer.tables.set_devices(devices());
    enforcer.tables.set_node_addresses(ips(NODE).into());
    enforcer.tables.apply(Change::Put(host(HostInterface::Others, walk(&[]))));
    enforcer.commit().unwrap();
    enforcer
}

/// Where the node's frames are judged.
pub(super) const AT: u32 = ETH0;

/// What a pod's frames begin with where they are handed over.
pub(super) const HANDED_OVER: [u8; 12] = [2, 0, 0, 0, 0, 0xaa, 2, 0, 0, 0, 0, 0xbb];

/// Forwarding with one pod here, the fast path on.
pub(super) fn forwarding() -> Generation {
    let loaded = Generation::load((16, 16)).unwrap();
    let mut maps = loaded.maps().unwrap();
    for address in ips(ADDRESSES) {
        maps.set_pod(address, Some(At { interface: INTERFACE, addresses: HANDED_OVER })).unwrap();
    }
    let node = mapped([192, 0, 2, 2]);
    for (prefix, kind) in [
        ("10.1.0.0/24", Route::TUNNEL),
        ("fd00:1::/64", Route::TUNNEL),
        ("10.2.0.0/24", Route::PLAIN),
        ("fd00:2::/64", Route::PLAIN),
    ] {
        let prefix = prefix.parse().unwrap();
        maps.set_length(PrefixLength::of(&prefix), true).unwrap();
        maps.set_ways(&[(prefix, Some(Route { node, kind }))]).remove(0).unwrap();
    }
    let settings = Settings {
        version: FORWARD_VERSION,
        local: mapped([192, 0, 2, 1]),
        vni: 1,
        tunnel: INTERFACE,
        underlay: INTERFACE,
        flags: Settings::DIRECT,
    };
    maps.set_settings(settings).unwrap();
    loaded
}

/// What became of a frame.
pub(super) fn forwarded(loaded: &Generation, program: Forward, frame: &[u8]) -> (i32, Vec<u8>) {
    let (action, after, _) = loaded.try_frame(program, frame, 1).unwrap();
    (action, after)
}

/// Masquerading of the pod's packets to the outside.
pub(super) fn masquerading() -> (Loaded, MasqueradeMaps) {
    let loaded = Loaded::load(Room { connections: 4096, prefixes: 16 }).unwrap();
    let mut maps = loaded.maps().unwrap();
    let pools = POOLS.map(|text| text.parse().unwrap());
    maps.set_prefixes(Which::Sources, &pools).unwrap();
    maps.set_prefixes(Which::Keep, &pools).unwrap();
    let [IpAddr::V4(v4), IpAddr::V6(v6)] = ips(NODE) else { unreachable!() };
    let settings = Masquerading {
        version: MASQUERADE_VERSION,
        handed_over_seconds: 0,
        v4: mapped(v4.octets()),
        v6: v6.octets(),
        salt: 7,
        first_port: 61_000,
        ports: 4000,
        unused: 0,
    };
    maps.set_settings(settings).unwrap();
    (loaded, maps)
}

pub(super) fn masqueraded(loaded: &Loaded, program: Masquerade, frame: &[u8]) -> (i32, Vec<u8>) {
    let (action, after, _) = loaded.try_frame(program, frame, 1).unwrap();
    (action, after)
}
