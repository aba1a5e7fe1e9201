//! The underlay: a namespace that is switch and router, one segment per subnet, and the world outside. Never a pod.
//!
//! ```text
//!   node-1  eth0 --+                          +-- eth0  node-3
//!   node-2  eth0 --+-- bridge 0 -- fabric -- bridge 1 --+
//!                                    |
//!                                 outside   (routes to the segments only, not to pods)
//! ```

use super::{LabError, node::UNDERLAY};
use crate::scenario::Scenario;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use net_linux::addr::Address;
use net_linux::link::{Link, LinkChange, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use net_linux::route::Route;
use net_linux::sysctl;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;

/// The host outside, of TEST-NET-2 (RFC 5737).
pub(super) const OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const ROUTER_TO_OUTSIDE_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The host outside, of the documentation prefix (RFC 3849).
pub(super) const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 2);
const ROUTER_TO_OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, 1);

/// The namespaces of the underlay; they live as long as this.
#[derive(Debug)]
pub struct Fabric {
    /// One per node of the scenario.
    pub nodes: Vec<NetNs>,
    /// The host beyond.
    pub outside: NetNs,
    router: NetNs,
}

/// Whether the way to the outside itself uses an address, so that no host outside can have it. Who asks for an IPv4 address
/// on the wire is answered for those of `lo`, too; for IPv6 not.
pub(crate) fn is_on_the_way(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4 == ROUTER_TO_OUTSIDE_V4,
        IpAddr::V6(v6) => v6 != OUTSIDE_V6 && v6.segments()[..4] == OUTSIDE_V6.segments()[..4],
    }
}

/// An interface of one end host: its addresses and its router.
struct Host {
    mtu_bytes: u32,
    addresses: [IpNet; 2],
    routes: Vec<(IpNet, IpAddr)>,
}

impl Fabric {
    /// Builds the segments and hosts of a scenario.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn build(scenario: &Scenario) -> Result<Self, LabError> {
        let router = NetNs::new()?;
        let outside = NetNs::new()?;
        let nodes = scenario.nodes.iter().map(|_| NetNs::new()).collect::<Result<Vec<_>, _>>()?;
        for namespace in nodes.iter().chain([&router, &outside]) {
            // Nobody else is on these segments: no need to wait a second for duplicates of each address.
            namespace.run(|| sysctl::write("net/ipv6/conf/default/accept_dad", "0"))??;
        }
        router.run(|| build_router(scenario, &nodes, &outside))??;
        for (index, namespace) in nodes.iter().enumerate() {
            let host = node_host(scenario, index);
            namespace.run(|| build_host(&host))??;
        }
        outside.run(|| build_host(&outside_host(scenario)))??;
        Ok(Self { nodes, outside, router })
    }

    /// The switch and router between the segments and the outside.
    #[must_use]
    pub fn router(&self) -> &NetNs {
        &self.router
    }

    /// Makes the outside everything that is not inside: it has these addresses, and the router sends it what it knows no
    /// other way for.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open_outside(&self, addresses: &[IpAddr]) -> Result<(), LabError> {
        let everything = [with_length_v4(Ipv4Addr::UNSPECIFIED, 0), with_length_v6(Ipv6Addr::UNSPECIFIED, 0)];
        let default = |device: &str, via: [IpAddr; 2]| {
            let mut socket = Socket::route()?;
            let index = index_of(&mut socket, device)?;
            let mut batch = Batch::new();
            for (destination, via) in everything.into_iter().zip(via) {
                Route { protocol: 4, ..Route::via_on_link(destination, via, index) }.create(&mut batch);
            }
            Ok::<_, LabError>(socket.run_all(&mut batch)?)
        };
        self.router.run(|| default("outside", [OUTSIDE_V4.into(), OUTSIDE_V6.into()]))??;
        self.outside.run(|| default(UNDERLAY, [ROUTER_TO_OUTSIDE_V4.into(), ROUTER_TO_OUTSIDE_V6.into()]))??;
        self.outside.run(|| {
            let mut socket = Socket::route()?;
            let index = index_of(&mut socket, "lo")?;
            let mut batch = Batch::new();
            for address in addresses {
                Address::new(index, IpNet::from(*address)).replace(&mut batch);
            }
            Ok(socket.run_all(&mut batch)?)
        })?
    }

    /// Lets the outside reach pods, each through its node's address, or no more.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn route_pods(&self, pods: &[(IpAddr, IpAddr)], there: bool) -> Result<(), LabError> {
        self.router.run(|| {
            let mut socket = Socket::route()?;
            let mut batch = Batch::new();
            for (pod, node) in pods {
                let Some(index) = Route::device_to(&mut socket, *node)? else { continue };
                let route = Route { protocol: 4, ..Route::via_on_link(IpNet::from(*pod), *node, index) };
                if there { route.replace(&mut batch) } else { route.delete(&mut batch) }
            }
            Ok(socket.run_all(&mut batch)?)
        })?
    }
}

