//! The host's kernel objects of an endpoint: a route per address and a permanent neighbour behind it. Never the veth:
//! that is [`crate::attach`]'s.
//!
//! The same on every backend, so a driver embeds these pieces under its own key: [`compile`], [`level`], [`observe`],
//! [`apply`]. A route or neighbour belongs here when its device is a veth with our alias; a driver leaves those out of
//! its own `observe` ([`MainTable`]).

use crate::attach::our_veths;
use crate::link::{Link, LinkChange, LinkId};
use crate::marks;
use crate::neigh::{Neighbour, NeighbourState};
use crate::netlink::{self, Batch, Error, Socket};
use crate::objects::{self, Object, Write};
use crate::route::{MAIN_TABLE, Route, RouteFilter};
use cni_core::backend::{self, Known, Op};
use cni_core::model::{Endpoint, InterfaceName, MacAddr};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointKey {
    /// A neighbour on the host's end.
    Neighbour {
        /// The host's end of the veth.
        interface: InterfaceName,
        /// The pod's address.
        address: IpAddr,
    },
    /// The route to a pod's address.
    Route {
        /// The address as `/32` or `/128`.
        destination: IpNet,
        /// The table.
        table: u32,
        /// The metric.
        metric: u32,
    },
}

impl EndpointKey {
    /// The route of the main table with the family's default metric: the one that [`compile`] makes.
    #[must_use]
    pub fn main_route(destination: IpNet) -> Self {
        route_key(&Route::new(destination))
    }
}

impl fmt::Display for EndpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Neighbour { interface, address } => write!(f, "neighbour {address} on {interface}"),
            Self::Route { destination, .. } => write!(f, "route {destination}"),
        }
    }
}

/// The rest of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointObject {
    /// A permanent neighbour.
    Neighbour {
        /// The pod's Ethernet address.
        mac: MacAddr,
    },
    /// A route through the host's end.
    Route {
        /// The host's end of the veth.
        interface: InterfaceName,
        /// The route without its device's index, which differs from run to run.
        route: Route,
    },
}

impl fmt::Display for EndpointObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Neighbour { mac } => write!(f, "at {mac}"),
            Self::Route { interface, .. } => write!(f, "through {interface}"),
        }
    }
}

