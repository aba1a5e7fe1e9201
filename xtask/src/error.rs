//! What can go wrong in a chore. Never a bare string: each says which program or rule.

use std::path::PathBuf;
use std::process::ExitCode;

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
        "the eBPF objects, or what they were made of, are not what their record says; run `cargo xtask bpf build`\nrecorded:\n{told}\nhere:\n{found}"
    )]
    OtherSources { told: String, found: String },
    #[error(
        "bytes can only be compared by the same compiler and linker; `cargo xtask bpf build` takes those that are here\nbuilt by:\n{told}\nhere:\n{found}"
    )]
    OtherToolchain { told: String, found: String },
    #[error("{object} is not what its sources make: it differs from byte {at} on; run `cargo xtask bpf build`")]
    OtherObject { object: String, at: usize },
    #[error("{count} rules broken, see above")]
    Untidy { count: usize },
    #[error("no archive of Debian's among this machine's apt sources (`apt-get indextargets`), to get {suite} from")]
    NoMirror { suite: &'static str },
    #[error("{what} cannot be had from Debian's {suite}: {source}; a VM cannot be run without it")]
    NotInSuite { what: String, suite: String, source: Box<Error> },
    #[error("{path}: {detail}")]
    KernelImage { path: PathBuf, detail: &'static str },
    #[error("{program} is not on this machine")]
    NoProgram { program: String },
    #[error("QEMU here is of version {found}, and the kernels run reliably from {needed} on")]
    OldQemu { found: String, needed: u32 },
    #[error("the VM ended before it was up; the end of its kernel's log:\n{log}")]
    NotUp { log: String },
    #[error("cargo built no test {target} of {package}")]
    NoTest { package: String, target: String },
    #[error("no suite for VMs has `{word}` in its name, and no test of theirs has")]
    NoTestNamed { word: String },
    #[error("no test of {suite} has `{word}` in its name, by which xtask/src/vm/suites.rs chooses some")]
    StaleWord { suite: String, word: String },
    #[error("in VMs {failed} of {all} did not pass, see above")]
    VmFailed { failed: usize, all: usize },
    /// The status is what the program ended with.
    #[error("the program in the VM {outcome}")]
    VmProgram { outcome: String, status: u8 },
}

impl Error {
    /// What we end with: a program's own status where we only ran it.
    pub(crate) fn status(&self) -> ExitCode {
        match self {
            Self::VmProgram { status, .. } => ExitCode::from(*status),
            _ => ExitCode::FAILURE,
        }
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
