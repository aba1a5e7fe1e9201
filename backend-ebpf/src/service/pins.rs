//! Pins of services: links and maps that stay when we end. Never a file of another network namespace's agent.
//!
//! ```text
//! .../NETNS/services/maps-<generation>/FRONTENDS, ...
//!                    connect4-<cgroup>, ...
//! ```

use super::config::Sizes;
use crate::bpffs::{self, Folder};
use crate::mounts;
use backend_ebpf_abi::SERVICE_VERSION;
use cni_core::backend::{Error, ErrorKind, Result};
use net_linux::netns::NetNs;
use nix::sys::statfs::{FsType, statfs};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// `CGROUP2_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const CGROUP2: FsType = FsType(0x6367_7270);

const MAPS: &str = "maps-";
/// Links that are to take an older one's place. No name has a dot: the file system allows none.
const NEW: &str = "new-";

/// The folder of one agent.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    folder: Folder,
    generation: Generation,
}

/// Maps of one layout and of one size: those of another one are not gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(u64);

impl Generation {
    /// A hash (FNV-1a, 64 bits) of what makes the difference.
    fn of(sizes: &Sizes) -> Self {
        let sizes = sizes.named().map(|(.., entries)| entries);
        let bytes = std::iter::once(SERVICE_VERSION).chain(sizes).flat_map(u32::to_le_bytes);
        Self(
            bytes
                .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)),
        )
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

pub(super) fn failed(operation: &'static str, path: &Path, source: io::Error) -> Error {
    let kind = match source.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::NotFound => ErrorKind::Missing,
        _ => ErrorKind::Kernel,
    };
    Error::new(kind, operation, path.display(), &source).because(source)
}

impl Pins {
    /// The folder of the calling thread's network namespace, where or not there is one.
    ///
    /// # Errors
    /// The namespace has no number (before Linux 5.14).
    pub(super) fn of_this_namespace(bpffs: &Path, sizes: &Sizes) -> Result<Self> {
        let folder = NetNs::current().and_then(|netns| Folder::of(bpffs, &netns, "services"));
        let failed = |error| Error::new(ErrorKind::Kernel, "open", "network namespace", &error).because(error);
        let generation = Generation::of(sizes);
        folder.map(|folder| Self { folder, generation }).map_err(failed)
    }

    /// Those folders of the calling thread's network namespace that are in another bpffs than this one.
    ///
    /// # Errors
    /// The namespace has no number (before Linux 5.14).
    pub(super) fn elsewhere(bpffs: &Path, sizes: &Sizes) -> Result<Vec<Self>> {
        let found = bpffs::others(bpffs).into_iter().map(|other| Self::of_this_namespace(&other, sizes));
        Ok(found.collect::<Result<Vec<_>>>()?.into_iter().filter(Self::exist).collect())
    }

    /// Whether anything of ours can be there.
    pub(super) fn exist(&self) -> bool {
        self.folder.exists()
    }

    /// The same folder, made, with what a killed agent left half done cleared. Mounts the file system if it is not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn make(bpffs: &Path, sizes: &Sizes) -> Result<Self> {
        let pins = Self::of_this_namespace(bpffs, sizes)?;
        pins.make_folders()?;
        for name in pins.names()?.iter().filter(|name| name.starts_with(NEW)) {
            pins.remove(name)?;
        }
        Ok(pins)
    }

    /// The folders themselves, where they are not there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn make_folders(&self) -> Result<()> {
        self.folder.make().map_err(|error| failed("create", self.folder.path(), error))?;
        let maps = self.maps();
        bpffs::folder(&maps).map_err(|error| failed("create", &maps, error))
    }

    /// Where maps of our generation are.
    pub(super) fn maps(&self) -> PathBuf {
        self.file(&format!("{MAPS}{}", self.generation))
    }

    /// Other generations of which there are maps.
    pub(super) fn old_maps(&self) -> Result<Vec<Generation>> {
        let parse = |name: String| u64::from_str_radix(name.strip_prefix(MAPS)?, 16).ok().map(Generation);
        Ok(self.names()?.into_iter().filter_map(parse).filter(|found| *found != self.generation).collect())
    }

    pub(super) fn remove_old_maps(&self, generation: Generation) -> Result<()> {
        self.remove(&format!("{MAPS}{generation}"))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where a link is pinned before it takes the place of another.
    pub(super) fn new_file(&self, name: &str) -> PathBuf {
        self.file(&format!("{NEW}{name}"))
    }

    /// Names in the folder; none if it is not there.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let files = self.folder.files().map_err(|error| failed("read", self.folder.path(), error))?;
        Ok(files.iter().map(|path| bpffs::name(path).to_owned()).collect())
    }

    /// Takes a pin or a folder of them away, and with a link's only one the program off its hook.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let path = self.file(name);
        bpffs::remove(&path).map_err(|error| failed("delete", &path, error))
    }

    /// Takes all away: links first, so that no program looks into maps that are gone.
    pub(super) fn clear(&self) -> Result<()> {
        if !self.exist() {
            return Ok(());
        }
        let links = self.names()?.into_iter().filter(|name| !name.starts_with(MAPS));
        links.collect::<Vec<_>>().iter().try_for_each(|name| self.remove(name))?;
        self.folder.remove().map_err(|error| failed("delete", self.folder.path(), error))
    }
}

/// The directory of cgroup v2 that is chosen, or the root.
///
/// # Errors
/// [`ErrorKind::Unsupported`]: cgroup v2 is not mounted, or the directory is none of it.
pub(super) fn cgroup(chosen: Option<&Path>) -> Result<PathBuf> {
    let unsupported = |detail: String| Error::new(ErrorKind::Unsupported, "open", "cgroup", detail);
    let folder = match chosen {
        Some(chosen) => chosen.to_owned(),
        None => mounts::of("cgroup2")
            .into_iter()
            .next()
            .ok_or_else(|| unsupported("cgroup v2 is not mounted; mount it, or set cgroup".to_owned()))?,
    };
    if statfs(&folder).is_ok_and(|found| found.filesystem_type() == CGROUP2) {
        Ok(folder)
    } else {
        Err(unsupported(format!("{} is no directory of cgroup v2", folder.display())))
    }
}
