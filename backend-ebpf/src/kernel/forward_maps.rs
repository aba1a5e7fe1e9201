//! The maps of forwarding. Never an order of writes: the engine has one.

use super::batch::{self, Behind};
use super::error::KernelError;
use super::raw::Raw;
use super::usage::{self, Used};
use crate::config::Family;
use crate::lengths::{self, PrefixLength};
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::sys::SyscallError;
use backend_ebpf_abi::{FORWARD_VERSION, Forwarded, Lengths, Pod, Settings, Way, WayKey, mapped};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv6Addr};

/// The maps of one load of the object.
pub struct ForwardMaps {
    ids: [u32; 5],
    /// Entries that there is room for: pods and prefixes.
    sizes: (u32, u32),
    settings: Array<MapData, Raw<Settings>>,
    lengths: Array<MapData, Raw<Lengths>>,
    ways: Map,
    pods: HashMap<MapData, [u8; 16], Raw<Pod>>,
    counters: PerCpuArray<MapData, u64>,
}

const NAMES: [&str; 5] = ["SETTINGS", "LENGTHS", "WAYS", "PODS", "FORWARDED"];

type Ways<'map> = HashMap<&'map MapData, Raw<WayKey>, Raw<Way>>;

impl ForwardMaps {
    /// Those among maps with these numbers; the first of each name. `None`: one of them is not there, or has another layout or
    /// version.
    ///
    /// # Errors
    /// The kernel does not give them.
    pub fn of(ids: impl IntoIterator<Item = u32>) -> Result<Option<Self>, KernelError> {
        let Some(maps) = Self::of_any_version(ids)? else { return Ok(None) };
        Ok((maps.settings()?.version == FORWARD_VERSION).then_some(maps))
    }

    pub(super) fn of_any_version(ids: impl IntoIterator<Item = u32>) -> Result<Option<Self>, KernelError> {
        let mut found: [Option<(u32, MapData)>; 5] = [const { None }; 5];
        for id in ids {
            let opened = MapData::from_id(id).and_then(|data| Ok((data.info()?, data)));
            // It went with its last program.
            let Ok((info, data)) = opened else { continue };
            let place = info.name_as_str().and_then(|name| NAMES.iter().position(|known| *known == name));
            if let Some(place) = place.filter(|place| found[*place].is_none()) {
                found[place] = Some((id, data));
            }
        }
        let [Some(settings), Some(lengths), Some(ways), Some(pods), Some(counters)] = found else { return Ok(None) };
        let room = |data: &MapData| data.info().map(|info| info.max_entries());
        let sizes = (room(&pods.1).map_err(opened("PODS"))?, room(&ways.1).map_err(opened("WAYS"))?);
        let ids = [settings.0, lengths.0, ways.0, pods.0, counters.0];
        let of = |data: MapData| Map::from_map_data(data);
        let maps = || -> Result<Self, MapError> {
            let ways = of(ways.1)?;
            Ways::try_from(&ways)?;
            let (settings, lengths) = (of(settings.1)?.try_into()?, of(lengths.1)?.try_into()?);
            let (pods, counters) = (of(pods.1)?.try_into()?, of(counters.1)?.try_into()?);
            Ok(Self { ids, sizes, settings, lengths, ways, pods, counters })
        };
        // Keys or values of other lengths are another build's.
        Ok(maps().ok())
    }

    /// Whether maps with these numbers are these, as far as they are there. Programs use other maps beside.
    #[must_use]
    pub fn are_used_by(&self, ids: &[u32]) -> bool {
        ids.iter().any(|id| self.ids.contains(id))
    }

    /// Entries that there is room for: pods and prefixes.
    #[must_use]
    pub fn sizes(&self) -> (u32, u32) {
        self.sizes
    }

