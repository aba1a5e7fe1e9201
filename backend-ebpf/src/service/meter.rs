//! How full the maps of services are: their keys are counted, because the kernel does not tell. Never writes.

use super::config::Sizes;
use super::hooks::error_of;
use crate::kernel::raw::Raw;
use crate::kernel::{KernelError, count};
use aya::Pod;
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError};
use backend_ebpf_abi::{
    AddressKey, Affinity, AffinityKey, Frontend, FrontendKey, MaglevTable, MemberKey, RangeKey, SlotKey, Target,
};
use cni_core::backend::{Dropped, Meter, Result, TableUse, WhenFull};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;

/// Maps, open beside the programs, with the entries that each has room for.
pub(super) struct Metered(Vec<(&'static str, Map, u32)>);

impl Metered {
    /// Those that are pinned in a folder.
    ///
    /// # Errors
    /// One is not there.
    pub(super) fn open(sizes: &Sizes, folder: &Path) -> Result<Self> {
        let open = |(_, name, room): (&str, &'static str, u32)| {
            let opened = MapData::from_pin(folder.join(name)).and_then(Map::from_map_data);
            let failed = |source| error_of("open", name, KernelError::Map { map: name, verb: "opened", source });
            Ok((name, opened.map_err(failed)?, room))
        };
        sizes.named().into_iter().map(open).collect::<Result<_>>().map(Self)
    }
}

fn keys<K: Pod, V: Pod>(map: &Map, room: u32) -> std::result::Result<u64, MapError> {
    count(HashMap::<_, K, V>::try_from(map)?.keys(), room)
}

fn prefixes(map: &Map, room: u32) -> std::result::Result<u64, MapError> {
    count(LpmTrie::<_, Raw<RangeKey>, u32>::try_from(map)?.keys(), room)
}

impl Metered {
    fn map(&self, name: &'static str) -> std::result::Result<&Map, MapError> {
        let found = self.0.iter().find(|(known, ..)| *known == name);
        found.map(|(_, map, _)| map).ok_or_else(|| MapError::InvalidName { name: name.to_owned() })
    }

    /// Clients that would be led where they went last: nobody takes away what is older than its frontend wants.
    fn affine(&self, map: &Map, room: u32) -> std::result::Result<u64, MapError> {
        let frontends = HashMap::<_, Raw<FrontendKey>, Raw<Frontend>>::try_from(self.map("FRONTENDS")?)?;
        let clients = HashMap::<_, Raw<AffinityKey>, Raw<Affinity>>::try_from(map)?;
        let now = u32::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or(u32::MAX);
        let mut count = 0;
        for entry in clients.iter().take(room as usize) {
            // One that goes meanwhile is none.
            let Ok((Raw(client), Raw(last))) = entry else { continue };
            let wanted = frontends.get(&Raw(client.frontend), 0).map_or(0, |Raw(frontend)| frontend.affinity_seconds);
            count += u64::from(wanted > 0 && now.saturating_sub(last.seen_seconds) <= wanted);
        }
        Ok(count)
    }
}

impl Meter for Metered {
    /// Programs at sockets drop no packet.
    fn dropped(&self) -> Result<Vec<Dropped>> {
        Ok(Vec::new())
    }

    /// It takes about a microsecond for each entry.
    fn tables(&self) -> Result<Vec<TableUse>> {
        let used = |(table, map, room): &(&'static str, Map, u32)| {
            let entries = match *table {
                "CLIENTS" => Some(keys::<u64, u32>(map, *room)),
                "ADDRESSES" => Some(keys::<Raw<AddressKey>, [u8; 16]>(map, *room)),
                "RANGES" => Some(prefixes(map, *room)),
                "FRONTENDS" => Some(keys::<Raw<FrontendKey>, Raw<Frontend>>(map, *room)),
                "SLOTS" => Some(keys::<Raw<SlotKey>, Raw<Target>>(map, *room)),
                "TABLES" => Some(keys::<Raw<FrontendKey>, Raw<MaglevTable>>(map, *room)),
                "MEMBERS" => Some(keys::<Raw<MemberKey>, Raw<u32>>(map, *room)),
                "AFFINITY" => Some(self.affine(map, *room)),
                // Of sockets that are closed nobody tells, and no time is in their entries.
                _ => None,
            };
            let failed = |source| error_of("read", table, KernelError::Map { map: table, verb: "read", source });
            // Programs fill these, where what was quiet for longest makes room.
            let when_full = match *table {
                "AFFINITY" | "REVERSE" => WhenFull::ForgetsOldest,
                _ => WhenFull::Refuses,
            };
            Ok(TableUse { table, entries: entries.transpose().map_err(failed)?, room: (*room).into(), when_full })
        };
        self.0.iter().map(used).collect()
    }
}
