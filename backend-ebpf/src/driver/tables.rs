//! Addresses of the tunnel device, neighbours of pods, and routes. Never a route without our protocol number.

use super::device::Devices;
use super::{EbpfDriver, no_device, not_for};
use crate::object::{Key, Object, Target};
use cni_core::backend::{Error, Op, Result};
use ipnet::IpNet;
use net_linux::addr::Address;
use net_linux::endpoint::{self, EndpointKey, EndpointObject, MainTable};
use net_linux::marks;
use net_linux::neigh::Neighbour;
use net_linux::nexthop::NextHop;
use net_linux::objects::{self, Found, Write};
use net_linux::route::{MAIN_TABLE, Route, RouteFilter, RouteKind};
use std::collections::HashMap;
use std::net::IpAddr;

impl EbpfDriver {
    pub(super) fn read_tables(&mut self, devices: &Devices, objects: &mut Vec<(Key, Object)>) -> Result<()> {
        let mut found = Found::new(Object::Strange);
        for (name, link) in self.lasting(devices).ours() {
            for address in Address::dump(&mut self.socket, Some(link.index))? {
                let object = if address.tentative { Object::Strange } else { Object::Address };
                found.add(Key::Address(name.clone(), address.address), object);
            }
        }
        let neighbours = Neighbour::dump(&mut self.socket, None)?;
        let main = MainTable::observe(&mut self.socket, &neighbours)?;
        for (key, object) in main.endpoints {
            found.add(key.into(), Object::Pod(object.into()));
        }
        for route in &main.others {
            let (key, object) = read_route(devices, route);
            found.add(key, object);
        }
        let filter =
            RouteFilter { table: Some(MAIN_TABLE), protocol: Some(marks::LEARNED_PROTOCOL), ..RouteFilter::ours() };
        for route in Route::dump(&mut self.socket, &filter)? {
            found.add(Key::LearnedRoute(route.destination, route.metric), Object::Strange);
        }
        // A kernel that has no such objects has none left.
        let next_hops = NextHop::dump(&mut self.socket, None).unwrap_or_default();
        let ours = next_hops.iter().filter(|hop| hop.is_ours() || hop.protocol == marks::LEARNED_PROTOCOL);
        ours.for_each(|hop| found.add(Key::StrayNextHop(hop.id), Object::Strange));
        objects.extend(found);
        Ok(())
    }

    /// Writes objects of the kernel's tables in one batch.
    pub(super) fn write_tables(&mut self, ops: &[(usize, &Op<Key, Object>)], results: &mut HashMap<usize, Result<()>>) {
        // A node has as many links as pods, so they are not read for the pods' own objects.
        let devices = match ops.iter().any(|(_, op)| names_device(op)).then(|| self.devices()).transpose() {
            Ok(devices) => devices.unwrap_or_default(),
            Err(error) => {
                results.extend(ops.iter().map(|(index, _)| (*index, Err(error.clone()))));
                return;
            }
        };
        let (mut writes, mut written) = (Vec::with_capacity(ops.len()), Vec::with_capacity(ops.len()));
        let (mut pods, mut of_pods) = (Vec::new(), Vec::new());
        for (index, op) in ops {
            if let Some(op) = pod_op(op) {
                pods.push(op);
                of_pods.push(*index);
                continue;
            }
            match table_write(&devices, op) {
                Ok(Some(write)) => {
                    writes.push(write);
                    written.push(*index);
                }
                Ok(None) => {
                    results.insert(*index, Ok(()));
                }
                Err(error) => {
                    results.insert(*index, Err(error));
                }
            }
        }
        let answers = objects::write(&mut self.socket, &writes).into_iter().map(|result| result.map_err(Into::into));
        results.extend(written.into_iter().zip(answers));
        results.extend(of_pods.into_iter().zip(endpoint::apply(&mut self.socket, &pods)));
    }
}

