//! A replacement for the reference plugin `ptp`: a veth per container, routed, addresses by delegation. Never a bridge.
//!
//! ```text
//! cargo build --release -p sdk-examples --example ptp
//! cp target/release/examples/ptp /opt/cni/bin/ptp.new && mv /opt/cni/bin/ptp{.new,}
//! ```
//! Same configuration (`ipam`, `mtu`, `dns`, `ipMasq`), same answers.

use cni_core::cni::{AddResult, CniError, ErrorCode, Interface, NetConf, SpecVersion};
use cni_core::model::{EndpointId, MacAddr};
use cni_core::plugin::{
    About, AddRequest, CheckRequest, DelRequest, GcRequest, Netns, Plugin, StatusRequest, main as plugin_main,
};
use ipnet::IpNet;
use net_linux::addr::Address;
use net_linux::link::{Link, LinkChange, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::masquerade::Containers;
use net_linux::netlink::{Batch, Socket};
use net_linux::nft::NftError;
use net_linux::{marks, netns::NetNs, route::Route, sysctl};
use std::fmt::Display;
use std::os::fd::AsFd;
use std::process::ExitCode;

struct Ptp;

#[derive(Default, serde::Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Own {
    ip_masq: bool,
    mtu: u32,
}

fn failed(error: impl Display) -> CniError {
    CniError::new(ErrorCode::INTERNAL, error)
}

/// The host's end of an attachment: the same on every call.
fn host_end(id: &EndpointId) -> String {
    format!("veth{}", &marks::host_interface(id).as_str()[7..])
}

/// What the pod's end gets: its addresses, the gateway on link, everything else through the gateway.
fn inside(ifname: &str, result: &AddResult) -> Result<(), CniError> {
    let mut socket = Socket::route().map_err(failed)?;
    let link = Link::get(&mut socket, &LinkId::Name(ifname)).map_err(failed)?.ok_or_else(|| failed("no veth"))?;
    let mut batch = Batch::new();
    LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(link.index));
    for ip in &result.ips {
        let gateway = ip.gateway.ok_or_else(|| failed("ipam: an address has no gateway"))?;
        let source = Some(ip.address.addr());
        Address { no_prefix_route: true, ..Address::new(link.index, ip.address) }.create(&mut batch);
        Route { source, ..Route::on_link(IpNet::from(gateway), link.index) }.create(&mut batch);
        Route { source, ..Route::via_on_link(ip.address.trunc(), gateway, link.index) }.create(&mut batch);
    }
    for route in &result.routes {
        let gateway = result.next_hop(route).ok_or_else(|| failed("ipam: a route has no gateway"))?;
        Route::via_on_link(route.dst, gateway, link.index).create(&mut batch);
    }
    socket.run_all(&mut batch).map_err(failed)
}

/// Everything after the veth.
fn finish(socket: &mut Socket, index: u32, request: &AddRequest, result: &mut AddResult) -> Result<(), CniError> {
    let pod = NetNs::from_path(&request.netns).map_err(failed)?;
    pod.run(|| inside(request.ifname.as_str(), result)).map_err(failed)??;
    let mut batch = Batch::new();
    for ip in &mut result.ips {
        ip.interface = Some(1);
        sysctl::enable_forwarding(ip.address.addr()).map_err(failed)?;
        Address::new(index, IpNet::from(ip.gateway.unwrap_or(ip.address.addr()))).replace(&mut batch);
        Route::on_link(IpNet::from(ip.address.addr()), index).create(&mut batch);
    }
    socket.run_all(&mut batch).map_err(failed)?;
    let networks: Vec<IpNet> = result.ips.iter().map(|ip| ip.address).collect();
    masquerading(&request.conf, |containers| containers.put(&request.id(), &networks))
}

/// Does something about masquerading, where it is switched on.
fn masquerading(conf: &NetConf, work: impl FnOnce(&mut Containers) -> Result<(), NftError>) -> Result<(), CniError> {
    if !conf.own::<Own>().is_ok_and(|own| own.ip_masq) {
        return Ok(());
    }
    Containers::open(&conf.name).and_then(|mut containers| work(&mut containers)).map_err(failed)
}

fn attach(request: &AddRequest, own: &Own, mut result: AddResult) -> Result<AddResult, CniError> {
    let pod = NetNs::from_path(&request.netns).map_err(failed)?;
    let (name, mut socket) = (host_end(&request.id()), Socket::route().map_err(failed)?);
    let [mac, pod_mac] = ["host", "pod"].map(|end| MacAddr::from_name(&format!("ptp {end} {}", request.id())));
    let peer = VethPeer { name: request.ifname.as_str(), mac: Some(pod_mac), namespace: Some(pod.as_fd()) };
    let then = LinkChange { up: Some(true), ..LinkChange::default() };
    let veth = NewLink { mtu_bytes: own.mtu, mac: Some(mac), then, ..NewLink::new(&name, NewLinkKind::Veth(peer)) };
    let index = veth
        .create(&mut socket)
        .map_err(|error| if error.is_exists() { CniError::interface_exists(&request.ifname) } else { failed(error) })?;
    finish(&mut socket, index, request, &mut result).inspect_err(|_| drop(remove(&request.id(), &request.conf)))?;
    let inside = Interface::in_container(request.ifname.as_str(), pod_mac, request.netns.display().to_string());
    result.interfaces = vec![Interface::on_host(name, mac), inside];
    result.dns = request.conf.dns.clone().unwrap_or(result.dns);
    Ok(result)
}

/// Deletes the veth and its masquerading, if they are there.
fn remove(id: &EndpointId, conf: &NetConf) -> Result<(), CniError> {
    masquerading(conf, |containers| containers.remove(id))?;
    Socket::route().and_then(|mut socket| LinkId::Name(&host_end(id)).remove(&mut socket)).map_err(failed)
}

impl Plugin for Ptp {
    fn about(&self) -> About {
        About { name: "ptp", version: env!("CARGO_PKG_VERSION"), spec: SpecVersion::ALL, netns: Netns::Entered }
    }

    fn add(&self, request: &AddRequest) -> Result<AddResult, CniError> {
        let own: Own = request.conf.own()?;
        request.require_ipam()?.add(|result| attach(request, &own, result))
    }

    fn del(&self, request: &DelRequest) -> Result<(), CniError> {
        remove(&request.id(), &request.conf)?;
        request.require_ipam()?.forward()
    }

    fn check(&self, request: &CheckRequest) -> Result<(), CniError> {
        request.require_ipam()?.forward()?;
        let pod = NetNs::from_path(&request.netns).map_err(failed)?;
        let held = pod.run(|| Address::dump(&mut Socket::route()?, None)).map_err(failed)?.map_err(failed)?;
        let missing = request.added()?.ips.iter().find(|ip| !held.iter().any(|held| held.address == ip.address));
        missing.map_or(Ok(()), |ip| Err(failed(format!("{}: {} is missing", request.ifname, ip.address))))
    }

    fn status(&self, request: &StatusRequest) -> Result<(), CniError> {
        request.require_ipam()?.forward()
    }

    fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
        // Veths go with their containers' namespaces; what can leak is masquerading and addresses.
        request.valid_attachments().map_or(Ok(()), |valid| masquerading(&request.conf, |all| all.retain(valid)))?;
        request.require_ipam()?.forward()
    }
}

fn main() -> ExitCode {
    plugin_main(&Ptp)
}
