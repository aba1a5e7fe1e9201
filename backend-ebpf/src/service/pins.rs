//! Our folder of the BPF file system: links and maps that stay when we end. Never a file of another network namespace's agent.
//!
//! ```text
//! /sys/fs/bpf/cnidarian/services-<network namespace>/maps-<layout>/FRONTENDS, ...
//!                                                   /connect4-<cgroup>, ...
//! ```

use backend_ebpf_abi::SERVICE_VERSION;
use cni_core::backend::{Error, ErrorKind, Result};
use rustix::mount::{MountFlags, mount};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// `BPF_FS_MAGIC` and `CGROUP2_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS: u64 = 0xcafe_4a11;
const CGROUP2: u64 = 0x6367_7270;

const MAPS: &str = "maps-";
/// Links that are to take an older one's place. No name has a dot: the file system allows none.
const NEW: &str = "new-";

/// The folder of one agent.
#[derive(Debug, Clone)]
pub(super) struct Pins(PathBuf);

pub(super) fn failed(operation: &'static str, path: &Path, source: io::Error) -> Error {
    let kind = match source.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::NotFound => ErrorKind::Missing,
        _ => ErrorKind::Kernel,
    };
    Error::new(kind, operation, path.display(), &source).because(source)
}

fn is_of(path: &Path, magic: u64) -> bool {
    // The field's type differs between machines.
    rustix::fs::statfs(path).is_ok_and(|found| u64::try_from(found.f_type) == Ok(magic))
}

impl Pins {
    /// The folder of the calling thread's network namespace, where or not there is one.
    ///
    /// # Errors
    /// There is no `/proc`.
    pub(super) fn of_this_namespace(bpffs: &Path) -> Result<Self> {
        let namespace = Path::new("/proc/thread-self/ns/net");
        let number = std::fs::metadata(namespace).map_err(|error| failed("open", namespace, error))?.ino();
        Ok(Self(bpffs.join(format!("cnidarian/services-{number}"))))
    }

    /// The same folder, made, with what a killed agent left half done cleared. Mounts the file system if it is not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn make(bpffs: &Path) -> Result<Self> {
        if !is_of(bpffs, BPF_FS) {
            mount("bpf", bpffs, "bpf", MountFlags::empty(), None)
                .map_err(|error| failed("mount", bpffs, error.into()))?;
        }
        let pins = Self::of_this_namespace(bpffs)?;
        let maps = pins.maps();
        std::fs::create_dir_all(&maps).map_err(|error| failed("create", &maps, error))?;
        for name in pins.names()?.iter().filter(|name| name.starts_with(NEW)) {
            pins.remove(name)?;
        }
        Ok(pins)
    }

    /// Where maps of this version's layouts are.
    pub(super) fn maps(&self) -> PathBuf {
        self.0.join(format!("{MAPS}{SERVICE_VERSION}"))
    }

    /// Versions of other layouts of which there are maps.
    pub(super) fn old_maps(&self) -> Result<Vec<u32>> {
        let versions = self.names()?.into_iter().filter_map(|name| name.strip_prefix(MAPS)?.parse().ok());
        Ok(versions.filter(|version| *version != SERVICE_VERSION).collect())
    }

    pub(super) fn remove_old_maps(&self, version: u32) -> Result<()> {
        remove_folder(&self.0.join(format!("{MAPS}{version}")))
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Where a link is pinned before it takes the place of another.
    pub(super) fn new_file(&self, name: &str) -> PathBuf {
        self.0.join(format!("{NEW}{name}"))
    }

    /// Names in the folder; none if it is not there.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let files = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files.map_err(|error| failed("read", &self.0, error))?,
        };
        files
            .map(|file| {
                let file = file.map_err(|error| failed("read", &self.0, error))?;
                Ok(file.file_name().to_string_lossy().into_owned())
            })
            .collect()
    }

    /// Takes a file away, and with a link's only one the program off its hook.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        let file = self.file(name);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|error| failed("delete", &file, error)),
        }
    }

    /// Takes all away: links first, so that no program looks into maps that are gone.
    pub(super) fn clear(&self) -> Result<()> {
        let (maps, links): (Vec<_>, Vec<_>) = self.names()?.into_iter().partition(|name| name.starts_with(MAPS));
        links.iter().try_for_each(|name| self.remove(name))?;
        maps.iter().try_for_each(|name| remove_folder(&self.0.join(name)))?;
        match std::fs::remove_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|error| failed("delete", &self.0, error)),
        }
    }
}

fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| failed("delete", folder, error)),
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
        None => root().ok_or_else(|| unsupported("cgroup v2 is not mounted; mount it, or set cgroup".to_owned()))?,
    };
    if is_of(&folder, CGROUP2) {
        Ok(folder)
    } else {
        Err(unsupported(format!("{} is no directory of cgroup v2", folder.display())))
    }
}

/// Where cgroup v2 is mounted. `proc_pid_mountinfo(5)`: the fifth field, and the type is the first after a lone `-`.
fn root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (fields, rest) = line.split_once(" - ")?;
        rest.starts_with("cgroup2 ").then(|| fields.split(' ').nth(4).map(PathBuf::from))?
    })
}