fn first_of(scenario: &Scenario, subnet: usize) -> (Ipv4Addr, Ipv6Addr) {
    let subnet = &scenario.subnets[subnet];
    ((u32::from(subnet.v4.addr()) + 1).into(), (u128::from(subnet.v6.addr()) + 1).into())
}

fn with_length_v4(address: Ipv4Addr, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new(address, length).expect("a checked prefix has at most 32 bits"))
}

fn with_length_v6(address: Ipv6Addr, length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new(address, length).expect("a checked prefix has at most 128 bits"))
}

fn node_host(scenario: &Scenario, node: usize) -> Host {
    let subnet = scenario.nodes[node].subnet;
    let (router_v4, router_v6) = first_of(scenario, subnet);
    let (v4, v6) = scenario.node_addresses(node);
    let subnet = &scenario.subnets[subnet];
    Host {
        mtu_bytes: subnet.mtu_bytes,
        addresses: [with_length_v4(v4, subnet.v4.prefix_len()), with_length_v6(v6, subnet.v6.prefix_len())],
        routes: vec![
            (with_length_v4(Ipv4Addr::UNSPECIFIED, 0), IpAddr::V4(router_v4)),
            (with_length_v6(Ipv6Addr::UNSPECIFIED, 0), IpAddr::V6(router_v6)),
        ],
    }
}

/// It knows the way to nodes, and none to pods: whoever it hears was masqueraded.
fn outside_host(scenario: &Scenario) -> Host {
    let routes = scenario.subnets.iter().flat_map(|subnet| {
        [
            (IpNet::V4(subnet.v4), IpAddr::V4(ROUTER_TO_OUTSIDE_V4)),
            (IpNet::V6(subnet.v6), IpAddr::V6(ROUTER_TO_OUTSIDE_V6)),
        ]
    });
    Host {
        mtu_bytes: 1500,
        addresses: [with_length_v4(OUTSIDE_V4, 24), with_length_v6(OUTSIDE_V6, 64)],
        routes: routes.collect(),
    }
}

/// Runs in the router's namespace.
fn build_router(scenario: &Scenario, nodes: &[NetNs], outside: &NetNs) -> Result<(), LabError> {
    sysctl::write("net/ipv4/ip_forward", "1")?;
    sysctl::write("net/ipv6/conf/all/forwarding", "1")?;
    let mut socket = Socket::route()?;
    for (number, subnet) in scenario.subnets.iter().enumerate() {
        let name = format!("segment{number}");
        let mut bridge = NewLink::new(&name, NewLinkKind::Bridge);
        (bridge.mtu_bytes, bridge.up) = (subnet.mtu_bytes, true);
        create(&mut socket, &bridge)?;
        let index = index_of(&mut socket, &name)?;
        let (v4, v6) = first_of(scenario, number);
        let addresses = [with_length_v4(v4, subnet.v4.prefix_len()), with_length_v6(v6, subnet.v6.prefix_len())];
        address(&mut socket, index, &addresses)?;
        let members = scenario.nodes.iter().zip(nodes).enumerate().filter(|(_, (node, _))| node.subnet == number);
        for (port, (_, namespace)) in members {
            cable(&mut socket, &format!("port{port}"), namespace, subnet.mtu_bytes, Some(index))?;
        }
    }
    cable(&mut socket, "outside", outside, 1500, None)?;
    let index = index_of(&mut socket, "outside")?;
    address(&mut socket, index, &[with_length_v4(ROUTER_TO_OUTSIDE_V4, 24), with_length_v6(ROUTER_TO_OUTSIDE_V6, 64)])
}

/// A veth from the router to a host's namespace, up at our end.
fn cable(socket: &mut Socket, name: &str, to: &NetNs, mtu_bytes: u32, bridge: Option<u32>) -> Result<(), LabError> {
    let peer = VethPeer { name: UNDERLAY, mac: None, namespace: Some(to.as_fd()) };
    let mut veth = NewLink::new(name, NewLinkKind::Veth(peer));
    veth.mtu_bytes = mtu_bytes;
    veth.then = LinkChange { master: bridge, up: Some(true), ..LinkChange::default() };
    create(socket, &veth)
}

