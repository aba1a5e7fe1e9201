//! Programs of this machine, to be taken into a VM with the libraries that they need. Never runs one of them.

use super::cpio::Archive;
use crate::error::{Error, Result};
use crate::packages::find;
use crate::run::{output, quiet};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs that a VM has besides busybox's, where this machine has them.
const TOOLS: &[&str] = &[
    "bash",
    "bird",
    "bridge",
    "conntrack",
    "curl",
    "ethtool",
    "ip",
    "ipset",
    "ipvsadm",
    "modprobe",
    "nft",
    "nsenter",
    "nstat",
    "ping",
    "ss",
    "sysctl",
    "tc",
    "tcpdump",
    "unshare",
    "wg",
];

/// The shell: busybox's own runs its own `ip` and `tc`, whatever is in the path.
const SHELL: &str = "dash";

/// A program of more bytes goes without what only a debugger reads.
const LARGE: u64 = 4 << 20;

/// Puts busybox, a shell and tools into an archive.
pub(super) fn tools<W: Write>(archive: &mut Archive<W>) -> Result<()> {
    let busybox = find("busybox").ok_or(Error::NoProgram { program: "busybox".to_owned() })?;
    let shell = find(SHELL).ok_or(Error::NoProgram { program: SHELL.to_owned() })?;
    let (at, sh) = (Path::new("/bin/busybox"), Path::new("/bin/sh"));
    let kept = |path: &Path, result: std::io::Result<()>| {
        result.map_err(|source| Error::File { path: path.to_path_buf(), source })
    };
    kept(&busybox, archive.copy(&busybox, at))?;
    kept(&shell, archive.copy(&shell, sh))?;
    let mut taken = vec![shell];
    for tool in TOOLS {
        if let Some(path) = find(tool) {
            let to = Path::new("/usr/sbin").join(tool);
            kept(&path, archive.copy(&path, &to))?;
            taken.push(path);
        }
    }
    // The kernel calls it by this name.
    kept(at, archive.link(Path::new("/sbin/modprobe"), Path::new("/usr/sbin/modprobe")))?;
    libraries(archive, &taken)?;
    // What is there by its own name comes first.
    for applet in output(Command::new(&busybox).arg("--list"))?.lines() {
        let path = Path::new("/bin").join(applet);
        if !archive.has(&Path::new("/usr/sbin").join(applet)) {
            kept(at, archive.link(&path, at))?;
        }
    }
    Ok(())
}

/// Puts files of this machine into an archive under their own names; programs with their libraries.
pub(super) fn files<W: Write>(archive: &mut Archive<W>, paths: &[PathBuf], scratch: &Path) -> Result<()> {
    let mut programs = Vec::new();
    for path in paths {
        let file = |source| Error::File { path: path.clone(), source };
        if path.is_dir() {
            archive.tree(path, path).map_err(file)?;
            programs_under(path, &mut programs).map_err(file)?;
            continue;
        }
        let size = fs::metadata(path).map_err(file)?.len();
        let elf = is_elf(path).map_err(file)?;
        if elf {
            programs.push(path.clone());
        }
        let bare = scratch.join("bare");
        let stripped = elf
            && size > LARGE
            && quiet(Command::new("strip").arg("--strip-debug").arg("-o").arg(&bare).arg(path)).is_ok();
        archive.copy(if stripped { &bare } else { path }, path).map_err(file)?;
    }
    libraries(archive, &programs)
}

fn programs_under(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, kind) = entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
        if kind.is_dir() {
            programs_under(&path, found)?;
        } else if kind.is_file() && is_elf(&path)? {
            found.push(path);
        }
    }
    Ok(())
}

fn is_elf(path: &Path) -> std::io::Result<bool> {
    use std::io::Read;
    let mut head = Vec::new();
    fs::File::open(path)?.take(4).read_to_end(&mut head)?;
    Ok(head == b"\x7fELF")
}

fn libraries<W: Write>(archive: &mut Archive<W>, programs: &[PathBuf]) -> Result<()> {
    let mut all = BTreeSet::new();
    for program in programs {
        // A static program is none of its business, and it says so with its status.
        let listed = Command::new("ldd").arg(program).output();
        let listed = listed.map_err(|source| Error::Start { command: "ldd".to_owned(), source })?;
        all.extend(named(&String::from_utf8_lossy(&listed.stdout)));
    }
    for path in all {
        archive.copy(&path, &path).map_err(|source| Error::File { path, source })?;
    }
    Ok(())
}

/// The files that `ldd` found.
fn named(text: &str) -> Vec<PathBuf> {
    let word = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    // The first line of several programs ends with a colon and names the program.
    text.lines().filter(|line| line.starts_with(char::is_whitespace)).filter_map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_the_paths_that_ldd_names() {
        let text = "\tlinux-vdso.so.1 (0x00007fff)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f12)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f34)\n\tlibgone.so => not found\n";
        assert_eq!(named(text), ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from));
        assert_eq!(named("\tnot a dynamic executable\n"), Vec::<PathBuf>::new());
    }
}
