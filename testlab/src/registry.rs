//! Labs that run on this machine, for `lab ls`, `lab exec` and `lab down`. Never starts or changes one.
//!
//! One directory per user, one directory per lab in it, with a file `lab.json`. A lab whose process is gone is no lab:
//! its directory is removed by whoever looks next.

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getuid};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

const FILE: &str = "lab.json";

/// A registry that can't be used, or a lab that is not there.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The directory or a file in it.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory belongs to somebody else.
    #[error("{path} belongs to user {owner}, not to us; remove it or set XDG_RUNTIME_DIR")]
    NotOurs {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// No lab of this name, or none at all.
    #[error("{}", no_lab(wanted.as_deref(), running))]
    NoLab {
        /// The name that was given.
        wanted: Option<String>,
        /// Labs that run.
        running: Vec<String>,
    },
}

fn no_lab(wanted: Option<&str>, running: &[String]) -> String {
    match (wanted, running) {
        (_, []) => "no lab runs; start one with `cnidarian lab run --keep`".to_owned(),
        (Some(wanted), _) => format!("no lab {wanted} runs; there are: {}", running.join(", ")),
        (None, _) => format!("several labs run, name one with --lab: {}", running.join(", ")),
    }
}

/// How far a lab is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Being built and probed.
    Starting,
    /// Kept, and all was as expected.
    Ready,
    /// Kept, and something was not as expected.
    Unexpected,
}

/// What is written of a lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The lab's name, unique among those that run.
    pub name: String,
    /// The process that holds it.
    pub pid: u32,
    /// When that process started, in clock ticks since boot (`proc_pid_stat(5)`, field 22): tells it from a later one.
    pub started: u64,
    /// How far it is.
    pub state: State,
    /// Whether the lab is in a user namespace of its own.
    pub user_namespace: bool,
    /// Nodes and pods: the holder's file descriptor of each network namespace.
    pub namespaces: BTreeMap<String, i32>,
    /// The agent's socket of each node.
    pub sockets: BTreeMap<String, PathBuf>,
    /// The backend's name.
    pub backend: String,
}

impl Entry {
    /// Whether the holder still runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

/// When a process started, in clock ticks since boot; `None` when there is no such process, or only its zombie.
#[must_use]
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; fields are counted from behind it. The first there is field 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    // A zombie holds nothing any more; only its parent has yet to look.
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// Asks a lab's holder to tear it down. That it is gone already is as good.
pub fn ask_to_end(entry: &Entry) {
    if entry.is_alive()
        && let Ok(pid) = i32::try_from(entry.pid)
    {
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// The labs of one user.
#[derive(Debug, Clone)]
pub struct Registry {
    directory: PathBuf,
}

impl Registry {
    /// The registry of the user who runs us. To be asked before a user namespace is entered.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn open() -> Result<Self, RegistryError> {
        let user = getuid().as_raw();
        let directory = match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(runtime) if Path::new(&runtime).is_dir() => Path::new(&runtime).join("cnidarian-labs"),
            _ => std::env::temp_dir().join(format!("cnidarian-labs-{user}")),
        };
        let failed = |source| RegistryError::File { path: directory.clone(), source };
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        let metadata = fs::symlink_metadata(&directory).map_err(failed)?;
        if metadata.uid() != user || !metadata.is_dir() {
            return Err(RegistryError::NotOurs { path: directory, owner: metadata.uid() });
        }
        Ok(Self { directory })
    }

    /// A new directory for a lab of this name, `name` or `name-2`, `name-3` ... when that runs already.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn create(&self, name: &str) -> Result<(String, PathBuf), RegistryError> {
        self.list()?;
        for number in 1_u32.. {
            let name = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
            let path = self.directory.join(&name);
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok((name, path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(RegistryError::File { path, source }),
            }
        }
        unreachable!("the directory holds fewer than 2^32 labs")
    }

    /// Writes what a lab is.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn write(&self, directory: &Path, entry: &Entry) -> Result<(), RegistryError> {
        let path = directory.join(FILE);
        let fresh = directory.join(".lab.json.new");
        let text = serde_json::to_string_pretty(entry).expect("text keys and plain values make JSON");
        fs::write(&fresh, text)
            .and_then(|()| fs::rename(&fresh, &path))
            .map_err(|source| RegistryError::File { path, source })
    }

    /// Labs that run. Directories of labs that died are removed.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn list(&self) -> Result<Vec<(PathBuf, Entry)>, RegistryError> {
        let failed = |source| RegistryError::File { path: self.directory.clone(), source };
        let mut labs = Vec::new();
        for folder in fs::read_dir(&self.directory).map_err(failed)? {
            let path = folder.map_err(failed)?.path();
            match fs::read_to_string(path.join(FILE)).ok().and_then(|text| serde_json::from_str::<Entry>(&text).ok()) {
                Some(entry) if entry.is_alive() => labs.push((path, entry)),
                Some(_) => remove(path)?,
                // One that is just being made has no file yet; it is left alone for a while.
                None if is_fresh(&path) => {}
                None => remove(path)?,
            }
        }
        labs.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        Ok(labs)
    }

    /// The lab of this name, or the only one.
    ///
    /// # Errors
    /// [`RegistryError::NoLab`] with the names there are.
    pub fn find(&self, name: Option<&str>) -> Result<(PathBuf, Entry), RegistryError> {
        let labs = self.list()?;
        let running: Vec<String> = labs.iter().map(|(_, entry)| entry.name.clone()).collect();
        let mut fitting = labs.into_iter().filter(|(_, entry)| name.is_none_or(|name| entry.name == name));
        match (fitting.next(), fitting.next()) {
            (Some(lab), None) => Ok(lab),
            _ => Err(RegistryError::NoLab { wanted: name.map(str::to_owned), running }),
        }
    }
}

/// Removes a dead lab's directory; that somebody else did is as good.
fn remove(path: PathBuf) -> Result<(), RegistryError> {
    match fs::remove_dir_all(&path) {
        // Its agents are on their way out and still write, or somebody else removes it too: whoever looks next does the rest.
        Err(source) if !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Err(RegistryError::File { path, source })
        }
        _ => Ok(()),
    }
}

fn is_fresh(path: &Path) -> bool {
    let age = fs::metadata(path).and_then(|metadata| metadata.modified()).ok().and_then(|time| time.elapsed().ok());
    age.is_some_and(|age| age.as_secs() < 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(pid: u32, started: u64) -> Entry {
        Entry {
            name: "a".into(),
            pid,
            started,
            state: State::Ready,
            user_namespace: false,
            namespaces: BTreeMap::new(),
            sockets: BTreeMap::new(),
            backend: "vxlan".into(),
        }
    }

    #[test]
    fn a_lab_whose_process_is_gone_is_removed_by_who_looks_next() {
        let directory = tempfile::tempdir().unwrap();
        let registry = Registry { directory: directory.path().to_path_buf() };
        let me = std::process::id();
        let (name, alive) = registry.create("a").unwrap();
        assert_eq!(name, "a");
        registry.write(&alive, &entry(me, started(me).unwrap())).unwrap();
        let (name, dead) = registry.create("a").unwrap();
        assert_eq!(name, "a-2");
        // The same process id, used again by a later process.
        registry.write(&dead, &entry(me, started(me).unwrap() + 1)).unwrap();
        assert_eq!(registry.list().unwrap().len(), 1);
        assert!(alive.exists() && !dead.exists());
        assert!(registry.find(None).is_ok() && registry.find(Some("a")).is_ok());
        assert!(registry.find(Some("b")).unwrap_err().to_string().contains("there are: a"));
    }
}
