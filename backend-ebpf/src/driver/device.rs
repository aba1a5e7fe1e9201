//! The tunnel device: found by its alias, made, changed in place, made anew where the kernel can't change it. Never touches
//! one without our alias.

use super::{EbpfDriver, not_for};
use crate::config::Mode;
use crate::object::{Device, Key, Object};
use cni_core::backend::{Error, ErrorKind, Op, Result};
use cni_core::model::InterfaceName;
use net_linux::link::{Link, LinkChange, LinkFilter, LinkId, LinkKind, NewLink, NewLinkKind, Vxlan};
use net_linux::marks;
use net_linux::netlink::{Batch, Socket};
use net_linux::sysctl;
use std::sync::Arc;

/// What the alias of the tunnel device says.
const ALIAS_ID: &str = "ebpf-backend";

/// All devices of the namespace.
#[derive(Default)]
pub(super) struct Devices {
    links: Vec<Link>,
}

impl Devices {
    pub(super) fn read(socket: &mut Socket) -> Result<Self> {
        Ok(Self { links: Link::dump(socket, &LinkFilter::default())? })
    }

    pub(super) fn all(&self) -> &[Link] {
        &self.links
    }

    /// Those but these.
    pub(super) fn without(&self, goes: impl Fn(&Link) -> bool) -> Self {
        Self { links: self.links.iter().filter(|link| !goes(link)).cloned().collect() }
    }

    pub(super) fn index(&self, name: &InterfaceName) -> Option<u32> {
        self.links.iter().find(|link| link.name == name.as_str()).map(|link| link.index)
    }

    /// The index of a tunnel device of ours.
    pub(super) fn our_index(&self, name: &InterfaceName) -> Option<u32> {
        self.links.iter().find(|link| link.name == name.as_str() && is_ours(link)).map(|link| link.index)
    }

    pub(super) fn name(&self, index: u32) -> Option<InterfaceName> {
        InterfaceName::new(&self.links.iter().find(|link| link.index == index)?.name).ok()
    }

    /// Tunnel devices of ours.
    pub(super) fn ours(&self) -> impl Iterator<Item = (InterfaceName, &Link)> {
        let ours = self.links.iter().filter(|link| is_ours(link));
        ours.filter_map(|link| Some((InterfaceName::new(&link.name).ok()?, link)))
    }
}

/// One with our alias or that of the backend before us, or one that a predecessor made and was killed before it gave it the
/// alias.
pub(super) fn is_ours(link: &Link) -> bool {
    link.our_id().is_some_and(marks::is_of_backend) || (link.alias.is_none() && link.group == marks::FRESH_LINK_GROUP)
}

/// The device as the kernel is asked for it. Outer packets over IPv6 have no UDP checksum, as over IPv4 (RFC 6935): both
/// ends have to take it so.
fn as_vxlan(port: u16) -> Vxlan {
    Vxlan { collect_metadata: true, zero_checksum6: true, ..Vxlan::new(0, port) }
}

/// Whether a device is as we would make it, apart from what can be changed in place.
pub(super) fn is_as_made(link: &Link, port: u16) -> bool {
    matches!(&link.kind, LinkKind::Vxlan(vxlan) if *vxlan == as_vxlan(port))
}

impl EbpfDriver {
    /// The objects of our devices.
    pub(super) fn read_devices(&self, devices: &Devices, found: &mut Vec<(Key, Object)>) -> Result<()> {
        for (name, link) in devices.ours() {
            let object = match (&link.kind, link.mac) {
                (LinkKind::Vxlan(vxlan), Some(mac)) if is_as_made(link, vxlan.port) && !link.resolves => {
                    let read =
                        |(setting, _)| Some((setting, sysctl::read(&Device::setting_path(setting, &name)).ok()?));
                    let settings = self.host.inside(|| Device::SETTINGS.into_iter().filter_map(read).collect())?;
                    let (port, mtu_bytes, up) = (vxlan.port, link.mtu_bytes, link.up);
                    Object::Link(Arc::new(Device { port, mac, mtu_bytes, up, settings }))
                }
                _ => Object::Strange,
            };
            found.push((Key::Link(name), object));
        }
        Ok(())
    }

