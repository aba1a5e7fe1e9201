//! One generation of policy in the kernel: an object with its maps, pinned, and the interfaces that its programs are at. Never
//! decides what is in the maps.

use super::place::Place;
use super::refused;
use crate::bpffs::{self, remove};
use crate::kernel::{Hook, KernelError, Object, Pins, PolicyMaps, Sizes, UsedMaps, Way};
use crate::policy::Write;
use cni_core::backend::{Error, ErrorKind, Result};
use cni_core::model::InterfaceName;
use net_linux::marks;
use nix::net::if_::{if_nameindex, if_nametoindex};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A generation of ours.
pub(super) struct Running {
    pub(super) object: Object,
    /// Interfaces with its programs, and their indices.
    pub(super) attached: BTreeMap<InterfaceName, u32>,
    /// The same of the node itself.
    pub(super) guards: BTreeMap<InterfaceName, u32>,
    folder: PathBuf,
    kept: PathBuf,
    flows: PathBuf,
}

impl Running {
    /// Loads and pins it, with no entries. It is attached nowhere. Of one that the kernel refuses nothing is left.
    pub(super) fn load(place: &Place, number: u32, sizes: &Sizes) -> Result<Self> {
        let unused = place.unused(number, sizes);
        Self::load_pinned(place, number, sizes).inspect_err(|_| {
            // What was refused says more than what then stays there.
            let _ = unused.iter().try_for_each(|path| remove(path));
        })
    }

    fn load_pinned(place: &Place, number: u32, sizes: &Sizes) -> Result<Self> {
        let kept = place.kept(sizes).map_err(|error| pins("make", &error))?;
        let flows = place.flows().map_err(|error| pins("make", &error))?;
        let mut object = Object::load_pinned(sizes, &Pins { kept: &kept, flows: &flows }).map_err(refused)?;
        let folder = place.make_generation(number).map_err(|error| pins("make", &error))?;
        object.pin(&folder).map_err(refused)?;
        Ok(Self { object, attached: BTreeMap::new(), guards: BTreeMap::new(), folder, kept, flows })
    }

    /// Whether connections of one go on in the other.
    pub(super) fn keeps_with(&self, other: &Self) -> bool {
        self.kept == other.kept
    }

    /// Its maps, for who looks how full they are.
    pub(super) fn used_maps(&self) -> Result<UsedMaps> {
        UsedMaps::pinned(&self.folder, &Pins { kept: &self.kept, flows: &self.flows }).map_err(refused)
    }

    /// Puts its programs at an interface, in the place of an older generation's.
    pub(super) fn attach(&mut self, hook: Hook, name: &InterfaceName, index: u32) -> Result<()> {
        if self.attached.get(name) == Some(&index) {
            return Ok(());
        }
        for way in Way::PODS {
            self.object.attach(hook, way, name.as_str()).map_err(refused)?;
        }
        self.attached.insert(name.clone(), index);
        Ok(())
    }

    /// The same with its programs of the node itself.
    pub(super) fn guard(&mut self, hook: Hook, name: &InterfaceName, index: u32) -> Result<()> {
        if self.guards.get(name) == Some(&index) {
            return Ok(());
        }
        for way in Way::HOST {
            self.object.attach(hook, way, name.as_str()).map_err(refused)?;
        }
        self.guards.insert(name.clone(), index);
        Ok(())
    }

    /// Whether its programs are where we put them; a hook that cannot be asked says yes.
    pub(super) fn is_at(&self, hook: Hook, ways: [Way; 2], name: &InterfaceName) -> Result<bool> {
        let ids = self.object.program_ids(ways).map_err(refused)?;
        is_at(hook, ways, name, ids)
    }

    /// Pins again what somebody took away, in folders that are there. Whether there was any.
    pub(super) fn pin_missing(&mut self) -> Result<bool> {
        for path in [&self.folder, &self.kept, &self.flows] {
            bpffs::folder(path).map_err(|error| pins("make", &error))?;
        }
        self.object.pin_missing(&self.folder, &Pins { kept: &self.kept, flows: &self.flows }).map_err(refused)
    }

