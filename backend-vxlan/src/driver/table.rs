//! What hangs on devices, next hops and routes. Never a route without our protocol number.

use super::device::Devices;
use super::{VxlanDriver, no_device};
use crate::object::{Hop, Key, Object, Target};
use cni_core::backend::{Error, ErrorKind, Known, Op, Result};
use cni_core::model::{InterfaceName, MacAddr};
use ipnet::IpNet;
use net_linux::addr::Address;
use net_linux::endpoint::{self, EndpointKey, EndpointObject, MainTable};
use net_linux::fdb::FdbEntry;
use net_linux::link::Link;
use net_linux::marks;
use net_linux::neigh::Neighbour;
use net_linux::netlink;
use net_linux::nexthop::{self, NextHop};
use net_linux::objects::{self, Found, Write};
use net_linux::route::{MAIN_TABLE, Route, RouteFilter, RouteKind};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Ids of next-hop objects: the kernel wants numbers, we speak of device and gateway.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    ids: HashMap<Arc<Hop>, u32>,
    hops: HashMap<u32, Arc<Hop>>,
    /// Ids in our range that somebody else took.
    foreign: Vec<u32>,
}

impl NextHops {
    fn id(&self, hop: &Hop) -> Option<u32> {
        self.ids.get(hop).copied()
    }

    fn insert(&mut self, id: u32, hop: Arc<Hop>) {
        self.ids.insert(hop.clone(), id);
        self.hops.insert(id, hop);
    }

    fn remove(&mut self, hop: &Hop) -> Option<u32> {
        let id = self.ids.remove(hop)?;
        self.hops.remove(&id);
        Some(id)
    }

    /// The id of a hop, a free one if it has none. Ids are spread by a hash, so that one that was freed is not soon
    /// another's.
    fn allocate(&mut self, hop: &Arc<Hop>) -> Result<u32> {
        if let Some(id) = self.id(hop) {
            return Ok(id);
        }
        let range = marks::NEXTHOP_IDS;
        let count = range.end - range.start;
        let mut hasher = DefaultHasher::new();
        hop.hash(&mut hasher);
        let first = (hasher.finish() % u64::from(count)) as u32;
        let free = |id: &u32| !self.hops.contains_key(id) && !self.foreign.contains(id);
        let id = (0..count).map(|step| range.start + (first + step) % count).find(free).ok_or_else(|| {
            Error::new(ErrorKind::Busy, "create", format_args!("nexthop {hop}"), "all next-hop ids of ours are taken")
        })?;
        self.insert(id, hop.clone());
        Ok(id)
    }
}

impl VxlanDriver {
    pub(super) fn read_tables(&mut self, devices: &Devices, objects: &mut Vec<(Key, Object)>) -> Result<()> {
        let mut found = Found::new(Object::Strange);
        let neighbours = Neighbour::dump(&mut self.socket, None)?;
        let lasting: Vec<_> = devices.lasting(&self.compiler).collect();
        for (name, link) in lasting {
            self.read_device(&name, link, &neighbours, &mut found)?;
        }
        self.read_next_hops(devices, &mut found)?;
        self.read_learned(&mut found)?;
        let main = MainTable::observe(&mut self.socket, &neighbours)?;
        for (key, object) in main.endpoints {
            found.add(key.into(), Object::Pod(object.into()));
        }
        for route in &main.others {
            let (key, object) = self.read_route(devices, route);
            found.add(key, object);
        }
        objects.extend(found);
        Ok(())
    }

    /// A device with our mark has nothing foreign.
    fn read_device(
        &mut self,
        name: &InterfaceName,
        link: &Link,
        neighbours: &[Neighbour],
        found: &mut Found<Key, Object>,
    ) -> Result<()> {
        for address in Address::dump(&mut self.socket, Some(link.index))? {
            let object = if address.tentative { Object::Strange } else { Object::Address };
            found.add(Key::Address(name.clone(), address.address), object);
        }
        for (address, mac) in Neighbour::permanent_on(neighbours, link.index) {
            found.add(Key::Neighbour(name.clone(), address), mac.map_or(Object::Strange, Object::Neighbour));
        }
        for entry in FdbEntry::dump(&mut self.socket, link.index)? {
            self.watched.forwards(link.index, entry.mac, Some(entry.destination));
            let plain = entry.permanent && entry.port.is_none() && entry.vni.is_none();
            let object = if plain { Object::Fdb(entry.destination) } else { Object::Strange };
            found.add(Key::Fdb(name.clone(), entry.mac), object);
        }
        Ok(())
    }

