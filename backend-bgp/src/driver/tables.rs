//! Addresses and neighbours of the tunnel device, and routes. Never a route without our protocol number.

use super::{BgpDriver, not_for};
use crate::object::{Key, Object};
use cni_core::backend::{Error, ErrorKind, Known, Op, Result};
use cni_core::model::{InterfaceName, MacAddr};
use net_linux::addr::Address;
use net_linux::endpoint::{self, EndpointKey, EndpointObject, MainTable};
use net_linux::link::Link;
use net_linux::neigh::Neighbour;
use net_linux::nexthop::NextHop;
use net_linux::objects::{self, Found, Write};
use net_linux::route::{Route, RouteKind};
use std::collections::HashMap;
use std::net::IpAddr;

impl BgpDriver {
    pub(super) fn read_tables(
        &mut self,
        device: Option<&(InterfaceName, Link)>,
        objects: &mut Vec<(Key, Object)>,
    ) -> Result<()> {
        let mut found = Found::new(Object::Strange);
        let neighbours = Neighbour::dump(&mut self.socket, None)?;
        if let Some((name, link)) = device.filter(|(name, link)| self.lasts(name, link)) {
            for address in Address::dump(&mut self.socket, Some(link.index))? {
                let object = if address.tentative { Object::Strange } else { Object::Address };
                found.add(Key::Address(name.clone(), address.address), object);
            }
            for (address, mac) in Neighbour::permanent_on(&neighbours, link.index) {
                found.add(Key::Neighbour(name.clone(), address), mac.map_or(Object::Strange, Object::Neighbour));
            }
        }
        let main = MainTable::observe(&mut self.socket, &neighbours)?;
        for (key, object) in main.endpoints {
            found.add(key.into(), Object::Pod(object.into()));
        }
        for route in &main.others {
            let place = Route::refusing(route.destination, RouteKind::Unreachable);
            if route.metric != place.metric {
                found.add(Key::StrayRoute(route.destination, route.metric), Object::Strange);
            } else {
                let object = if *route == place { Object::Unreachable } else { Object::Strange };
                found.add(Key::Route(route.destination), object);
            }
        }
        // A kernel that has no such objects has none left.
        for next_hop in NextHop::dump(&mut self.socket, None).unwrap_or_default().iter().filter(|hop| hop.is_ours()) {
            found.add(Key::StrayNextHop(next_hop.id), Object::Strange);
        }
        objects.extend(found);
        Ok(())
    }

    /// Writes objects of the kernel's tables in one batch.
    pub(super) fn write_tables(&mut self, ops: &[(usize, &Op<Key, Object>)], results: &mut HashMap<usize, Result<()>>) {
        let device = match self.device() {
            Ok(device) => device,
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
            match table_write(device.as_ref(), op) {
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

/// The kernel's write for an op; `None` when there is nothing to write any more.
fn table_write(device: Option<&(InterfaceName, Link)>, op: &Op<Key, Object>) -> Result<Option<Write>> {
    let index = |name: &InterfaceName| device.filter(|(known, _)| known == name).map(|(_, link)| link.index);
    let neighbour = |index, address, mac| objects::Object::Neighbour(Neighbour::permanent(index, address, mac));
    // Type 0 matches a route of any type.
    let any = |destination| Route::refusing(destination, RouteKind::Other(0));
    Ok(match op {
        Op::Put { key, present, object } => Some(match (key, object) {
            // A device of ours has no foreign entries: whatever is there is replaced.
            (Key::Address(name, address), Object::Address) => {
                let index = index(name).ok_or_else(|| no_device(key, name))?;
                Write::Replace(objects::Object::Address(Address::new(index, *address)))
            }
            (Key::Neighbour(name, address), Object::Neighbour(mac)) => {
                let index = index(name).ok_or_else(|| no_device(key, name))?;
                Write::Replace(neighbour(index, *address, *mac))
            }
            (Key::Route(destination), Object::Unreachable) => {
                let route = Route::refusing(*destination, RouteKind::Unreachable);
                Write::put(present, objects::Object::Route(route))
            }
            _ => return Err(not_for(key, object)),
        }),
        Op::Delete { key: Key::Address(name, address), .. } => {
            index(name).map(|index| Write::Delete(objects::Object::Address(Address::new(index, *address))))
        }
        Op::Delete { key: Key::Neighbour(name, address), present } => {
            let mac = match present {
                Known::Present(Object::Neighbour(mac)) => *mac,
                _ => MacAddr([0; 6]),
            };
            index(name).map(|index| Write::Delete(neighbour(index, *address, mac)))
        }
        Op::Delete { key: Key::Route(destination), .. } => {
            Some(Write::Delete(objects::Object::Route(any(*destination))))
        }
        Op::Delete { key: Key::StrayNextHop(id), .. } => {
            let any = NextHop::via(*id, IpAddr::from([0, 0, 0, 0]), 0);
            Some(Write::Delete(objects::Object::NextHop(any)))
        }
        Op::Delete { key: Key::StrayRoute(destination, metric), .. } => {
            Some(Write::Delete(objects::Object::Route(Route { metric: *metric, ..any(*destination) })))
        }
        Op::Delete { .. } => None,
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

/// The error for an object on a device that is not there.
fn no_device(key: &Key, device: &InterfaceName) -> Error {
    Error::new(ErrorKind::Missing, "write", key, format_args!("device {device} is not there"))
}