    /// How full they are.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn used(&self) -> Result<[Used; 2], KernelError> {
        let read = |map| move |source| KernelError::Map { map, verb: "read", source };
        let pods = usage::count(self.pods.keys(), self.sizes.0).map_err(read("PODS"))?;
        let ways = usage::count(self.hashed()?.keys(), self.sizes.1).map_err(read("WAYS"))?;
        Ok([
            Used { map: "PODS", entries: Some(pods), room: self.sizes.0 },
            Used { map: "WAYS", entries: Some(ways), room: self.sizes.1 },
        ])
    }

    /// Packets since the programs were loaded, of all CPUs together.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn packets(&self, what: Forwarded) -> Result<u64, KernelError> {
        let read = |source| KernelError::Map { map: "FORWARDED", verb: "read", source };
        Ok(self.counters.get(&(what as u32), 0).map_err(read)?.iter().sum())
    }

    /// What the programs know of the node.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn settings(&self) -> Result<Settings, KernelError> {
        let map = "SETTINGS";
        self.settings.get(&0, 0).map(|raw| raw.0).map_err(|source| KernelError::Map { map, verb: "read", source })
    }

    /// Writes it.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_settings(&mut self, settings: Settings) -> Result<(), KernelError> {
        self.settings.set(0, Raw(settings), 0).map_err(written("SETTINGS"))
    }

    /// The lengths of prefixes that programs look up, longest first.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn lengths(&self) -> Result<Vec<PrefixLength>, KernelError> {
        let [v4, v6] = [Family::Ipv4, Family::Ipv6].map(|family| Ok((family, self.list(family)?)));
        Ok([v4?, v6?].iter().flat_map(|(family, list)| lengths::all(*family, list)).collect())
    }

    fn list(&self, family: Family) -> Result<Lengths, KernelError> {
        let read = |source| KernelError::Map { map: "LENGTHS", verb: "read", source };
        self.lengths.get(&index(family), 0).map(|raw| raw.0).map_err(read)
    }

    /// Has programs look up prefixes of a length, or not any more. A prefix whose length they don't look up they don't find.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_length(&mut self, length: PrefixLength, there: bool) -> Result<(), KernelError> {
        let mut list = self.list(length.family)?;
        let steps =
            if there { lengths::put(&list, length) } else { lengths::remove(&list, length).into_iter().collect() };
        steps.into_iter().try_for_each(|step| {
            list = step.taken(&list);
            // All other bytes are written as they are.
            self.lengths.set(index(length.family), Raw(list), 0).map_err(written("LENGTHS"))
        })
    }

    /// All ways, also to prefixes that programs don't look up.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn ways(&self) -> Result<Vec<(IpNet, Way)>, KernelError> {
        let read = |source| KernelError::Map { map: "WAYS", verb: "read", source };
        let ways = self.hashed()?;
        let mut found = Vec::new();
        for key in ways.keys() {
            let key = key.map_err(read)?;
            if let (Some(prefix), Some(Raw(way))) = (prefix_at(key.0), present(ways.get(&key, 0)).map_err(read)?) {
                found.push((prefix, way));
            }
        }
        Ok(found)
    }

    fn hashed(&self) -> Result<Ways<'_>, KernelError> {
        Ways::try_from(&self.ways).map_err(opened("WAYS"))
    }

    /// Writes ways, or takes them away. Answers for each, in order. `E2BIG`: there is no room.
    pub fn set_ways(&mut self, ways: &[(IpNet, Option<Way>)]) -> Vec<Result<(), KernelError>> {
        let Map::HashMap(map) = &self.ways else {
            return ways.iter().map(|_| Err(KernelError::Missing { name: "WAYS" })).collect();
        };
        let mut told = Vec::with_capacity(ways.len());
        for run in ways.chunk_by(|(_, a), (_, b)| a.is_some() == b.is_some()) {
            // What goes is named as it was read: with bits behind its length it is a stranger's, which no program finds.
            let named = |(prefix, way): &(IpNet, Option<Way>)| if way.is_some() { prefix.trunc() } else { *prefix };
            let entries = run.iter().map(|entry| (Raw(way_key(&named(entry))), entry.1.map(Raw)));
            told.extend(batch::write(map, entries, Behind::IsTried));
        }
        let failed = |io_error| written("WAYS")(MapError::SyscallError(SyscallError { call: "bpf", io_error }));
        told.into_iter().map(|done| done.map_err(failed)).collect()
    }

    /// All pods.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn pods(&self) -> Result<Vec<(IpAddr, Pod)>, KernelError> {
        let read = |source| KernelError::Map { map: "PODS", verb: "read", source };
        let mut found = Vec::new();
        for key in self.pods.keys() {
            let key = key.map_err(read)?;
            if let Some(Raw(pod)) = present(self.pods.get(&key, 0)).map_err(read)? {
                found.push((address_of(key), pod));
            }
        }
        Ok(found)
    }

    /// Writes a pod, or takes it away.
    ///
    /// # Errors
    /// The kernel refuses; `E2BIG`: there is no room.
    pub fn set_pod(&mut self, address: IpAddr, pod: Option<Pod>) -> Result<(), KernelError> {
        let key = bytes(address);
        let done = match pod {
            Some(pod) => self.pods.insert(key, Raw(pod), 0),
            None => present(self.pods.remove(&key)).map(drop),
        };
        done.map_err(written("PODS"))
    }

    /// Takes over all entries of others, so that programs can be replaced without a packet that finds nothing.
    ///
    /// # Errors
    /// The kernel refuses, or there is less room.
    pub fn take_over(&mut self, others: &Self) -> Result<(), KernelError> {
        others.lengths()?.into_iter().try_for_each(|length| self.set_length(length, true))?;
        let ways: Vec<_> = others.ways()?.into_iter().map(|(prefix, way)| (prefix, Some(way))).collect();
        self.set_ways(&ways).into_iter().collect::<Result<(), _>>()?;
        others.pods()?.into_iter().try_for_each(|(address, pod)| self.set_pod(address, Some(pod)))
    }
}

