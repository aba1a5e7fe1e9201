//! What is not in the kernel's network tables: settings, sockets and forwarding of the `udp` mode. Never undoes a
//! setting: what it was before is not ours to know.

use super::VxlanDriver;
use super::device::Devices;
use crate::object::{Key, Object};
use cni_core::backend::{Error, ErrorKind, Op, Result};
use net_linux::sysctl;

impl VxlanDriver {
    /// Settings that the node wants, as they are now; sockets and forwarding of the running pump.
    pub(super) fn read_local(&mut self, _devices: &Devices, found: &mut Vec<(Key, Object)>) -> Result<()> {
        let wanted: Vec<Key> = self.compiler.base().into_iter().map(|(key, _)| key).collect();
        let settings = self.inside(move || {
            let read = |key| match key {
                Key::Sysctl(path) => {
                    sysctl::read(&path).ok().map(|value| (Key::Sysctl(path), Object::Sysctl(value.into())))
                }
                _ => None,
            };
            wanted.into_iter().filter_map(read).collect::<Vec<_>>()
        })?;
        found.extend(settings);
        Ok(())
    }

    pub(super) fn write_local(&mut self, op: &Op<Key, Object>) -> Result<()> {
        match op {
            Op::Put { key: Key::Sysctl(path), object: Object::Sysctl(value), .. } => {
                self.inside(|| sysctl::write(path, value))?.map_err(Into::into)
            }
            Op::Delete { key: Key::Sysctl(_), .. } => Ok(()),
            Op::Put { key, object, .. } => {
                Err(Error::new(ErrorKind::Invalid, "create", key, format_args!("can't be {object:?}")))
            }
            Op::Delete { .. } => Ok(()),
        }
    }
}
