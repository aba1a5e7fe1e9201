//! The kernel's own cost: the same devices, addresses, routes and neighbours by raw netlink, from this process. Never a
//! lease, a policy, a fork.

use super::AnyError;
use super::contender::{Contender, PodUnderTest};
use cni_core::model::MacAddr;
use ipnet::IpNet;
use net_linux::addr::Address;
use net_linux::link::{Link, LinkChange, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::neigh::Neighbour;
use net_linux::netlink::{Batch, Socket};
use net_linux::route::Route;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

const GATEWAYS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1)), IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1))];

/// Raw netlink, nothing else.
pub(super) struct Floor;

fn addresses(pod: &PodUnderTest) -> [IpAddr; 2] {
    let number = u32::try_from(pod.namespace.id().inode & 0xffff).unwrap_or_default();
    let v4 = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 98, 0, 0)) + number);
    let v6 = Ipv6Addr::from(u128::from(Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, 0)) + u128::from(number));
    [v4.into(), v6.into()]
}

fn host_name(pod: &PodUnderTest) -> String {
    format!("flr{:x}", pod.namespace.id().inode & 0xffff_ffff)
}

impl Contender for Floor {
    fn name(&self) -> &str {
        "raw netlink, no process (IPv4 + IPv6)"
    }

    fn add(&self, pod: &PodUnderTest) -> Result<(), AnyError> {
        let name = host_name(pod);
        let (host_mac, pod_mac) = (MacAddr::from_name(&name), MacAddr::from_name(&format!("{name}-pod")));
        floor_namespace().run(|| -> Result<(), AnyError> {
            let mut host = Socket::route()?;
            let peer = VethPeer { name: "eth0", mac: Some(pod_mac), namespace: Some(pod.namespace.as_fd()) };
            let mut veth = NewLink::new(&name, NewLinkKind::Veth(peer));
            veth.mac = Some(host_mac);
            veth.then = LinkChange { up: Some(true), no_ipv6_autoconf: true, ..LinkChange::default() };
            let index = veth.create(&mut host)?;
            pod.namespace.run(|| inside(pod, host_mac))??;
            let mut batch = Batch::new();
            for address in addresses(pod) {
                Neighbour::permanent(index, address, pod_mac).replace(&mut batch);
                Route::on_link(IpNet::from(address), index).replace(&mut batch);
            }
            Ok(host.run_all(&mut batch)?)
        })?
    }

    fn del(&self, pod: &PodUnderTest) -> Result<(), AnyError> {
        floor_namespace().run(|| -> Result<(), AnyError> {
            let mut batch = Batch::new();
            LinkId::Name(&host_name(pod)).delete(&mut batch);
            Ok(Socket::route()?.run_all(&mut batch)?)
        })?
    }
}

/// The namespace that stands for the node.
fn floor_namespace() -> &'static net_linux::netns::NetNs {
    static NODE: std::sync::OnceLock<net_linux::netns::NetNs> = std::sync::OnceLock::new();
    NODE.get_or_init(|| net_linux::netns::NetNs::new().expect("root may make a network namespace"))
}

fn inside(pod: &PodUnderTest, host_mac: MacAddr) -> Result<(), AnyError> {
    let mut socket = Socket::route()?;
    let index = index_of(&mut socket, "eth0")?;
    let mut batch = Batch::new();
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    up.add(&mut batch, &LinkId::Name("lo"));
    up.add(&mut batch, &LinkId::Index(index));
    for (address, gateway) in addresses(pod).into_iter().zip(GATEWAYS) {
        Address::new(index, IpNet::from(address)).create(&mut batch);
        Neighbour::permanent(index, gateway, host_mac).create(&mut batch);
        let everywhere = if address.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        Route::via_on_link(everywhere.parse()?, gateway, index).create(&mut batch);
    }
    Ok(socket.run_all(&mut batch)?)
}

fn index_of(socket: &mut Socket, name: &str) -> Result<u32, AnyError> {
    let link = Link::get(socket, &LinkId::Name(name))?;
    Ok(link.ok_or_else(|| format!("there is no interface {name}"))?.index)
}
