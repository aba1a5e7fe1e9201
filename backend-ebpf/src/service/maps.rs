//! Entries of the maps, written and read. Never an order of its own: the engine has one.

use super::compile::{Key, Object};
use super::object::Programs;
use crate::kernel::raw::Raw;
use crate::kernel::{KernelError, address_of, bytes};
use aya::Pod;
use aya::maps::lpm_trie::Key as Prefix;
use aya::maps::{HashMap, LpmTrie, MapData, MapError};
use backend_ebpf_abi::{Frontend, FrontendKey, MaglevTable, MemberKey, RANGE_BITS, RangeKey, SlotKey, Target};
use ipnet::IpNet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;

/// Whose turn it is first: were it always the first one's, each change and each node would begin with it.
fn anybody() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

const RANGES: &str = "RANGES";

fn written(map: &'static str, source: MapError) -> KernelError {
    KernelError::Map { map, verb: "written", source }
}

/// Nothing where the entry was gone already.
fn gone_or(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Clients of a frontend as the trie has them.
fn range(frontend: &FrontendKey, clients: IpNet) -> Prefix<Raw<RangeKey>> {
    let mapped = if clients.addr().is_ipv4() { 96 } else { 0 };
    let bits = RANGE_BITS + mapped + u32::from(clients.prefix_len());
    Prefix::new(bits, Raw(RangeKey { frontend: *frontend, client: bytes(clients.addr()) }))
}

/// Read back; `None` for what nobody of us wrote.
fn range_of(prefix: &Prefix<Raw<RangeKey>>) -> Option<(FrontendKey, IpNet)> {
    let Raw(RangeKey { frontend, client }) = prefix.data();
    let bits = prefix.prefix_len().checked_sub(RANGE_BITS)?;
    let clients = match address_of(client) {
        IpAddr::V4(v4) => IpNet::new(v4.into(), u8::try_from(bits.checked_sub(96)?).ok()?),
        IpAddr::V6(v6) => IpNet::new(v6.into(), u8::try_from(bits).ok()?),
    };
    Some((frontend, clients.ok()?))
}

impl Programs {
    /// Writes one entry, or takes it away; one that is not there is taken away already. Hooks and old maps are none.
    ///
    /// # Errors
    /// The kernel refuses; `E2BIG`: the map is full.
    pub(super) fn entry(&mut self, key: &Key, object: Option<&Object>) -> Result<(), KernelError> {
        match (key, object) {
            (Key::Slot(key), Some(Object::Slot(target))) => self.put("SLOTS", *key, *target),
            (Key::Member(key), Some(Object::Member)) => self.put("MEMBERS", *key, 1_u32),
            (Key::Table(key), Some(Object::Table(table))) => self.put("TABLES", *key, **table),
            (Key::Range(frontend, clients), Some(Object::Range)) => {
                let (prefix, failed) = (range(frontend, *clients), |source| written(RANGES, source));
                self.ranges_mut()?.insert(&prefix, 1, 0).map_err(failed)
            }
            (Key::Range(frontend, clients), None) => {
                let gone = self.ranges_mut()?.remove(&range(frontend, *clients));
                gone_or(gone).map_err(|source| written(RANGES, source))
            }
            (Key::Frontend(key), Some(Object::Frontend { count, affinity_seconds, choice, limited })) => {
                let (count, affinity_seconds, choice, limited) = (*count, *affinity_seconds, *choice, *limited);
                self.put("FRONTENDS", *key, Frontend { count, affinity_seconds, choice, turn: anybody(), limited })
            }
            (Key::Slot(key), None) => self.remove::<_, Target>("SLOTS", *key),
            (Key::Member(key), None) => self.remove::<_, u32>("MEMBERS", *key),
            (Key::Table(key), None) => self.remove::<_, MaglevTable>("TABLES", *key),
            (Key::Frontend(key), None) => self.remove::<_, Frontend>("FRONTENDS", *key),
            _ => Err(KernelError::Missing { name: "map for such an entry" }),
        }
    }

    /// All entries.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn entries(&self) -> Result<Vec<(Key, Object)>, KernelError> {
        let mut found = Vec::new();
        self.each("SLOTS", |key: SlotKey, target| found.push((Key::Slot(key), Object::Slot(target))))?;
        self.each("MEMBERS", |key: MemberKey, _: u32| found.push((Key::Member(key), Object::Member)))?;
        self.each("TABLES", |key: FrontendKey, table: MaglevTable| {
            found.push((Key::Table(key), Object::Table(Arc::new(table))));
        })?;
        for entry in self.ranges()?.iter() {
            let (key, _) = entry.map_err(|source| KernelError::Map { map: RANGES, verb: "read", source })?;
            found.extend(range_of(&key).map(|(frontend, clients)| (Key::Range(frontend, clients), Object::Range)));
        }
        self.each("FRONTENDS", |key, Frontend { count, affinity_seconds, choice, limited, .. }| {
            found.push((Key::Frontend(key), Object::Frontend { count, affinity_seconds, choice, limited }));
        })?;
        Ok(found)
    }

    fn put<K, V>(&mut self, name: &'static str, key: K, value: V) -> Result<(), KernelError>
    where
        Raw<K>: Pod,
        Raw<V>: Pod,
    {
        let map = self.bpf.map_mut(name).ok_or(KernelError::Missing { name })?;
        let failed = |source| written(name, source);
        HashMap::<_, Raw<K>, Raw<V>>::try_from(map).map_err(failed)?.insert(Raw(key), Raw(value), 0).map_err(failed)
    }

    fn remove<K, V>(&mut self, name: &'static str, key: K) -> Result<(), KernelError>
    where
        Raw<K>: Pod,
        Raw<V>: Pod,
    {
        let map = self.bpf.map_mut(name).ok_or(KernelError::Missing { name })?;
        let failed = |source| written(name, source);
        gone_or(HashMap::<_, Raw<K>, Raw<V>>::try_from(map).map_err(failed)?.remove(&Raw(key))).map_err(failed)
    }

    fn ranges(&self) -> Result<LpmTrie<&MapData, Raw<RangeKey>, u32>, KernelError> {
        let map = self.bpf.map(RANGES).ok_or(KernelError::Missing { name: RANGES })?;
        LpmTrie::try_from(map).map_err(|source| KernelError::Map { map: RANGES, verb: "read", source })
    }

    fn ranges_mut(&mut self) -> Result<LpmTrie<&mut MapData, Raw<RangeKey>, u32>, KernelError> {
        let map = self.bpf.map_mut(RANGES).ok_or(KernelError::Missing { name: RANGES })?;
        LpmTrie::try_from(map).map_err(|source| written(RANGES, source))
    }

    fn each<K, V>(&self, name: &'static str, mut see: impl FnMut(K, V)) -> Result<(), KernelError>
    where
        Raw<K>: Pod,
        Raw<V>: Pod,
    {
        let map = self.bpf.map(name).ok_or(KernelError::Missing { name })?;
        let failed = |source| KernelError::Map { map: name, verb: "read", source };
        let map = HashMap::<&MapData, Raw<K>, Raw<V>>::try_from(map).map_err(failed)?;
        for entry in map.iter() {
            let (Raw(key), Raw(value)) = entry.map_err(failed)?;
            see(key, value);
        }
        Ok(())
    }
}
