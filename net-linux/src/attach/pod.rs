//! The pod's side: what shall be there, and the one batch that makes it. Never the host's side.

use super::{AttachError, AttachRequest, gateway};
use crate::addr::Address;
use crate::endpoint::host_prefix;
use crate::link::{Link, LinkChange, LinkId};
use crate::neigh::Neighbour;
use crate::netlink::{self, Batch, Socket};
use crate::netns::NetNs;
use crate::route::{MAIN_TABLE, Route};
use cni_core::model::MacAddr;
use ipnet::{IpNet, Ipv6Net};
use std::net::{IpAddr, Ipv6Addr};

/// The loopback device: the first of every namespace.
pub(super) const LOOPBACK_INDEX: u32 = 1;

/// What shall be in the pod besides the device.
pub(super) struct PodSide {
    pub(super) addresses: Vec<Address>,
    pub(super) neighbours: Vec<Neighbour>,
    pub(super) routes: Vec<Route>,
}

impl PodSide {
    pub(super) fn new(request: &AttachRequest, index: u32) -> Self {
        let pod_address = |address: &IpAddr| Address {
            // A /128 needs no route to itself.
            no_prefix_route: address.is_ipv6(),
            ..Address::new(index, host_prefix(*address))
        };
        let mut addresses: Vec<Address> = request.addresses.iter().map(pod_address).collect();
        if request.has_v6() {
            addresses.push(Address::new(index, link_local(request.pod_mac())));
        }
        let mut gateways: Vec<IpAddr> = request.addresses.iter().map(|address| gateway(*address)).collect();
        gateways.sort_unstable();
        gateways.dedup();
        let neighbour = |gateway| Neighbour::permanent(index, gateway, request.host_mac());
        let neighbours = gateways.into_iter().map(neighbour).collect();
        let routes = request.routes.iter().map(|route| {
            let plain = Route::via_on_link(route.destination, gateway(route.destination.addr()), index);
            Route {
                metric: route.metric.filter(|metric| *metric != 0).unwrap_or(plain.metric),
                table: route.table.unwrap_or(MAIN_TABLE),
                mtu_bytes: route.mtu_bytes,
                advertised_mss: route.advertised_mss,
                ..plain
            }
        });
        Self { addresses, neighbours, routes: routes.collect() }
    }
}

/// `fe80::/64` with the interface id of an Ethernet address (RFC 4291, appendix A).
fn link_local(mac: MacAddr) -> IpNet {
    let [a, b, c, d, e, f] = mac.0;
    let word = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, word(a ^ 0x02, b), word(c, 0xff), word(0xfe, d), word(e, f));
    Ipv6Net::new_assert(address, 64).into()
}

/// A socket of the pod's namespace.
pub(super) fn socket(namespace: &NetNs, request: &AttachRequest) -> Result<Socket, AttachError> {
    let opened = namespace.open_inside(Socket::route).map_err(AttachError::namespace(&request.id))?;
    opened.map_err(AttachError::netlink(&request.id))
}

/// Makes the pod's side. Gives the index of the pod's end.
pub(super) fn set_up(namespace: &NetNs, request: &AttachRequest) -> Result<u32, AttachError> {
    let failed = AttachError::netlink(&request.id);
    let mut socket = socket(namespace, request)?;
    let name = request.id.interface();
    let link = Link::get(&mut socket, &LinkId::Name(name)).map_err(&failed)?.ok_or_else(|| {
        failed(netlink::Error::Missing {
            operation: "set up",
            object: format!("interface {name}"),
            missing: "the pod's end of the veth".to_owned(),
        })
    })?;
    if request.has_v6() && link.ipv6_disabled {
        // Rare, and the file shows the namespace of whoever opens it.
        namespace.run(|| enable_ipv6(request)).map_err(AttachError::namespace(&request.id))??;
    }
    socket.run_all(&mut batch(request, link.index)).map_err(&failed)?;
    Ok(link.index)
}

/// Runtimes switch IPv6 off in namespaces that they don't know to need it.
fn enable_ipv6(request: &AttachRequest) -> Result<(), AttachError> {
    let path = format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", request.id.interface());
    std::fs::write(&path, "0").map_err(|source| AttachError::EnableIpv6 { id: request.id.clone(), path, source })
}

fn batch(request: &AttachRequest, index: u32) -> Batch {
    let side = PodSide::new(request, index);
    let mut batch = Batch::new();
    LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(LOOPBACK_INDEX));
    // Two requests: in one the kernel would bring the device up first, and make an address before it is told not to.
    LinkChange { no_ipv6_autoconf: true, ..LinkChange::default() }.add(&mut batch, &LinkId::Index(index));
    LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(index));
    for address in &side.addresses {
        address.create(&mut batch);
    }
    for neighbour in &side.neighbours {
        neighbour.replace(&mut batch);
    }
    for route in &side.routes {
        route.create(&mut batch);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand from RFC 4291, appendix A: the universal bit is inverted, ff:fe goes into the middle.
    #[test]
    fn a_link_local_address_has_the_interface_id_of_the_ethernet_address() {
        let mac = MacAddr([0x02, 0xab, 0xcd, 0x01, 0x23, 0x45]);
        assert_eq!(link_local(mac).to_string(), "fe80::ab:cdff:fe01:2345/64");
    }
}
