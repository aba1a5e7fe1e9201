//! Entries of the maps, written and read. Never an order of its own: the engine has one.

use super::compile::{Key, Object};
use super::object::Programs;
use crate::kernel::KernelError;
use crate::kernel::raw::Raw;
use aya::Pod;
use aya::maps::{HashMap, MapData, MapError};
use backend_ebpf_abi::{Frontend, FrontendKey, MaglevTable, MemberKey, SlotKey, Target};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;

/// Whose turn it is first: were it always the first one's, each change and each node would begin with it.
fn anybody() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
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
            (Key::Frontend(key), Some(Object::Frontend { count, affinity_seconds, choice })) => {
                let (count, affinity_seconds, choice) = (*count, *affinity_seconds, *choice);
                self.put("FRONTENDS", *key, Frontend { count, affinity_seconds, choice, turn: anybody() })
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
        self.each("FRONTENDS", |key, Frontend { count, affinity_seconds, choice, .. }| {
            found.push((Key::Frontend(key), Object::Frontend { count, affinity_seconds, choice }));
        })?;
        Ok(found)
    }

    fn put<K, V>(&mut self, name: &'static str, key: K, value: V) -> Result<(), KernelError>
    where
        Raw<K>: Pod,
        Raw<V>: Pod,
    {
        let map = self.bpf.map_mut(name).ok_or(KernelError::Missing { name })?;
        let failed = |source| KernelError::Map { map: name, verb: "written", source };
        HashMap::<_, Raw<K>, Raw<V>>::try_from(map).map_err(failed)?.insert(Raw(key), Raw(value), 0).map_err(failed)
    }

    fn remove<K, V>(&mut self, name: &'static str, key: K) -> Result<(), KernelError>
    where
        Raw<K>: Pod,
        Raw<V>: Pod,
    {
        let map = self.bpf.map_mut(name).ok_or(KernelError::Missing { name })?;
        let failed = |source| KernelError::Map { map: name, verb: "written", source };
        match HashMap::<_, Raw<K>, Raw<V>>::try_from(map).map_err(failed)?.remove(&Raw(key)) {
            Err(MapError::KeyNotFound) | Ok(()) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(failed(source)),
        }
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
