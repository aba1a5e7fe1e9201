//! The files of `host-local`: one per address, `<dataDir>/<network>/<address>` with container and interface.
//! Never decides which address is given.
//!
//! ```text
//!  <dataDir>/<network>/10.0.0.7             "<container id>\r\n<interface>", the line break as the reference writes it
//!                      last_reserved_ip.<n> the address given last from range set <n>
//!                      lock                 flock, held for a whole operation
//!                      cooling              ours, only with coolDownSeconds: "<address> <unix ms>" per line
//! ```

use super::HostLocalError;
use crate::ipam::UnixMillis;
use crate::ipam::address::canonical;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const LAST_RESERVED_PREFIX: &str = "last_reserved_ip.";
const LOCK: &str = "lock";
const COOLING: &str = "cooling";
/// Written in full, then linked to its place, so that no crash leaves an address that belongs to nobody.
const DRAFT: &str = ".draft";

/// What a file of an address says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) container: String,
    /// `None` in files of very old versions of the reference.
    pub(super) interface: Option<String>,
}

impl Holder {
    fn parse(text: &str) -> Self {
        // Before 0.8 the reference wrote the container alone; other implementations end lines with a plain newline.
        match text.trim().split_once('\n') {
            Some((container, interface)) => {
                Self { container: container.trim().to_owned(), interface: Some(interface.trim().to_owned()) }
            }
            None => Self { container: text.trim().to_owned(), interface: None },
        }
    }

    pub(super) fn is(&self, container: &str, interface: &str) -> bool {
        self.container == container.trim() && self.interface.as_deref() == Some(interface)
    }

    pub(super) fn is_old_file_of(&self, container: &str) -> bool {
        self.container == container.trim() && self.interface.is_none()
    }
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> HostLocalError {
    let path = path.to_owned();
    move |source| HostLocalError::Io { operation, path, source: Arc::new(source) }
}

/// The network's directory while this process holds its lock.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    held: BTreeMap<IpAddr, Holder>,
    _lock: File,
}

impl Directory {
    /// Makes the directory where it is missing, waits for the lock, and reads all files.
    pub(super) fn lock(data_dir: &Path, network: &str) -> Result<Self, HostLocalError> {
        let path = data_dir.join(network);
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&path).map_err(failed("mkdir", &path))?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(failed("open", &lock_path))?;
        lock.lock().map_err(failed("lock", &lock_path))?;
        let mut held = BTreeMap::new();
        for entry in fs::read_dir(&path).map_err(failed("read", &path))? {
            let entry = entry.map_err(failed("read", &path))?;
            let name = entry.file_name();
            let Some(address) = name.to_str().and_then(|name| name.parse::<IpAddr>().ok()) else { continue };
            // A file that vanishes or cannot be read still stands for an address in use.
            let text = fs::read(entry.path()).unwrap_or_default();
            held.insert(canonical(address), Holder::parse(&String::from_utf8_lossy(&text)));
        }
        Ok(Self { path, held, _lock: lock })
    }

    pub(super) fn held(&self) -> &BTreeMap<IpAddr, Holder> {
        &self.held
    }

    /// Writes the address's file and remembers it as the last of its range set.
    pub(super) fn reserve(
        &mut self,
        address: IpAddr,
        container: &str,
        interface: &str,
        set: usize,
    ) -> Result<(), HostLocalError> {
        let file = self.path.join(address.to_string());
        let content = format!("{}\r\n{interface}", container.trim());
        let draft = self.draft(&content)?;
        fs::hard_link(&draft, &file).map_err(failed("create", &file))?;
        fs::remove_file(&draft).map_err(failed("remove", &draft))?;
        self.held.insert(address, Holder::parse(&content));
        self.write(&self.path.join(format!("{LAST_RESERVED_PREFIX}{set}")), &address.to_string())
    }

    fn draft(&self, content: &str) -> Result<PathBuf, HostLocalError> {
        let draft = self.path.join(DRAFT);
        // A crash may have left the last draft linked to an address's file: writing into it would change that file.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &draft)(error)),
            _ => self.write(&draft, content)?,
        }
        Ok(draft)
    }

    fn write(&self, path: &Path, content: &str) -> Result<(), HostLocalError> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .map_err(failed("write", path))
    }

    /// The address given last from a range set; garbage counts as none.
    pub(super) fn last_reserved(&self, set: usize) -> Option<IpAddr> {
        fs::read_to_string(self.path.join(format!("{LAST_RESERVED_PREFIX}{set}"))).ok()?.parse().ok().map(canonical)
    }

    /// Removes an address's file. One that is not there is no error.
    pub(super) fn remove(&mut self, address: IpAddr) -> Result<(), HostLocalError> {
        let file = self.path.join(address.to_string());
        match fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &file)(error)),
            _ => {
                self.held.remove(&address);
                Ok(())
            }
        }
    }

    /// Released addresses and when that was.
    pub(super) fn cooling(&self) -> BTreeMap<IpAddr, UnixMillis> {
        let text = fs::read_to_string(self.path.join(COOLING)).unwrap_or_default();
        let line = |line: &str| {
            let (address, millis) = line.split_once(' ')?;
            Some((address.parse().ok()?, UnixMillis(millis.parse().ok()?)))
        };
        text.lines().filter_map(line).collect()
    }

    /// Replaces the list of released addresses.
    pub(super) fn set_cooling(&self, cooling: &BTreeMap<IpAddr, UnixMillis>) -> Result<(), HostLocalError> {
        let text: String = cooling.iter().map(|(address, at)| format!("{address} {}\n", at.0)).collect();
        let (draft, path) = (self.draft(&text)?, self.path.join(COOLING));
        fs::rename(&draft, &path).map_err(failed("rename", &path))
    }
}