    /// What a backend before us learned by a routing protocol: nobody keeps it true any more.
    fn read_learned(&mut self, found: &mut Found<Key, Object>) -> Result<()> {
        let filter =
            RouteFilter { table: Some(MAIN_TABLE), protocol: Some(marks::LEARNED_PROTOCOL), ..RouteFilter::ours() };
        for route in Route::dump(&mut self.socket, &filter)? {
            found.add(Key::LearnedRoute(route.destination, route.metric), Object::Strange);
        }
        // A kernel that has no such objects has none left.
        for next_hop in NextHop::dump(&mut self.socket, None).unwrap_or_default() {
            if next_hop.protocol == marks::LEARNED_PROTOCOL {
                found.add(Key::StrayNextHop(next_hop.id), Object::Strange);
            }
        }
        Ok(())
    }

    fn read_next_hops(&mut self, devices: &Devices, found: &mut Found<Key, Object>) -> Result<()> {
        self.next_hops = NextHops::default();
        if !self.uses_next_hops() {
            return Ok(());
        }
        let mut all = NextHop::dump(&mut self.socket, None)?;
        all.sort_by_key(|next_hop| next_hop.id);
        for next_hop in all {
            if !next_hop.is_ours() {
                self.next_hops.foreign.push(next_hop.id);
                continue;
            }
            let hop = hop_of(devices, &next_hop);
            match hop.filter(|hop| self.next_hops.id(hop).is_none()) {
                Some(hop) => {
                    self.next_hops.insert(next_hop.id, hop.clone());
                    found.add(Key::NextHop(hop), Object::NextHop);
                }
                None => found.add(Key::StrayNextHop(next_hop.id), Object::Strange),
            }
        }
        Ok(())
    }

    fn read_route(&self, devices: &Devices, route: &Route) -> (Key, Object) {
        if route.metric != Route::new(route.destination).metric {
            return (Key::StrayRoute(route.destination, route.metric), Object::Strange);
        }
        let target = self.target_of(devices, route);
        let same = |target: &Target| self.route_of(devices, route.destination, target).as_ref() == Some(route);
        let object = target.filter(same).map_or(Object::Strange, Object::Route);
        (Key::Route(route.destination), object)
    }

    fn target_of(&self, devices: &Devices, route: &Route) -> Option<Target> {
        if let Some(id) = route.nexthop_id {
            return self.next_hops.hops.get(&id).cloned().map(Target::Object);
        }
        if route.kind == RouteKind::Unreachable {
            return Some(Target::Unreachable);
        }
        let device = devices.name(route.index?)?;
        Some(match route.via {
            Some(gateway) => Target::Via(Hop { device, gateway }.into()),
            None => Target::Device(device),
        })
    }

    /// The kernel's route for a target; `None` while something that it needs is not there.
    fn route_of(&self, devices: &Devices, destination: IpNet, target: &Target) -> Option<Route> {
        let index = |device: &InterfaceName| devices.get(device.as_str()).map(|link| link.index);
        Some(match target {
            Target::Object(hop) => Route::through(destination, self.next_hops.id(hop)?),
            Target::Via(hop) => Route::via_on_link(destination, hop.gateway, index(&hop.device)?),
            Target::Device(device) => Route::on_link(destination, index(device)?),
            Target::Unreachable => Route::refusing(destination, RouteKind::Unreachable),
        })
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
        let mut writes = Vec::with_capacity(ops.len());
        let mut written = Vec::with_capacity(ops.len());
        let (mut pods, mut of_pods) = (Vec::new(), Vec::new());
        for (index, op) in ops {
            if let Some(op) = pod_op(op) {
                pods.push(op);
                of_pods.push(*index);
                continue;
            }
            match self.table_write(&devices, op) {
                Ok(Some(write)) => {
                    writes.push(write);
                    written.push((*index, *op));
                }
                Ok(None) => {
                    results.insert(*index, Ok(()));
                }
                Err(error) => {
                    results.insert(*index, Err(error));
                }
            }
        }
        for ((index, op), result) in written.into_iter().zip(objects::write(&mut self.socket, &writes)) {
            match (op, &result) {
                (Op::Delete { key: Key::NextHop(hop), .. }, Ok(())) => {
                    self.next_hops.remove(hop);
                }
                // Somebody took the id: never delete theirs, and try another.
                (Op::Put { key: Key::NextHop(hop), .. }, Err(netlink::Error::Foreign { .. })) => {
                    let id = self.next_hops.remove(hop);
                    self.next_hops.foreign.extend(id);
                }
                _ => {}
            }
            results.insert(index, result.map_err(Into::into));
        }
        results.extend(of_pods.into_iter().zip(endpoint::apply(&mut self.socket, &pods)));
    }

