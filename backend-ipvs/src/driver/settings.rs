//! Kernel settings that IPVS needs, and what they were. Never puts back one that others of the node rely on by now.

use super::{IpvsDriver, Write, another, firewall};
use crate::compile;
use crate::object::{Key, Object};
use cni_core::backend::{Capability, Op, Result};
use net_linux::nft::Nft;
use net_linux::sysctl;
use std::sync::Arc;

/// What the settings that nobody but IPVS reads begin with. Forwarding is none of them: a node with pods forwards whatever its
/// proxy is, and who came later and found it so (another runtime of containers, say) relies on it without a word.
const OF_IPVS: &str = "net/ipv4/vs/";

impl IpvsDriver {
    pub(super) fn read_settings(&self) -> Result<Vec<(Key, Object)>> {
        let base = compile::base(self.capabilities.has(Capability::Ipv6)).into_iter();
        let paths = base.filter_map(|(key, _)| match key {
            Key::Sysctl(path) => Some(path),
            _ => None,
        });
        let paths: Vec<Arc<str>> = paths.collect();
        let read = |path: Arc<str>| {
            let value = sysctl::read(&path).ok()?;
            Some((Key::Sysctl(path), Object::Sysctl(value.into())))
        };
        self.inside(|| paths.into_iter().filter_map(read).collect())
    }

    /// Keeps what it was in the kernel, then writes: whoever is killed in between has changed nothing.
    pub(super) fn write_setting(&mut self, op: &Write) -> Result<()> {
        match op {
            Op::Put { key: Key::Sysctl(path), object: Object::Sysctl(value), .. } => {
                if path.starts_with(OF_IPVS) {
                    let now = self.inside(|| sysctl::read(path))??;
                    if now == **value {
                        return Ok(());
                    }
                    self.former.learn(firewall::read_record(&mut self.nft)?);
                    self.former.note(path, &now, value);
                    firewall::write_record(&mut self.nft, &self.former, op.key())?;
                }
                Ok(self.inside(|| sysctl::write(path, value))??)
            }
            // Nobody takes one out of what is wanted while the engine runs: `restore` puts all back.
            Op::Delete { .. } => Ok(()),
            Op::Put { .. } => Err(another(op.key())),
        }
    }
}

/// Puts back what is as this engine left it, in the network namespace of the calling thread.
pub(super) fn restore(nft: &mut Nft) -> Result<()> {
    let record = firewall::read_record(nft)?;
    for (path, before) in record.restored(|path| sysctl::read(path).ok()) {
        sysctl::write(&path, &before)?;
    }
    Ok(())
}
