//! The maps of masquerading. Never an order of writes: the engine has one.

use super::error::KernelError;
use super::forward_maps::{key_of, opened, prefix_of, present, written};
use super::masquerade::{FRAGMENTS, Room};
use super::raw::Raw;
use super::usage::{self, Used};
use aya::maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray};
use backend_ebpf_abi::{Coming, Leaving, Life, MASQUERADE_VERSION, Masqueraded, Masquerading, Tuple};
use ipnet::IpNet;
use std::collections::HashSet;

/// So long new programs may wait for entries of those before them, if nobody ends that: whoever had to is gone then.
pub const HANDED_OVER_SECONDS: u32 = 10;

/// Entries that are read or written in much less than that.
const STEP: u32 = 1024;

type Prefixes = LpmTrie<MapData, [u8; 16], u32>;

/// Which prefixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// Of pods.
    Sources,
    /// Destinations that see a pod's own address.
    Keep,
}

impl Which {
    /// Both; what is kept first, so that nothing is masqueraded for a moment that should not be.
    pub const ALL: [Self; 2] = [Self::Keep, Self::Sources];

    const fn map(self) -> &'static str {
        match self {
            Self::Sources => "MASQ_SOURCES",
            Self::Keep => "MASQ_KEEP",
        }
    }
}

/// Whose a port is that one connection has there, where entries are taken from, and another here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prior {
    /// Of the one there: programs here are handed over to and give no port, so that theirs has ended.
    There,
    /// Of the one here: programs here give ports by now.
    Here,
}

/// The maps of one load of the object.
pub struct MasqueradeMaps {
    ids: [u32; 6],
    room: Room,
    settings: Array<MapData, Raw<Masquerading>>,
    sources: Prefixes,
    keep: Prefixes,
    leaving: HashMap<MapData, Raw<Tuple>, Raw<Leaving>>,
    coming: HashMap<MapData, Raw<Tuple>, Raw<Coming>>,
    counters: PerCpuArray<MapData, u64>,
}

const NAMES: [&str; 6] = ["MASQUERADING", "MASQ_SOURCES", "MASQ_KEEP", "LEAVING", "COMING", "MASQUERADED"];

impl MasqueradeMaps {
    /// Those among maps with these numbers; the first of each name. `None`: one of them is not there, or has another layout or
    /// version.
    ///
    /// # Errors
    /// The kernel does not give them.
    pub fn of(ids: impl IntoIterator<Item = u32>) -> Result<Option<Self>, KernelError> {
        let Some(maps) = Self::of_any_version(ids)? else { return Ok(None) };
        Ok((maps.settings()?.version == MASQUERADE_VERSION).then_some(maps))
    }

    pub(super) fn of_any_version(ids: impl IntoIterator<Item = u32>) -> Result<Option<Self>, KernelError> {
        let mut found: [Option<(u32, MapData)>; 6] = [const { None }; 6];
        for id in ids {
            // It went with its last program.
            let Ok((info, data)) = MapData::from_id(id).and_then(|data| Ok((data.info()?, data))) else { continue };
            let place = info.name_as_str().and_then(|name| NAMES.iter().position(|known| *known == name));
            if let Some(place) = place.filter(|place| found[*place].is_none()) {
                found[place] = Some((id, data));
            }
        }
        let [Some(settings), Some(sources), Some(keep), Some(leaving), Some(coming), Some(counters)] = found else {
            return Ok(None);
        };
        let ids = [settings.0, sources.0, keep.0, leaving.0, coming.0, counters.0];
        let entries = |data: &MapData, map| data.info().map(|info| info.max_entries()).map_err(opened(map));
        let room = Room { connections: entries(&coming.1, "COMING")?, prefixes: entries(&sources.1, "MASQ_SOURCES")? };
        let of = |data: MapData| Map::from_map_data(data);
        let maps = || -> Result<Self, MapError> {
            Ok(Self {
                ids,
                room,
                settings: of(settings.1)?.try_into()?,
                sources: of(sources.1)?.try_into()?,
                keep: of(keep.1)?.try_into()?,
                leaving: of(leaving.1)?.try_into()?,
                coming: of(coming.1)?.try_into()?,
                counters: of(counters.1)?.try_into()?,
            })
        };
        // Another layout is another build's.
        Ok(maps().ok())
    }

    /// Whether maps with these numbers are these, as far as they are there. Programs use other maps beside.
    #[must_use]
    pub fn are_used_by(&self, ids: &[u32]) -> bool {
        self.ids.iter().all(|own| ids.contains(own))
    }

    /// Whether these are the same maps in the kernel, and not only others of the same kind.
    #[must_use]
    pub fn are_same(&self, others: &Self) -> bool {
        self.ids == others.ids
    }

