//! Tunnel devices: found by their alias, made, changed in place, made anew where the kernel can't change them.
//! Never touches one without our alias.

use super::VxlanDriver;
use crate::compile::Compiler;
use crate::config::Vni;
use crate::object::{Device, DeviceKind, Key, Object};
use cni_core::backend::{Error, ErrorKind, Op, Result};
use cni_core::model::InterfaceName;
use net_linux::link::{Link, LinkChange, LinkFilter, LinkId, LinkKind, NewLink, NewLinkKind, Vxlan};
use net_linux::marks;
use net_linux::netlink::{Batch, Socket};
use std::net::IpAddr;

/// What the alias of a tunnel device says.
const ALIAS_ID: &str = "vxlan-backend";

/// All devices of the namespace.
pub(super) struct Devices(Vec<Link>);

impl Devices {
    pub(super) fn read(socket: &mut Socket) -> Result<Self> {
        Ok(Self(Link::dump(socket, &LinkFilter::default())?))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Link> {
        self.0.iter().find(|link| link.name == name)
    }

    pub(super) fn name(&self, index: u32) -> Option<InterfaceName> {
        let link = self.0.iter().find(|link| link.index == index)?;
        InterfaceName::new(&link.name).ok()
    }

    /// Tunnel devices of ours.
    pub(super) fn ours(&self) -> impl Iterator<Item = (InterfaceName, &Link)> {
        self.0.iter().filter(|link| is_ours(link)).filter_map(|link| Some((InterfaceName::new(&link.name).ok()?, link)))
    }

    /// Tunnel devices of ours that will stay: what hangs on a device that has to be made anew goes with it, so it does
    /// not count as there.
    pub(super) fn lasting(&self, compiler: &Compiler) -> impl Iterator<Item = (InterfaceName, &Link)> {
        let wanted = compiler.base();
        self.ours().filter(move |(name, link)| {
            let find = |(key, object): &(Key, Object)| match object {
                Object::Link(device) if *key == Key::Link(name.clone()) => Some(device.kind.clone()),
                _ => None,
            };
            let wanted = wanted.iter().find_map(find);
            match (wanted, kind_of(link)) {
                (Some(wanted), Some(found)) => found.can_become(&wanted),
                // An orphan: what hangs on it is taken away first, as it was put there.
                (None, _) => true,
                (Some(_), None) => false,
            }
        })
    }

    /// The objects of our devices.
    pub(super) fn objects(&self) -> Vec<(Key, Object)> {
        let object = |link: &Link| {
            let kind = kind_of(link)?;
            Some(Object::Link(Device { kind, mtu_bytes: link.mtu_bytes, up: link.up }))
        };
        self.ours().map(|(name, link)| (Key::Link(name), object(link).unwrap_or(Object::Strange))).collect()
    }

    /// A device that the kernel would not let ours stand beside: same VNI, port and outer family.
    fn rival(&self, name: &str, wanted: &Vxlan) -> Option<&Link> {
        let outer_v6 = |vxlan: &Vxlan| vxlan.local.is_some_and(|local| local.is_ipv6());
        self.0.iter().find(|link| match &link.kind {
            LinkKind::Vxlan(other) => {
                link.name != name
                    && other.port == wanted.port
                    && (other.vni == wanted.vni || other.collect_metadata)
                    && outer_v6(other) == outer_v6(wanted)
            }
            _ => false,
        })
    }
}

fn is_ours(link: &Link) -> bool {
    link.our_id() == Some(ALIAS_ID)
}

/// What a device is, as far as we would have made it so; `None` for one that was made otherwise.
fn kind_of(link: &Link) -> Option<DeviceKind> {
    match &link.kind {
        LinkKind::Tun => Some(DeviceKind::Tun),
        LinkKind::Vxlan(vxlan) => {
            let local = vxlan.local?;
            let vni = Vni::new(vxlan.vni)?;
            (*vxlan == as_vxlan(vni, vxlan.port, local)).then_some(DeviceKind::Vxlan {
                vni,
                port: vxlan.port,
                local,
                mac: link.mac?,
            })
        }
        _ => None,
    }
}

fn as_vxlan(vni: Vni, port: u16, local: IpAddr) -> Vxlan {
    Vxlan { local: Some(local), ..Vxlan::new(vni.get(), port) }
}

impl VxlanDriver {
    pub(super) fn write_device(&mut self, name: &InterfaceName, op: &Op<Key, Object>) -> Result<()> {
        let devices = self.devices()?;
        let present = devices.get(name.as_str());
        if let Some(link) = present.filter(|link| !is_ours(link)) {
            return match op {
                // Ours is gone already.
                Op::Delete { .. } => Ok(()),
                Op::Put { .. } => Err(foreign(name, link)),
            };
        }
        match op {
            Op::Delete { .. } => match present {
                Some(link) => self.run(|batch| LinkId::Index(link.index).delete(batch)),
                None => Ok(()),
            },
            Op::Put { object: Object::Link(wanted), .. } => match present {
                Some(link) if kind_of(link).is_some_and(|kind| kind.can_become(&wanted.kind)) => {
                    self.change_device(link, wanted)
                }
                Some(link) => {
                    self.run(|batch| LinkId::Index(link.index).delete(batch))?;
                    self.create_device(&devices, name, wanted)
                }
                None => self.create_device(&devices, name, wanted),
            },
            Op::Put { key, .. } => Err(Error::new(ErrorKind::Invalid, "create", key, "no device was given for a link")),
        }
    }

