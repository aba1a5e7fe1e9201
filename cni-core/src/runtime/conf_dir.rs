//! Network configurations in a directory, usually `/etc/cni/net.d`. Reads files, never writes one.
//!
//! ```text
//! 10-pods.conflist      a list: {"name": "pods", "plugins": [...]}
//! pods/*.conf           more plugins for the list named pods, appended in the order of their file names
//! 20-old.conf, *.json   one plugin, the form of before 1.0.0 (or a list, if it has "plugins")
//! ```

use crate::cni::{ConfError, NetConfList, PluginConf};
use crate::model::NetworkName;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A configuration that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file's content cannot be used.
    #[error("{}: {source}", path.display())]
    Conf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: ConfError,
    },
    /// No file has what was looked for.
    #[error(
        "{}: no {}{}", directory.display(),
        name.as_ref().map_or_else(|| "network configuration".to_owned(), |name| format!("network named {name}")),
        unusable(broken)
    )]
    NotFound {
        /// The directory.
        directory: PathBuf,
        /// The name; `None` when any would do.
        name: Option<NetworkName>,
        /// The files that could not be used: it may be in one of them.
        broken: Vec<LoadError>,
    },
}

fn unusable(broken: &[LoadError]) -> String {
    if broken.is_empty() {
        return String::new();
    }
    let texts: Vec<String> = broken.iter().map(ToString::to_string).collect();
    format!(" among the files that can be used; not used: {}", texts.join("; "))
}

/// A file and the network in it.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// The network, or why it cannot be used.
    pub conf: Result<NetConfList, LoadError>,
}

/// A directory of network configurations.
#[derive(Debug, Clone)]
pub struct ConfDir {
    directory: PathBuf,
}

impl ConfDir {
    /// The configurations in a directory, which need not be there.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// Every configuration with its file, in the order of the file names, broken ones among them.
    ///
    /// # Errors
    /// [`LoadError::Read`] when the directory cannot be read.
    pub fn all(&self) -> Result<Vec<Loaded>, LoadError> {
        let files = files(&self.directory, &["conflist", "conf", "json"])?;
        Ok(files.into_iter().map(|path| Loaded { conf: load_file(&path), path }).collect())
    }

    /// The configuration that Kubernetes runtimes use for pods: the first usable one by file name.
    ///
    /// # Errors
    /// [`LoadError::NotFound`], or [`LoadError::Read`] for the directory.
    pub fn first(&self) -> Result<NetConfList, LoadError> {
        self.find(self.all()?, None)
    }

    /// The network with this name: in the first list that has it, or else in the first file of another form. A broken
    /// file hides no other.
    ///
    /// # Errors
    /// [`LoadError::NotFound`], or [`LoadError::Read`] for the directory.
    pub fn load(&self, name: &NetworkName) -> Result<NetConfList, LoadError> {
        let mut all = self.all()?;
        all.sort_by_key(|loaded| loaded.path.extension().is_none_or(|extension| extension != "conflist"));
        self.find(all, Some(name))
    }

    fn find(&self, all: Vec<Loaded>, name: Option<&NetworkName>) -> Result<NetConfList, LoadError> {
        let mut broken = Vec::new();
        for Loaded { conf, .. } in all {
            match conf {
                Ok(conf) if name.is_none_or(|name| conf.name == *name) => return Ok(conf),
                Ok(_) => {}
                Err(error) => broken.push(error),
            }
        }
        Err(LoadError::NotFound { directory: self.directory.clone(), name: name.cloned(), broken })
    }
}

fn load_file(path: &Path) -> Result<NetConfList, LoadError> {
    let bytes = read(path)?;
    let in_file = |source| LoadError::Conf { path: path.to_owned(), source };
    let is_list = path.extension().is_some_and(|extension| extension == "conflist")
        || serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|conf| conf.get("plugins").is_some());
    if !is_list {
        return NetConfList::from_single(&bytes).map_err(in_file);
    }
    let mut list = NetConfList::parse(&bytes).map_err(in_file)?;
    if !list.load_only_inlined_plugins {
        // A network's name is no path, so this stays below the directory.
        let directory = path.with_file_name(list.name.as_str());
        for path in files(&directory, &["conf"])? {
            let plugin = PluginConf::parse(&read(&path)?).map_err(|source| LoadError::Conf { path, source })?;
            list.plugins.push(plugin);
        }
    }
    if list.plugins.is_empty() {
        let right = "list at least one plugin, here or in a directory of the network's name beside this file";
        return Err(in_file(ConfError::Missing { field: "plugins", right }));
    }
    Ok(list)
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

/// The files with one of the extensions, by name. A directory that is not there has none.
fn files(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |source| LoadError::Read { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let wanted = path.extension().and_then(|extension| extension.to_str()).is_some_and(|e| extensions.contains(&e));
        if wanted && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
