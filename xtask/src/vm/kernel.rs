//! Debian's kernels, ready to boot and cached. Never one that we built or changed.

use super::cpio;
use super::debian::{Apt, Archive, Suite, find_folder, fresh};
use super::{image, modules};
use crate::error::{Error, Result};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// A kernel by the name that people use, and where Debian has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(super) name: &'static str,
    suite: Suite,
}

/// What we hold to, besides the one that the tests run on natively.
pub(super) const KERNELS: &[Kernel] = &[
    Kernel { name: "6.1", suite: Suite { name: "bookworm-security", archive: Archive::Security } },
    Kernel { name: "6.12", suite: Suite { name: "trixie-security", archive: Archive::Security } },
    Kernel { name: "newest", suite: Suite { name: "trixie-backports", archive: Archive::Main } },
];

/// The small build for virtual machines: all of networking, few drivers. Depends on the newest of its suite.
const PACKAGE: &str = "linux-image-cloud-amd64";
/// Packages that hold a part of a kernel; later versions are split.
const PARTS: &[&str] = &["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"];

/// Counts changes of what a cache holds, so that one of an earlier version is made again.
const FORMAT: &str = "1";

/// A kernel that can be booted.
pub(super) struct Ready {
    /// As `uname -r` says it.
    pub(super) release: String,
    /// The kernel, not compressed.
    pub(super) vmlinux: PathBuf,
    /// Its modules, the first part of an initial file system.
    pub(super) modules: PathBuf,
}

impl std::str::FromStr for Kernel {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || KERNELS.iter().map(|kernel| kernel.name).collect::<Vec<_>>().join(", ");
        let found = KERNELS.iter().find(|kernel| kernel.name == name);
        found.copied().ok_or_else(|| format!("no such kernel; there are: {}", known()))
    }
}

impl Kernel {
    /// The cached kernel, fetched when there is none or `anew`. One process fetches, others wait for it.
    pub(super) fn ready(self, cache: &Path, anew: bool) -> Result<Ready> {
        fs::create_dir_all(cache).map_err(|source| Error::File { path: cache.to_path_buf(), source })?;
        let lock = cache.join(format!("{}.lock", self.name));
        let locked = File::create(&lock).and_then(|file| file.lock().map(|()| file));
        let _locked = locked.map_err(|source| Error::File { path: lock, source })?;
        let folder = cache.join(self.name);
        match Ready::read(&folder) {
            Some(ready) if !anew => Ok(ready),
            _ => {
                self.fetch(&cache.join(format!("{}.new", self.name)), &folder)?;
                Ready::read(&folder).ok_or(Error::KernelImage { path: folder, detail: "was not kept as it was made" })
            }
        }
    }

    fn fetch(self, new: &Path, folder: &Path) -> Result<()> {
        let file = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::File { path, source }
        };
        eprintln!("Fetching Debian's kernel {} (unpacked into {}, nothing is installed):", self.name, folder.display());
        fresh(new)?;
        let apt = Apt::open(self.suite, &new.join("apt"))?;
        let (release, packages) = parts(&apt)?;
        let unpacked = new.join("unpacked");
        apt.unpack(&packages, &unpacked)?;
        let missing = |detail| Error::KernelImage { path: unpacked.clone(), detail };
        let boot = find_folder(&unpacked, "boot").map(|boot| boot.join(format!("vmlinuz-{release}")));
        let boot = boot
            .filter(|path| path.exists())
            .or_else(|| Some(find_folder(&unpacked, &format!("lib/modules/{release}"))?.join("vmlinuz")));
        let boot = boot.filter(|path| path.exists()).ok_or_else(|| missing("no kernel in the packages"))?;
        image::unpack(&boot, &new.join("vmlinux"))?;
        let from = find_folder(&unpacked, &format!("lib/modules/{release}"));
        let tree =
            modules::select(&from.ok_or_else(|| missing("no modules in the packages"))?, &new.join("root"), &release)?;
        let path = new.join("modules.cpio");
        let out = File::create(&path).map_err(file(&path))?;
        let mut archive = cpio::Archive::new(BufWriter::new(out));
        let inside = Path::new("/lib/modules").join(&release);
        archive.tree(&tree, &inside).and_then(|()| archive.finish()).map_err(file(&path))?;
        for part in ["apt", "unpacked", "root"] {
            let path = new.join(part);
            fs::remove_dir_all(&path).map_err(file(&path))?;
        }
        // Last, so that what was cut short is not taken for whole.
        let path = new.join("release");
        fs::write(&path, format!("{FORMAT} {release}")).map_err(file(&path))?;
        fresh(folder)?;
        fs::rename(new, folder).map_err(file(folder))
    }
}

/// The release that a suite has, and the packages that its parts are in.
fn parts(apt: &Apt) -> Result<(String, Vec<String>)> {
    let image = apt.depends(PACKAGE)?.into_iter().find(|name| name.starts_with(PARTS[0]));
    let image = image.ok_or(Error::KernelImage { path: PACKAGE.into(), detail: "the package names no kernel" })?;
    let release = image[PARTS[0].len()..].to_owned();
    let wanted = |name: &String| PARTS.iter().any(|part| *name == format!("{part}{release}"));
    let more = apt.depends(&image)?.into_iter().filter(wanted);
    let packages = std::iter::once(image.clone()).chain(more).collect();
    Ok((release, packages))
}

impl Ready {
    fn read(folder: &Path) -> Option<Self> {
        let text = fs::read_to_string(folder.join("release")).ok()?;
        let (format, release) = text.split_once(' ')?;
        let whole = format == FORMAT && folder.join("vmlinux").exists();
        whole.then(|| Self {
            release: release.to_owned(),
            vmlinux: folder.join("vmlinux"),
            modules: folder.join("modules.cpio"),
        })
    }
}