    fn change_device(&mut self, link: &Link, wanted: &Device) -> Result<()> {
        let common = LinkChange { mtu_bytes: Some(wanted.mtu_bytes), up: Some(wanted.up), ..LinkChange::default() };
        let mut own = LinkChange::default();
        if let DeviceKind::Vxlan { local, mac, .. } = &wanted.kind {
            own.mac = Some(*mac).filter(|mac| link.mac != Some(*mac));
            let moved = !matches!(&link.kind, LinkKind::Vxlan(vxlan) if vxlan.local == Some(*local));
            own.vxlan_local = Some(*local).filter(|_| moved);
        }
        let id = LinkId::Index(link.index);
        self.run(|batch| {
            common.add(batch, &id);
            // Apart: the kernel refuses an MTU beside a VXLAN device's own attributes.
            if !own.is_empty() {
                own.add(batch, &id);
            }
        })
    }

    fn create_device(&mut self, devices: &Devices, name: &InterfaceName, wanted: &Device) -> Result<()> {
        let alias = marks::alias(ALIAS_ID);
        match &wanted.kind {
            DeviceKind::Tun => Err(Error::new(ErrorKind::Unsupported, "create", Key::Link(name.clone()), "no TUN yet")),
            DeviceKind::Vxlan { vni, port, local, mac } => {
                let vxlan = as_vxlan(*vni, *port, *local);
                if let Some(rival) = devices.rival(name.as_str(), &vxlan) {
                    return Err(taken(name, rival, *vni, *port));
                }
                // The alias is our mark: the kernel works on the whole batch in one system call, so no device is ever
                // left without it. Up comes last, or the kernel would make a link-local address of its own.
                let then = LinkChange { alias: Some(&alias), no_ipv6_autoconf: true, ..LinkChange::default() };
                let new = NewLink {
                    mtu_bytes: wanted.mtu_bytes,
                    mac: Some(*mac),
                    then,
                    ..NewLink::new(name.as_str(), NewLinkKind::Vxlan(vxlan))
                };
                self.run(|batch| {
                    new.create(batch);
                    let up = LinkChange { up: Some(wanted.up), ..LinkChange::default() };
                    up.add(batch, &LinkId::Name(name.as_str()));
                })
            }
        }
    }

    /// Runs a batch whose requests belong together: the first failure counts.
    fn run(&mut self, fill: impl FnOnce(&mut Batch)) -> Result<()> {
        let mut batch = Batch::new();
        fill(&mut batch);
        let results: Result<Vec<()>, _> = self.socket.run(&mut batch).into_iter().collect();
        Ok(results.map(|_| ())?)
    }
}

fn foreign(name: &InterfaceName, link: &Link) -> Error {
    let alias = link.alias.as_deref().map(|alias| format!(", alias {alias:?}")).unwrap_or_default();
    let detail = format!(
        "device {name} exists and is not ours ({:?}{alias}); refusing to take it over: delete it or set `deviceName`",
        link.kind
    );
    Error::new(ErrorKind::Foreign, "create", Key::Link(name.clone()), detail)
}

fn taken(name: &InterfaceName, rival: &Link, vni: Vni, port: u16) -> Error {
    let (kind, whose) =
        if is_ours(rival) { (ErrorKind::Busy, "ours, and goes first") } else { (ErrorKind::Foreign, "not ours") };
    let detail = format!(
        "device {} has VNI {vni} and port {port} already and is {whose}; delete it or set `vni` or `port`",
        rival.name
    );
    Error::new(kind, "create", Key::Link(name.clone()), detail)
}
