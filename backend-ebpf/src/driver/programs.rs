//! Programs and entries of their maps. Never a pin: an interface holds its programs, and they their maps.
//!
//! All programs of a node use the same maps. Other programs than this build's, or a change of what they are attached to, are
//! put there by a new load: it takes over all entries first, then each hook gets its new program at once. Maps of another version
//! are not read: their programs count as strange, and the new load's entries are written anew.

use super::device::Devices;
use super::{EbpfDriver, inside, kernel_error, no_device, not_for};
use crate::kernel::forward::{self, Attached, Forward, Generation};
use crate::kernel::masquerade::Loaded;
use crate::kernel::{ForwardMaps, HookError, KernelError, Known, MasqueradeMaps, Side, address_of, bytes};
use crate::object::{Carriage, Key, Object, PodEntry, Programs};
use backend_ebpf_abi::{FORWARD_VERSION, Pod, Settings, Way};
use cni_core::backend::{Capability, Error, ErrorKind, Op, Result};
use cni_core::model::{InterfaceName, MacAddr};
use ipnet::IpNet;
use net_linux::link::{Link, LinkKind};
use net_linux::marks;
use std::collections::{BTreeSet, HashMap};
use std::os::fd::AsFd as _;
use std::sync::Arc;

/// What the driver itself holds of its programs.
#[derive(Default)]
pub(super) struct Held {
    /// The newest load.
    generation: Option<Generation>,
    /// The newest load of masquerading.
    pub(super) masquerade: Option<Loaded>,
    /// Maps that it succeeds and that not all was taken over from: an attempt failed, and by now nothing else may hold them.
    pub(super) predecessors: Vec<MasqueradeMaps>,
}

/// What is in the kernel.
#[derive(Default)]
struct Present {
    attached: Vec<Attached>,
    maps: Option<ForwardMaps>,
}

impl Present {
    fn at(&self, program: Forward, interface: Option<u32>) -> Option<&Attached> {
        self.attached.iter().find(|found| found.program == program && Some(found.interface) == interface)
    }

    fn maps(&mut self, key: &Key) -> Result<&mut ForwardMaps> {
        self.maps.as_mut().ok_or_else(|| Error::new(ErrorKind::Missing, "write", key, "the programs are not there"))
    }
}

impl EbpfDriver {
    /// Whether this kernel can have programs of ours at all.
    fn has_programs(&self) -> bool {
        self.capabilities.has(Capability::Tunnel) || self.capabilities.has(Capability::FastPath)
    }

    fn sizes(&self) -> (u32, u32) {
        let config = self.compiler.config();
        (config.max_pods, config.max_prefixes)
    }

    fn present(&mut self, devices: &Devices) -> Result<Present> {
        if !self.has_programs() {
            return Ok(Present::default());
        }
        let interfaces: Vec<(u32, bool)> =
            devices.all().iter().map(|link| (link.index, matches!(link.kind, LinkKind::Vxlan(_)))).collect();
        let hooks = &mut self.hooks;
        let scan = || {
            let mut attached = Vec::new();
            for (index, is_tunnel) in interfaces {
                let sides = [Some(Side::Ingress), is_tunnel.then_some(Side::Egress)];
                for side in sides.into_iter().flatten() {
                    attached.extend(hooks.find(index, side)?);
                }
            }
            // The node's own programs first: theirs are the maps that count.
            attached.sort_by_key(|found: &Attached| found.program == Forward::PastStack);
            let maps = ForwardMaps::of(attached.iter().flat_map(|found| found.known.map_ids.iter().copied()))?;
            Ok(Present { attached, maps })
        };
        inside(&self.host, scan).map_err(|error| kernel_error("read", &Key::Programs, error))
    }

