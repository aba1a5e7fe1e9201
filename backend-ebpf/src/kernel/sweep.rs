//! Connections that are over, taken out of their map while it is counted. Never one that goes on for longer than to put it back.

use super::call::Entries;
use super::raw::Raw;
use aya::maps::{HashMap, Map, MapError};
use aya::sys::SyscallError;
use backend_ebpf_abi::{ConnectionKey, OF_NODE, Tracked};
use std::io;

/// A connection that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Over {
    /// Whose.
    pub key: ConnectionKey,
    /// All that was known of it.
    pub tracked: Tracked,
    /// Its endpoint's interface is gone.
    pub endpoint_gone: bool,
}

/// What is asked of connections beside their number.
pub struct Sweep<'a> {
    /// Whether the interface with this index is gone: then its connections are over.
    pub is_gone: &'a mut (dyn FnMut(u32) -> bool + Send),
    /// The most that are taken.
    pub most: usize,
    /// How many are there afterwards, open or not.
    pub present: u64,
    /// Those that were taken.
    pub over: Vec<Over>,
}

impl<'a> Sweep<'a> {
    /// Takes at most so many.
    pub fn new(most: usize, is_gone: &'a mut (dyn FnMut(u32) -> bool + Send)) -> Self {
        Self { is_gone, most, present: 0, over: Vec::new() }
    }
}

const fn is_alive(key: &ConnectionKey, tracked: &Tracked, now_seconds: u32) -> bool {
    tracked.connection.is_alive(key.protocol as u8, now_seconds)
}

/// How many connections have not timed out. Others stay until they are swept, or a new one needs their room.
pub(super) fn open(map: &Map, room: u32, now_seconds: u32, sweep: Option<&mut Sweep<'_>>) -> Result<u64, MapError> {
    let entries = HashMap::<_, Raw<ConnectionKey>, Raw<Tracked>>::try_from(map)?;
    let (mut alive, mut present, mut doomed) = (0, 0, Vec::new());
    let mut sweep = sweep;
    for (key, _) in entries.keys().zip(0..room) {
        let key = key?;
        let tracked = match entries.get(&key, 0) {
            Ok(Raw(tracked)) => tracked,
            Err(MapError::KeyNotFound) => continue,
            Err(error) => return Err(error),
        };
        present += 1;
        let is_open = is_alive(&key.0, &tracked, now_seconds);
        if let Some(sweep) = sweep.as_deref_mut().filter(|sweep| doomed.len() < sweep.most) {
            let interface = key.0.interface;
            let gone = interface & OF_NODE == 0 && (sweep.is_gone)(interface);
            if gone || !is_open {
                doomed.push((key, gone));
            }
            alive += u64::from(is_open && !gone);
        } else {
            alive += u64::from(is_open);
        }
    }
    if let (Some(sweep), Map::LruHashMap(data)) = (sweep, map) {
        sweep.present = present;
        let entries = Entries::of(data)?;
        for (key, endpoint_gone) in doomed {
            let taken = take_over(&entries, &key, endpoint_gone, now_seconds)?;
            sweep.present = sweep.present.saturating_sub(u64::from(taken.is_some()));
            sweep.over.extend(taken);
        }
    }
    Ok(alive)
}

/// Takes one that was over when it was looked at. One that has begun anew since is put back at once: a packet in between is judged as
/// one without a connection.
fn take_over(
    map: &Entries<'_, Raw<ConnectionKey>, Raw<Tracked>>,
    key: &Raw<ConnectionKey>,
    endpoint_gone: bool,
    now_seconds: u32,
) -> Result<Option<Over>, MapError> {
    let failed = |call| move |io_error| MapError::SyscallError(SyscallError { call, io_error });
    let tracked = match map.take(key) {
        Ok(Raw(tracked)) => tracked,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("bpf_map_lookup_and_delete_elem")(error)),
    };
    if endpoint_gone || !is_alive(&key.0, &tracked, now_seconds) {
        return Ok(Some(Over { key: key.0, tracked, endpoint_gone }));
    }
    match map.put_where_none(key, &Raw(tracked)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed("bpf_map_update_elem")(error)),
        _ => Ok(None),
    }
}