/// Runs in the host's namespace: the cable is there already.
fn build_host(host: &Host) -> Result<(), LabError> {
    let mut socket = Socket::route()?;
    let mut batch = Batch::new();
    let up = LinkChange { up: Some(true), ..LinkChange::default() };
    up.add(&mut batch, &LinkId::Name("lo"));
    LinkChange { mtu_bytes: Some(host.mtu_bytes), ..up }.add(&mut batch, &LinkId::Name(UNDERLAY));
    socket.run_all(&mut batch)?;
    let index = index_of(&mut socket, UNDERLAY)?;
    address(&mut socket, index, &host.addresses)?;
    let mut batch = Batch::new();
    for (destination, via) in &host.routes {
        // RTPROT_STATIC of include/uapi/linux/rtnetlink.h: the underlay's routes are not Cnidarian's.
        Route { protocol: 4, ..Route::via_on_link(*destination, *via, index) }.create(&mut batch);
    }
    Ok(socket.run_all(&mut batch)?)
}

fn create(socket: &mut Socket, link: &NewLink<'_>) -> Result<(), LabError> {
    link.create(socket)?;
    Ok(())
}

fn address(socket: &mut Socket, index: u32, addresses: &[IpNet]) -> Result<(), LabError> {
    let mut batch = Batch::new();
    for net in addresses {
        Address::new(index, *net).create(&mut batch);
    }
    Ok(socket.run_all(&mut batch)?)
}

fn index_of(socket: &mut Socket, name: &str) -> Result<u32, LabError> {
    let link = Link::get(socket, &LinkId::Name(name))?;
    Ok(link.ok_or_else(|| LabError::NoLink { name: name.to_owned() })?.index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{PROTOCOLS, Patience, Responder, probe_all, seen_as};
    use std::time::{Duration, Instant};

    const TWO_SEGMENTS: &str = "
name: t
subnets:
  - {name: left, v4: 172.31.1.0/24, v6: 'fd31:1::/64'}
  - {name: right, v4: 172.31.2.0/24, v6: 'fd31:2::/64', mtu: 9000}
nodes: [{name: a, subnet: left}, {name: b, subnet: left}, {name: c, subnet: right}]
";

    #[test]
    fn nodes_of_all_segments_and_the_outside_hear_each_other() {
        let scenario = Scenario::parse(TWO_SEGMENTS).unwrap();
        let fabric = Fabric::build(&scenario).unwrap();
        let hosts = [&fabric.nodes[1], &fabric.nodes[2], &fabric.outside];
        let _responders = hosts.map(|host| Responder::start(host).unwrap());
        let addresses = [1, 2].map(|node| scenario.node_addresses(node));
        let mut targets = vec![IpAddr::V4(OUTSIDE_V4), IpAddr::V6(OUTSIDE_V6)];
        targets.extend(addresses.iter().flat_map(|(v4, v6)| [IpAddr::V4(*v4), IpAddr::V6(*v6)]));
        let questions: Vec<_> = targets.iter().flat_map(|to| PROTOCOLS.map(|protocol| (protocol, *to))).collect();
        // IPv6 takes up to two seconds after a carrier comes.
        let deadline = Instant::now() + Duration::from_secs(20);
        let patience = Patience { timeout: Duration::from_millis(300), samples: 1 };
        loop {
            let answers = probe_all(&fabric.nodes[0], &questions, patience).unwrap();
            let failed: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
            if failed.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "{failed:?}");
        }
        let seen = seen_as(&fabric.nodes[0], IpAddr::V4(OUTSIDE_V4), Duration::from_secs(1)).unwrap();
        assert_eq!(seen, IpAddr::V4(scenario.node_addresses(0).0));
    }

    #[test]
    fn the_kernel_tells_the_device_of_a_way_and_that_there_is_none() {
        let scenario = Scenario::parse(TWO_SEGMENTS).unwrap();
        let fabric = Fabric::build(&scenario).unwrap();
        let (mut here, mut nowhere) = (None, Some(0));
        fabric
            .outside
            .run(|| {
                let mut socket = Socket::route().unwrap();
                here = Route::device_to(&mut socket, scenario.node_addresses(0).0.into()).unwrap();
                nowhere = Route::device_to(&mut socket, "10.9.9.9".parse().unwrap()).unwrap();
            })
            .unwrap();
        assert!(here.is_some() && nowhere.is_none());
    }
}