    /// Entries that there is room for.
    #[must_use]
    pub fn room(&self) -> Room {
        self.room
    }

    /// What the programs know of the node.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn settings(&self) -> Result<Masquerading, KernelError> {
        let map = NAMES[0];
        self.settings.get(&0, 0).map(|raw| raw.0).map_err(|source| KernelError::Map { map, verb: "read", source })
    }

    /// Writes it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_settings(&mut self, settings: Masquerading) -> Result<(), KernelError> {
        self.settings.set(0, Raw(settings), 0).map_err(written(NAMES[0]))
    }

    /// The prefixes, sorted.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn prefixes(&self, which: Which) -> Result<Vec<IpNet>, KernelError> {
        let map = match which {
            Which::Sources => &self.sources,
            Which::Keep => &self.keep,
        };
        let read = |source| KernelError::Map { map: which.map(), verb: "read", source };
        let keys: Result<Vec<_>, _> = map.keys().collect();
        let mut found: Vec<IpNet> = keys.map_err(read)?.iter().filter_map(prefix_of).collect();
        found.sort();
        Ok(found)
    }

    /// Makes the prefixes these.
    ///
    /// # Errors
    /// The kernel refuses; `ENOSPC`: there is no room.
    pub fn set_prefixes(&mut self, which: Which, wanted: &[IpNet]) -> Result<(), KernelError> {
        let found = self.prefixes(which)?;
        let map = match which {
            Which::Sources => &mut self.sources,
            Which::Keep => &mut self.keep,
        };
        for prefix in wanted.iter().filter(|prefix| !found.contains(prefix)) {
            map.insert(&key_of(prefix), 1, 0).map_err(written(which.map()))?;
        }
        for prefix in found.iter().filter(|prefix| !wanted.contains(prefix)) {
            present(map.remove(&key_of(prefix))).map_err(written(which.map()))?;
        }
        Ok(())
    }

    /// All connections as they come back.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn coming(&self) -> Result<Vec<(Tuple, Coming)>, KernelError> {
        entries(&self.coming, "COMING", self.room.connections, || Ok(()))
    }

    /// All connections as they leave.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn leaving(&self) -> Result<Vec<(Tuple, Leaving)>, KernelError> {
        entries(&self.leaving, "LEAVING", self.room.connections, || Ok(()))
    }

    /// Writes a connection as it comes back.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_coming(&mut self, tuple: Tuple, coming: Coming) -> Result<(), KernelError> {
        self.coming.insert(Raw(tuple), Raw(coming), 0).map_err(written("COMING"))
    }

    /// Takes a connection away as it comes back, as the kernel does when another one needs its room.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(&mut self, tuple: &Tuple) -> Result<(), KernelError> {
        present(self.coming.remove(&Raw(*tuple))).map(drop).map_err(written("COMING"))
    }

    /// The same as it leaves.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget_leaving(&mut self, tuple: &Tuple) -> Result<(), KernelError> {
        present(self.leaving.remove(&Raw(*tuple))).map(drop).map_err(written("LEAVING"))
    }

    /// Takes over the connections of others that are alive, so that programs can be replaced and keep them. What is here already
    /// of the same pod, and alive, stays: it may have been seen since. [`Masquerading::handed_over_seconds`] is extended while this
    /// goes on, to [`HANDED_OVER_SECONDS`] from the last time; it ends by [`Self::set_settings`].
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take_over(&mut self, others: &Self, prior: Prior, now_seconds: impl Fn() -> u32) -> Result<(), KernelError> {
        let (mut taking, room) = (Taking { maps: self, now_seconds, passed: 0, now: 0 }, others.room.connections);
        let mut ended = HashSet::new();
        for (tuple, coming) in entries(&others.coming, "COMING", room, || taking.goes_on().map(drop))? {
            let (now, protocol) = (taking.goes_on()?, tuple.protocol as u8);
            if !coming.life.is_alive(protocol, now) {
                ended.insert((Tuple { own: coming.own, own_port: coming.own_port, ..tuple }, tuple.own_port));
                continue;
            }
            let map = &mut taking.maps.coming;
            let stays = |Raw(here): Raw<Coming>| {
                (prior == Prior::Here || (here.own, here.own_port) == (coming.own, coming.own_port))
                    && here.life.is_alive(protocol, now)
            };
            if !present(map.get(&Raw(tuple), 0)).map_err(read("COMING"))?.is_some_and(stays) {
                map.insert(Raw(tuple), Raw(coming), 0).map_err(written("COMING"))?;
            }
        }
        for (tuple, leaving) in entries(&others.leaving, "LEAVING", room, || taking.goes_on().map(drop))? {
            let (now, protocol) = (taking.goes_on()?, tuple.protocol as u8);
            // Only of these the life is here; that of others is in `COMING`.
            let is_over = |of: &Leaving| of.flags & Leaving::AS_IT_IS != 0 && !of.life.is_alive(protocol, now);
            if is_over(&leaving) || leaving.flags == 0 && ended.contains(&(tuple, leaving.port)) {
                continue;
            }
            let map = &mut taking.maps.leaving;
            let stays = |Raw(here): Raw<Leaving>| {
                (prior == Prior::Here || (here.port, here.flags) == (leaving.port, leaving.flags)) && !is_over(&here)
            };
            if !present(map.get(&Raw(tuple), 0)).map_err(read("LEAVING"))?.is_some_and(stays) {
                map.insert(Raw(tuple), Raw(leaving), 0).map_err(written("LEAVING"))?;
            }
        }
        Ok(())
    }

    /// How full they are; of connections those that have not timed out. Nobody takes fragments away before their room is needed, and
    /// no time is in them: of those only the room is known.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn used(&self, now_seconds: u32) -> Result<[Used; 5], KernelError> {
        let is_alive = |life: Life, tuple: &Tuple| life.is_alive(tuple.protocol as u8, now_seconds);
        let mut coming = self.coming()?;
        coming.retain(|(tuple, coming)| is_alive(coming.life, tuple));
        let connections = coming.len() as u64;
        // As they leave: the pod's end, and the node's port.
        let of_pods: HashSet<(Tuple, u16)> = coming
            .into_iter()
            .map(|(tuple, coming)| (Tuple { own: coming.own, own_port: coming.own_port, ..tuple }, tuple.own_port))
            .collect();
        let leaves = |(tuple, leaving): &(Tuple, Leaving)| match leaving.flags & Leaving::AS_IT_IS {
            0 => of_pods.contains(&(*tuple, leaving.port)),
            _ => is_alive(leaving.life, tuple),
        };
        let leaving = self.leaving()?.iter().filter(|entry| leaves(entry)).count() as u64;
        let prefixes = self.room.prefixes;
        let sources = usage::count(self.sources.keys(), prefixes).map_err(read("MASQ_SOURCES"))?;
        let keep = usage::count(self.keep.keys(), prefixes).map_err(read("MASQ_KEEP"))?;
        Ok([
            Used { map: "COMING", entries: Some(connections), room: self.room.connections },
            Used { map: "LEAVING", entries: Some(leaving), room: self.room.connections },
            Used { map: "MASQ_FRAGMENTS", entries: None, room: FRAGMENTS },
            Used { map: "MASQ_SOURCES", entries: Some(sources), room: prefixes },
            Used { map: "MASQ_KEEP", entries: Some(keep), room: prefixes },
        ])
    }

    /// Packets since the counters were made, of all CPUs together.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn packets(&self, what: Masqueraded) -> Result<u64, KernelError> {
        Ok(self.counters.get(&(what as u32), 0).map_err(read("MASQUERADED"))?.iter().sum())
    }
}