fn read_route(devices: &Devices, route: &Route) -> (Key, Object) {
    let destination = route.destination;
    if route.metric != Route::new(destination).metric {
        return (Key::StrayRoute(destination, route.metric), Object::Strange);
    }
    let device = || devices.name(route.index?);
    let target = match (route.kind, route.via) {
        (RouteKind::Unreachable, _) => Some(Target::Unreachable),
        (_, Some(gateway)) => device().map(|device| Target::Via(device, gateway)),
        (_, None) => device().map(Target::Device),
    };
    let same = |target: &Target| route_of(devices, destination, target).as_ref() == Some(route);
    (Key::Route(destination), target.filter(same).map_or(Object::Strange, Object::Route))
}

/// The kernel's route for a target; `None` while its device is not there.
fn route_of(devices: &Devices, destination: IpNet, target: &Target) -> Option<Route> {
    Some(match target {
        Target::Via(device, gateway) => Route::via_on_link(destination, *gateway, devices.index(device)?),
        Target::Device(device) => Route::on_link(destination, devices.index(device)?),
        Target::Unreachable => Route::refusing(destination, RouteKind::Unreachable),
    })
}

/// The kernel's write for an op; `None` when there is nothing to write any more.
fn table_write(devices: &Devices, op: &Op<Key, Object>) -> Result<Option<Write>> {
    // Type 0 matches a route of any type.
    let any = |destination| Route::refusing(destination, RouteKind::Other(0));
    Ok(match op {
        Op::Put { key, present, object } => Some(match (key, object) {
            // A device of ours has no foreign addresses: whatever is there is replaced.
            (Key::Address(name, address), Object::Address) => {
                let index = devices.our_index(name).ok_or_else(|| no_device(key, name))?;
                Write::Replace(objects::Object::Address(Address::new(index, *address)))
            }
            (Key::Route(destination), Object::Route(target)) => {
                let missing = || match target {
                    Target::Via(device, _) | Target::Device(device) => no_device(key, device),
                    Target::Unreachable => not_for(key, object),
                };
                let route = route_of(devices, *destination, target).ok_or_else(missing)?;
                Write::put(present, objects::Object::Route(route))
            }
            _ => return Err(not_for(key, object)),
        }),
        Op::Delete { key, .. } => delete(devices, key, any)?.map(Write::Delete),
    })
}

fn delete(devices: &Devices, key: &Key, any: impl Fn(IpNet) -> Route) -> Result<Option<objects::Object>, Error> {
    Ok(match key {
        Key::Address(name, address) => {
            devices.our_index(name).map(|index| objects::Object::Address(Address::new(index, *address)))
        }
        Key::Route(destination) => Some(objects::Object::Route(any(*destination))),
        Key::StrayRoute(destination, metric) => {
            Some(objects::Object::Route(Route { metric: *metric, ..any(*destination) }))
        }
        Key::LearnedRoute(destination, metric) => {
            let route = Route { metric: *metric, protocol: marks::LEARNED_PROTOCOL, ..any(*destination) };
            Some(objects::Object::Route(route))
        }
        Key::StrayNextHop(id) => Some(objects::Object::NextHop(NextHop::via(*id, IpAddr::from([0, 0, 0, 0]), 0))),
        _ => None,
    })
}

/// The op on a pod's object, in the shared code's terms; `None` for another. A route is taken away like any of ours.
fn pod_op(op: &Op<Key, Object>) -> Option<Op<EndpointKey, EndpointObject>> {
    let key = match op {
        Op::Put { key: Key::PodNeighbour(interface, address), .. }
        | Op::Delete { key: Key::PodNeighbour(interface, address), .. } => {
            EndpointKey::Neighbour { interface: interface.clone(), address: *address }
        }
        Op::Put { key: Key::Route(destination), .. } => EndpointKey::main_route(*destination),
        _ => return None,
    };
    op.part(key, |object| match object {
        Object::Pod(object) => Some((**object).clone()),
        _ => None,
    })
}

/// Whether the devices have to be known to write an op.
fn names_device(op: &Op<Key, Object>) -> bool {
    match op {
        Op::Put { .. } => pod_op(op).is_none(),
        Op::Delete { key, .. } => matches!(key, Key::Address(..)),
    }
}
