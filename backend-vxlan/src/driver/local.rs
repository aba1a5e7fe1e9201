//! What lives in this process: sockets and forwarding of the `udp` mode. Never touches the kernel's tables.

use super::VxlanDriver;
use crate::config::Family;
use crate::object::{Key, Object};
use cni_core::backend::{Error, ErrorKind, Op, Result};
use std::net::SocketAddr;

impl VxlanDriver {
    /// Sockets and forwarding of the running pump.
    pub(super) fn read_local(&self, found: &mut Vec<(Key, Object)>) {
        let socket = |family| Some((Key::Socket(family), Object::Socket(self.pump.bound(family)?.into())));
        found.extend([Family::Ipv4, Family::Ipv6].into_iter().filter_map(socket));
        let forward = |(prefix, peer): (_, SocketAddr)| (Key::Forward(prefix), Object::Forward(peer.into()));
        found.extend(self.pump.with_table(|table| table.iter().map(forward).collect::<Vec<_>>()));
    }

    pub(super) fn write_local(&self, op: &Op<Key, Object>) -> Result<()> {
        match op {
            Op::Put { key: Key::Socket(_), object: Object::Socket(address), .. } => {
                Ok(self.host.inside(|| self.pump.bind(**address))??)
            }
            Op::Put { key: Key::Forward(prefix), object: Object::Forward(peer), .. } => {
                self.pump.with_table(|table| table.insert(*prefix, **peer));
                Ok(())
            }
            Op::Put { key, object, .. } => {
                Err(Error::new(ErrorKind::Invalid, "create", key, format_args!("can't be {object:?}")))
            }
            Op::Delete { key, .. } => {
                match key {
                    Key::Socket(family) => self.pump.unbind(*family),
                    Key::Forward(prefix) => self.pump.with_table(|table| table.remove(*prefix)),
                    _ => {}
                }
                Ok(())
            }
        }
    }
}