    /// Takes its pins away. Its programs stay where they are attached.
    pub(super) fn discard(self) -> Result<()> {
        remove(&self.folder).map_err(|error| pins("remove", &error))
    }
}

fn is_at(hook: Hook, ways: [Way; 2], name: &InterfaceName, ids: [u32; 2]) -> Result<bool> {
    for (way, id) in ways.into_iter().zip(ids) {
        match hook.programs(way, name.as_str()) {
            Ok(Some(found)) if !found.contains(&id) => return Ok(false),
            Ok(_) => {}
            // It went while we looked.
            Err(_) if index(name).is_none() => return Ok(false),
            Err(error) => return Err(refused(error)),
        }
    }
    Ok(true)
}

/// A predecessor's generation.
pub(super) struct Earlier {
    /// What its numbers stand for, its identities and its endpoints.
    pub(super) meant: Vec<Write>,
    /// The interfaces that its programs are at.
    pub(super) attached: BTreeSet<InterfaceName>,
    /// Those that its programs of the node itself are at.
    pub(super) guards: BTreeSet<InterfaceName>,
}

impl Earlier {
    /// Reads one. `None`: it is not whole, so it was never in force.
    pub(super) fn read(
        place: &Place,
        number: u32,
        hook: Hook,
        names: &BTreeMap<u32, InterfaceName>,
    ) -> Result<Option<Self>> {
        let folder = place.generation(number);
        let ids = |ways| Object::pinned_program_ids(&folder, ways);
        let (Ok(maps), Ok(pods), Ok(host)) = (PolicyMaps::pinned(&folder), ids(Way::PODS), ids(Way::HOST)) else {
            return Ok(None);
        };
        let mut earlier =
            Self { meant: maps.meant().map_err(refused)?, attached: BTreeSet::new(), guards: BTreeSet::new() };
        for name in names.values() {
            if is_pods(name) && is_at(hook, Way::PODS, name, pods)? {
                earlier.attached.insert(name.clone());
            }
            if is_at(hook, Way::HOST, name, host)? {
                earlier.guards.insert(name.clone());
            }
        }
        Ok(Some(earlier))
    }
}

/// Interfaces of the calling thread's namespace, by index.
pub(super) fn interfaces() -> Result<BTreeMap<u32, InterfaceName>> {
    let all = if_nameindex().map_err(|errno| Error::new(ErrorKind::Kernel, "list", "interfaces", errno))?;
    let named = all
        .iter()
        .filter_map(|interface| Some((interface.index(), InterfaceName::new(interface.name().to_str().ok()?).ok()?)));
    Ok(named.collect())
}

/// Whether it looks like the host's end of a pod's veth.
pub(super) fn is_pods(name: &InterfaceName) -> bool {
    marks::is_host_interface(name.as_str())
}

/// The index of an interface, if it is there.
pub(super) fn index(name: &InterfaceName) -> Option<u32> {
    if_nametoindex(name.as_str()).ok()
}

/// Those of them at which programs of ours are, of two ways and of whatever build, where this hook can be asked.
pub(super) fn occupied<'a>(
    hook: Hook,
    ways: [Way; 2],
    names: impl IntoIterator<Item = &'a InterfaceName>,
) -> Result<BTreeSet<InterfaceName>> {
    let mut found = BTreeSet::new();
    for name in names.into_iter().filter(|name| ways == Way::HOST || is_pods(name)) {
        let has = |way| match hook.has_ours(way, name.as_str()) {
            // It went while we looked.
            Err(_) if index(name).is_none() => Ok(false),
            has => has.map_err(refused),
        };
        let [from, to] = ways;
        if has(from)? || has(to)? {
            found.insert(name.clone());
        }
    }
    Ok(found)
}

/// Something about pins failed.
pub(super) fn pins(operation: &'static str, error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Kernel,
    };
    Error::new(kind, operation, "pins in the bpffs", error)
}

/// Takes both programs off an interface.
pub(super) fn detach(hook: Hook, ways: [Way; 2], name: &InterfaceName) -> Result<(), KernelError> {
    ways.into_iter().try_for_each(|way| hook.detach(way, name.as_str()))
}
