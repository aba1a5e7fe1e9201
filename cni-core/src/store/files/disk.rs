//! One directory on disk: its listing, its lock, and writes that are whole and durable. Never knows what a manifest is.

use super::names::{LOCK_FILE, TEMPORARY_PREFIX, form};
use crate::store::{Error, Result};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What tells one state of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    /// When the inode was made, where the file system says so: numbers of inodes are used again.
    born: Option<SystemTime>,
    size_bytes: u64,
    modified_nanos: i64,
    changed_nanos: i64,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        // Until the year 2262; later times wrap and still differ from each other.
        let nanos = |seconds: i64, nanos: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(nanos);
        Self {
            inode: metadata.ino(),
            born: metadata.created().ok(),
            size_bytes: metadata.len(),
            modified_nanos: nanos(metadata.mtime(), metadata.mtime_nsec()),
            changed_nanos: nanos(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether both are states of one file: it was written in place, not replaced.
    pub(super) fn is_of_the_same_file(&self, other: &Self) -> bool {
        (self.inode, self.born) == (other.inode, other.born)
    }

    /// Whether the file changed so lately that it may be about to change again, perhaps within one tick of the
    /// file system's clock, so that its stamp would not show it. A time in the future does not count.
    pub(super) fn is_younger_than(&self, age: Duration, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
        let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
        now.checked_sub(self.changed_nanos).is_some_and(|passed| (0..age).contains(&passed))
    }
}

/// The lock; released when dropped, and by the kernel when its process dies.
pub(super) struct Locked {
    _file: File,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    pub(super) max_file_bytes: u64,
    pub(super) lock_patience: Duration,
}

/// Why a file was not read.
pub(super) enum Unreadable {
    /// It is gone.
    Gone,
    /// It was written while it was read.
    Changing,
    /// It is not acceptable, for this reason.
    Refused(String),
}

impl Disk {
    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { operation, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Every manifest file and its stamp.
    pub(super) fn listing(&self) -> Result<BTreeMap<String, Stamp>> {
        let failed = || Self::io("list", &self.path);
        let mut listing = BTreeMap::new();
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            // A name that is no UTF-8 has none of our extensions either, as far as anybody can say.
            let Ok(name) = entry.file_name().into_string() else { continue };
            if form(&name).is_none() {
                continue;
            }
            // Follows symbolic links. What vanished since was not there.
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(metadata) => drop(listing.insert(name, Stamp::of(&metadata))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // A link that leads nowhere in a way of its own, as to itself: one wrong file, which reading it reports.
                Err(error) => match fs::symlink_metadata(entry.path()) {
                    Ok(link) if link.is_symlink() => drop(listing.insert(name, Stamp::of(&link))),
                    _ => return Err(Self::io("stat", &entry.path())(error)),
                },
            }
        }
        Ok(listing)
    }

    /// A file's text and the stamp of what was read.
    pub(super) fn read(&self, name: &str) -> std::result::Result<(String, Stamp), Unreadable> {
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Unreadable::Gone,
            _ => Unreadable::Refused(format!("cannot be read: {error}")),
        };
        // Opening a FIFO would wait for a writer without O_NONBLOCK.
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NONBLOCK)
            .open(self.path.join(name))
            .map_err(refused)?;
        let metadata = file.metadata().map_err(refused)?;
        if !metadata.is_file() {
            return Err(Unreadable::Refused("is no regular file; remove it or rename it".to_owned()));
        }
        let mut bytes = Vec::new();
        let limit = self.max_file_bytes;
        Read::by_ref(&mut file).take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(refused)?;
        if bytes.len() as u64 > limit {
            return Err(Unreadable::Refused(format!("is larger than {limit} bytes; split it into several files")));
        }
        let stamp = Stamp::of(&metadata);
        if Stamp::of(&file.metadata().map_err(refused)?) != stamp {
            return Err(Unreadable::Changing);
        }
        let text = String::from_utf8(bytes)
            .map_err(|error| Unreadable::Refused(format!("is no UTF-8 text ({error}); save it as UTF-8")))?;
        Ok((text, stamp))
    }

    /// Waits for the lock that every writer of the directory holds, in any process.
    pub(super) fn lock(&self) -> Result<Locked> {
        let path = self.path.join(LOCK_FILE);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(Self::io("open lock", &path))?;
        let deadline = Instant::now() + self.lock_patience;
        let mut pause = Duration::from_micros(100);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Locked { _file: file }),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    // A blocking lock could not be given up, and a stopped process may hold it for ever.
                    std::thread::sleep(pause);
                    pause = (pause * 2).min(Duration::from_millis(3));
                }
                Err(fs::TryLockError::WouldBlock) => {
                    let (path, patience) = (path.display(), self.lock_patience);
                    let detail =
                        format!("{path} is held by another process for more than {patience:?}; see `fuser {path}`");
                    return Err(Error::Unavailable { operation: "lock the store's directory", detail });
                }
                Err(fs::TryLockError::Error(error)) => return Err(Self::io("lock", &path)(error)),
            }
        }
    }

    /// Replaces a file's content: whole or not at all, and durable when this answers.
    pub(super) fn replace(&self, _lock: &Locked, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!("{TEMPORARY_PREFIX}{}", std::process::id()));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
            if let Ok(present) = fs::metadata(&path) {
                file.set_permissions(fs::Permissions::from_mode(present.permissions().mode() & 0o7777))?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        })();
        if let Err(error) = written {
            // Nothing refers to it, and the next writer would remove it too.
            let _ = fs::remove_file(&temporary);
            return Err(Self::io("write", &path)(error));
        }
        self.sync()
    }

    /// Removes a file, durably.
    pub(super) fn remove(&self, _lock: &Locked, name: &str) -> Result<()> {
        let path = self.path.join(name);
        fs::remove_file(&path).map_err(Self::io("remove", &path))?;
        self.sync()
    }

    /// Removes what writers left that were killed while they wrote.
    pub(super) fn remove_leftovers(&self, _lock: &Locked) -> Result<()> {
        let failed = || Self::io("list", &self.path);
        for entry in fs::read_dir(&self.path).map_err(failed())? {
            let entry = entry.map_err(failed())?;
            if entry.file_name().as_encoded_bytes().starts_with(TEMPORARY_PREFIX.as_bytes()) {
                fs::remove_file(entry.path()).map_err(Self::io("remove", &entry.path()))?;
            }
        }
        Ok(())
    }

    /// Makes a rename or a removal durable.
    fn sync(&self) -> Result<()> {
        File::open(&self.path).and_then(|directory| directory.sync_all()).map_err(Self::io("sync", &self.path))
    }
}
