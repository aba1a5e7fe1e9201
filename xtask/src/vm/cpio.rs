//! Archives as the kernel unpacks them into its first file system. Never reads one back.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// `S_IFDIR`, `S_IFREG`, `S_IFLNK` of inode(7).
const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// A name, its end and its contents begin at multiples of this.
const ALIGN: usize = 4;

/// Writes the format `newc`: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst. Everything belongs
/// to root; folders that lead to a file come by themselves, and the first of two files of one name stays.
pub(super) struct Archive<W> {
    out: W,
    written: BTreeSet<PathBuf>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, written: BTreeSet::new() }
    }

    /// Whether something of this name is there.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.written.contains(&inside(path))
    }

    pub(super) fn folder(&mut self, path: &Path) -> io::Result<()> {
        self.entry(&inside(path), FOLDER | 0o755, b"")
    }

    pub(super) fn link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        self.entry(&inside(path), LINK | 0o777, target.as_os_str().as_bytes())
    }

    /// A file with the permission bits of `mode`.
    pub(super) fn file(&mut self, path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
        self.entry(&inside(path), FILE | mode & 0o777, contents)
    }

    /// A copy of a file, under another name or the same.
    pub(super) fn copy(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        if self.has(to) {
            return Ok(());
        }
        let mode = fs::metadata(from)?.permissions().mode();
        self.file(to, mode, &fs::read(from)?)
    }

    /// A folder with everything in it, under another name.
    pub(super) fn tree(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.folder(to)?;
        let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, to) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&path, &to)?;
            } else if kind.is_symlink() {
                self.link(&to, &fs::read_link(&path)?)?;
            } else {
                self.copy(&path, &to)?;
            }
        }
        Ok(())
    }

    /// Closes the archive; another one may follow in the same file.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.record(b"TRAILER!!!", 0, b"")?;
        self.out.flush()
    }

    fn entry(&mut self, path: &Path, mode: u32, contents: &[u8]) -> io::Result<()> {
        if path.as_os_str().is_empty() || self.written.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.entry(parent, FOLDER | 0o755, b"")?;
        }
        self.written.insert(path.to_path_buf());
        self.record(path.as_os_str().as_bytes(), mode, contents)
    }

    fn record(&mut self, name: &[u8], mode: u32, contents: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::new(io::ErrorKind::FileTooLarge, "a file of an archive has less than 4 GiB");
        let size = u32::try_from(contents.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        // The inode's number joins hard links, which there are none of: with one link it is not looked at.
        let (inode, owner, group, links, time) = (0, 0, 0, 1, 0);
        let (device, checksum) = ([0; 4], 0);
        let head =
            [inode, mode, owner, group, links, time, size].into_iter().chain(device).chain([name_size, checksum]);
        write!(self.out, "070701")?;
        let mut length = 6;
        for field in head {
            write!(self.out, "{field:08x}")?;
            length += 8;
        }
        self.out.write_all(name)?;
        self.out.write_all(&[0])?;
        self.pad(length + name.len() + 1)?;
        self.out.write_all(contents)?;
        self.pad(contents.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.out.write_all(&[0; ALIGN][..length.next_multiple_of(ALIGN) - length])
    }
}

/// As an archive names it: from the root, without `.` and `..`, which the kernel would make folders of.
fn inside(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

    use super::*;
    use std::process::{Command, Stdio};

    /// Written by hand from the format's description.
    #[test]
    fn a_record_is_a_head_in_hexadecimal_digits_a_name_and_contents_each_filled_up_to_four() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file(Path::new("/a"), 0o644, b"hello").unwrap();
        let mut expected = Vec::new();
        expected.extend(b"070701");
        expected.extend(b"00000000000081a40000000000000000000000010000000000000005");
        expected.extend(b"000000000000000000000000000000000000000200000000");
        expected.extend(b"a\0");
        expected.extend([0; 0]);
        expected.extend(b"hello\0\0\0");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_the_first_of_one_name_stays() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file(Path::new("/x/y/../z/one"), 0o755, b"1").unwrap();
        archive.file(Path::new("x/z/one"), 0o755, b"2").unwrap();
        archive.link(Path::new("/x/two"), Path::new("z/one")).unwrap();
        archive.finish().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let names: Vec<_> = text.split("070701").skip(1).map(|record| &record[104..]).collect();
        let plain: Vec<_> = names.iter().map(|name| name.trim_end_matches('\0').replace('\0', " ")).collect();
        assert_eq!(plain.len(), 5, "{plain:?}");
        for (found, expected) in plain.iter().zip(["x", "x/z", "x/z/one", "x/two", "TRAILER!!!"]) {
            assert!(found.starts_with(expected), "{found:?} is not {expected}");
        }
        assert!(plain[2].ends_with('1') && plain[3].ends_with("z/one"), "{plain:?}");
    }

    /// busybox is among what the tests install.
    #[test]
    fn another_program_reads_back_what_was_written() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        let long = "a-name-of-some-length-".repeat(5);
        archive.file(Path::new(&format!("/folder/{long}")), 0o600, &[7; 1001]).unwrap();
        archive.finish().unwrap();
        let mut child = Command::new("busybox")
            .args(["cpio", "-t", "-v"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&bytes).unwrap();
        let listed = child.wait_with_output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let line = listed.lines().find(|line| line.contains(&long)).unwrap();
        assert!(line.starts_with("-rw-------") && line.contains("1001"), "{listed}");
    }
}