/// The prefix that covers one address: `/32` or `/128`.
#[must_use]
pub fn host_prefix(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// The objects of an endpoint. Pure.
///
/// # Errors
/// [`backend::ErrorKind::Invalid`]: no address, an address that no pod can have, or an Ethernet address that is no
/// station's.
pub fn compile(endpoint: &Endpoint) -> backend::Result<Vec<(EndpointKey, EndpointObject)>> {
    let name = || format!("endpoint {}", endpoint.id);
    if endpoint.addresses.is_empty() {
        return Err(backend::Error::invalid(name(), "addresses", "empty; give at least one address"));
    }
    if !endpoint.pod_mac.is_unicast() {
        let detail = format!("{} is not a station's address; its first byte must be even", endpoint.pod_mac);
        return Err(backend::Error::invalid(name(), "podMac", detail));
    }
    let mut objects = Vec::with_capacity(endpoint.addresses.len() * 2);
    for address in &endpoint.addresses {
        if !is_pod_address(*address) {
            let detail = format!(
                "{address} can't be a pod's address; give a unicast address that is not loopback or link-local"
            );
            return Err(backend::Error::invalid(name(), "addresses", detail));
        }
        let route = Route { index: None, ..Route::on_link(host_prefix(*address), 0) };
        objects.push((
            EndpointKey::Neighbour { interface: endpoint.host_interface.clone(), address: *address },
            EndpointObject::Neighbour { mac: endpoint.pod_mac },
        ));
        objects.push((route_key(&route), EndpointObject::Route { interface: endpoint.host_interface.clone(), route }));
    }
    Ok(objects)
}

fn route_key(route: &Route) -> EndpointKey {
    EndpointKey::Route { destination: route.destination, table: route.table, metric: route.metric }
}

pub(crate) fn is_pod_address(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    !(link_local || address.is_unspecified() || address.is_multicast() || address.is_loopback())
}

/// How many levels a driver keeps free for these objects.
pub const LEVELS: u8 = 2;

/// The level of an object above the driver's first for endpoints: neighbours 0, routes 1, so that the first packet has
/// an Ethernet address to go to.
#[must_use]
pub fn level(key: &EndpointKey) -> u8 {
    match key {
        EndpointKey::Neighbour { .. } => 0,
        EndpointKey::Route { .. } => 1,
    }
}

/// The host's ends of our veths, by index. A snapshot.
#[derive(Debug, Clone, Default)]
pub struct Interfaces(BTreeMap<u32, InterfaceName>);

impl Interfaces {
    /// Reads them.
    ///
    /// # Errors
    /// The kernel could not be read.
    pub fn observe(socket: &mut Socket) -> netlink::Result<Self> {
        let veths = our_veths(socket)?;
        Ok(Self(
            veths
                .into_iter()
                .filter_map(|(link, _)| Some((link.index, InterfaceName::new(&link.name).ok()?)))
                .collect(),
        ))
    }

    /// The name of the host's end with this index; `None` when the device is no endpoint's.
    #[must_use]
    pub fn name_of(&self, index: u32) -> Option<&InterfaceName> {
        self.0.get(&index)
    }
}

/// All objects of ours on the host's ends of our veths.
///
/// # Errors
/// The kernel could not be read.
pub fn observe(socket: &mut Socket) -> netlink::Result<Vec<(EndpointKey, EndpointObject)>> {
    let interfaces = Interfaces::observe(socket)?;
    let routes = Route::dump(socket, &RouteFilter::ours())?;
    let neighbours = Neighbour::dump(socket, None)?;
    Ok(from_tables(&interfaces, &routes, &neighbours))
}

/// The same from tables that were read already.
#[must_use]
pub fn from_tables(
    interfaces: &Interfaces,
    routes: &[Route],
    neighbours: &[Neighbour],
) -> Vec<(EndpointKey, EndpointObject)> {
    let neighbours = neighbours.iter().filter_map(|neighbour| {
        let ours = neighbour.is_ours() && neighbour.state == NeighbourState::Permanent;
        let interface = interfaces.name_of(neighbour.index).filter(|_| ours)?.clone();
        let key = EndpointKey::Neighbour { interface, address: neighbour.address };
        Some((key, EndpointObject::Neighbour { mac: neighbour.mac? }))
    });
    let routes = routes.iter().filter(|route| route.is_ours()).filter_map(|route| {
        let interface = interfaces.name_of(route.index?)?.clone();
        let route = Route { index: None, ..route.clone() };
        Some((route_key(&route), EndpointObject::Route { interface, route }))
    });
    neighbours.chain(routes).collect()
}

/// What is ours in the main table and beside it: of endpoints, and the rest, which is the driver's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MainTable {
    /// Objects of endpoints.
    pub endpoints: Vec<(EndpointKey, EndpointObject)>,
    /// Routes of ours that lead to no endpoint.
    pub others: Vec<Route>,
}

impl MainTable {
    /// Reads it, but for neighbours, which were read already.
    ///
    /// # Errors
    /// The kernel could not be read.
    pub fn observe(socket: &mut Socket, neighbours: &[Neighbour]) -> netlink::Result<Self> {
        let interfaces = Interfaces::observe(socket)?;
        let mut routes = Route::dump(socket, &RouteFilter { table: Some(MAIN_TABLE), ..RouteFilter::ours() })?;
        let endpoints = from_tables(&interfaces, &routes, neighbours);
        routes.retain(|route| route.index.and_then(|index| interfaces.name_of(index)).is_none());
        Ok(Self { endpoints, others: routes })
    }
}

/// Writes a batch and answers for each op in order.
pub fn apply(socket: &mut Socket, batch: &[Op<EndpointKey, EndpointObject>]) -> Vec<backend::Result<()>> {
    let mut indices = Indices::default();
    let mut writes = Vec::with_capacity(batch.len());
    let planned: Vec<netlink::Result<bool>> = batch
        .iter()
        .map(|op| {
            let write = plan(socket, &mut indices, op)?;
            let is_some = write.is_some();
            writes.extend(write);
            Ok(is_some)
        })
        .collect();
    let mut results = objects::write(socket, &writes).into_iter();
    planned
        .into_iter()
        .map(|planned| match planned {
            Ok(true) => results.next().unwrap_or(Ok(())).map_err(backend::Error::from),
            Ok(false) => Ok(()),
            Err(error) => Err(error.into()),
        })
        .collect()
}