    /// The kernel's write for an op; `None` when there is nothing to write any more.
    fn table_write(&mut self, devices: &Devices, op: &Op<Key, Object>) -> Result<Option<Write>> {
        match op {
            Op::Put { key, present, object } => self.table_put(devices, key, present, object).map(Some),
            Op::Delete { key, present } => Ok(self.table_delete(devices, key, present).map(Write::Delete)),
        }
    }

    fn table_put(&mut self, devices: &Devices, key: &Key, present: &Known<Object>, object: &Object) -> Result<Write> {
        let index =
            |device: &InterfaceName| -> Result<u32> { devices.our_index(device).ok_or_else(|| no_device(key, device)) };
        Ok(match (key, object) {
            // A device of ours has no foreign entries: whatever is there is replaced.
            (Key::Fdb(device, mac), Object::Fdb(to)) => {
                let device = index(device)?;
                self.watched.forwards(device, *mac, Some(*to));
                Write::Replace(objects::Object::Fdb(FdbEntry::new(device, *mac, *to)))
            }
            (Key::Address(device, address), Object::Address) => {
                Write::Replace(objects::Object::Address(Address::new(index(device)?, *address)))
            }
            (Key::Neighbour(device, address), Object::Neighbour(mac)) => {
                Write::Replace(objects::Object::Neighbour(Neighbour::permanent(index(device)?, *address, *mac)))
            }
            (Key::NextHop(hop), Object::NextHop) => {
                let link = devices.get(hop.device.as_str()).ok_or_else(|| no_device(key, &hop.device))?;
                let device = link.index;
                let id = self.next_hops.allocate(hop)?;
                Write::put(present, objects::Object::NextHop(NextHop::via(id, hop.gateway, device)))
            }
            (Key::Route(destination), Object::Route(target)) => {
                let route = self.route_of(devices, *destination, target).ok_or_else(|| {
                    Error::new(ErrorKind::Missing, "create", key, format_args!("{target} is not there"))
                })?;
                Write::put(present, objects::Object::Route(route))
            }
            _ => return Err(Error::new(ErrorKind::Invalid, "create", key, format_args!("can't be {object:?}"))),
        })
    }

    fn table_delete(&self, devices: &Devices, key: &Key, present: &Known<Object>) -> Option<objects::Object> {
        let index = |device: &InterfaceName| devices.our_index(device);
        Some(match key {
            Key::Fdb(device, mac) => {
                // Without a destination the kernel takes the entry away whatever it says.
                let device = index(device)?;
                self.watched.forwards(device, *mac, None);
                objects::Object::Fdb(FdbEntry::new(device, *mac, Ipv4Addr::UNSPECIFIED.into()))
            }
            Key::Address(device, address) => objects::Object::Address(Address::new(index(device)?, *address)),
            Key::Neighbour(device, address) => {
                let mac = match present {
                    Known::Present(Object::Neighbour(mac)) => *mac,
                    _ => MacAddr([0; 6]),
                };
                objects::Object::Neighbour(Neighbour::permanent(index(device)?, *address, mac))
            }
            Key::NextHop(hop) => objects::Object::NextHop(ours_by_id(self.next_hops.id(hop)?)),
            Key::StrayNextHop(id) => objects::Object::NextHop(ours_by_id(*id)),
            // Type 0 matches a route of any type.
            Key::Route(destination) => objects::Object::Route(Route::refusing(*destination, RouteKind::Other(0))),
            Key::LearnedRoute(destination, metric) => {
                let any = Route::refusing(*destination, RouteKind::Other(0));
                objects::Object::Route(Route { metric: *metric, protocol: marks::LEARNED_PROTOCOL, ..any })
            }
            Key::StrayRoute(destination, metric) => {
                objects::Object::Route(Route { metric: *metric, ..Route::refusing(*destination, RouteKind::Other(0)) })
            }
            _ => return None,
        })
    }

    pub(super) fn uses_next_hops(&self) -> bool {
        use cni_core::backend::Capability;
        self.capabilities.has(Capability::NextHopObjects)
    }
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
        Op::Delete { key, .. } => matches!(key, Key::Address(..) | Key::Fdb(..) | Key::Neighbour(..)),
    }
}

/// What we would have written; `None` for anything else.
fn hop_of(devices: &Devices, next_hop: &NextHop) -> Option<Arc<Hop>> {
    match &next_hop.hop {
        nexthop::Hop::Device { index, via: Some(gateway), onlink: true, tunnel: None, .. } => {
            Some(Hop { device: devices.name(*index)?, gateway: *gateway }.into())
        }
        _ => None,
    }
}

/// Enough of an object to delete it.
fn ours_by_id(id: u32) -> NextHop {
    NextHop::via(id, IpAddr::from([0, 0, 0, 0]), 0)
}
