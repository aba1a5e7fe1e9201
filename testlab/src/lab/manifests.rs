//! The directory that stands for the cluster's API: agents watch it. Never reads it.

use super::{LabError, file_error, node::write_json};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The directory of manifests of a lab.
#[derive(Debug)]
pub struct Manifests {
    directory: PathBuf,
}

impl Manifests {
    pub(super) fn create(directory: PathBuf) -> Result<Self, LabError> {
        fs::create_dir_all(&directory).map_err(file_error(&directory))?;
        Ok(Self { directory })
    }

    /// Where it is. Agents write into it, too.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Writes an object under a name that only its author uses.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn put(&self, name: &str, object: &Value) -> Result<(), LabError> {
        let path = self.directory.join(format!("{name}.json"));
        // Agents watch the directory: they shall never see half a file.
        let fresh = self.directory.join(format!(".{name}.new"));
        write_json(&fresh, object)?;
        fs::rename(&fresh, &path).map_err(file_error(&path))
    }

    /// Removes an object. One that is not there is no error.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub fn remove(&self, name: &str) -> Result<(), LabError> {
        let path = self.directory.join(format!("{name}.json"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error(&path)(error)),
            _ => Ok(()),
        }
    }
}
