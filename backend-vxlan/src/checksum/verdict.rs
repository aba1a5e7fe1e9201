//! The verdict on disk, so that a restart does not bring a broken path back. Never more than one interface's.
//!
//! `checksum-offload.json` in the backend's state directory, version 1; delete it to have the path tested with offload on
//! again. A file that can't be read counts as absent.

use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Verdict {
    version: u32,
    /// The underlay's interface.
    interface: String,
    /// The kernel that it was tested on: another may have the fault mended.
    kernel: String,
    broken: bool,
}

/// The file for one interface and the running kernel.
#[derive(Debug, Clone)]
pub(crate) struct VerdictFile {
    path: PathBuf,
    interface: String,
    kernel: String,
}

impl VerdictFile {
    pub(crate) fn new(state_dir: &Path, interface: &str) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        Self { path: state_dir.join("checksum-offload.json"), interface: interface.to_owned(), kernel }
    }

    /// Whether the path was found broken, on this interface and kernel.
    pub(crate) fn is_broken(&self) -> bool {
        let read = std::fs::read(&self.path).ok().and_then(|bytes| serde_json::from_slice::<Verdict>(&bytes).ok());
        read.is_some_and(|verdict| verdict == self.verdict())
    }

    /// Keeps that the path is broken.
    pub(crate) fn keep(&self) -> io::Result<()> {
        std::fs::write(&self.path, serde_json::to_vec(&self.verdict())?)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn verdict(&self) -> Verdict {
        Verdict { version: VERSION, interface: self.interface.clone(), kernel: self.kernel.clone(), broken: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_for_its_interface_and_kernel_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = VerdictFile::new(directory.path(), "eth0");
        assert!(!file.is_broken());
        file.keep().unwrap();
        assert!(file.is_broken());
        assert!(!VerdictFile::new(directory.path(), "eth1").is_broken());
        assert!(!VerdictFile { kernel: "7.0".to_owned(), ..file.clone() }.is_broken());
    }

    #[test]
    fn yesterdays_file_is_read_and_a_damaged_one_counts_as_absent() {
        let directory = tempfile::tempdir().unwrap();
        let file = VerdictFile { kernel: "6.1.0".to_owned(), ..VerdictFile::new(directory.path(), "eth0") };
        std::fs::write(file.path(), r#"{"version":1,"interface":"eth0","kernel":"6.1.0","broken":true}"#).unwrap();
        assert!(file.is_broken());
        std::fs::write(file.path(), r#"{"version":1,"inter"#).unwrap();
        assert!(!file.is_broken());
    }
}
