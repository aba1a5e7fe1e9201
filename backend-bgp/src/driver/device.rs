//! The tunnel device: found by its alias, made, changed in place, made anew where the kernel can't change it. Never
//! touches one without our alias.

use super::{BgpDriver, not_for};
use crate::config::{Config, TunnelKind};
use crate::object::{Device, DeviceKind, Key, Object};
use cni_core::backend::{Error, ErrorKind, Op, Result};
use cni_core::model::{InterfaceName, MacAddr};
use net_linux::link::{Ipip, Link, LinkChange, LinkFilter, LinkId, LinkKind, NewLink, NewLinkKind, Vxlan};
use net_linux::marks;
use net_linux::netlink::{Batch, Socket};
use net_linux::sysctl;
use std::sync::Arc;

/// What the alias of the tunnel device says.
const ALIAS_ID: &str = "bgp-backend";
/// The kernel's names of the kinds of link that we make, and that another backend may have left.
const KINDS: [&str; 2] = ["vxlan", "tun"];
/// The kernel's name of IPIP, which many kernels do not know, or not before a device is made.
const IPIP: &str = "ipip";

/// The kinds to look for. A kernel that does not know a kind shows all links when it is asked for those of this kind: then
/// there is none, and nobody shall read the links of all pods each time.
pub(super) fn kinds(socket: &mut Socket, config: &Config) -> Result<Vec<&'static str>> {
    let mut kinds = Vec::from(KINDS);
    let wanted = config.tunnel.as_ref().is_some_and(|tunnel| tunnel.kind == TunnelKind::Ipip);
    let of_kind = LinkFilter { kind: Some(IPIP), ..LinkFilter::default() };
    let is_ipip = |link: &Link| matches!(link.kind, LinkKind::Ipip(_));
    // With the kind known, but no device of it, nothing is shown; otherwise `lo` is among them at least.
    if wanted || Link::dump(socket, &of_kind)?.iter().all(is_ipip) {
        kinds.push(IPIP);
    }
    Ok(kinds)
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

const AS_IPIP: Ipip = Ipip { collect_metadata: true, local: None };

/// Whether a device is as we would make it, apart from what can be changed in place.
fn is_as_made(found: &LinkKind, port: Option<u16>) -> bool {
    match (found, port) {
        (LinkKind::Vxlan(vxlan), Some(port)) => *vxlan == as_vxlan(port),
        (LinkKind::Ipip(ipip), None) => *ipip == AS_IPIP,
        _ => false,
    }
}

impl DeviceKind {
    const fn port(&self) -> Option<u16> {
        match self {
            Self::Vxlan { port, .. } => Some(*port),
            Self::Ipip => None,
        }
    }

    const fn mac(&self) -> Option<MacAddr> {
        match self {
            Self::Vxlan { mac, .. } => Some(*mac),
            Self::Ipip => None,
        }
    }
}

impl BgpDriver {
    /// The tunnel device of ours. Of several, which only a change of its name leaves, the wanted one comes last.
    pub(super) fn device(&mut self) -> Result<Option<(InterfaceName, Link)>> {
        let mut ours = Vec::new();
        for kind in self.kinds.clone() {
            let filter = LinkFilter { kind: Some(kind), ..LinkFilter::default() };
            let found = Link::dump(&mut self.socket, &filter)?.into_iter().filter(is_ours);
            // A kernel that does not know a kind shows all links.
            ours.extend(found.filter(|link| kind_of(&link.kind) == Some(kind)));
        }
        let wanted = self.compiler.config().tunnel.as_ref().map(|tunnel| tunnel.device.as_str().to_owned());
        ours.sort_by_key(|link| Some(&link.name) == wanted.as_ref());
        Ok(ours.into_iter().next().and_then(|link| Some((InterfaceName::new(&link.name).ok()?, link))))
    }

    /// What a device of ours is.
    pub(super) fn read_device(&self, name: &InterfaceName, link: &Link) -> Result<Object> {
        let kind = match (&link.kind, link.mac) {
            (LinkKind::Vxlan(vxlan), Some(mac)) => DeviceKind::Vxlan { port: vxlan.port, mac },
            (LinkKind::Ipip(_), _) => DeviceKind::Ipip,
            _ => return Ok(Object::Strange),
        };
        if !is_as_made(&link.kind, kind.port()) {
            return Ok(Object::Strange);
        }
        let read = |(setting, _)| Some((setting, sysctl::read(&Device::setting_path(setting, name)).ok()?));
        let settings = self.host.inside(|| Device::settings(&kind).filter_map(read).collect())?;
        Ok(Object::Link(Arc::new(Device { kind, mtu_bytes: link.mtu_bytes, up: link.up, settings })))
    }

