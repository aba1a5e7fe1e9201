//! DELs that came while nobody was there to do them. Never writes one: the executable does.

use super::Inner;
use super::error::NodeError;
use cni_core::model::EndpointId;
use cni_core::rpc::{TOMBSTONE_DIR, Tombstone};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn failed(operation: &'static str, path: &Path, source: io::Error) -> NodeError {
    NodeError::Io { operation, path: path.to_owned(), source: Arc::new(source) }
}

/// Every tombstone in a state directory. A file that is none is left alone and said in the log.
fn read(directory: &Path) -> Result<Vec<EndpointId>, NodeError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", directory, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| failed("read", directory, error))?;
        let Some(name) = entry.file_name().to_str().filter(|name| Tombstone::is_file_name(name)).map(str::to_owned)
        else {
            continue;
        };
        match fs::read(entry.path()) {
            Ok(bytes) => match Tombstone::parse(&name, &bytes) {
                Ok(tombstone) => found.push(tombstone.endpoint),
                Err(error) => tracing::error!(%error, "this file is no tombstone; it is left alone"),
            },
            // Taken back by the executable that wrote it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("read", &entry.path(), error)),
        }
    }
    Ok(found)
}

impl Inner {
    fn tombstone(&self, id: &EndpointId) -> Option<PathBuf> {
        // An id that is too long for a file name has no tombstone.
        Some(self.state_dir.join(TOMBSTONE_DIR).join(Tombstone::file_name(id).ok()?))
    }

    /// Does what a tombstone of this endpoint asks for, if there is one, for a caller that holds the endpoint.
    pub(super) async fn bury(&self, id: &EndpointId) -> Result<(), NodeError> {
        match self.tombstone(id) {
            Some(path) if path.exists() => self.detach_held(id).await,
            _ => Ok(()),
        }
    }

    /// Removes an endpoint's tombstone after what it asks for is done.
    pub(super) async fn forget_tombstone(&self, id: &EndpointId) -> Result<(), NodeError> {
        let Some(path) = self.tombstone(id) else { return Ok(()) };
        match fs::remove_file(&path) {
            // A tombstone that comes back after a power failure is acted on once more, which does no harm to anything
            // but an endpoint of the same name made since: so its end is made durable, too.
            Ok(()) => {
                let directory = self.state_dir.join(TOMBSTONE_DIR);
                File::open(&directory)
                    .and_then(|file| file.sync_all())
                    .map_err(|error| failed("sync", &directory, error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", &path, error)),
        }
    }

    /// Does what all tombstones ask for, and answers how many it did. Goes on over failures: they stay for the next time.
    pub(super) async fn bury_all(&self) -> usize {
        let endpoints = match read(&self.state_dir.join(TOMBSTONE_DIR)) {
            Ok(endpoints) => endpoints,
            Err(error) => {
                tracing::error!(%error, "tombstones cannot be read");
                return 0;
            }
        };
        let mut done = 0;
        for id in &endpoints {
            match self.detach(id).await {
                Ok(()) => {
                    done += 1;
                    tracing::info!(endpoint = %id, "detached, as a tombstone asked");
                }
                Err(error) => tracing::error!(endpoint = %id, %error, "what a tombstone asks for failed; it stays"),
            }
        }
        done
    }
}
