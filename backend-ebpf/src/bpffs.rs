//! Our part of a bpffs: one folder for each network namespace, and in it one for each part of ours. Never what is pinned there.
//!
//! ```text
//! /sys/fs/bpf/cnidarian/NETNS/policy/...
//!                             services/...
//! ```
//!
//! NETNS is the namespace's number (`SO_NETNS_COOKIE`), which is not used again until the machine starts anew, and the bpffs with
//! it: that of its file under `/proc` would be.

use crate::mounts;
use net_linux::netns::{NetNs, NetNsError};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Where a bpffs is looked for, and mounted where there is none.
pub const BPFFS: &str = "/sys/fs/bpf";
/// The folder of all of ours in a bpffs; [`net_linux::marks::BPFFS_FOLDER`] in the usual one.
const OURS: &str = "cnidarian";
/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

/// The folder of a part in one network namespace.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    bpffs: PathBuf,
    path: PathBuf,
}

impl Folder {
    /// Which it is, whether it is there or not.
    pub(crate) fn of(bpffs: &Path, netns: &NetNs, part: &str) -> Result<Self, NetNsError> {
        let path = bpffs.join(OURS).join(netns.cookie()?.to_string()).join(part);
        Ok(Self { bpffs: bpffs.to_owned(), path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether anything of ours can be there.
    pub(crate) fn exists(&self) -> bool {
        is_bpffs(&self.bpffs) && self.path.is_dir()
    }

    /// Makes it, and mounts a bpffs where there is none.
    pub(crate) fn make(&self) -> io::Result<()> {
        // Agents of several namespaces may start at once, and a mount over another one would hide its pins.
        let place = File::open(&self.bpffs)?;
        place.lock()?;
        if !is_bpffs(&self.bpffs) {
            mount(Some("bpf"), &self.bpffs, Some("bpf"), MsFlags::empty(), Some("mode=0700"))?;
        }
        folder(&self.path)
    }

    /// What is in it.
    pub(crate) fn files(&self) -> io::Result<Vec<PathBuf>> {
        files(&self.path)
    }

    /// Removes all of it, and the folders above it that are empty then.
    pub(crate) fn remove(&self) -> io::Result<()> {
        remove(&self.path)?;
        for above in self.path.ancestors().skip(1).take(2) {
            match fs::remove_dir(above) {
                Ok(()) => {}
                // Other parts, or other namespaces, have theirs in there.
                Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::NotFound) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Why nothing can be pinned at this place; `None`: it can, though a bpffs may have to be mounted.
pub(crate) fn refusal(place: &Path) -> Option<String> {
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !known.split_whitespace().any(|name| name == "bpf") {
        return Some("this kernel has no bpffs (CONFIG_BPF_SYSCALL)".to_owned());
    }
    if is_bpffs(place) && device(place) == device(&place.join("..")) {
        // Of a folder in it nobody would know who looks for our pins.
        return Some(format!("{}: a folder in a bpffs; name the bpffs itself", place.display()));
    }
    let why = match fs::read_dir(place).map(|mut entries| entries.next().is_none()) {
        Err(_) => "no folder to mount a bpffs at; mount sysfs at /sys",
        Ok(is_empty) if is_empty || is_bpffs(place) => return None,
        Ok(_) => "it is no bpffs, and a mount would hide what is in it; name an empty folder, or a bpffs",
    };
    Some(format!("{}: {why}", place.display()))
}

/// Every bpffs that is mounted, but for this one by whatever path.
pub(crate) fn others(known: &Path) -> Vec<PathBuf> {
    let place = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let mut seen: BTreeSet<(u64, u64)> = is_bpffs(known).then(|| place(known)).flatten().into_iter().collect();
    // What another file system hides is no bpffs at its path.
    let reachable = mounts::of("bpf").into_iter().filter(|path| is_bpffs(path));
    reachable.filter(|path| place(path).is_some_and(|place| seen.insert(place))).collect()
}

fn device(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.dev())
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Makes a folder that only root reads.
pub(crate) fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The last part of a path.
pub(crate) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What is in a folder; one that is not there has nothing.
pub(crate) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes a folder with its pins, or one pin; what is not there is removed already.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
