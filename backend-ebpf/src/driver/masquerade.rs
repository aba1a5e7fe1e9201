//! Masquerading by programs at the underlay. Never a pin: the interface holds the programs, and they the connections.
//!
//! A new load takes over the connections of the one before it, once before its programs are attached and once after that, for
//! those that were opened in between. Until then it drops what it does not know: its sender sends it again, where the node's
//! stack would refuse it.

use super::device::Devices;
use super::meter::now_seconds;
use super::{EbpfDriver, inside, kernel_error, no_device, not_for};
use crate::kernel::masquerade::{self, Attached, Loaded, Masquerade, Room};
use crate::kernel::{HANDED_OVER_SECONDS, KernelError, MasqueradeMaps, Prior, Which};
use crate::object::{Key, Masquerading, Object};
use backend_ebpf_abi::{MASQUERADE_VERSION, Masquerading as Settings, mapped};
use cni_core::backend::{Op, Result};
use net_linux::marks;
use std::hash::{BuildHasher as _, RandomState};
use std::iter;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Prefixes of pods, and of what is kept, that there is room for.
const PREFIXES: u32 = 4096;

/// What is in the kernel.
#[derive(Default)]
struct Present {
    attached: Vec<Attached>,
    /// Theirs, each once: where an agent was killed between two programs, the one has others than the other.
    maps: Vec<MasqueradeMaps>,
}

impl Present {
    fn at(&self, program: Masquerade, interface: u32) -> Option<&Attached> {
        self.attached.iter().find(|found| found.program == program && found.interface == interface)
    }

    /// Whether there are this build's programs with the same maps, at this interface and nowhere else.
    fn is_whole(&self, interface: u32) -> std::result::Result<bool, KernelError> {
        let [maps] = &self.maps[..] else { return Ok(false) };
        let tags = masquerade::tags()?;
        let is_current = |found: &Attached| {
            maps.are_used_by(&found.known.map_ids) && found.known.tag == tags[found.program as usize]
        };
        let both = Masquerade::ALL.iter().all(|program| self.at(*program, interface).is_some());
        Ok(both && self.attached.len() == Masquerade::ALL.len() && self.attached.iter().all(is_current))
    }
}

impl EbpfDriver {
    fn masquerading(&mut self, devices: &Devices) -> Result<Present> {
        let of_node = |name: &str| !marks::is_host_interface(name);
        let interfaces: Vec<u32> =
            devices.all().iter().filter(|link| of_node(&link.name)).map(|link| link.index).collect();
        let hooks = &mut self.hooks;
        let scan = || {
            let mut attached = Vec::new();
            for index in interfaces {
                attached.extend(masquerade::find(hooks, index)?);
            }
            let mut maps: Vec<MasqueradeMaps> = Vec::new();
            for found in &attached {
                let others = MasqueradeMaps::of(found.known.map_ids.iter().copied())?;
                maps.extend(others.filter(|others| !maps.iter().any(|known| known.are_same(others))));
            }
            Ok(Present { attached, maps })
        };
        inside(&self.host, scan).map_err(|error| kernel_error("read", &Key::Masquerade, error))
    }

    pub(super) fn read_masquerading(&mut self, devices: &Devices, found: &mut Vec<(Key, Object)>) -> Result<()> {
        let present = self.masquerading(devices)?;
        let at = |found: &Attached| (found.interface, found.program.side(), found.known.id);
        self.watched.masquerading.set(present.attached.iter().map(at).collect());
        if let Some(first) = present.attached.first() {
            let read = || match present.maps.first() {
                // Who has not taken over all yet is to be asked again.
                Some(maps) if self.held.predecessors.is_empty() && present.is_whole(first.interface)? => {
                    object(devices, first.interface, maps)
                }
                _ => Ok(None),
            };
            let object = read().map_err(|error| kernel_error("read", &Key::Masquerade, error))?;
            found.push((Key::Masquerade, object.map_or(Object::Strange, |object| Object::Masquerade(object.into()))));
        }
        self.metered.set_masquerading(present.maps.into_iter().next());
        Ok(())
    }

    pub(super) fn write_masquerading(&mut self, op: &Op<Key, Object>) -> Result<()> {
        let devices = self.devices()?;
        let present = self.masquerading(&devices)?;
        let failed = |error| kernel_error("write", op.key(), error);
        let wanted = match op {
            Op::Put { object: Object::Masquerade(wanted), .. } => wanted.clone(),
            Op::Put { key, object, .. } => return Err(not_for(key, object)),
            Op::Delete { .. } => {
                present.attached.iter().try_for_each(|old| self.take_masquerading_off(old)).map_err(failed)?;
                self.held.masquerade = None;
                self.held.predecessors.clear();
                self.metered.set_masquerading(None);
                return Ok(());
            }
        };
        let interface = devices.index(&wanted.interface).ok_or_else(|| no_device(op.key(), &wanted.interface))?;
        let maps = self.put_masquerading(present, interface, &wanted).map_err(failed)?;
        self.metered.set_masquerading(Some(maps));
        Ok(())
    }

