//! What the programs tell of packets, read from their ring buffer. Never what it means: numbers of rules and interfaces stay numbers.

use super::error::KernelError;
use super::object::Object;
use super::raw::Raw;
use super::usage::BEGUN;
use aya::maps::{Array, Map, MapData, PerCpuArray, RingBuf};
use backend_ebpf_abi::{Ended, FlowEvent, FlowsWanted};
use std::os::fd::{AsFd, BorrowedFd};

const RING: &str = "FLOWS";
const WANTED: &str = "FLOWS_WANTED";
const LOST: &str = "FLOWS_LOST";

/// Maps that the programs tell through.
pub const FLOW_MAPS: [&str; 4] = [BEGUN, RING, WANTED, LOST];

/// What a program told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// A decision about a packet.
    Packet(FlowEvent),
    /// A connection whose entry another one took.
    Ended(Ended),
}

/// The reading end of the ring buffer. There is one, and the programs go on without it.
pub struct FlowReader {
    ring: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    /// So many lost ones were told.
    told: u64,
}

impl Object {
    /// Says what the programs tell of; at first nothing.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn want_flows(&mut self, wanted: FlowsWanted) -> Result<(), KernelError> {
        let failed = |source| KernelError::Map { map: WANTED, verb: "written", source };
        let map = self.bpf.map_mut(WANTED).ok_or(KernelError::Missing { name: WANTED })?;
        Array::<_, Raw<FlowsWanted>>::try_from(map).map_err(failed)?.set(0, Raw(wanted), 0).map_err(failed)
    }

    /// The reading end.
    ///
    /// # Errors
    /// [`KernelError::Missing`]: somebody has it already.
    pub fn flows(&mut self) -> Result<FlowReader, KernelError> {
        let opened = |map| move |source| KernelError::Map { map, verb: "opened", source };
        let ring = RingBuf::try_from(self.lend(RING)?).map_err(opened(RING))?;
        let lost = PerCpuArray::try_from(self.lend(LOST)?).map_err(opened(LOST))?;
        let mut reader = FlowReader { ring, lost, told: 0 };
        reader.told = reader.all_lost()?;
        Ok(reader)
    }

    /// Gives a map away, and keeps another handle of it, to pin it again.
    fn lend(&mut self, name: &'static str) -> Result<Map, KernelError> {
        let map = self.bpf.take_map(name).ok_or(KernelError::Missing { name })?;
        if let Map::RingBuf(data) | Map::PerCpuArray(data) = &map {
            let same = data.info().and_then(|info| MapData::from_id(info.id()));
            self.lent.push((name, same.map_err(|source| KernelError::Map { map: name, verb: "opened", source })?));
        }
        Ok(map)
    }
}

impl FlowReader {
    /// What is there, at most so many, and how many were lost since the last call: some of these may have come after some of
    /// what is answered. An event of another layout is left out.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn read(&mut self, most: usize) -> Result<(u64, Vec<Told>), KernelError> {
        let mut events = Vec::new();
        while events.len() < most
            && let Some(item) = self.ring.next()
        {
            let packet = FlowEvent::read(&item).map(Told::Packet);
            events.extend(packet.or_else(|| Ended::read(&item).map(Told::Ended)));
        }
        // Read last, so that what is lost is told not later than the event after it.
        let all = self.all_lost()?;
        let lost = all.saturating_sub(std::mem::replace(&mut self.told, all));
        Ok((lost, events))
    }

    fn all_lost(&self) -> Result<u64, KernelError> {
        let counts = self.lost.get(&0, 0).map_err(|source| KernelError::Map { map: LOST, verb: "read", source })?;
        Ok(counts.iter().sum())
    }
}

impl AsFd for FlowReader {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}
