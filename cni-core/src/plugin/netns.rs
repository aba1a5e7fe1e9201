//! Is a path a network namespace, and not our own? Looks at files only; never enters one.

use crate::cni::{CniError, ErrorCode};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const OWN: &str = "/proc/thread-self/ns/net";

/// What a path in `CNI_NETNS` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A namespace other than ours.
    Other,
    /// The namespace this thread is in.
    Own,
    /// Something else, or nothing.
    NoNamespace,
}

/// All namespaces are files of the one `nsfs` of the kernel, so they share its device number with our own.
pub(super) fn look_at(path: &Path) -> Found {
    match (fs::metadata(path), fs::metadata(OWN)) {
        (Ok(file), Ok(own)) if file.dev() == own.dev() && file.ino() == own.ino() => Found::Own,
        (Ok(file), Ok(own)) if file.dev() == own.dev() => Found::Other,
        _ => Found::NoNamespace,
    }
}

/// The error the specification has a code for: a wrong environment variable.
pub(super) fn refuse(path: &Path, found: Found) -> CniError {
    let (what, right) = match found {
        Found::Own => (
            "is the plugin's own network namespace",
            "pass the container's namespace, or set CNI_NETNS_OVERRIDE=1 if the host's own is really meant",
        ),
        _ => ("is no network namespace", "pass the path of one, as in /run/netns/blue; it may have been deleted"),
    };
    CniError::new(ErrorCode::InvalidEnvironment, format!("CNI_NETNS: {} {what}", path.display())).details(right)
}
