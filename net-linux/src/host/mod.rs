//! What a node's host has for pods beside the tables of the network: settings, masquerading, untracked outer packets, whom
//! tunnels hear. Never undoes a setting: what it was before is not ours to know.
//!
//! The same on every backend that uses the host's stack, so a driver holds one [`Host`] and embeds these objects under its
//! own keys ([`Op::part`]). All of it is in the network namespace that the host was opened in, whichever thread asks.

pub mod wanted;
mod watch;

pub use watch::{Watch, are_amiss};

use crate::netns::NetNs;
use crate::nft::Nft;
use crate::{masquerade, sysctl, tunnel_ends, untracked};
use cni_core::backend::{Error, ErrorKind, Op, Result};
use std::fmt::{self, Display};
use std::sync::Arc;

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A kernel setting of the node by its path below `/proc/sys`, with `/` between its parts.
    Sysctl(Arc<str>),
    /// Source NAT to the outside.
    Masquerade(masquerade::Key),
    /// Outer packets that are not tracked as connections.
    Untracked(untracked::Key),
    /// Whom tunnels hear.
    Ends(tunnel_ends::Key),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sysctl(path) => write!(f, "sysctl {path}"),
            Self::Masquerade(key) => key.fmt(f),
            Self::Untracked(key) => key.fmt(f),
            Self::Ends(key) => key.fmt(f),
        }
    }
}

/// Everything but the key.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// See [`Key::Sysctl`]: the value, trimmed.
    Sysctl(Arc<str>),
    /// See [`Key::Masquerade`].
    Masquerade(Box<masquerade::Object>),
    /// See [`Key::Untracked`].
    Untracked(untracked::Object),
    /// See [`Key::Ends`].
    Ends(tunnel_ends::Object),
}

/// The host of one node: its network namespace, and nftables in it.
pub struct Host {
    netns: NetNs,
    /// `None` where the kernel has no nftables.
    nft: Option<Nft>,
}

impl Host {
    /// The host whose network namespace is that of the calling thread. Reads and writes nothing yet.
    ///
    /// # Errors
    /// [`ErrorKind::Kernel`]: the namespace can't be held.
    pub fn open() -> Result<Self> {
        let netns = NetNs::current()
            .map_err(|error| Error::new(ErrorKind::Kernel, "open", "network namespace", &error).because(error))?;
        Ok(Self { netns, nft: Nft::open().ok() })
    }

    /// The netlink port that our changes of nftables carry; `None` where the kernel has no nftables.
    #[must_use]
    pub fn nft_port(&self) -> Option<u32> {
        self.nft.as_ref().map(Nft::port)
    }

    /// Runs something that depends on the thread's network namespace.
    ///
    /// # Errors
    /// [`ErrorKind::Kernel`]: the namespace can't be entered.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.netns
            .run(work)
            .map_err(|error| Error::new(ErrorKind::Kernel, "enter", self.netns.id(), &error).because(error))
    }

    /// The settings among these keys as they are now, without those that can't be read; and what we have in nftables.
    ///
    /// # Errors
    /// The kernel could not be read.
    pub fn observe(&mut self, wanted: impl Iterator<Item = Key>) -> Result<Vec<(Key, Object)>> {
        let settings = wanted.filter_map(|key| match key {
            Key::Sysctl(path) => Some(path),
            _ => None,
        });
        let settings: Vec<Arc<str>> = settings.collect();
        let read = |path: Arc<str>| {
            let value = sysctl::read(&path).ok()?;
            Some((Key::Sysctl(path), Object::Sysctl(value.into())))
        };
        let mut found: Vec<_> = self.inside(|| settings.into_iter().filter_map(read).collect())?;
        let Some(nft) = &mut self.nft else { return Ok(found) };
        let masquerading = masquerade::observe(nft)?.into_iter();
        found.extend(masquerading.map(|(key, object)| (Key::Masquerade(key), Object::Masquerade(object.into()))));
        let untracked = untracked::observe(nft)?.into_iter();
        found.extend(untracked.map(|(key, object)| (Key::Untracked(key), Object::Untracked(object))));
        let ends = tunnel_ends::observe(nft)?.into_iter();
        found.extend(ends.map(|(key, object)| (Key::Ends(key), Object::Ends(object))));
        Ok(found)
    }

    /// Writes a batch and answers for each op in order. Ends of tunnels come last and in one transaction: either each of
    /// them is in force, or none.
    pub fn apply(&mut self, batch: &[Op<Key, Object>]) -> Vec<Result<()>> {
        let mut ends = Vec::new();
        let mut results: Vec<Result<()>> = batch
            .iter()
            .map(|op| match op.key() {
                Key::Sysctl(path) => self.write_setting(path, op),
                Key::Masquerade(key) => {
                    let op = own(op, *key, Object::masquerade)?;
                    Ok(masquerade::apply(self.nft(key)?, &op)?)
                }
                Key::Untracked(key) => {
                    let op = own(op, *key, Object::untracked)?;
                    Ok(untracked::apply(self.nft(key)?, &op)?)
                }
                Key::Ends(key) => {
                    ends.push(own(op, *key, Object::end)?);
                    Ok(())
                }
            })
            .collect();
        if !ends.is_empty() {
            let written = self.nft(&"tunnel ends").and_then(|nft| Ok(tunnel_ends::apply(nft, &ends)?));
            let of_ends = batch.iter().zip(&mut results).filter(|(op, _)| matches!(op.key(), Key::Ends(_)));
            of_ends.for_each(|(_, result)| *result = result.clone().and(written.clone()));
        }
        results
    }

    fn write_setting(&self, path: &str, op: &Op<Key, Object>) -> Result<()> {
        match op {
            Op::Put { object: Object::Sysctl(value), .. } => Ok(self.inside(|| sysctl::write(path, value))??),
            Op::Put { .. } => Err(another(op)),
            Op::Delete { .. } => Ok(()),
        }
    }

    fn nft(&mut self, wanted_for: &dyn Display) -> Result<&mut Nft> {
        let missing = || Error::new(ErrorKind::Unsupported, "write", wanted_for, "this kernel has no nftables");
        self.nft.as_mut().ok_or_else(missing)
    }
}

impl Object {
    fn masquerade(&self) -> Option<masquerade::Object> {
        match self {
            Self::Masquerade(object) => Some((**object).clone()),
            _ => None,
        }
    }

    fn untracked(&self) -> Option<untracked::Object> {
        match self {
            Self::Untracked(object) => Some(object.clone()),
            _ => None,
        }
    }

    fn end(&self) -> Option<tunnel_ends::Object> {
        match self {
            Self::Ends(object) => Some(object.clone()),
            _ => None,
        }
    }
}

/// The op in the terms of the module that owns the object.
fn own<K, O>(op: &Op<Key, Object>, key: K, own: fn(&Object) -> Option<O>) -> Result<Op<K, O>> {
    op.part(key, own).ok_or_else(|| another(op))
}

/// The error for an object under the key of another kind.
fn another(op: &Op<Key, Object>) -> Error {
    Error::new(ErrorKind::Invalid, "write", op.key(), "its object is of another kind")
}

#[cfg(test)]
mod tests;
