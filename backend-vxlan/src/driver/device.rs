//! Tunnel devices: found by their alias, made, changed in place, made anew where the kernel can't change them.
//! Never touches one without our alias.

use super::VxlanDriver;
use crate::compile::Compiler;
use crate::config::Vni;
use crate::object::{Device, DeviceKind, Key, Object};
use cni_core::backend::{Error, ErrorKind, Op, Result, Retry};
use cni_core::model::InterfaceName;
use net_linux::ethtool;
use net_linux::link::{Link, LinkChange, LinkFilter, LinkId, LinkKind, NewLink, NewLinkKind, Vxlan};
use net_linux::marks;
use net_linux::netlink::{Batch, Socket};
use net_linux::sysctl;
use net_linux::tun::{Tun, TunOptions};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// What the alias of a tunnel device says.
const ALIAS_ID: &str = "vxlan-backend";

/// All devices of the namespace.
#[derive(Default)]
pub(super) struct Devices {
    links: Vec<Link>,
    by_name: HashMap<String, usize>,
    by_index: HashMap<u32, usize>,
}

impl Devices {
    pub(super) fn read(socket: &mut Socket) -> Result<Self> {
        let links = Link::dump(socket, &LinkFilter::default())?;
        let by_name = links.iter().enumerate().map(|(at, link)| (link.name.clone(), at)).collect();
        let by_index = links.iter().enumerate().map(|(at, link)| (link.index, at)).collect();
        Ok(Self { links, by_name, by_index })
    }

    pub(super) fn get(&self, name: &str) -> Option<&Link> {
        self.by_name.get(name).map(|at| &self.links[*at])
    }

    /// The index of a tunnel device of ours.
    pub(super) fn our_index(&self, name: &InterfaceName) -> Option<u32> {
        self.get(name.as_str()).filter(|link| is_ours(link)).map(|link| link.index)
    }

    pub(super) fn name(&self, index: u32) -> Option<InterfaceName> {
        InterfaceName::new(&self.links[*self.by_index.get(&index)?].name).ok()
    }

