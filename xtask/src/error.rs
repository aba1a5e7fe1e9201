//! What can go wrong in a chore. Never a bare string: each says which program or rule.

use std::path::PathBuf;

/// A chore that did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("`{command}` could not be started: {source}")]
    Start { command: String, source: std::io::Error },
    #[error("`{command}` failed with {status}")]
    Failed { command: String, status: std::process::ExitStatus },
    #[error("missing programs: {programs}; become root (or install sudo), or run: apt-get install {packages}")]
    NotRoot { programs: String, packages: String },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("`cargo metadata` answered something unexpected: {detail}")]
    Metadata { detail: String },
    #[error("{chore}: not done within {} minutes", at_most.as_secs() / 60)]
    TooSlow { chore: &'static str, at_most: std::time::Duration },
    #[error(
        "{object}, or what it was made of, is not what its record says; run `cargo xtask bpf build`\nrecorded:\n{told}\nhere:\n{found}"
    )]
    OtherSources { object: &'static str, told: String, found: String },
    #[error(
        "bytes can only be compared by the same compiler and linker; `cargo xtask bpf build` takes those that are here\nbuilt by:\n{told}\nhere:\n{found}"
    )]
    OtherToolchain { told: String, found: String },
    #[error("{object} is not what its sources make: it differs from byte {at} on; run `cargo xtask bpf build`")]
    OtherObject { object: &'static str, at: usize },
    #[error("{count} rules broken, see above")]
    Untidy { count: usize },
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