    /// Whether the device will not be made anew: what hangs on one that goes counts as gone.
    pub(super) fn lasts(&self, name: &InterfaceName, link: &Link) -> bool {
        match &self.compiler.config().tunnel {
            Some(tunnel) if tunnel.device == *name => {
                let port = match tunnel.kind {
                    TunnelKind::Vxlan { port, .. } => Some(port.get()),
                    TunnelKind::Ipip => None,
                };
                is_as_made(&link.kind, port)
            }
            // An orphan: what hangs on it is taken away first, as it was put there.
            _ => true,
        }
    }

    pub(super) fn write_device(&mut self, name: &InterfaceName, op: &Op<Key, Object>) -> Result<()> {
        let present = Link::get(&mut self.socket, &LinkId::Name(name.as_str()))?;
        self.watched.set_obstacle(None);
        if let Some(link) = present.as_ref().filter(|link| !is_ours(link)) {
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
            (Op::Delete { .. }, Some(link)) => self.run(|batch| LinkId::Index(link.index).delete(batch)),
            (Op::Put { object: Object::Link(wanted), .. }, Some(link))
                if is_as_made(&link.kind, wanted.kind.port()) =>
            {
                self.finish_device(name, &link, wanted)
            }
            (Op::Put { object: Object::Link(wanted), .. }, present) => {
                if let Some(link) = present {
                    self.run(|batch| LinkId::Index(link.index).delete(batch))?;
                }
                let kind = match wanted.kind {
                    DeviceKind::Vxlan { port, .. } => NewLinkKind::Vxlan(as_vxlan(port)),
                    DeviceKind::Ipip => NewLinkKind::Ipip(AS_IPIP),
                };
                let new = NewLink {
                    mac: wanted.kind.mac(),
                    group: marks::FRESH_LINK_GROUP,
                    ..NewLink::new(name.as_str(), kind)
                };
                new.create(&mut self.socket)?;
                match Link::get(&mut self.socket, &LinkId::Name(name.as_str()))? {
                    Some(link) => self.finish_device(name, &link, wanted),
                    None => Err(Error::new(ErrorKind::Missing, "create", Key::Link(name.clone()), "it went at once")),
                }
            }
            (Op::Put { key, object, .. }, _) => Err(not_for(key, object)),
        }
    }

    /// Mark and settings, then up: an address of the kernel's own making would come before them.
    fn finish_device(&mut self, name: &InterfaceName, link: &Link, wanted: &Device) -> Result<()> {
        self.watched.set_device(Some(link.index));
        let (id, alias) = (LinkId::Index(link.index), marks::alias(ALIAS_ID));
        let mut change = LinkChange { mtu_bytes: Some(wanted.mtu_bytes), ..LinkChange::default() };
        if link.alias.is_none() {
            let no_ipv6_autoconf = matches!(wanted.kind, DeviceKind::Vxlan { .. });
            change = LinkChange { alias: Some(&alias), group: Some(0), no_ipv6_autoconf, ..change };
        }
        // The kernel forgets the neighbours even when the address stays the same.
        change.mac = wanted.kind.mac().filter(|mac| link.mac != Some(*mac));
        self.run(|batch| change.add(batch, &id))?;
        self.host.inside(|| {
            let mut settings = wanted.settings.iter();
            settings.try_for_each(|(setting, value)| sysctl::write(&Device::setting_path(setting, name), value))
        })??;
        let up = LinkChange { up: Some(wanted.up), ..LinkChange::default() };
        self.run(|batch| up.add(batch, &id))
    }

    /// Runs a batch whose requests belong together: the first failure counts.
    pub(super) fn run(&mut self, fill: impl FnOnce(&mut Batch)) -> Result<()> {
        let mut batch = Batch::new();
        fill(&mut batch);
        Ok(self.socket.run_all(&mut batch)?)
    }
}

/// The kernel's name of a kind that a device of ours, or of the backend before us, may have.
const fn kind_of(kind: &LinkKind) -> Option<&'static str> {
    match kind {
        LinkKind::Vxlan(_) => Some("vxlan"),
        LinkKind::Tun => Some("tun"),
        LinkKind::Ipip(_) => Some(IPIP),
        _ => None,
    }
}

fn foreign(name: &InterfaceName, link: &Link) -> Error {
    let alias = link.alias.as_deref().map(|alias| format!(", alias {alias:?}")).unwrap_or_default();
    let detail = format!(
        "device {name} exists and is not ours ({:?}{alias}); refusing to take it over: delete it or set \
         `deviceName` of the tunnel",
        link.kind
    );
    Error::new(ErrorKind::Foreign, "create", Key::Link(name.clone()), detail)
}
