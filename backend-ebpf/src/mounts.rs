//! Where file systems are mounted, as the calling thread sees it. Never mounts one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// The mount points of a type of file system, such as `bpf` or `cgroup2`, in the order of mounting; none where the kernel tells of none.
pub(crate) fn of(file_system: &str) -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    points(&mounts, file_system)
}

/// `proc_pid_mountinfo(5)`: the fifth field, and the type is the first after a lone `-`.
fn points(mounts: &str, file_system: &str) -> Vec<PathBuf> {
    let point = |line: &str| {
        let (fields, rest) = line.split_once(" - ")?;
        let is_it = rest.split(' ').next() == Some(file_system);
        is_it.then(|| fields.split(' ').nth(4).map(plain))?
    };
    mounts.lines().filter_map(point).collect()
}

/// A path as it is: spaces, tabs, ends of lines and backslashes are written as `\` and three octal digits.
fn plain(written: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let [first, after @ ..] = rest {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\');
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_by_type_and_read_as_they_are() {
        let mounts = "\
22 28 0:21 / /proc rw,nosuid - proc proc rw
31 25 0:27 / /sys/fs/bpf rw,nosuid shared:9 - bpf bpf rw,mode=700
40 28 0:40 / /srv/with\\040space\\134 rw - bpf none rw
41 28 0:41 / /srv/bpfx rw - bpfx none rw
";
        assert_eq!(points(mounts, "bpf"), [PathBuf::from("/sys/fs/bpf"), PathBuf::from("/srv/with space\\")]);
        assert_eq!(points(mounts, "cgroup2"), Vec::<PathBuf>::new());
    }
}