/// The write of an op; `None` when there is nothing to do.
fn plan(
    socket: &mut Socket,
    indices: &mut Indices,
    op: &Op<EndpointKey, EndpointObject>,
) -> netlink::Result<Option<Write>> {
    match op {
        Op::Put { key, present, object } => {
            let (interface, known) = match (key, object) {
                (EndpointKey::Neighbour { interface, .. }, _) | (_, EndpointObject::Route { interface, .. }) => {
                    (interface, present)
                }
                (EndpointKey::Route { .. }, EndpointObject::Neighbour { .. }) => return Err(mismatch(key)),
            };
            let index = indices.of(socket, interface)?.ok_or_else(|| Error::Missing {
                operation: "create",
                object: key.to_string(),
                missing: format!("the host interface {interface}"),
            })?;
            indices.wake(socket, interface)?;
            let object = match (key, object) {
                (EndpointKey::Neighbour { address, .. }, EndpointObject::Neighbour { mac }) => {
                    Object::Neighbour(Neighbour::permanent(index, *address, *mac))
                }
                (EndpointKey::Route { .. }, EndpointObject::Route { route, .. }) => {
                    Object::Route(Route { index: Some(index), ..route.clone() })
                }
                _ => return Err(mismatch(key)),
            };
            Ok(Some(Write::put(known, object)))
        }
        Op::Delete { key: EndpointKey::Neighbour { interface, address }, present } => {
            // Gone with its device.
            let Some(index) = indices.of(socket, interface)? else { return Ok(None) };
            // The kernel deletes a neighbour whoever made it, so one that we failed to write is looked at first.
            if *present == Known::Unknown {
                let found = Neighbour::dump(socket, Some(index))?;
                if !found.iter().any(|neighbour| neighbour.address == *address && neighbour.is_ours()) {
                    return Ok(None);
                }
            }
            let unknown = MacAddr([0; 6]);
            Ok(Some(Write::Delete(Object::Neighbour(Neighbour::permanent(index, *address, unknown)))))
        }
        Op::Delete { key: EndpointKey::Route { destination, table, metric }, present } => {
            let route = match present {
                Known::Present(EndpointObject::Route { route, .. }) => route.clone(),
                _ => Route { table: *table, metric: *metric, ..Route::on_link(*destination, 0) },
            };
            Ok(Some(Write::Delete(Object::Route(Route { index: None, ..route }))))
        }
    }
}

fn mismatch(key: &EndpointKey) -> Error {
    Error::Invalid {
        operation: "create",
        object: key.to_string(),
        field: "object",
        detail: "a route's key needs a route, a neighbour's a neighbour".to_owned(),
    }
}

/// Indices of our host interfaces, each asked for once in a batch.
#[derive(Default)]
struct Indices {
    known: BTreeMap<InterfaceName, Option<u32>>,
    /// Those that somebody else set down: the kernel takes no route through them.
    down: BTreeSet<u32>,
}

impl Indices {
    /// The index of a veth of ours; `None` when there is no device of this name.
    fn of(&mut self, socket: &mut Socket, interface: &InterfaceName) -> netlink::Result<Option<u32>> {
        if let Some(index) = self.known.get(interface) {
            return Ok(*index);
        }
        let link = Link::get(socket, &LinkId::Name(interface.as_str()))?;
        if let Some(link) = link.as_ref().filter(|link| link.our_id().is_none()) {
            return Err(Error::Foreign {
                operation: "use",
                object: format!("interface {interface}"),
                found: format!("alias {:?}", link.alias.as_deref().unwrap_or_default()),
            });
        }
        // What was detached is down until it is deleted, and has to be.
        let fell = link.as_ref().filter(|link| !link.up && link.group != marks::DOOMED_LINK_GROUP);
        self.down.extend(fell.map(|link| link.index));
        let index = link.map(|link| link.index);
        self.known.insert(interface.clone(), index);
        Ok(index)
    }

    /// Sets a veth of ours up that is down.
    fn wake(&mut self, socket: &mut Socket, interface: &InterfaceName) -> netlink::Result<()> {
        let Some(index) = self.of(socket, interface)? else { return Ok(()) };
        if self.down.remove(&index) {
            let mut batch = Batch::new();
            LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Index(index));
            socket.run_all(&mut batch)?;
        }
        Ok(())
    }
}
