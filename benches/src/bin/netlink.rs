//! What the kernel takes per second from one netlink socket, and what one attachment costs without processes around it.
//! Never asserts: it prints a table.
//!
//! ```text
//! cargo run --release -p benches --bin netlink        # as root; works in fresh network namespaces
//! ```
#![forbid(unsafe_code)]

use benches::stats::{Table, millis, quantile};
use cni_core::backend::{Known, Op};
use cni_core::model::{EndpointId, MacAddr};
use ipnet::{IpNet, Ipv4Net};
use net_linux::attach::{AttachRequest, Attacher};
use net_linux::endpoint;
use net_linux::fdb::FdbEntry;
use net_linux::link::{LinkChange, LinkId, NewLink, NewLinkKind, VethPeer, Vxlan};
use net_linux::neigh::Neighbour;
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use net_linux::nexthop::NextHop;
use net_linux::objects::{Object, Write, write};
use net_linux::route::{Route, RouteFilter};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

const PEERS: u32 = 5000;
const ROUTES: u32 = 100_000;
const PODS: u8 = 100;
const ROUNDS: usize = 3;
const MTU_BYTES: u32 = 1450;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), AnyError> {
    let mut tables = Table::new(&["kernel tables", "objects", "ms", "objects/s"]);
    NetNs::new()?.run(|| fill_tables(&mut tables))??;
    println!("{tables}");
    let mut pods = Table::new(&["pods", "p50 ms", "p90 ms"]);
    let (mut floor, mut ours, mut host, mut detach) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut reap = Vec::new();
    for _ in 0..ROUNDS {
        NetNs::new()?.run(|| raw_attachments(&mut floor))??;
        NetNs::new()?.run(|| attachments(&mut ours, &mut host, &mut detach, &mut reap))??;
    }
    for (name, times) in [
        ("raw netlink: veth, both ends, 2 addresses, 2 routes, 2 neighbours", &floor),
        ("Attacher::attach", &ours),
        ("endpoint::apply: 2 routes, 2 neighbours", &host),
        ("Attacher::detach", &detach),
        ("Attacher::reap of 100", &reap),
    ] {
        pods.row(&[name.to_owned(), millis(quantile(times, 0.5)), millis(quantile(times, 0.9))]);
    }
    println!("{pods}");
    Ok(())
}

/// Devices for the tables: a veth that is up, and a VXLAN device.
fn devices(socket: &mut Socket) -> Result<(u32, u32), AnyError> {
    let veth = NewLinkKind::Veth(VethPeer { name: "v1", mac: None, namespace: None });
    let veth = NewLink { up: true, ..NewLink::new("v0", veth) }.create(socket)?;
    let mut batch = Batch::new();
    for name in ["lo", "v1"] {
        LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name(name));
    }
    socket.run_all(&mut batch)?;
    let vxlan = NewLinkKind::Vxlan(Vxlan::new(1, 8472));
    Ok((veth, NewLink { up: true, ..NewLink::new("x0", vxlan) }.create(socket)?))
}

fn fill_tables(table: &mut Table) -> Result<(), AnyError> {
    let mut socket = Socket::route()?;
    let (veth, vxlan) = devices(&mut socket)?;
    let gateway = |at: u32| Ipv4Addr::from(0x0a00_0000 + at % PEERS);
    let mac = |at: u32| {
        let [a, b, c, d] = at.to_be_bytes();
        MacAddr([2, 0, a, b, c, d])
    };
    let destination = |at: u32| Ipv4Net::new_assert(Ipv4Addr::from(0x1400_0000 + at * 256), 24).into();
    let id = |at: u32| 0xCB00_0000 + at % PEERS;
    let nexthops: Vec<Object> =
        (0..PEERS).map(|at| Object::NextHop(NextHop::via(id(at), gateway(at).into(), veth))).collect();
    let plain: Vec<Object> =
        (0..ROUTES).map(|at| Object::Route(Route::via_on_link(destination(at), gateway(at).into(), veth))).collect();
    let through: Vec<Object> = (0..ROUTES).map(|at| Object::Route(Route::through(destination(at), id(at)))).collect();
    let l2 = |at| {
        [
            Object::Neighbour(Neighbour::permanent(vxlan, gateway(at).into(), mac(at))),
            Object::Fdb(FdbEntry::new(vxlan, mac(at), gateway(at).into())),
        ]
    };
    // The kernel finds a next hop of an IPv4 route in a list per device: with a gateway per peer that list is long.
    let peers: Vec<Object> = (0..PEERS)
        .flat_map(|at| {
            let route = Route::via_on_link(destination(at), gateway(at).into(), vxlan);
            l2(at).into_iter().chain([Object::Route(route)])
        })
        .collect();
    let peers_nexthops: Vec<Object> = (0..PEERS)
        .flat_map(|at| {
            let nexthop = NextHop::via(id(at), gateway(at).into(), vxlan);
            let route = Route::through(destination(at), id(at));
            l2(at).into_iter().chain([Object::NextHop(nexthop), Object::Route(route)])
        })
        .collect();
    all(&mut socket, table, "create routes through gateways", &plain, Write::Create)?;
    all(&mut socket, table, "delete them", &plain, Write::Delete)?;
    all(&mut socket, table, "create next-hop objects", &nexthops, Write::Create)?;
    all(&mut socket, table, "create routes through them", &through, Write::Create)?;
    let start = Instant::now();
    let found = Route::dump(&mut socket, &RouteFilter::ours())?.len();
    row(table, "dump routes", found, start.elapsed());
    all(&mut socket, table, "delete routes", &through, Write::Delete)?;
    let name = "create VXLAN peers: neighbour, forwarding entry, route";
    all(&mut socket, table, name, &peers, Write::Create)?;
    all(&mut socket, table, "delete them", &peers, Write::Delete)?;
    let name = "create VXLAN peers: neighbour, forwarding entry, next-hop object, route";
    all(&mut socket, table, "delete next-hop objects", &nexthops, Write::Delete)?;
    all(&mut socket, table, name, &peers_nexthops, Write::Create)?;
    all(&mut socket, table, "replace them by the same", &peers_nexthops, Write::Replace)?;
    all(&mut socket, table, "delete them", &peers_nexthops, Write::Delete)
}

