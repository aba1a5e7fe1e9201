//! The interfaces where the node itself is guarded. Never a pod's own policy, and never what is enforced there.

use super::super::objects::Key;
use super::super::{refused, running};
use super::Enforcing;
use crate::kernel::Way;
use crate::policy::Device;
use cni_core::backend::{CommitReport, Error, ErrorKind, Failure, Result};
use cni_core::model::InterfaceName;
use cni_core::policy::program::PolicyKey;
use net_linux::link::{Link, LinkFilter, LinkKind};
use net_linux::netlink::Socket;
use std::collections::{BTreeMap, BTreeSet};

/// The kind of a device whose parts have packets of their own, which it shows to nobody but sockets.
const VRF: &str = "vrf";

impl Enforcing {
    /// Tells the tables which interfaces there are; again only while something is enforced of the node.
    pub(super) fn find_devices(&mut self) -> Result<()> {
        if self.devices_known && self.tables.host().is_none() {
            return Ok(());
        }
        let failed =
            |error: net_linux::netlink::Error| Error::new(ErrorKind::Kernel, "list", "interfaces of the node", error);
        let links = Link::dump(&mut Socket::route().map_err(failed)?, &LinkFilter::default()).map_err(failed)?;
        let vrfs: BTreeSet<u32> = links.iter().filter(|link| is_vrf(link)).map(|link| link.index).collect();
        let is_whole = |link: &&Link| link.master.is_none_or(|master| vrfs.contains(&master));
        let devices: BTreeMap<InterfaceName, Device> = links
            .iter()
            .filter(|link| link.kind != LinkKind::Loopback && !is_vrf(link))
            .filter(is_whole)
            .filter_map(|link| {
                let name = InterfaceName::new(&link.name).ok()?;
                let is_pods = running::is_pods(&name);
                Some((name, Device { index: link.index, is_pods, is_ethernet: link.mac.is_some() }))
            })
            .collect();
        self.names.extend(devices.iter().map(|(name, device)| (device.index, name.clone())));
        self.tables.set_devices(devices);
        self.devices_known = true;
        Ok(())
    }

    /// Puts programs where something is enforced of the node, and takes them off where nothing is any more.
    pub(super) fn guard(&mut self, report: &mut CommitReport) {
        let wanted: BTreeSet<InterfaceName> = self.tables.guarded().map(|(name, _)| name.clone()).collect();
        wanted.iter().for_each(|name| self.guard_one(name, report));
        let Some(running) = &self.running else { return };
        let needless = running.guards.keys().filter(|name| !wanted.contains(name)).cloned().collect();
        if let Err(error) = self.unguard(&needless) {
            report.failed.push(failure("policy of the node".to_owned(), error));
        }
    }

    pub(super) fn guard_one(&mut self, name: &InterfaceName, report: &mut CommitReport) {
        let (Some(running), Some(index)) = (&mut self.running, running::index(name)) else { return };
        match running.guard(self.hook, name, index) {
            Ok(()) => self.view.set_attached(Key::Host(name.clone()), true),
            Err(error) => report.failed.push(failure(Key::Host(name.clone()).to_string(), error)),
        }
    }

    /// Takes programs off those interfaces where nothing is enforced of the node.
    pub(super) fn unguard(&mut self, names: &BTreeSet<InterfaceName>) -> Result<()> {
        let wanted: BTreeSet<InterfaceName> = self.tables.guarded().map(|(name, _)| name.clone()).collect();
        let mut result = Ok(());
        for name in names.difference(&wanted) {
            match running::detach(self.hook, Way::HOST, name) {
                // With an interface its programs go.
                Err(error) if running::index(name).is_some() => result = Err(refused(error)),
                _ => {
                    self.running.iter_mut().for_each(|running| running.guards.retain(|other, _| other != name));
                    self.view.set_attached(Key::Host(name.clone()), false);
                }
            }
        }
        result
    }
}

fn failure(object: String, error: Error) -> Failure {
    Failure { items: vec![PolicyKey::Host.to_string()], object, error }
}

fn is_vrf(link: &Link) -> bool {
    matches!(&link.kind, LinkKind::Other(kind) if kind == VRF)
}
