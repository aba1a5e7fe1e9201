//! One generation of policy in the kernel: an object with its maps, pinned, and the interfaces that its programs are at. Never
//! decides what is in the maps.

use super::place::Place;
use super::refused;
use crate::bpffs::{self, remove};
use crate::kernel::{Hooks, KernelError, Object, Pins, PolicyMaps, Program as _, Sizes, UsedMaps, Way};
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
    pub(super) fn attach(&mut self, hooks: &mut Hooks, name: &InterfaceName, index: u32) -> Result<()> {
        if self.attached.get(name) == Some(&index) {
            return Ok(());
        }
        // One that was made anew has none of them.
        self.attached.remove(name);
        let mut done = Ok(());
        for way in Way::PODS {
            done = done.and(self.object.attach(hooks, way, index));
        }
        done.map_err(refused)?;
        self.attached.insert(name.clone(), index);
        Ok(())
    }

    /// The same with its programs of the node itself.
    pub(super) fn guard(&mut self, hooks: &mut Hooks, name: &InterfaceName, index: u32) -> Result<()> {
        if self.guards.get(name) == Some(&index) {
            return Ok(());
        }
        self.guards.remove(name);
        for way in Way::HOST {
            self.object.attach(hooks, way, index).map_err(refused)?;
        }
        self.guards.insert(name.clone(), index);
        Ok(())
    }

    /// Whether its programs are where we put them.
    pub(super) fn is_at(&self, hooks: &mut Hooks, ways: [Way; 2], name: &InterfaceName) -> Result<bool> {
        let ids = self.object.program_ids(ways).map_err(refused)?;
        index(name).map_or(Ok(false), |index| is_at(hooks, ways, index, ids))
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

/// Of an interface that is gone they are not.
fn is_at(hooks: &mut Hooks, ways: [Way; 2], index: u32, ids: [u32; 2]) -> Result<bool> {
    for (way, id) in ways.into_iter().zip(ids) {
        if !hooks.ids(index, way.side()).map_err(refused)?.contains(&id) {
            return Ok(false);
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
        hooks: &mut Hooks,
        names: &BTreeMap<u32, InterfaceName>,
    ) -> Result<Option<Self>> {
        let folder = place.generation(number);
        let ids = |ways| Object::pinned_program_ids(&folder, ways);
        let (Ok(maps), Ok(pods), Ok(host)) = (PolicyMaps::pinned(&folder), ids(Way::PODS), ids(Way::HOST)) else {
            return Ok(None);
        };
        let mut earlier =
            Self { meant: maps.meant().map_err(refused)?, attached: BTreeSet::new(), guards: BTreeSet::new() };
        for (index, name) in names {
            if is_pods(name) && is_at(hooks, Way::PODS, *index, pods)? {
                earlier.attached.insert(name.clone());
            }
            if is_at(hooks, Way::HOST, *index, host)? {
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

/// Those of them at which programs of ours are, of two ways and of whatever build.
pub(super) fn occupied(
    hooks: &mut Hooks,
    ways: [Way; 2],
    names: &BTreeMap<u32, InterfaceName>,
) -> Result<BTreeSet<InterfaceName>> {
    let mut found = BTreeSet::new();
    for (index, name) in names.iter().filter(|(_, name)| ways == Way::HOST || is_pods(name)) {
        let [from, to] = ways;
        let mut has = |way| hooks.has_ours(way, *index).map_err(refused);
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

/// Takes both programs off an interface; of one that is gone they are off already.
pub(super) fn detach(hooks: &mut Hooks, ways: [Way; 2], name: &InterfaceName) -> Result<(), KernelError> {
    let Some(index) = index(name) else { return Ok(()) };
    let mut done = Ok(());
    for way in ways {
        done = done.and(hooks.take_off(way, index));
    }
    done
}

/// Moves programs that pods waited for to where they stay.
pub(super) fn settle(hooks: &mut Hooks, name: &InterfaceName) -> Result<()> {
    let Some(index) = index(name) else { return Ok(()) };
    let mut done = Ok(());
    for way in Way::PODS {
        done = done.and(hooks.settle(index, way.side()));
    }
    done.map_err(refused)
}