    pub(super) fn read_programs(&mut self, devices: &Devices, found: &mut Vec<(Key, Object)>) -> Result<()> {
        let lasting = self.lasting(devices);
        let mut present = self.present(&lasting)?;
        // Who ended while they were moved left them at both hooks.
        let is_moved = |found: &&Attached| {
            let both = present.attached.iter().filter(|other| other.interface == found.interface);
            both.filter(|other| other.program == found.program).count() > 1
        };
        let left: Vec<_> = present.attached.iter().filter(is_moved).map(|at| (at.interface, at.program)).collect();
        if !left.is_empty() {
            let hooks = &mut self.hooks;
            let settle = || left.iter().try_for_each(|(index, program)| hooks.settle(*index, program.side()));
            inside(&self.host, settle).map_err(|error| kernel_error("read", &Key::Programs, error))?;
            present = self.present(&lasting)?;
        }
        let at = |found: &Attached| (found.interface, found.program.side(), found.known.id);
        self.watched.placed.set(present.attached.iter().map(at).collect());
        if present.attached.is_empty() {
            self.metered.set(None);
            return Ok(());
        }
        let failed = |error| kernel_error("read", &Key::Programs, error);
        let tags = forward::tags().map_err(failed)?;
        let is_current = |found: &Attached| {
            let uses = present.maps.as_ref().is_some_and(|maps| maps.are_used_by(&found.known.map_ids));
            uses && tags[found.program as usize] == found.known.tag
        };
        let (of_pods, of_node): (Vec<_>, Vec<_>) =
            present.attached.iter().partition(|found| found.program == Forward::PastStack);
        if !of_node.is_empty() {
            let read = present.maps.as_ref().filter(|_| of_node.iter().all(|found| is_current(found)));
            let object = read.map(|maps| node_object(devices, &present, maps)).transpose().map_err(failed)?.flatten();
            found.push((Key::Programs, object.map_or(Object::Strange, |object| Object::Programs(object.into()))));
        }
        for program in of_pods {
            let Some(name) = devices.name(program.interface) else { continue };
            found.push((Key::PodProgram(name), if is_current(program) { Object::PodProgram } else { Object::Strange }));
        }
        let Some(maps) = &present.maps else { return Ok(()) };
        let lengths = maps.lengths().map_err(failed)?;
        found.extend(lengths.into_iter().map(|length| (Key::Length(length), Object::Length)));
        for (prefix, way) in maps.ways().map_err(failed)? {
            let carriage = if way.kind == Way::TUNNEL { Carriage::Wrapped } else { Carriage::Plain };
            found.push((Key::Way(prefix), Object::Way(address_of(way.node), carriage)));
        }
        for (address, pod) in maps.pods().map_err(failed)? {
            let [a, b, c, d, e, f, g, h, i, j, k, l] = pod.addresses;
            let entry = devices.name(pod.interface).map(|interface| PodEntry {
                interface,
                pod_mac: MacAddr([a, b, c, d, e, f]),
                host_mac: MacAddr([g, h, i, j, k, l]),
            });
            found.push((Key::PodEntry(address), entry.map_or(Object::Strange, |entry| Object::PodEntry(entry.into()))));
        }
        self.metered.set(present.maps);
        Ok(())
    }

    pub(super) fn write_programs(
        &mut self,
        ops: &[(usize, &Op<Key, Object>)],
        results: &mut HashMap<usize, Result<()>>,
    ) {
        // An ADD does not ask all pods' interfaces, where what it needs is held.
        let is_whole = self.held.generation.is_none() || ops.iter().any(|(_, op)| matches!(op.key(), Key::Programs));
        let is_meant = |link: &Link| {
            ops.iter().any(|(_, op)| matches!(op.key(), Key::PodProgram(name) if name.as_str() == link.name))
        };
        let is_left_out = |link: &Link| !is_whole && marks::is_host_interface(&link.name) && !is_meant(link);
        let mut look = || {
            let devices = self.devices()?;
            let some = self.present(&devices.without(is_left_out))?;
            // The node's own interfaces may have lost theirs.
            let all = if some.maps.is_some() || is_whole { some } else { self.present(&devices)? };
            Ok((all, devices))
        };
        let read: Result<_> = look();
        let (mut present, devices) = match read {
            Ok(read) => read,
            Err(error) => {
                results.extend(ops.iter().map(|(index, _)| (*index, Err(error.clone()))));
                return;
            }
        };
        for run in ops.chunk_by(|(_, a), (_, b)| way(a).is_some() && way(b).is_some()) {
            let ways: Vec<_> = run.iter().filter_map(|(_, op)| way(op)).collect();
            if let (false, Some(maps)) = (ways.is_empty(), &mut present.maps) {
                let told = maps.set_ways(&ways).into_iter().zip(run);
                let failed = |op: &Op<Key, Object>, error| kernel_error("write", op.key(), error);
                results.extend(told.map(|(done, (index, op))| (*index, done.map_err(|error| failed(op, error)))));
                continue;
            }
            for (index, op) in run {
                results.insert(*index, self.write_one(&devices, &mut present, op));
            }
        }
        self.metered.set(present.maps);
    }