    pub(super) fn write_device(&mut self, name: &InterfaceName, op: &Op<Key, Object>) -> Result<()> {
        let devices = self.devices()?;
        let present = devices.all().iter().find(|link| link.name == name.as_str());
        self.watched.set_obstacle(None);
        if let Some(link) = present.filter(|link| !is_ours(link)) {
            return match op {
                // Ours is gone already.
                Op::Delete { .. } => Ok(()),
                Op::Put { .. } => {
                    self.watched.set_obstacle(Some(link.index));
                    Err(foreign(name, link))
                }
            };
        }
        match (op, present) {
            (Op::Delete { .. }, None) => Ok(()),
            (Op::Delete { .. }, Some(link)) => self.delete(link.index),
            (Op::Put { object: Object::Link(wanted), .. }, Some(link)) if is_as_made(link, wanted.port) => {
                self.finish_device(name, link, wanted)
            }
            (Op::Put { object: Object::Link(wanted), .. }, present) => {
                if let Some(link) = present {
                    self.delete(link.index)?;
                }
                if let Some(rival) = devices.all().iter().find(|link| is_rival(link, name, wanted.port)) {
                    if !is_ours(rival) {
                        self.watched.set_obstacle(Some(rival.index));
                        return Err(taken(name, rival, wanted.port));
                    }
                    // Of an earlier configuration or another backend; what hung on it is written anew for this one.
                    self.delete(rival.index)?;
                }
                let new = NewLink {
                    mac: Some(wanted.mac),
                    group: marks::FRESH_LINK_GROUP,
                    ..NewLink::new(name.as_str(), NewLinkKind::Vxlan(as_vxlan(wanted.port)))
                };
                let index = new.create(&mut self.socket)?;
                match Link::get(&mut self.socket, &LinkId::Index(index))? {
                    Some(link) => self.finish_device(name, &link, wanted),
                    None => Err(Error::new(ErrorKind::Missing, "create", Key::Link(name.clone()), "it went at once")),
                }
            }
            (Op::Put { key, object, .. }, _) => Err(not_for(key, object)),
        }
    }

    /// Devices that will not be made anew: what hangs on one that goes counts as gone.
    pub(super) fn lasting(&self, devices: &Devices) -> Devices {
        let config = self.compiler.config();
        let (wanted, port) = (&config.device, config.port.get());
        let goes = |link: &Link| {
            let is_wanted = link.name == wanted.as_str();
            is_ours(link) && (is_wanted && !is_as_made(link, port) || is_rival(link, wanted, port))
        };
        // An orphan: what hangs on it is taken away first, as it was put there.
        if config.mode == Mode::Native { devices.without(|_| false) } else { devices.without(goes) }
    }

    fn delete(&mut self, index: u32) -> Result<()> {
        self.run(|batch| LinkId::Index(index).delete(batch))
    }

    /// Mark and settings, then up: an address of the kernel's own making would come before them.
    fn finish_device(&mut self, name: &InterfaceName, link: &Link, wanted: &Device) -> Result<()> {
        self.watched.add_device(link.index);
        let (id, alias) = (LinkId::Index(link.index), marks::alias(ALIAS_ID));
        let mut change =
            LinkChange { mtu_bytes: Some(wanted.mtu_bytes), resolves: Some(false), ..LinkChange::default() };
        if link.our_id() != Some(ALIAS_ID) {
            change = LinkChange { alias: Some(&alias), group: Some(0), no_ipv6_autoconf: true, ..change };
        }
        change.mac = Some(wanted.mac).filter(|mac| link.mac != Some(*mac));
        self.run(|batch| change.add(batch, &id))?;
        self.host.inside(|| {
            let mut settings = wanted.settings.iter();
            settings.try_for_each(|(setting, value)| sysctl::write(&Device::setting_path(setting, name), value))
        })??;
        let up = LinkChange { up: Some(wanted.up), ..LinkChange::default() };
        self.run(|batch| up.add(batch, &id))
    }

    /// Runs a batch whose requests belong together: the first failure counts.
    fn run(&mut self, fill: impl FnOnce(&mut Batch)) -> Result<()> {
        let mut batch = Batch::new();
        fill(&mut batch);
        Ok(self.socket.run_all(&mut batch)?)
    }
}

/// Whether the kernel would not let our device come up beside this one (`EADDRINUSE`): devices share a port only where their
/// sockets are alike, and none is like one that collects metadata.
fn is_rival(link: &Link, name: &InterfaceName, port: u16) -> bool {
    link.name != name.as_str() && matches!(&link.kind, LinkKind::Vxlan(vxlan) if vxlan.port == port || is_ours(link))
}

fn foreign(name: &InterfaceName, link: &Link) -> Error {
    let alias = link.alias.as_deref().map(|alias| format!(", alias {alias:?}")).unwrap_or_default();
    let detail = format!(
        "device {name} exists and is not ours ({:?}{alias}); refusing to take it over: delete it or set `deviceName`",
        link.kind
    );
    Error::new(ErrorKind::Foreign, "create", Key::Link(name.clone()), detail)
}

fn taken(name: &InterfaceName, rival: &Link, port: u16) -> Error {
    let detail = format!(
        "device {} has port {port}, which ours cannot share, and is not ours; delete it or set `port`",
        rival.name
    );
    Error::new(ErrorKind::Foreign, "create", Key::Link(name.clone()), detail)
}
