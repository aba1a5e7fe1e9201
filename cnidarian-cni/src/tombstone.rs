//! Writes down a DEL that no agent was there to do. Never acts on it: the agent does, when it is up.

use cni_core::cni::{CniError, ErrorCode};
use cni_core::model::EndpointId;
use cni_core::rpc::{TOMBSTONE_DIR, Tombstone};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

fn failed(path: &Path, error: &io::Error) -> CniError {
    CniError::new(ErrorCode::Io, format!("the agent is away and DEL cannot be recorded in {}: {error}", path.display()))
        .details(
            "make stateDir of the network configuration writable for the runtime, or start the agent; then DEL again",
        )
}

/// Writes a tombstone so that it survives a power failure, and answers its path.
pub(crate) fn write(state_dir: &Path, endpoint: &EndpointId) -> Result<PathBuf, CniError> {
    let directory = state_dir.join(TOMBSTONE_DIR);
    let name = Tombstone::file_name(endpoint).map_err(|error| CniError::new(ErrorCode::InvalidEnvironment, error))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let tombstone = Tombstone::new(endpoint.clone(), u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let bytes = serde_json::to_vec(&tombstone).map_err(|error| failed(&directory, &error.into()))?;
    durably(&directory, &name, &bytes).map_err(|error| failed(&directory, &error))
}

fn durably(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    if !directory.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        // The new names are in these directories.
        for parent in directory.ancestors().skip(1).take(2) {
            File::open(parent)?.sync_all()?;
        }
    }
    let (path, temporary) = (directory.join(name), directory.join(format!(".{name}.tmp")));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    File::open(directory)?.sync_all()?;
    Ok(path)
}

/// Takes a tombstone back after the agent did the work itself.
pub(crate) fn remove(path: &Path) {
    // It would do no harm: the agent detaches once more, finds nothing, and removes it.
    let _ = fs::remove_file(path);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_is_one_whole_file_and_may_be_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        let id = EndpointId::of("c0ffee", "eth0").unwrap();
        let path = write(&state, &id).unwrap();
        assert_eq!(write(&state, &id).unwrap(), path);
        let names: Vec<_> = fs::read_dir(state.join(TOMBSTONE_DIR)).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["c0ffee@eth0.json"]);
        assert_eq!(Tombstone::parse("x", &fs::read(&path).unwrap()).unwrap().endpoint, id);
        remove(&path);
        remove(&path);
        assert!(!path.exists());
    }

    #[test]
    fn where_nothing_can_be_written_del_fails_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = write(&dir.path().join("file"), &EndpointId::of("a", "eth0").unwrap()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Io);
    }
}
