//! How full the maps of policy are: their keys are counted, because the kernel does not tell; and what programs count. Never an
//! entry's meaning.

use super::error::KernelError;
use super::flows::FLOW_MAPS;
use super::maps::{MEANINGS, SOURCES, TRAFFIC};
use super::object::{KEPT_MAPS, Object, Pins, Way};
use super::raw::Raw;
use super::read::POLICY_MAPS;
use super::sweep::{self, Sweep};
use aya::Pod;
use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray};
use backend_ebpf_abi::{Endpoint, EndpointKey, PeerClass, PeerKey, Reason, Verdict, VerdictKey};
use std::collections::BTreeMap;
use std::path::Path;

const PACKETS: &str = "PACKETS";
const HOST_PACKETS: &str = "HOST_PACKETS";
const CONNECTIONS: &str = "CONNECTIONS";
const FRAGMENTS: &str = "FRAGMENTS";
/// How many connections got an entry.
pub(super) const BEGUN: &str = "CONNECTIONS_BEGUN";

/// How full a map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// The map.
    pub map: &'static str,
    /// Its entries; of connections those that have not timed out; `None` of fragments, which nobody takes away.
    pub entries: Option<u64>,
    /// How many there is room for.
    pub room: u32,
}

/// The maps of an object, open beside it.
pub struct UsedMaps(BTreeMap<&'static str, (Map, u32)>);

impl UsedMaps {
    /// Those that are pinned: policy in a folder of its own, and what objects have in common.
    ///
    /// # Errors
    /// One of them is not there, or is another kind of map.
    pub fn pinned(policy: &Path, pins: &Pins<'_>) -> Result<Self, KernelError> {
        let of_policy = POLICY_MAPS.into_iter().map(|name| (name, policy));
        let kept = KEPT_MAPS.into_iter().map(|name| (name, pins.kept));
        let told = FLOW_MAPS.into_iter().filter(|name| *name == BEGUN).map(|name| (name, pins.flows));
        let all = of_policy.chain(kept).chain(told);
        let open = |(name, folder): (&'static str, &Path)| {
            let opened = MapData::from_pin(folder.join(name)).and_then(|data| {
                let room = data.info()?.max_entries();
                Ok((Map::from_map_data(data)?, room))
            });
            Ok((name, opened.map_err(|source| KernelError::Map { map: name, verb: "opened", source })?))
        };
        all.map(open).collect::<Result<_, _>>().map(Self)
    }

    /// How full each map is, and where a sweep is asked for, connections that are over. Keys that come and go meanwhile may be
    /// counted or not; it takes about a microsecond for each.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn used(&self, now_seconds: u32, sweep: Option<&mut Sweep<'_>>) -> Result<Vec<Used>, KernelError> {
        let (mut all, mut sweep) = (Vec::new(), sweep);
        for (name, (map, room)) in &self.0 {
            let failed = |source| KernelError::Map { map: name, verb: "read", source };
            let entries = match *name {
                "ENDPOINTS" | "HOSTS" => hashed::<Raw<EndpointKey>, Raw<Endpoint>>(map, *room),
                "PEERS" => hashed::<Raw<PeerKey>, Raw<PeerClass>>(map, *room),
                "VERDICTS" => hashed::<Raw<VerdictKey>, Raw<Verdict>>(map, *room),
                MEANINGS => hashed::<u64, [u8; 16]>(map, *room),
                "IDENTITIES_V4" => prefixes::<[u8; 4]>(map, *room),
                "IDENTITIES_V6" => prefixes::<[u8; 16]>(map, *room),
                TRAFFIC => prefixes::<[u8; 7]>(map, *room),
                SOURCES => prefixes::<[u8; 6]>(map, *room),
                CONNECTIONS => sweep::open(map, *room, now_seconds, sweep.take()),
                FRAGMENTS => {
                    all.push(Used { map: name, entries: None, room: *room });
                    continue;
                }
                _ => continue,
            };
            all.push(Used { map: name, entries: Some(entries.map_err(failed)?), room: *room });
        }
        Ok(all)
    }

    /// How many connections got an entry since the counter was made.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn begun(&self) -> Result<u64, KernelError> {
        let (map, _) = self.0.get(BEGUN).ok_or(KernelError::Missing { name: BEGUN })?;
        let failed = |source| KernelError::Map { map: BEGUN, verb: "read", source };
        let counts = PerCpuArray::<_, u64>::try_from(map).map_err(failed)?.get(&0, 0).map_err(failed)?;
        Ok(counts.iter().sum())
    }

    /// The kernel's number of the map of connections: others have other entries.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn connections_id(&self) -> Result<u32, KernelError> {
        let Some((Map::LruHashMap(data), _)) = self.0.get(CONNECTIONS) else {
            return Err(KernelError::Missing { name: CONNECTIONS });
        };
        data.info().map(|info| info.id()).map_err(|source| KernelError::Map {
            map: CONNECTIONS,
            verb: "opened",
            source,
        })
    }

    /// Packets since the counters were made, by reason, of all CPUs together.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn packets(&self, way: Way) -> Result<Vec<(Reason, u64)>, KernelError> {
        packets(self.0.get(counters(way)).map(|(map, _)| map), way)
    }
}

impl Object {
    /// Packets since the counters were made, by reason, of all CPUs together.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn packets(&self, way: Way) -> Result<Vec<(Reason, u64)>, KernelError> {
        packets(self.bpf.map(counters(way)), way)
    }
}

const fn counters(way: Way) -> &'static str {
    if way.is_of_host() { HOST_PACKETS } else { PACKETS }
}

fn packets(map: Option<&Map>, way: Way) -> Result<Vec<(Reason, u64)>, KernelError> {
    let name = counters(way);
    let map = map.ok_or(KernelError::Missing { name })?;
    let failed = |source| KernelError::Map { map: name, verb: "read", source };
    let map = PerCpuArray::<_, u64>::try_from(map).map_err(failed)?;
    let first = if matches!(way, Way::FromPod | Way::FromHost) { 0 } else { Reason::COUNT };
    let reasons = (0..Reason::COUNT).filter_map(|number| Some((number, Reason::of(number)?)));
    let counts = reasons.map(|(number, reason)| {
        let counts = map.get(&(first + number), 0).map_err(failed)?;
        Ok((reason, counts.iter().sum()))
    });
    counts.collect()
}

/// At most as many keys as there is room for: where some go while they are counted, counting may begin again.
pub(crate) fn count<T>(keys: impl Iterator<Item = Result<T, MapError>>, room: u32) -> Result<u64, MapError> {
    keys.zip(0..room).try_fold(0, |count, (key, _)| key.map(|_| count + 1))
}

fn hashed<K: Pod, V: Pod>(map: &Map, room: u32) -> Result<u64, MapError> {
    count(HashMap::<_, K, V>::try_from(map)?.keys(), room)
}

fn prefixes<K: Pod>(map: &Map, room: u32) -> Result<u64, MapError> {
    count(LpmTrie::<_, K, u32>::try_from(map)?.keys(), room)
}