    fn write_one(&mut self, devices: &Devices, present: &mut Present, op: &Op<Key, Object>) -> Result<()> {
        let failed = |error| kernel_error("write", op.key(), error);
        match op {
            Op::Put { key: Key::Programs, object: Object::Programs(wanted), .. } => {
                let settings = settings(devices, wanted)?;
                let hooks = hooks(devices, wanted);
                let tags = forward::tags().map_err(failed)?;
                let stays = |(program, index): &(Forward, u32)| {
                    let maps = present.maps.as_ref();
                    let found = present.at(*program, Some(*index));
                    found.is_some_and(|found| {
                        maps.is_some_and(|maps| maps.are_used_by(&found.known.map_ids) && maps.sizes() == wanted.sizes)
                            && tags[found.program as usize] == found.known.tag
                    })
                };
                if hooks.iter().all(stays) {
                    present.maps(op.key())?.set_settings(settings).map_err(failed)?;
                } else {
                    self.replace(present, &hooks, settings).map_err(failed)?;
                }
                let unwanted = |found: &&Attached| {
                    found.program != Forward::PastStack && !hooks.contains(&(found.program, found.interface))
                };
                present.attached.iter().filter(unwanted).try_for_each(|old| self.take_off(old)).map_err(failed)?;
                *present = self.present(devices)?;
                Ok(())
            }
            Op::Delete { key: Key::Programs, .. } => {
                let mut of_node = present.attached.iter().filter(|found| found.program != Forward::PastStack);
                of_node.try_for_each(|old| self.take_off(old)).map_err(failed)
            }
            Op::Put { key: Key::PodProgram(interface), object: Object::PodProgram, .. } => {
                let index = devices.index(interface).ok_or_else(|| no_device(op.key(), interface))?;
                self.attach_pod(devices, present, index, op.key())
            }
            Op::Delete { key: Key::PodProgram(interface), .. } => {
                let found = present.at(Forward::PastStack, devices.index(interface));
                found.map_or(Ok(()), |old| self.take_off(old)).map_err(failed)
            }
            Op::Put { key: Key::Length(length), object: Object::Length, .. } => {
                present.maps(op.key())?.set_length(*length, true).map_err(failed)
            }
            // With maps they are written many at a time.
            Op::Put { key: Key::Way(_), object: Object::Way(..), .. } => present.maps(op.key()).map(drop),
            Op::Put { key: Key::PodEntry(address), object: Object::PodEntry(entry), .. } => {
                let index = devices.index(&entry.interface).ok_or_else(|| no_device(op.key(), &entry.interface))?;
                let mut addresses = [0; 12];
                addresses[..6].copy_from_slice(&entry.pod_mac.0);
                addresses[6..].copy_from_slice(&entry.host_mac.0);
                let pod = Pod { interface: index, addresses };
                present.maps(op.key())?.set_pod(*address, Some(pod)).map_err(failed)
            }
            // Gone with its map.
            Op::Delete { .. } if present.maps.is_none() => Ok(()),
            Op::Delete { key: Key::Length(length), .. } => {
                present.maps(op.key())?.set_length(*length, false).map_err(failed)
            }
            Op::Delete { key: Key::PodEntry(address), .. } => {
                present.maps(op.key())?.set_pod(*address, None).map_err(failed)
            }
            Op::Put { key, object, .. } => Err(not_for(key, object)),
            Op::Delete { .. } => Ok(()),
        }
    }

    /// A new load in the place of all that is there.
    fn replace(&mut self, present: &Present, hooks: &[(Forward, u32)], settings: Settings) -> Result<(), KernelError> {
        let loaded = Generation::load(self.sizes())?;
        let mut maps = loaded.maps()?;
        if let Some(old) = &present.maps {
            maps.take_over(old)?;
        }
        maps.set_settings(settings)?;
        let pods = present.attached.iter().filter(|found| found.program == Forward::PastStack);
        // One that is moved is at both hooks.
        let mut seen = BTreeSet::new();
        let all = hooks.iter().copied().chain(pods.map(|found| (found.program, found.interface)));
        let mut wanted = all.filter(|(program, interface)| seen.insert((*program as usize, *interface)));
        inside(&self.host, || {
            wanted.try_for_each(|(program, interface)| {
                let old = present.at(program, Some(interface));
                self.hooks.attach(program, interface, loaded.program(program)?.as_fd(), old)?;
                self.watched.placed.insert(interface, program.side(), loaded.info(program)?.id());
                Ok(())
            })
        })?;
        self.held.generation = Some(loaded);
        Ok(())
    }