fn all(
    socket: &mut Socket,
    table: &mut Table,
    name: &str,
    objects: &[Object],
    kind: impl Fn(Object) -> Write,
) -> Result<(), AnyError> {
    let writes: Vec<Write> = objects.iter().cloned().map(kind).collect();
    let start = Instant::now();
    let results = write(socket, &writes);
    row(table, name, writes.len(), start.elapsed());
    Ok(results.into_iter().collect::<Result<(), _>>()?)
}

fn row(table: &mut Table, name: &str, objects: usize, time: Duration) {
    let rate = objects as f64 / time.as_secs_f64();
    table.row(&[name.to_owned(), objects.to_string(), millis(time), format!("{rate:.0}")]);
}

fn addresses(number: u8) -> [IpAddr; 2] {
    [Ipv4Addr::new(10, 98, 0, number).into(), Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, u16::from(number)).into()]
}

/// The least that an attachment needs, written out by hand.
fn raw_attachments(times: &mut Vec<Duration>) -> Result<(), AnyError> {
    let mut host = Socket::route()?;
    for number in 1..=PODS {
        let pod = NetNs::new()?;
        let name = format!("raw{number}");
        let (host_mac, pod_mac) = (MacAddr::from_name(&name), MacAddr::from_name("pod"));
        let start = Instant::now();
        let peer = VethPeer { name: "eth0", mac: Some(pod_mac), namespace: Some(pod.as_fd()) };
        let then = LinkChange { up: Some(true), no_ipv6_autoconf: true, ..LinkChange::default() };
        let veth = NewLink::new(&name, NewLinkKind::Veth(peer));
        NewLink { mac: Some(host_mac), mtu_bytes: MTU_BYTES, then, ..veth }.create(&mut host)?;
        let inside = || -> Result<(), AnyError> {
            // In a fresh namespace the pod's end has the index after the loopback device's.
            let index = 2;
            let mut socket = Socket::route()?;
            let mut batch = Batch::new();
            let up = LinkChange { up: Some(true), ..LinkChange::default() };
            up.add(&mut batch, &LinkId::Index(1));
            LinkChange { no_ipv6_autoconf: true, ..LinkChange::default() }.add(&mut batch, &LinkId::Index(index));
            up.add(&mut batch, &LinkId::Index(index));
            for address in addresses(number) {
                let gateway = net_linux::attach::gateway(address);
                let everywhere = if address.is_ipv4() { "0.0.0.0/0".parse()? } else { "::/0".parse()? };
                net_linux::addr::Address::new(index, IpNet::from(address)).create(&mut batch);
                Neighbour::permanent(index, gateway, host_mac).create(&mut batch);
                Route::via_on_link(everywhere, gateway, index).create(&mut batch);
            }
            Ok(socket.run_all(&mut batch)?)
        };
        pod.run(inside)??;
        times.push(start.elapsed());
    }
    Ok(())
}

fn attachments(
    attach: &mut Vec<Duration>,
    host: &mut Vec<Duration>,
    detach: &mut Vec<Duration>,
    reap: &mut Vec<Duration>,
) -> Result<(), AnyError> {
    let mut attacher = Attacher::open()?;
    let mut socket = Socket::route()?;
    let mut pods = Vec::new();
    for number in 1..=PODS {
        let pod = NetNs::new()?;
        let id = EndpointId::of(&format!("pod{number}"), "eth0")?;
        let request = AttachRequest::new(id.clone(), addresses(number).to_vec(), MTU_BYTES);
        let start = Instant::now();
        let attachment = attacher.attach(&pod, &request)?;
        attach.push(start.elapsed());
        let objects = endpoint::compile(&attachment.endpoint(None))?;
        let put = |(key, object)| Op::Put { key, present: Known::Absent, object };
        let ops: Vec<_> = objects.into_iter().map(put).collect();
        let start = Instant::now();
        endpoint::apply(&mut socket, &ops).into_iter().collect::<Result<(), _>>()?;
        host.push(start.elapsed());
        pods.push((pod, id));
    }
    for (_, id) in &pods {
        let start = Instant::now();
        attacher.detach(id)?;
        detach.push(start.elapsed());
    }
    let start = Instant::now();
    attacher.reap()?;
    reap.push(start.elapsed());
    Ok(())
}
