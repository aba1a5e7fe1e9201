//! Entries of the maps. Never an order of its own: see [`crate::policy`].

use super::batch::{self, Behind};
use super::error::KernelError;
use super::object::Object;
use super::raw::Raw;
use crate::policy::{Trie, Write};
use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, Map, MapError};
use aya::sys::SyscallError;
use backend_ebpf_abi::{ConnectionKey, Tracked};
use ipnet::IpNet;

/// The maps of classes.
pub(super) const TRAFFIC: &str = "TRAFFIC";
pub(super) const SOURCES: &str = "SOURCES";
/// What numbers stand for. No program uses it.
pub(super) const MEANINGS: &str = "MEANINGS";

/// The map that an entry is in; `None`: it is none.
const fn map_of(write: &Write) -> Option<&'static str> {
    match write {
        Write::Endpoint(..) => Some("ENDPOINTS"),
        Write::Host(..) => Some("HOSTS"),
        Write::Identity(IpNet::V4(_), _) => Some("IDENTITIES_V4"),
        Write::Identity(IpNet::V6(_), _) => Some("IDENTITIES_V6"),
        Write::Peer(..) => Some("PEERS"),
        Write::Class(Trie::Traffic(..), _) => Some(TRAFFIC),
        Write::Class(Trie::Source(..), _) => Some(SOURCES),
        Write::Verdict(..) => Some("VERDICTS"),
        Write::Meaning(..) => Some(MEANINGS),
        Write::Advance => None,
    }
}

/// Whether one call of the kernel can write both: they are of one map, and both are to be there, or neither.
fn is_of_one_call(first: &Write, second: &Write) -> bool {
    map_of(first) == map_of(second) && (*first == first.removal()) == (*second == second.removal())
}

impl Object {
    /// Writes one entry, or takes it away; one that is not there is taken away already.
    ///
    /// # Errors
    /// The kernel refuses; `E2BIG`, of tries `ENOSPC`: the map is full.
    pub fn write(&mut self, write: &Write) -> Result<(), KernelError> {
        self.write_all(std::slice::from_ref(write)).1
    }

    /// The same with many, in their order, as far as the kernel goes. How many were written, and why not the next: nothing behind one
    /// that is refused is written.
    pub fn write_all(&mut self, writes: &[Write]) -> (usize, Result<(), KernelError>) {
        let mut written = 0;
        while let Some(first) = writes.get(written) {
            let run = writes[written..].iter().take_while(|next| is_of_one_call(first, next)).count();
            let (done, result) = match first {
                Write::Advance => match self.advance() {
                    Ok(()) => (1, Ok(())),
                    Err(error) => (0, Err(error)),
                },
                _ => self.write_run(&writes[written..written + run]),
            };
            written += done;
            if result.is_err() {
                return (written, result);
            }
        }
        (written, Ok(()))
    }

    /// Writes of one map, see [`is_of_one_call`].
    fn write_run(&self, writes: &[Write]) -> (usize, Result<(), KernelError>) {
        let Some(first) = writes.first() else { return (0, Ok(())) };
        match first {
            Write::Endpoint(..) => self.write_as(writes, |write| match write {
                Write::Endpoint(key, value) => Some((Raw(*key), value.map(Raw))),
                _ => None,
            }),
            Write::Host(..) => self.write_as(writes, |write| match write {
                Write::Host(key, value) => Some((Raw(*key), value.map(Raw))),
                _ => None,
            }),
            Write::Peer(..) => self.write_as(writes, |write| match write {
                Write::Peer(key, value) => Some((Raw(*key), value.map(Raw))),
                _ => None,
            }),
            Write::Verdict(..) => self.write_as(writes, |write| match write {
                Write::Verdict(key, value) => Some((Raw(*key), value.map(Raw))),
                _ => None,
            }),
            Write::Identity(IpNet::V4(_), _) => self.write_as(writes, |write| match write {
                Write::Identity(IpNet::V4(net), value) => {
                    Some((Key::new(net.prefix_len().into(), net.addr().octets()), *value))
                }
                _ => None,
            }),
            Write::Identity(IpNet::V6(_), _) => self.write_as(writes, |write| match write {
                Write::Identity(IpNet::V6(net), value) => {
                    Some((Key::new(net.prefix_len().into(), net.addr().octets()), *value))
                }
                _ => None,
            }),
            Write::Class(Trie::Traffic(..), _) => self.write_as(writes, |write| match write {
                Write::Class(Trie::Traffic(bits, key), class) => Some((Key::new(*bits, *key), class.map(u32::from))),
                _ => None,
            }),
            Write::Class(Trie::Source(..), _) => self.write_as(writes, |write| match write {
                Write::Class(Trie::Source(bits, key), class) => Some((Key::new(*bits, *key), class.map(u32::from))),
                _ => None,
            }),
            Write::Meaning(..) => self.write_as(writes, |write| match write {
                Write::Meaning(meant, digest) => Some((meant.key(), *digest)),
                _ => None,
            }),
            Write::Advance => (0, Ok(())),
        }
    }

    /// How many were written, and why not the next.
    fn write_as<K: Pod, V: Pod>(
        &self,
        writes: &[Write],
        of: impl Fn(&Write) -> Option<(K, Option<V>)>,
    ) -> (usize, Result<(), KernelError>) {
        let name = writes.first().and_then(map_of).unwrap_or_default();
        let Some(Map::HashMap(map) | Map::LpmTrie(map)) = self.bpf.map(name) else {
            return (0, Err(KernelError::Missing { name }));
        };
        let mut told = batch::write(map, writes.iter().map_while(of), Behind::Waits);
        let refused = told.pop_if(|last| last.is_err()).and_then(Result::err);
        let failed = |io_error| {
            let source = MapError::SyscallError(SyscallError { call: "bpf", io_error });
            Err(KernelError::Map { map: name, verb: "written", source })
        };
        (told.len(), refused.map_or(Ok(()), failed))
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
}

/// What is not there need not be taken away.
fn done(map: &'static str, result: Result<(), MapError>) -> Result<(), KernelError> {
    match result {
        Err(MapError::KeyNotFound) | Ok(()) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(KernelError::Map { map, verb: "written", source }),
    }
}
