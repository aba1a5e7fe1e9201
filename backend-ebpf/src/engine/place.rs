//! Where pins of policy are. Never what is pinned.
//!
//! ```text
//! .../NETNS/policy/
//!     kept-V-SIZES/   connections and what belongs to them, over restarts: layout V of `abi`
//!     flows/          what programs tell through, of one process: its numbers mean nothing to the next
//!     1, 2, ...       policy, each one whole; there are two only while one takes the other's place
//! ```

use crate::bpffs::{self, BPFFS, Folder};
use crate::kernel::Sizes;
use backend_ebpf_abi::VERSION;
use net_linux::netns::{NetNs, NetNsError};
use std::io;
use std::path::{Path, PathBuf};

const KEPT: &str = "kept-";
const FLOWS: &str = "flows";

/// The folder of one network namespace.
#[derive(Debug, Clone)]
pub(super) struct Place(Folder);

impl Place {
    pub(super) fn of(netns: &NetNs) -> Result<Self, NetNsError> {
        Folder::of(Path::new(BPFFS), netns, "policy").map(Self)
    }

    /// Whether anything of ours can be there.
    pub(super) fn exists(&self) -> bool {
        self.0.exists()
    }

    /// Makes the folder, and mounts a bpffs where there is none.
    pub(super) fn make(&self) -> io::Result<()> {
        self.0.make()
    }

    /// The folder of what outlives a generation. Maps of other sizes or another layout are others.
    pub(super) fn kept(&self, sizes: &Sizes) -> io::Result<PathBuf> {
        let kept = self.kept_path(sizes);
        bpffs::folder(&kept)?;
        Ok(kept)
    }

    fn kept_path(&self, sizes: &Sizes) -> PathBuf {
        self.0.path().join(format!("{KEPT}{VERSION}-{}-{}", sizes.connections, sizes.fragments))
    }

    /// The folder of what programs of this process tell through.
    pub(super) fn flows(&self) -> io::Result<PathBuf> {
        let flows = self.0.path().join(FLOWS);
        bpffs::folder(&flows)?;
        Ok(flows)
    }

    /// Folders that a generation would be the first to use.
    pub(super) fn unused(&self, number: u32, sizes: &Sizes) -> Vec<PathBuf> {
        let all = [self.kept_path(sizes), self.0.path().join(FLOWS), self.generation(number)];
        all.into_iter().filter(|path| !path.exists()).collect()
    }

    /// Removes a predecessor's. Its programs tell on, to nobody, until ours take their place.
    pub(super) fn remove_flows(&self) -> io::Result<()> {
        bpffs::remove(&self.0.path().join(FLOWS))
    }

    /// Removes what no program in force goes on with any more.
    pub(super) fn remove_other_kept(&self, sizes: &Sizes) -> io::Result<()> {
        let used = self.kept(sizes)?;
        for path in self.0.files()? {
            if bpffs::name(&path).starts_with(KEPT) && path != used {
                bpffs::remove(&path)?;
            }
        }
        Ok(())
    }

    pub(super) fn generation(&self, number: u32) -> PathBuf {
        self.0.path().join(number.to_string())
    }

    pub(super) fn make_generation(&self, number: u32) -> io::Result<PathBuf> {
        let path = self.generation(number);
        bpffs::remove(&path)?;
        bpffs::folder(&path)?;
        Ok(path)
    }

    /// Numbers of generations, the oldest first.
    pub(super) fn generations(&self) -> io::Result<Vec<u32>> {
        let mut numbers: Vec<u32> = self.0.files()?.iter().filter_map(|path| bpffs::name(path).parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Removes all of it, and the folders above it that are empty then.
    pub(super) fn remove_all(&self) -> io::Result<()> {
        self.0.remove()
    }
}