fn read(map: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map { map, verb: "read", source }
}

/// The way through all entries of others, which may take longer than programs wait for them by themselves.
struct Taking<'a, F> {
    maps: &'a mut MasqueradeMaps,
    now_seconds: F,
    passed: u32,
    now: u32,
}

impl<F: Fn() -> u32> Taking<'_, F> {
    /// One entry more. Has the programs wait for longer now and then; answers what time it was then, in seconds.
    fn goes_on(&mut self) -> Result<u32, KernelError> {
        if self.passed.is_multiple_of(STEP) {
            self.now = (self.now_seconds)();
            let handed_over_seconds = self.now.saturating_add(HANDED_OVER_SECONDS);
            let settings = Masquerading { handed_over_seconds, ..self.maps.settings()? };
            self.maps.set_settings(settings)?;
        }
        self.passed = self.passed.wrapping_add(1);
        Ok(self.now)
    }
}

/// At most as many as there is room for: where some go meanwhile, the kernel may begin again. Before each one something else is
/// done.
fn entries<V: Copy>(
    map: &HashMap<MapData, Raw<Tuple>, Raw<V>>,
    name: &'static str,
    room: u32,
    mut before: impl FnMut() -> Result<(), KernelError>,
) -> Result<Vec<(Tuple, V)>, KernelError>
where
    Raw<V>: aya::Pod,
{
    let mut found = Vec::new();
    for (key, _) in map.keys().zip(0..room) {
        before()?;
        let key = key.map_err(read(name))?;
        if let Some(Raw(value)) = present(map.get(&key, 0)).map_err(read(name))? {
            found.push((key.0, value));
        }
    }
    Ok(found)
}
