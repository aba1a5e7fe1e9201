//! The final results of ADD on disk, for CHECK, DEL and GC. Never invents one: what cannot be read is an error.
//!
//! The format is libcni's `cniCacheV1`, so that containers attached with another runtime can be detached with this
//! one: `<directory>/results/<network>-<container>-<interface>`, a JSON object with `kind`, `containerId`, `ifName`,
//! `networkName`, `netns`, `cniArgs` (pairs), `capabilityArgs`, `config` (base64) and `result`.

use crate::cni::CniArgs;
use crate::model::{EndpointId, NetworkName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

const KIND: &str = "cniCacheV1";

/// A cache that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Reading or writing failed.
    #[error("results of ADD: {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not in the format.
    #[error("results of ADD: {} cannot be read ({source}): delete it when its container is gone", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The file's name says one attachment, its content another: names with `-` can meet.
    #[error(
        "results of ADD: {} belongs to {found_id} on network {found_network}, not to {id} on network {network}: \
         choose another network name", path.display()
    )]
    Taken {
        /// The file.
        path: PathBuf,
        /// The attachment looked for.
        id: EndpointId,
        /// Its network.
        network: NetworkName,
        /// The attachment in the file.
        found_id: String,
        /// Its network.
        found_network: String,
    },
}

/// What is known of an attachment.
#[derive(Debug, Clone, PartialEq)]
pub struct Cached {
    /// The network.
    pub network: NetworkName,
    /// The attachment.
    pub id: EndpointId,
    /// The path of its namespace at ADD.
    pub netns: Option<PathBuf>,
    /// Its arguments at ADD.
    pub args: CniArgs,
    /// Its capability arguments at ADD.
    pub capability_args: Map<String, Value>,
    /// The configuration of the network at ADD. Written only; empty when read.
    pub config: Vec<u8>,
    /// The final result, with its `cniVersion`.
    pub result: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    kind: String,
    container_id: String,
    #[serde(skip_deserializing)]
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_args: Option<Map<String, Value>>,
    #[serde(default)]
    result: Value,
}

/// A directory of results.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// The cache in a directory, which need not be there yet. libcni's is `/var/lib/cni`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self { directory: directory.join("results") }
    }

    /// The result of an attachment, `None` when there is none.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn load(&self, network: &NetworkName, id: &EndpointId) -> Result<Option<Cached>, CacheError> {
        let path = self.file(network, id);
        let Some(wire) = read(&path)? else { return Ok(None) };
        let found_id = format!("{}/{}", wire.container_id, wire.if_name);
        if found_id != id.as_str() || wire.network_name != network.as_str() {
            let (id, network) = (id.clone(), network.clone());
            return Err(CacheError::Taken { path, id, network, found_id, found_network: wire.network_name });
        }
        Ok(Some(cached(wire, network.clone(), id.clone())))
    }

    /// Every attachment of a network. Files that are not in the format are not ours to judge, and left out.
    ///
    /// # Errors
    /// [`CacheError::Io`] when the directory cannot be read.
    pub fn list(&self, network: &NetworkName) -> Result<Vec<Cached>, CacheError> {
        let failed = |source| CacheError::Io { path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut all = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b".")) {
                continue; // Being written, by somebody or before a crash.
            }
            let Ok(Some(wire)) = read(&path) else { continue };
            if wire.network_name == network.as_str()
                && let Ok(id) = EndpointId::of(&wire.container_id, &wire.if_name)
            {
                all.push(cached(wire, network.clone(), id));
            }
        }
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// Keeps a result. When this returns it survives a crash of the machine; a crash before leaves the old state.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn store(&self, cached: &Cached) -> Result<(), CacheError> {
        let path = self.file(&cached.network, &cached.id);
        let pairs: Vec<_> = cached.args.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let wire = Wire {
            kind: KIND.to_owned(),
            container_id: cached.id.container().to_owned(),
            config: base64(&cached.config),
            if_name: cached.id.interface().to_owned(),
            network_name: cached.network.as_str().to_owned(),
            netns: cached.netns.clone(),
            cni_args: Some(pairs).filter(|pairs| !pairs.is_empty()),
            capability_args: Some(cached.capability_args.clone()).filter(|args| !args.is_empty()),
            result: cached.result.clone(),
        };
        let bytes = serde_json::to_vec(&wire).map_err(|source| CacheError::Format { path: path.clone(), source })?;
        // A name that no result has, since network names begin with a letter or digit. One writer per container.
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(path.file_name().unwrap_or_default());
        let temporary = self.directory.join(temporary);
        let write = || {
            fs::create_dir_all(&self.directory)?;
            let mut file = File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|source| CacheError::Io { path, source })
    }

    /// Forgets a result; one that is not there is forgotten already.
    ///
    /// # Errors
    /// [`CacheError::Io`].
    pub fn remove(&self, network: &NetworkName, id: &EndpointId) -> Result<(), CacheError> {
        let path = self.file(network, id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed
                .and_then(|()| File::open(&self.directory)?.sync_all())
                .map_err(|source| CacheError::Io { path, source }),
        }
    }

    fn file(&self, network: &NetworkName, id: &EndpointId) -> PathBuf {
        self.directory.join(format!("{network}-{}-{}", id.container(), id.interface()))
    }
}

fn read(path: &Path) -> Result<Option<Wire>, CacheError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|source| CacheError::Io { path: path.to_owned(), source })?,
    };
    let format = |source| CacheError::Format { path: path.to_owned(), source };
    let wire: Wire = serde_json::from_slice(&bytes).map_err(format)?;
    if wire.kind == KIND {
        Ok(Some(wire))
    } else {
        Err(format(serde::de::Error::custom(format!("kind is {:?}, not {KIND:?}", wire.kind))))
    }
}

fn cached(wire: Wire, network: NetworkName, id: EndpointId) -> Cached {
    Cached {
        network,
        id,
        netns: wire.netns,
        args: wire.cni_args.unwrap_or_default().into_iter().collect(),
        capability_args: wire.capability_args.unwrap_or_default(),
        config: Vec::new(),
        result: wire.result,
    }
}

/// Base64 with padding (RFC 4648, section 4), as Go writes bytes in JSON.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let sextet = (bits >> (18 - 6 * index)) as usize & 63;
            text.push(if index <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
        }
    }
    text
}
