//! The record of a DEL that no agent was there to do. Only its form: never reads or writes a file.

use crate::model::EndpointId;
use serde::{Deserialize, Serialize};

/// The longest file name that Linux file systems take, in bytes (`NAME_MAX`, `include/uapi/linux/limits.h`).
const NAME_MAX: usize = 255;

/// A DEL that is still to be done. One file per endpoint in `<state directory>/tombstones/`.
///
/// The executable writes it (temporary file, `fsync`, rename, `fsync` of the directory) before it answers; the agent
/// detaches the endpoint and then removes the file. Both may happen again: DEL is repeatable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tombstone {
    /// The version of this format: 1.
    pub version: u32,
    /// What is to be detached.
    pub endpoint: EndpointId,
    /// When it was written, in milliseconds since the Unix epoch. For people.
    pub written_unix_ms: u64,
}

/// A file in the directory of tombstones that is none.
#[derive(Debug, thiserror::Error)]
pub enum TombstoneError {
    /// The endpoint's id gives a longer file name than file systems take.
    #[error(
        "endpoint {endpoint}: its tombstone's file name would have {bytes} bytes, and file systems take {NAME_MAX}"
    )]
    NameTooLong {
        /// The endpoint.
        endpoint: EndpointId,
        /// The length it would have, in bytes.
        bytes: usize,
    },
    /// Not JSON, or not of this form.
    #[error("tombstone {file}: {source}")]
    Malformed {
        /// The file's name.
        file: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Written by a newer version.
    #[error("tombstone {file}: version {version} is newer than this agent understands (1)")]
    Version {
        /// The file's name.
        file: String,
        /// Its version.
        version: u32,
    },
}

impl Tombstone {
    /// A tombstone of this version.
    #[must_use]
    pub fn new(endpoint: EndpointId, written_unix_ms: u64) -> Self {
        Self { version: 1, endpoint, written_unix_ms }
    }

    /// The file's name: `<container>@<interface>.json`. Neither part can hold a `/`, and `@` cannot be in a container id.
    ///
    /// # Errors
    /// [`TombstoneError::NameTooLong`].
    pub fn file_name(endpoint: &EndpointId) -> Result<String, TombstoneError> {
        let name = format!("{}@{}.json", endpoint.container(), endpoint.interface());
        // The temporary file has a dot in front and ".tmp" behind.
        let bytes = name.len() + 5;
        if bytes > NAME_MAX {
            return Err(TombstoneError::NameTooLong { endpoint: endpoint.clone(), bytes });
        }
        Ok(name)
    }

    /// Whether a directory entry is a finished tombstone, by its name.
    #[must_use]
    pub fn is_file_name(name: &str) -> bool {
        !name.starts_with('.') && name.ends_with(".json")
    }

    /// Reads a tombstone.
    ///
    /// # Errors
    /// [`TombstoneError`] that names the file.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, TombstoneError> {
        let tombstone: Self = serde_json::from_slice(bytes)
            .map_err(|source| TombstoneError::Malformed { file: file.to_owned(), source })?;
        if tombstone.version != 1 {
            return Err(TombstoneError::Version { file: file.to_owned(), version: tombstone.version });
        }
        Ok(tombstone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_of_version_1_is_still_read() {
        let bytes = br#"{"version":1,"endpoint":"c0ffee/eth0","writtenUnixMs":1790000000000}"#;
        let tombstone = Tombstone::parse("c0ffee@eth0.json", bytes).unwrap();
        assert_eq!(tombstone, Tombstone::new(EndpointId::of("c0ffee", "eth0").unwrap(), 1_790_000_000_000));
        assert!(Tombstone::parse("x", br#"{"version":2,"endpoint":"a/eth0","writtenUnixMs":0}"#).is_err());
        assert!(Tombstone::parse("x", b"").is_err());
    }

    #[test]
    fn a_file_name_stays_in_its_directory_and_within_name_max() {
        let id = EndpointId::of("c0ffee", "eth0").unwrap();
        assert_eq!(Tombstone::file_name(&id).unwrap(), "c0ffee@eth0.json");
        assert!(Tombstone::is_file_name("c0ffee@eth0.json"));
        assert!(!Tombstone::is_file_name(".c0ffee@eth0.json.tmp"));
        let long = EndpointId::of(&"a".repeat(250), "eth0").unwrap();
        assert!(matches!(Tombstone::file_name(&long), Err(TombstoneError::NameTooLong { bytes: 265, .. })));
    }
}
