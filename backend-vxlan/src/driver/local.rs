//! What is not in the kernel's network tables: settings, masquerading, sockets and forwarding of the `udp` mode. Never
//! undoes a setting: what it was before is not ours to know.

use super::VxlanDriver;
use crate::config::Family;
use crate::object::{Key, Object};
use cni_core::backend::{Error, ErrorKind, Known, Op, Result};
use net_linux::{masquerade, sysctl};

impl VxlanDriver {
    /// Settings that the node wants, as they are now; masquerading; sockets and forwarding of the running pump.
    pub(super) fn read_local(&mut self, found: &mut Vec<(Key, Object)>) -> Result<()> {
        let wanted: Vec<Key> = self.compiler.base().into_iter().map(|(key, _)| key).collect();
        found.extend(self.inside(move || wanted.into_iter().filter_map(read_setting).collect::<Vec<_>>())?);
        if let Some(nft) = &mut self.nft {
            let masquerading = masquerade::observe(nft)?;
            found.extend(
                masquerading.into_iter().map(|(key, object)| (Key::Masquerade(key), Object::Masquerade(object.into()))),
            );
        }
        let socket = |family| Some((Key::Socket(family), Object::Socket(self.pump.bound(family)?)));
        found.extend([Family::Ipv4, Family::Ipv6].into_iter().filter_map(socket));
        let forward = |(prefix, peer)| (Key::Forward(prefix), Object::Forward(peer));
        found.extend(self.pump.with_table(|table| table.iter().map(forward).collect::<Vec<_>>()));
        Ok(())
    }

    pub(super) fn write_local(&mut self, op: &Op<Key, Object>) -> Result<()> {
        match op {
            Op::Put { key: Key::Sysctl(path), object: Object::Sysctl(value), .. } => {
                Ok(self.inside(|| sysctl::write(path, value))??)
            }
            Op::Put { key: Key::Masquerade(_), .. } | Op::Delete { key: Key::Masquerade(_), .. } => {
                self.write_masquerade(op)
            }
            Op::Put { key: Key::Socket(_), object: Object::Socket(address), .. } => {
                Ok(self.inside(|| self.pump.bind(*address))??)
            }
            Op::Put { key: Key::Forward(prefix), object: Object::Forward(peer), .. } => {
                self.pump.with_table(|table| table.insert(*prefix, *peer));
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

    fn write_masquerade(&mut self, op: &Op<Key, Object>) -> Result<()> {
        let Some(nft) = &mut self.nft else {
            let detail = "this kernel has no nftables";
            return Err(Error::new(ErrorKind::Unsupported, "write", masquerade::Key, detail));
        };
        let known = |present: &Known<Object>| match present {
            Known::Absent => Known::Absent,
            Known::Present(Object::Masquerade(object)) => Known::Present((**object).clone()),
            _ => Known::Unknown,
        };
        let op = match op {
            Op::Put { present, object: Object::Masquerade(object), .. } => {
                Op::Put { key: masquerade::Key, present: known(present), object: (**object).clone() }
            }
            Op::Put { present, .. } | Op::Delete { present, .. } => {
                Op::Delete { key: masquerade::Key, present: known(present) }
            }
        };
        Ok(masquerade::apply(nft, &op)?)
    }
}

fn read_setting(key: Key) -> Option<(Key, Object)> {
    match key {
        Key::Sysctl(path) => {
            let value = sysctl::read(&path).ok()?;
            Some((Key::Sysctl(path), Object::Sysctl(value.into())))
        }
        _ => None,
    }
}
