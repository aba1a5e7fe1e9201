//! What is not in the kernel's network tables: settings, nftables. Never undoes a setting: what it was before is not ours
//! to know.

use super::{BgpDriver, key_of, not_for};
use crate::object::{Key, Object};
use cni_core::backend::{Error, ErrorKind, Known, Op, Result};
use net_linux::nft::Nft;
use net_linux::{masquerade, sysctl, tunnel_ends, untracked};
use std::collections::HashMap;
use std::fmt::Display;

impl BgpDriver {
    /// Settings that the node wants, as they are now, and what we have in nftables.
    pub(super) fn read_local(&mut self, found: &mut Vec<(Key, Object)>) -> Result<()> {
        let wanted: Vec<Key> = self.compiler.base().into_iter().map(|(key, _)| key).collect();
        found.extend(self.inside(move || wanted.into_iter().filter_map(read_setting).collect::<Vec<_>>())?);
        if let Some(nft) = &mut self.nft {
            let masquerading = masquerade::observe(nft)?;
            found.extend(
                masquerading.into_iter().map(|(key, object)| (Key::Masquerade(key), Object::Masquerade(object.into()))),
            );
        }
        if let Some(nft) = &mut self.nft {
            let untracked = untracked::observe(nft)?;
            found.extend(untracked.into_iter().map(|(key, object)| (Key::Untracked(key), Object::Untracked(object))));
        }
        if let Some(nft) = &mut self.nft {
            let ends = tunnel_ends::observe(nft)?;
            found.extend(ends.into_iter().map(|(key, object)| (Key::Ends(key), Object::Ends(object))));
        }
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
            Op::Put { key: Key::Untracked(_), .. } | Op::Delete { key: Key::Untracked(_), .. } => {
                self.write_untracked(op)
            }
            Op::Put { key, object, .. } => Err(not_for(key, object)),
            Op::Delete { .. } => Ok(()),
        }
    }

    fn write_masquerade(&mut self, op: &Op<Key, Object>) -> Result<()> {
        let op = part(op, masquerade::Key, |object| match object {
            Object::Masquerade(object) => Some((**object).clone()),
            _ => None,
        });
        Ok(masquerade::apply(self.nft(&masquerade::Key)?, &op)?)
    }

    fn write_untracked(&mut self, op: &Op<Key, Object>) -> Result<()> {
        let op = part(op, untracked::Key, |object| match object {
            Object::Untracked(object) => Some(object.clone()),
            _ => None,
        });
        Ok(untracked::apply(self.nft(&untracked::Key)?, &op)?)
    }

    /// Writes all of them in one transaction: either each of them is in force, or none.
    pub(super) fn write_ends(&mut self, ops: &[(usize, &Op<Key, Object>)], results: &mut HashMap<usize, Result<()>>) {
        let own = |object: &Object| match object {
            Object::Ends(object) => Some(object.clone()),
            _ => None,
        };
        let parts: Vec<_> = ops
            .iter()
            .filter_map(|(_, op)| match key_of(op) {
                Key::Ends(key) => Some(part(op, *key, own)),
                _ => None,
            })
            .collect();
        let result = self.nft(&"tunnel ends").and_then(|nft| Ok(tunnel_ends::apply(nft, &parts)?));
        results.extend(ops.iter().map(|(index, _)| (*index, result.clone())));
    }

    fn nft(&mut self, wanted_for: &dyn Display) -> Result<&mut Nft> {
        let missing = || Error::new(ErrorKind::Unsupported, "write", wanted_for, "this kernel has no nftables");
        self.nft.as_mut().ok_or_else(missing)
    }
}

/// The op in the terms of the shared code that owns the object. A put of anything else takes the object away.
fn part<K, O>(op: &Op<Key, Object>, key: K, own: impl Fn(&Object) -> Option<O>) -> Op<K, O> {
    let known = |present: &Known<Object>| match present {
        Known::Absent => Known::Absent,
        Known::Present(object) => own(object).map_or(Known::Unknown, Known::Present),
        Known::Unknown => Known::Unknown,
    };
    match op {
        Op::Put { present, object, .. } => match own(object) {
            Some(object) => Op::Put { key, present: known(present), object },
            None => Op::Delete { key, present: known(present) },
        },
        Op::Delete { present, .. } => Op::Delete { key, present: known(present) },
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