    /// The program of a pod, from what the node's programs came from.
    fn attach_pod(&mut self, devices: &Devices, present: &mut Present, index: u32, key: &Key) -> Result<()> {
        let failed = |error| kernel_error("write", key, error);
        let tags = forward::tags().map_err(failed)?;
        present.maps(key)?;
        let is_current = |known: &Known| {
            let uses = present.maps.as_ref().is_some_and(|maps| maps.are_used_by(&known.map_ids));
            uses && known.tag == tags[Forward::PastStack as usize]
        };
        let old = present.at(Forward::PastStack, Some(index));
        if old.is_some_and(|old| is_current(&old.known)) {
            return Ok(());
        }
        let of_pods = present.attached.iter().filter(|found| found.program == Forward::PastStack);
        let there = of_pods.map(|found| &found.known).find(|known| is_current(known)).cloned();
        let held = || {
            let id = self.held.generation.as_ref()?.info(Forward::PastStack).ok()?.id();
            Known::of(id).ok().flatten().filter(is_current)
        };
        let Some(known) = there.or_else(held) else { return self.renew(devices, present, index, key) };
        let not_given = |source| KernelError::Hook {
            program: Forward::PastStack.name(),
            interface: index,
            source: HookError::Call(source),
        };
        let program = known.fd().map_err(|source| failed(not_given(source)))?;
        let attach = || self.hooks.attach(Forward::PastStack, index, program.as_fd(), old);
        inside(&self.host, attach).map_err(failed)?;
        self.watched.placed.insert(index, Forward::PastStack.side(), known.id);
        Ok(())
    }

    fn take_off(&mut self, old: &Attached) -> Result<(), KernelError> {
        self.watched.placed.remove(old.interface, old.program.side());
        inside(&self.host, || self.hooks.detach(old))
    }

    /// Nobody holds the pods' program of the maps that are there, so all programs are loaded anew.
    fn renew(&mut self, devices: &Devices, present: &mut Present, index: u32, key: &Key) -> Result<()> {
        let failed = |error| kernel_error("write", key, error);
        let Some((_, Object::Programs(wanted))) = self.compiler.programs() else {
            return Err(Error::new(ErrorKind::Missing, "write", key, "no programs are wanted"));
        };
        *present = self.present(devices)?;
        let mut hooks = hooks(devices, &wanted);
        hooks.push((Forward::PastStack, index));
        self.replace(present, &hooks, settings(devices, &wanted)?).map_err(failed)?;
        *present = self.present(devices)?;
        Ok(())
    }
}

/// The way that an op writes or takes away; `None` of another op.
fn way(op: &Op<Key, Object>) -> Option<(IpNet, Option<Way>)> {
    match op {
        Op::Put { key: Key::Way(prefix), object: Object::Way(node, carriage), .. } => {
            let kind = match carriage {
                Carriage::Wrapped => Way::TUNNEL,
                Carriage::Plain => Way::PLAIN,
            };
            Some((*prefix, Some(Way { node: bytes(*node), kind })))
        }
        Op::Delete { key: Key::Way(prefix), .. } => Some((*prefix, None)),
        _ => None,
    }
}

/// What the node's programs are, by what is in the kernel; `None` where that is nothing that we write.
fn node_object(devices: &Devices, present: &Present, maps: &ForwardMaps) -> Result<Option<Programs>, KernelError> {
    let settings = maps.settings()?;
    let fast_path = settings.flags & Settings::DIRECT != 0;
    let tunnel = devices.name(settings.tunnel);
    let Some(underlay) = devices.name(settings.underlay) else { return Ok(None) };
    let object = Programs {
        tunnel,
        underlay,
        local: address_of(settings.local),
        vni: settings.vni,
        fast_path,
        sizes: maps.sizes(),
    };
    let wanted = hooks(devices, &object);
    let of_node = present.attached.iter().filter(|found| found.program != Forward::PastStack);
    let found: Vec<(Forward, u32)> = of_node.map(|found| (found.program, found.interface)).collect();
    let same = wanted.len() == found.len() && wanted.iter().all(|hook| found.contains(hook));
    Ok(same.then_some(object))
}

/// Where the node's programs are to be attached.
fn hooks(devices: &Devices, programs: &Programs) -> Vec<(Forward, u32)> {
    let index = |name: &InterfaceName| devices.index(name);
    let tunnel = programs.tunnel.as_ref().and_then(|name| devices.our_index(name));
    let underlay = Some(&programs.underlay).filter(|_| programs.fast_path).and_then(index);
    let of_tunnel = [Forward::OutOfTunnel, Forward::IntoTunnel].map(|program| tunnel.map(|index| (program, index)));
    of_tunnel.into_iter().chain([underlay.map(|index| (Forward::FromUnderlay, index))]).flatten().collect()
}

fn settings(devices: &Devices, programs: &Arc<Programs>) -> Result<Settings> {
    let index = |name: &InterfaceName| devices.index(name).ok_or_else(|| no_device(&Key::Programs, name));
    let own = |name: &InterfaceName| devices.our_index(name).ok_or_else(|| no_device(&Key::Programs, name));
    Ok(Settings {
        version: FORWARD_VERSION,
        local: bytes(programs.local),
        vni: programs.vni,
        // A stranger's device of that name is none of ours to attach to.
        tunnel: programs.tunnel.as_ref().map(own).transpose()?.unwrap_or(0),
        underlay: index(&programs.underlay)?,
        flags: if programs.fast_path { Settings::DIRECT } else { 0 },
    })
}