pub(super) fn opened(map: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map { map, verb: "opened", source }
}

pub(super) fn written(map: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map { map, verb: "written", source }
}

/// What is not there is no error.
pub(super) fn present<T>(result: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(None),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// An address as maps have it.
pub(crate) fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => mapped(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// An address as maps have it, read back.
pub(crate) fn address_of(bytes: [u8; 16]) -> IpAddr {
    let v6 = Ipv6Addr::from(bytes);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

/// Where the list of a family is.
const fn index(family: Family) -> u32 {
    match family {
        Family::Ipv4 => Lengths::V4,
        Family::Ipv6 => Lengths::V6,
    }
}

/// A prefix as the map of ways has it.
fn way_key(prefix: &IpNet) -> WayKey {
    let key = key_of(prefix);
    WayKey { bits: key.prefix_len(), address: key.data() }
}

fn prefix_at(key: WayKey) -> Option<IpNet> {
    prefix_of(&Key::new(key.bits, key.address))
}

/// A prefix as tries have it.
pub(super) fn key_of(prefix: &IpNet) -> Key<[u8; 16]> {
    let bits = match prefix {
        IpNet::V4(_) => Way::V4_BITS,
        IpNet::V6(_) => 0,
    };
    Key::new(bits + u32::from(prefix.prefix_len()), bytes(prefix.addr()))
}

pub(super) fn prefix_of(key: &Key<[u8; 16]>) -> Option<IpNet> {
    match (address_of(key.data()), key.prefix_len()) {
        (IpAddr::V4(v4), bits) if bits >= Way::V4_BITS => {
            Ipv4Net::new(v4, u8::try_from(bits - Way::V4_BITS).ok()?).ok().map(IpNet::V4)
        }
        (IpAddr::V4(_), _) => None,
        (IpAddr::V6(v6), bits) => Ipv6Net::new(v6, u8::try_from(bits).ok()?).ok().map(IpNet::V6),
    }
}
