//! Entries of the maps. Never an order of its own: see [`crate::policy`].

use super::error::KernelError;
use super::object::Object;
use super::raw::Raw;
use crate::policy::{Trie, Write};
use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, Map, MapError};
use backend_ebpf_abi::{ConnectionKey, Tracked};
use ipnet::IpNet;

/// The maps of classes.
pub(super) const TRAFFIC: &str = "TRAFFIC";
pub(super) const SOURCES: &str = "SOURCES";
/// What numbers stand for. No program uses it.
pub(super) const MEANINGS: &str = "MEANINGS";

impl Object {
    /// Writes one entry, or takes it away; one that is not there is taken away already.
    ///
    /// # Errors
    /// The kernel refuses; `E2BIG`: the map is full.
    pub fn write(&mut self, write: &Write) -> Result<(), KernelError> {
        match write {
            Write::Endpoint(key, value) => self.entry("ENDPOINTS", Raw(*key), value.map(Raw)),
            Write::Host(key, value) => self.entry("HOSTS", Raw(*key), value.map(Raw)),
            Write::Peer(key, value) => self.entry("PEERS", Raw(*key), value.map(Raw)),
            Write::Verdict(key, value) => self.entry("VERDICTS", Raw(*key), value.map(Raw)),
            Write::Identity(IpNet::V4(net), identity) => {
                let key = Key::new(net.prefix_len().into(), net.addr().octets());
                self.prefix("IDENTITIES_V4", &key, *identity)
            }
            Write::Identity(IpNet::V6(net), identity) => {
                let key = Key::new(net.prefix_len().into(), net.addr().octets());
                self.prefix("IDENTITIES_V6", &key, *identity)
            }
            Write::Class(Trie::Traffic(bits, key), class) => {
                self.prefix(TRAFFIC, &Key::new(*bits, *key), class.map(u32::from))
            }
            Write::Class(Trie::Source(bits, key), class) => {
                self.prefix(SOURCES, &Key::new(*bits, *key), class.map(u32::from))
            }
            Write::Meaning(meant, digest) => self.entry(MEANINGS, meant.key(), *digest),
            Write::Advance => self.advance(),
        }
    }

    /// Connections, those that have timed out too. Which are seen while others come and go is left to chance.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn connections(&self) -> Result<Vec<(ConnectionKey, Tracked)>, KernelError> {
        let name = "CONNECTIONS";
        let map = self.bpf.map(name).ok_or(KernelError::Missing { name })?;
        let failed = |source| KernelError::Map { map: name, verb: "read", source };
        let map = HashMap::<_, Raw<ConnectionKey>, Raw<Tracked>>::try_from(map).map_err(failed)?;
        let mut found = Vec::new();
        for key in map.keys() {
            let key = key.map_err(failed)?;
            match map.get(&key, 0) {
                Ok(Raw(tracked)) => found.push((key.0, tracked)),
                Err(MapError::KeyNotFound) => {}
                Err(source) => return Err(failed(source)),
            }
        }
        Ok(found)
    }

    /// Forgets a connection, or puts it there; its answers are judged accordingly.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_connection(&mut self, key: ConnectionKey, value: Option<Tracked>) -> Result<(), KernelError> {
        self.entry("CONNECTIONS", Raw(key), value.map(Raw))
    }

    /// The epoch that packets are judged in.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn epoch(&self) -> Result<u32, KernelError> {
        let name = "EPOCH";
        let map = self.bpf.map(name).ok_or(KernelError::Missing { name })?;
        let failed = |source| KernelError::Map { map: name, verb: "read", source };
        Array::<_, u32>::try_from(map).map_err(failed)?.get(&0, 0).map_err(failed)
    }

    /// The next epoch. 0 is none, so what has no verdict yet is of no epoch.
    fn advance(&mut self) -> Result<(), KernelError> {
        let name = "EPOCH";
        let next = self.epoch()?.checked_add(1).unwrap_or(1);
        let map = Array::<_, u32>::try_from(self.map(name)?);
        let mut map = map.map_err(|source| KernelError::Map { map: name, verb: "opened", source })?;
        map.set(0, next, 0).map_err(|source| KernelError::Map { map: name, verb: "written", source })
    }

    fn map(&mut self, name: &'static str) -> Result<&mut Map, KernelError> {
        self.bpf.map_mut(name).ok_or(KernelError::Missing { name })
    }

    fn entry<K: Pod, V: Pod>(&mut self, name: &'static str, key: K, value: Option<V>) -> Result<(), KernelError> {
        let map = HashMap::<_, K, V>::try_from(self.map(name)?);
        let mut map = map.map_err(|source| KernelError::Map { map: name, verb: "opened", source })?;
        done(
            name,
            match value {
                Some(value) => map.insert(key, value, 0),
                None => map.remove(&key),
            },
        )
    }

    fn prefix<K: Pod>(&mut self, name: &'static str, key: &Key<K>, value: Option<u32>) -> Result<(), KernelError> {
        let map = LpmTrie::<_, K, u32>::try_from(self.map(name)?);
        let mut map = map.map_err(|source| KernelError::Map { map: name, verb: "opened", source })?;
        done(
            name,
            match value {
                Some(value) => map.insert(key, value, 0),
                None => map.remove(key),
            },
        )
    }
}

/// What is not there need not be taken away.
fn done(map: &'static str, result: Result<(), MapError>) -> Result<(), KernelError> {
    match result {
        Err(MapError::KeyNotFound) | Ok(()) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(KernelError::Map { map, verb: "written", source }),
    }
}
