//! Which modules of a kernel go into a VM, and the index over them. Never loads one.

use crate::error::{Error, Result};
use crate::run::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Beginnings of paths in the kernel's tree: networking, what it is built on, and the VM's own devices.
const WANTED: &[&str] = &[
    "arch/x86/crypto/",
    "crypto/",
    "drivers/char/virtio_console.",
    "drivers/crypto/virtio/",
    "drivers/net/bareudp.",
    "drivers/net/bonding/",
    "drivers/net/dummy.",
    "drivers/net/geneve.",
    "drivers/net/gtp.",
    "drivers/net/ifb.",
    "drivers/net/ipvlan/",
    "drivers/net/macvlan.",
    "drivers/net/netdevsim/",
    "drivers/net/netkit.",
    "drivers/net/nlmon.",
    "drivers/net/tap.",
    "drivers/net/tun.",
    "drivers/net/veth.",
    "drivers/net/vrf.",
    "drivers/net/vxlan/",
    "drivers/net/wireguard/",
    "drivers/virtio/",
    "fs/fuse/",
    "fs/overlayfs/",
    "lib/",
    "net/",
];

/// Files beside the modules that depmod reads.
const LISTS: &[&str] = &["modules.order", "modules.builtin", "modules.builtin.modinfo"];

/// How modules are compressed, and the program that undoes it in place: the VM is too slow for it.
const PACKED: &[(&str, &[&str])] = &[("xz", &["xz", "-dq"]), ("zst", &["zstd", "-dq", "--rm"])];

/// Files for one call of a program.
const AT_ONCE: usize = 200;

/// Copies what is wanted of `from` (`lib/modules/RELEASE`) under `root`, plain and with an index. Answers with the folder
/// that holds it.
pub(super) fn select(from: &Path, root: &Path, release: &str) -> Result<PathBuf> {
    let to = root.join("lib/modules").join(release);
    let mut files = Vec::new();
    list(&from.join("kernel"), Path::new(""), &mut files)?;
    files.retain(|file| wanted(file));
    for file in &files {
        copy(&from.join("kernel").join(file), &to.join("kernel").join(file))?;
    }
    for (suffix, words) in PACKED {
        let packed: Vec<PathBuf> = files
            .iter()
            .filter(|file| file.extension().is_some_and(|extension| extension == *suffix))
            .map(|file| to.join("kernel").join(file))
            .collect();
        for some in packed.chunks(AT_ONCE) {
            crate::run::quiet(Command::new(words[0]).args(&words[1..]).args(some))?;
        }
    }
    for name in LISTS {
        let path = from.join(name);
        if path.exists() {
            copy(&path, &to.join(name))?;
        }
    }
    run(Command::new("depmod").arg("-b").arg(root).arg(release))?;
    Ok(to)
}

fn wanted(file: &Path) -> bool {
    WANTED.iter().any(|beginning| file.to_string_lossy().starts_with(beginning))
}

fn list(folder: &Path, inside: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let unreadable = |source| Error::File { path: folder.to_path_buf(), source };
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let inside = inside.join(entry.file_name());
        if entry.file_type().map_err(unreadable)?.is_dir() {
            list(&entry.path(), &inside, files)?;
        } else {
            files.push(inside);
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let made = to.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::copy(from, to)).map_err(|source| Error::File { path: from.to_path_buf(), source })?;
    Ok(())
}