    fn put_masquerading(
        &mut self,
        mut present: Present,
        interface: u32,
        wanted: &Masquerading,
    ) -> std::result::Result<MasqueradeMaps, KernelError> {
        let room = Room { connections: wanted.room, prefixes: PREFIXES };
        let is_there = present.is_whole(interface)? && present.maps.iter().all(|maps| maps.room() == room);
        let mut maps = if is_there { present.maps.swap_remove(0) } else { self.masquerading_of(room)?.maps()? };
        let is_used = is_there || present.maps.iter().any(|used| used.are_same(&maps));
        let has = maps.settings()?;
        // Of an attempt that failed long ago: its programs give ports by now.
        let prior = if is_used && !has.is_handed_over(now_seconds()) { Prior::Here } else { Prior::There };
        // Where there are several, those that packets leave by were found first: it is them that give ports.
        let mut from = present.maps.split_off(0);
        for old in std::mem::take(&mut self.held.predecessors) {
            if !from.iter().any(|known| known.are_same(&old)) {
                from.push(old);
            }
        }
        // Where there are its own maps already nothing is handed over: connections go on in them.
        from.retain(|old| !old.are_same(&maps));
        let mut done = || {
            if let (false, Some(old)) = (is_used, from.first()) {
                // The salt goes along: who has no entry any more gets the port that it had, if that is free.
                maps.set_settings(Settings { salt: old.settings()?.salt, ..has })?;
            }
            let attach = || if is_there { Ok(()) } else { self.attach_masquerading(&present, interface) };
            hand_over(&mut maps, &from, prior, wanted, attach)
        };
        if let Err(error) = done() {
            self.held.predecessors = from;
            return Err(error);
        }
        for old in present.attached.iter().filter(|old| old.interface != interface) {
            self.take_masquerading_off(old)?;
        }
        Ok(maps)
    }

    /// The newest load if it has that room, or else one that takes its place. It stays also if nothing comes of it: what is
    /// attached by then is this load's.
    fn masquerading_of(&mut self, room: Room) -> std::result::Result<&Loaded, KernelError> {
        let held = self.held.masquerade.take().filter(|held| held.maps().is_ok_and(|maps| maps.room() == room));
        let loaded = held.map_or_else(|| Loaded::load(room), Ok)?;
        Ok(self.held.masquerade.insert(loaded))
    }

    /// Attaches what is not there of the newest load.
    fn attach_masquerading(&mut self, present: &Present, interface: u32) -> std::result::Result<(), KernelError> {
        let loaded = self.held.masquerade.as_ref().ok_or(KernelError::Missing { name: "masq_out" })?;
        let attach = || {
            Masquerade::ALL.into_iter().try_for_each(|program| {
                let (info, old) = (loaded.info(program)?, present.at(program, interface));
                if old.is_none_or(|old| old.known.id != info.id()) {
                    loaded.attach(&mut self.hooks, program, interface, old)?;
                }
                self.watched.masquerading.insert(interface, program.side(), info.id());
                Ok(())
            })
        };
        inside(&self.host, attach)
    }

    fn take_masquerading_off(&mut self, old: &Attached) -> std::result::Result<(), KernelError> {
        self.watched.masquerading.remove(old.interface, old.program.side());
        inside(&self.host, || self.hooks.detach(old))
    }
}

/// Attaches programs, whose maps take over the connections of others, if there are any; of those that differ about a
/// port, the first are right. Programs wait until all connections are there.
fn hand_over(
    maps: &mut MasqueradeMaps,
    from: &[MasqueradeMaps],
    prior: Prior,
    wanted: &Masquerading,
    attach: impl FnOnce() -> std::result::Result<(), KernelError>,
) -> std::result::Result<(), KernelError> {
    if from.is_empty() {
        fill(maps, wanted, 0)?;
        return attach();
    }
    fill(maps, wanted, now_seconds().saturating_add(HANDED_OVER_SECONDS))?;
    let priors = iter::once(prior).chain(iter::repeat(Prior::Here));
    let mut copy =
        || from.iter().zip(priors.clone()).try_for_each(|(old, prior)| maps.take_over(old, prior, now_seconds));
    copy()?;
    attach()?;
    copy()?;
    maps.set_settings(Settings { handed_over_seconds: 0, ..maps.settings()? })
}

/// What is kept comes first, so that nothing is masqueraded for a moment that should not be.
fn fill(
    maps: &mut MasqueradeMaps,
    wanted: &Masquerading,
    handed_over_seconds: u32,
) -> std::result::Result<(), KernelError> {
    maps.set_prefixes(Which::Keep, &wanted.keep)?;
    let former = maps.settings()?;
    let salt = if former.salt == 0 { RandomState::new().hash_one(0) } else { former.salt };
    let (v4, v6) = (wanted.v4.map_or([0; 16], |v4| mapped(v4.octets())), wanted.v6.map_or([0; 16], |v6| v6.octets()));
    let (first_port, ports) = wanted.ports;
    let version = MASQUERADE_VERSION;
    maps.set_settings(Settings { version, handed_over_seconds, v4, v6, salt, first_port, ports, unused: 0 })?;
    maps.set_prefixes(Which::Sources, &wanted.sources)
}

/// What is masqueraded, by what is in the kernel.
fn object(
    devices: &Devices,
    interface: u32,
    maps: &MasqueradeMaps,
) -> std::result::Result<Option<Masquerading>, KernelError> {
    let Some(interface) = devices.name(interface) else { return Ok(None) };
    let settings = maps.settings()?;
    let v6 = Ipv6Addr::from(settings.v6);
    let v4 = Ipv6Addr::from(settings.v4).to_ipv4_mapped();
    Ok(Some(Masquerading {
        interface,
        v4: v4.filter(|v4| *v4 != Ipv4Addr::UNSPECIFIED),
        v6: Some(v6).filter(|v6| *v6 != Ipv6Addr::UNSPECIFIED),
        ports: (settings.first_port, settings.ports),
        room: maps.room().connections,
        sources: maps.prefixes(Which::Sources)?,
        keep: maps.prefixes(Which::Keep)?,
    }))
}
