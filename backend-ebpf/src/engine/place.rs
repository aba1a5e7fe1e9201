//! Where pins are: a folder of a bpffs for each network namespace. Never what is pinned.
//!
//! ```text
//! /sys/fs/bpf/cnidarian/NETNS/policy/
//!     kept-V-SIZES/   connections and what belongs to them, over restarts: layout V of `abi`
//!     links/          programs at interfaces
//!     1, 2, ...       policy, each one whole; there are two only while one takes the other's place
//! ```
//!
//! NETNS is the namespace's number, which is not used again until the machine starts anew (and the bpffs with it).

use crate::kernel::Sizes;
use backend_ebpf_abi::VERSION;
use net_linux::marks;
use net_linux::netns::NetNs;
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{FsType, statfs};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Where a bpffs is looked for, and mounted where there is none.
pub const BPFFS: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);
const LINKS: &str = "links";
const KEPT: &str = "kept-";

/// The folder of one network namespace.
#[derive(Debug, Clone)]
pub(super) struct Place(PathBuf);

impl Place {
    pub(super) fn of(netns: &NetNs) -> Result<Self, net_linux::netns::NetNsError> {
        Ok(Self(Path::new(marks::BPFFS_FOLDER).join(netns.cookie()?.to_string()).join("policy")))
    }

    /// Whether anything of ours can be there.
    pub(super) fn exists(&self) -> bool {
        is_bpffs() && self.0.is_dir()
    }

    /// Makes the folders, and mounts a bpffs where there is none.
    pub(super) fn make(&self) -> io::Result<()> {
        // Agents of several namespaces may start at once, and a mount over another one would hide its pins.
        let place = File::open(BPFFS)?;
        place.lock()?;
        if !is_bpffs() {
            mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700"))?;
        }
        folder(&self.links())
    }

    pub(super) fn links(&self) -> PathBuf {
        self.0.join(LINKS)
    }

    /// The folder of what outlives a generation. Maps of other sizes or another layout are others.
    pub(super) fn kept(&self, sizes: &Sizes) -> io::Result<PathBuf> {
        let kept = self.0.join(format!("{KEPT}{VERSION}-{}-{}", sizes.connections, sizes.fragments));
        folder(&kept)?;
        Ok(kept)
    }

    /// Removes what no program in force goes on with any more.
    pub(super) fn remove_other_kept(&self, sizes: &Sizes) -> io::Result<()> {
        let used = self.kept(sizes)?;
        for path in files(&self.0)? {
            if name(&path).starts_with(KEPT) && path != used {
                remove(&path)?;
            }
        }
        Ok(())
    }

    pub(super) fn generation(&self, number: u32) -> PathBuf {
        self.0.join(number.to_string())
    }

    pub(super) fn make_generation(&self, number: u32) -> io::Result<PathBuf> {
        let path = self.generation(number);
        remove(&path)?;
        folder(&path)?;
        Ok(path)
    }

    /// Numbers of generations, the oldest first.
    pub(super) fn generations(&self) -> io::Result<Vec<u32>> {
        let mut numbers: Vec<u32> = files(&self.0)?.iter().filter_map(|path| name(path).parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes all of it, and the folders above it that are empty then.
    pub(super) fn remove_all(&self) -> io::Result<()> {
        remove(&self.0)?;
        for above in self.0.ancestors().skip(1).take(2) {
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

fn is_bpffs() -> bool {
    statfs(BPFFS).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

fn folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// What is in a folder; one that is not there has nothing.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Removes a folder and its pins; what is not there is removed already.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
