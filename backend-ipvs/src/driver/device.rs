//! The device that has the addresses of services, and these. Never touches one without our alias.

use super::{IpvsDriver, Write, another};
use crate::object::{DEVICE, Key, Object};
use crate::watch::is_usable;
use cni_core::backend::{Error, ErrorKind, Op, Result};
use ipnet::IpNet;
use net_linux::addr::Address;
use net_linux::link::{Link, LinkChange, LinkId, LinkKind, NewLink, NewLinkKind};
use net_linux::marks;
use net_linux::netlink::{Batch, Error as NetlinkError, Socket};
use net_linux::objects::{self, Object as TableObject, Write as TableWrite};
use nix::errno::Errno;

/// One with our alias, or one that a predecessor made and was killed before it gave it the alias.
fn is_ours(link: &Link) -> bool {
    link.our_id() == Some(marks::SERVICE_DEVICE)
        || (link.alias.is_none() && link.group == marks::FRESH_LINK_GROUP && link.name == DEVICE)
}

/// The device, if it is there and ours; an error if it is not ours.
fn ours(socket: &mut Socket) -> Result<Option<Link>> {
    match Link::get(socket, &LinkId::Name(DEVICE))? {
        Some(link) if !is_ours(&link) => {
            let detail = "there is one that is not ours; rename it, or delete it";
            Err(Error::new(ErrorKind::Foreign, "create", Key::Device, detail))
        }
        other => Ok(other),
    }
}

/// Takes ours away, with its addresses.
pub(super) fn clear(socket: &mut Socket) -> Result<()> {
    match Link::get(socket, &LinkId::Name(DEVICE))? {
        Some(link) if is_ours(&link) => Ok(LinkId::Index(link.index).remove(socket)?),
        _ => Ok(()),
    }
}

impl IpvsDriver {
    pub(super) fn read_device(&mut self) -> Result<Vec<(Key, Object)>> {
        let Ok(Some(link)) = ours(&mut self.route) else {
            self.watched.set(None, []);
            return Ok(Vec::new());
        };
        let mut found = vec![(Key::Device, Object::Device { intact: is_usable(&link) })];
        let mut addresses = Address::dump(&mut self.route, Some(link.index))?;
        addresses.retain(|address| address.index == link.index);
        self.watched.set(Some(link.index), addresses.iter().map(|address| address.address));
        found.extend(addresses.into_iter().map(|address| {
            (
                Key::Address(address.address),
                Object::Address { never_source: address.never_source && !address.tentative },
            )
        }));
        Ok(found)
    }

    pub(super) fn write_device(&mut self, op: &Write) -> Result<()> {
        let present = match (ours(&mut self.route), op) {
            // Ours is gone already.
            (Err(error), Op::Delete { .. }) if error.kind == ErrorKind::Foreign => return Ok(()),
            (present, _) => present?,
        };
        match (op, present) {
            (Op::Delete { .. }, None) => Ok(()),
            (Op::Delete { .. }, Some(link)) => Ok(LinkId::Index(link.index).remove(&mut self.route)?),
            (Op::Put { .. }, Some(link)) if matches!(link.kind, LinkKind::Dummy | LinkKind::Bridge) => {
                self.bring_up(link.index)
            }
            (Op::Put { .. }, Some(link)) => {
                LinkId::Index(link.index).remove(&mut self.route)?;
                self.create_device()
            }
            (Op::Put { .. }, None) => self.create_device(),
        }
    }

    /// A dummy; a bridge without ports where the kernel has no dummies.
    fn create_device(&mut self) -> Result<()> {
        let index = match self.create(NewLinkKind::Dummy) {
            Err(error) if matches!(error.errno(), Some(Errno::EOPNOTSUPP | Errno::ENODEV)) => {
                self.create(NewLinkKind::Bridge)?
            }
            other => other?,
        };
        self.watched.set_device(index);
        self.bring_up(index)
    }

    fn create(&mut self, kind: NewLinkKind<'_>) -> Result<u32, NetlinkError> {
        NewLink { group: marks::FRESH_LINK_GROUP, ..NewLink::new(DEVICE, kind) }.create(&mut self.route)
    }

    /// No addresses of its own before it is up: the kernel would make one.
    fn bring_up(&mut self, index: u32) -> Result<()> {
        let alias = marks::alias(marks::SERVICE_DEVICE);
        let quiet = LinkChange { alias: Some(&alias), group: Some(0), no_ipv6_autoconf: true, ..LinkChange::default() };
        let up = LinkChange { up: Some(true), ..LinkChange::default() };
        let mut batch = Batch::new();
        quiet.add(&mut batch, &LinkId::Index(index));
        up.add(&mut batch, &LinkId::Index(index));
        Ok(self.route.run_all(&mut batch)?)
    }

    pub(super) fn write_addresses(&mut self, ops: &[Write]) -> Vec<Result<()>> {
        if ops.is_empty() {
            return Vec::new();
        }
        let index = match ours(&mut self.route) {
            Ok(link) => link.map(|link| link.index),
            Err(error) => return ops.iter().map(|_| Err(error.clone())).collect(),
        };
        let Some(index) = index else {
            return ops
                .iter()
                .map(|op| match op {
                    Op::Delete { .. } => Ok(()),
                    Op::Put { key, .. } => {
                        let detail = format!("device {DEVICE} is not there");
                        Err(Error::new(ErrorKind::Missing, "create", key, detail))
                    }
                })
                .collect();
        };
        for op in ops {
            if let Key::Address(address) = op.key() {
                self.watched.set_address(*address, matches!(op, Op::Put { .. }));
            }
        }
        // One of another scope would stand beside ours, so it goes first.
        let altered: Vec<TableWrite> = ops
            .iter()
            .filter_map(|op| match op {
                Op::Put { key: Key::Address(address), present, .. } if *present != cni_core::backend::Known::Absent => {
                    Some(TableWrite::Delete(object(index, *address)))
                }
                _ => None,
            })
            .collect();
        objects::write(&mut self.route, &altered);
        let writes: Result<Vec<TableWrite>> = ops
            .iter()
            .map(|op| match op {
                Op::Put { key: Key::Address(address), .. } => Ok(TableWrite::Replace(object(index, *address))),
                Op::Delete { key: Key::Address(address), .. } => Ok(TableWrite::Delete(object(index, *address))),
                Op::Put { key, .. } | Op::Delete { key, .. } => Err(another(key)),
            })
            .collect();
        match writes {
            Ok(writes) => {
                objects::write(&mut self.route, &writes).into_iter().map(|result| result.map_err(Into::into)).collect()
            }
            Err(error) => ops.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

fn object(index: u32, address: IpNet) -> TableObject {
    TableObject::Address(Address { never_source: true, ..Address::new(index, address) })
}