    /// Tunnel devices of ours.
    pub(super) fn ours(&self) -> impl Iterator<Item = (InterfaceName, &Link)> {
        self.links
            .iter()
            .filter(|link| is_ours(link))
            .filter_map(|link| Some((InterfaceName::new(&link.name).ok()?, link)))
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

    /// A device that the kernel would not let ours stand beside: same VNI, port and outer family.
    fn rival(&self, name: &str, wanted: &Vxlan) -> Option<&Link> {
        let outer_v6 = |vxlan: &Vxlan| vxlan.local.is_some_and(|local| local.is_ipv6());
        self.links.iter().find(|link| match &link.kind {
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

/// One with our alias or that of the backend before us, or one that a predecessor made and was killed before it gave it the
/// alias.
fn is_ours(link: &Link) -> bool {
    link.our_id().is_some_and(marks::is_of_backend) || (link.alias.is_none() && link.group == marks::FRESH_LINK_GROUP)
}

/// What a device is, as far as we would have made it so; `None` for one that was made otherwise.
fn kind_of(link: &Link) -> Option<DeviceKind> {
    match &link.kind {
        LinkKind::Tun => Some(DeviceKind::Tun { served: false }),
        LinkKind::Vxlan(vxlan) => {
            let local = vxlan.local?;
            let vni = Vni::new(vxlan.vni)?;
            (*vxlan == as_vxlan(vni, vxlan.port, local)).then_some(DeviceKind::Vxlan {
                vni,
                port: vxlan.port,
                local,
                mac: link.mac?,
                checksum_as_decided: true,
            })
        }
        _ => None,
    }
}

/// The settings that we care for, as they are; one that can't be read is left out.
fn read_settings(device: &InterfaceName) -> Vec<(&'static str, String)> {
    let read = |(setting, _)| Some((setting, sysctl::read(&Device::setting_path(setting, device)).ok()?));
    Device::SETTINGS.into_iter().filter_map(read).collect()
}

fn as_vxlan(vni: Vni, port: u16, local: IpAddr) -> Vxlan {
    Vxlan { local: Some(local), ..Vxlan::new(vni.get(), port) }
}

impl VxlanDriver {
    pub(super) fn write_device(&mut self, name: &InterfaceName, op: &Op<Key, Object>) -> Result<()> {
        let devices = self.devices()?;
        let present = devices.get(name.as_str());
        self.watched.unobstructed(name);
        if let Some(link) = present.filter(|link| !is_ours(link)) {
            return match op {
                // Ours is gone already.
                Op::Delete { .. } => Ok(()),
                Op::Put { .. } => Err(self.obstructed(name, link, foreign(name, link))),
            };
        }
        match op {
            Op::Delete { .. } => match present {
                Some(link) => self.run(|batch| LinkId::Index(link.index).delete(batch)),
                None => Ok(()),
            },
            Op::Put { object: Object::Link(wanted), .. } => match present {
                Some(link) if kind_of(link).is_some_and(|kind| kind.can_become(&wanted.kind)) => {
                    self.change_device(name, link, wanted)
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

    /// The objects of our devices.
    pub(super) fn read_devices(&mut self, devices: &Devices, found: &mut Vec<(Key, Object)>) -> Result<()> {
        let ours: Vec<(InterfaceName, &Link)> = devices.ours().collect();
        let names: Vec<InterfaceName> = ours.iter().map(|(name, _)| name.clone()).collect();
        let mut settings = self.host.inside(move || names.iter().map(read_settings).collect::<Vec<_>>())?.into_iter();
        for (name, link) in ours {
            let settings = settings.next().unwrap_or_default();
            let object = match kind_of(link) {
                Some(mut kind) => {
                    self.complete(&name, &mut kind);
                    Object::Link(Arc::new(Device { kind, mtu_bytes: link.mtu_bytes, up: link.up, settings }))
                }
                None => Object::Strange,
            };
            found.push((Key::Link(name), object));
        }
        Ok(())
    }

    /// Fills in what the link's own message does not say.
    fn complete(&mut self, name: &InterfaceName, kind: &mut DeviceKind) {
        match kind {
            DeviceKind::Vxlan { checksum_as_decided, .. } => {
                let on = self.decision.is_on();
                let features = self.ethtool.as_mut().and_then(|ethtool| ethtool.features(name.as_str()).ok());
                // What can't be read can't be put right either.
                *checksum_as_decided =
                    features.is_none_or(|features| features.is_on(ethtool::TX_CHECKSUM_IP_GENERIC) == on);
            }
            DeviceKind::Tun { served } => *served = self.pump.is_running(),
        }
    }

    fn change_device(&mut self, name: &InterfaceName, link: &Link, wanted: &Device) -> Result<()> {
        let alias = marks::alias(ALIAS_ID);
        let mut common = LinkChange { mtu_bytes: Some(wanted.mtu_bytes), ..LinkChange::default() };
        if link.alias.is_none() {
            common = LinkChange { alias: Some(&alias), group: Some(0), no_ipv6_autoconf: true, ..common };
        }
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
        })?;
        if matches!(wanted.kind, DeviceKind::Tun { .. }) && !self.pump.is_running() {
            let tun = self.open_tun(&TunOptions { persistent: true, ..TunOptions::new(name.clone()) })?;
            self.serve(tun)?;
        }
        self.finish_device(name, link.index, wanted)
    }

    fn create_device(&mut self, devices: &Devices, name: &InterfaceName, wanted: &Device) -> Result<()> {
        let alias = marks::alias(ALIAS_ID);
        // The alias is our mark. The kernel takes it only once the device is there; until then the group is.
        let then = LinkChange { alias: Some(&alias), group: Some(0), no_ipv6_autoconf: true, ..LinkChange::default() };
        let index = match &wanted.kind {
            DeviceKind::Tun { .. } => {
                // It dies with this process until it has our mark.
                let tun = self.open_tun(&TunOptions { exclusive: true, ..TunOptions::new(name.clone()) })?;
                let link = Link::get(&mut self.socket, &LinkId::Name(name.as_str()))?
                    .ok_or_else(|| super::no_device(&Key::Link(name.clone()), name))?;
                let change = LinkChange { mtu_bytes: Some(wanted.mtu_bytes), ..then };
                self.run(|batch| change.add(batch, &LinkId::Index(link.index)))?;
                tun.set_persistent(true)?;
                self.serve(tun)?;
                link.index
            }
            DeviceKind::Vxlan { vni, port, local, mac, .. } => {
                let vxlan = as_vxlan(*vni, *port, *local);
                if let Some(rival) = devices.rival(name.as_str(), &vxlan) {
                    if !is_ours(rival) {
                        return Err(self.obstructed(name, rival, taken(name, rival, *vni, *port)));
                    }
                    // Of an earlier configuration. The kernel lets one of the two stand, and this one is wanted; what hung on
                    // the other is written anew for this one.
                    let index = rival.index;
                    self.run(|batch| LinkId::Index(index).delete(batch))?;
                }
                let new = NewLink {
                    mtu_bytes: wanted.mtu_bytes,
                    mac: Some(*mac),
                    group: marks::FRESH_LINK_GROUP,
                    then,
                    ..NewLink::new(name.as_str(), NewLinkKind::Vxlan(vxlan))
                };
                new.create(&mut self.socket)?
            }
        };
        self.watched.add_device(index);
        self.finish_device(name, index, wanted)
    }

    /// A device stands where ours should be: its end shall wake us.
    fn obstructed(&mut self, name: &InterfaceName, by: &Link, error: Error) -> Error {
        self.watched.obstructed(name, by.index);
        match Link::get(&mut self.socket, &LinkId::Index(by.index)) {
            // It went before we listened for that.
            Ok(None) => Error { retry: Retry::Soon, ..error },
            _ => error,
        }
    }

    /// Settings and offload, then up: an address of the kernel's own making would come before them.
    fn finish_device(&mut self, name: &InterfaceName, index: u32, wanted: &Device) -> Result<()> {
        self.host.inside(|| {
            wanted
                .settings
                .iter()
                .try_for_each(|(setting, value)| sysctl::write(&Device::setting_path(setting, name), value))
        })??;
        if matches!(wanted.kind, DeviceKind::Vxlan { .. }) {
            let on = self.decision.is_on();
            match self.ethtool.as_mut() {
                Some(ethtool) => ethtool.set(name.as_str(), &[(ethtool::TX_CHECKSUM_IP_GENERIC, on)])?,
                None if on => {}
                None => {
                    let detail =
                        "checksum offload can't be switched off: this kernel has no ethtool over netlink (5.6)";
                    return Err(Error::new(ErrorKind::Unsupported, "set", Key::Link(name.clone()), detail));
                }
            }
        }
        let up = LinkChange { up: Some(wanted.up), ..LinkChange::default() };
        self.run(|batch| up.add(batch, &LinkId::Index(index)))
    }

    fn open_tun(&self, options: &TunOptions) -> Result<Tun> {
        Ok(self.host.inside(|| options.open())??)
    }

    /// Moves the packets of a TUN device from now on.
    fn serve(&self, tun: Tun) -> Result<()> {
        Ok(self.host.inside(|| self.pump.serve(tun))??)
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
    let detail = format!(
        "device {} has VNI {vni} and port {port} already and is not ours; delete it or set `vni` or `port`",
        rival.name
    );
    Error::new(ErrorKind::Foreign, "create", Key::Link(name.clone()), detail)
}
