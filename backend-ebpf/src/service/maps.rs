//! Entries of the maps, written and read. Never an order of its own: the engine has one.

use super::compile::{Key, Object};
use super::object::Programs;
use crate::kernel::batch::{self, Behind};
use crate::kernel::raw::Raw;
use crate::kernel::{KernelError, address_of, bytes};
use aya::Pod;
use aya::maps::lpm_trie::Key as Prefix;
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError};
use aya::sys::SyscallError;
use backend_ebpf_abi::{Frontend, FrontendKey, MaglevTable, MemberKey, RANGE_BITS, RangeKey, SlotKey};
use ipnet::IpNet;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

/// Whose turn it is first: were it always the first one's, each change and each node would begin with it.
fn anybody() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

const RANGES: &str = "RANGES";

/// The map that an entry is in; `None` for what is no entry.
const fn map_of(key: &Key) -> Option<&'static str> {
    match key {
        Key::Slot(_) => Some("SLOTS"),
        Key::Member(_) => Some("MEMBERS"),
        Key::Table(_) => Some("TABLES"),
        Key::Range(..) => Some(RANGES),
        Key::Frontend(_) => Some("FRONTENDS"),
        Key::OldMaps(_) | Key::Elsewhere(_) | Key::Pins | Key::Hook(..) => None,
    }
}

/// An entry: there with this object, or not there.
pub(super) type Entry<'a> = (&'a Key, Option<&'a Object>);

/// Entries that one call of the kernel can write: of one map, and all are to be there, or none.
pub(super) fn is_of_one_call((a, first): &Entry<'_>, (b, second): &Entry<'_>) -> bool {
    map_of(a).is_some() && map_of(a) == map_of(b) && first.is_some() == second.is_some()
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
    // By the frontend's family: IPv6 has prefixes whose addresses look mapped.
    let clients = match (address_of(frontend.address), address_of(client)) {
        (IpAddr::V4(_), IpAddr::V4(v4)) => IpNet::new(v4.into(), u8::try_from(bits.checked_sub(96)?).ok()?),
        (IpAddr::V4(_), IpAddr::V6(_)) => return None,
        (IpAddr::V6(_), _) => IpNet::new(Ipv6Addr::from(client).into(), u8::try_from(bits).ok()?),
    };
    Some((frontend, clients.ok()?))
}

impl Programs {
    /// Writes entries of one map that are all to be there, or all taken away; one that is not there is taken away already.
    /// Answers for each, in order. `E2BIG`, of tries `ENOSPC`: the map is full.
    pub(super) fn write(&self, entries: &[Entry<'_>]) -> Vec<Result<(), KernelError>> {
        let Some((first, _)) = entries.first() else { return Vec::new() };
        let missing = |_: &Entry<'_>| Err(KernelError::Missing { name: "map for such an entry" });
        let told = match first {
            Key::Slot(_) => self.write_as(entries, |key, object| match (key, object) {
                (Key::Slot(key), Some(Object::Slot(target))) => Some((Raw(*key), Some(Raw(*target)))),
                (Key::Slot(key), None) => Some((Raw(*key), None)),
                _ => None,
            }),
            Key::Member(_) => self.write_as(entries, |key, object| match key {
                Key::Member(key) => Some((Raw(*key), object.map(|_| 1_u32))),
                _ => None,
            }),
            Key::Table(_) => self.write_as(entries, |key, object| match (key, object) {
                (Key::Table(key), Some(Object::Table(table))) => Some((Raw(*key), Some(Raw(**table)))),
                (Key::Table(key), None) => Some((Raw(*key), None)),
                _ => None,
            }),
            Key::Range(..) => self.write_as(entries, |key, object| match key {
                Key::Range(frontend, clients) => Some((range(frontend, *clients), object.map(|_| 1_u32))),
                _ => None,
            }),
            Key::Frontend(_) => self.write_as(entries, |key, object| match (key, object) {
                (Key::Frontend(key), Some(Object::Frontend { count, affinity_seconds, choice, limited })) => {
                    let (count, affinity_seconds, choice, limited) = (*count, *affinity_seconds, *choice, *limited);
                    let frontend = Frontend { count, affinity_seconds, choice, turn: anybody(), limited };
                    Some((Raw(*key), Some(Raw(frontend))))
                }
                (Key::Frontend(key), None) => Some((Raw(*key), None)),
                _ => None,
            }),
            Key::OldMaps(_) | Key::Elsewhere(_) | Key::Pins | Key::Hook(..) => None,
        };
        told.unwrap_or_else(|| entries.iter().map(missing).collect())
    }

    /// `None`: there is no such map, or one of them is none of its entries.
    fn write_as<K: Pod, V: Pod>(
        &self,
        entries: &[Entry<'_>],
        of: impl Fn(&Key, Option<&Object>) -> Option<(K, Option<V>)>,
    ) -> Option<Vec<Result<(), KernelError>>> {
        let name = map_of(entries.first()?.0)?;
        let map: &MapData = match self.bpf.map(name)? {
            Map::HashMap(map) | Map::LpmTrie(map) => map,
            _ => return None,
        };
        let told = batch::write(map, entries.iter().map_while(|(key, object)| of(key, *object)), Behind::IsTried);
        let failed = |io_error| {
            let source = MapError::SyscallError(SyscallError { call: "bpf", io_error });
            KernelError::Map { map: name, verb: "written", source }
        };
        (told.len() == entries.len()).then(|| told.into_iter().map(|done| done.map_err(failed)).collect())
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

    fn ranges(&self) -> Result<LpmTrie<&MapData, Raw<RangeKey>, u32>, KernelError> {
        let map = self.bpf.map(RANGES).ok_or(KernelError::Missing { name: RANGES })?;
        LpmTrie::try_from(map).map_err(|source| KernelError::Map { map: RANGES, verb: "read", source })
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
