//! What the kernel refuses.

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

/// Something that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The object cannot be loaded.
    #[error("the eBPF object cannot be loaded: {source}")]
    Load {
        /// What the kernel or the loader said.
        source: EbpfError,
    },
    /// The verifier, or another check of the kernel's, refuses a program.
    #[error("the kernel refuses the eBPF program {program}: {source}")]
    Program {
        /// Which one.
        program: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// The object has no such program or map: it is not the one that this version was built with.
    #[error("the eBPF object has no {name}")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A map cannot be written or read.
    #[error("the eBPF map {map} cannot be {verb}: {source}")]
    Map {
        /// Which one.
        map: &'static str,
        /// What was tried.
        verb: &'static str,
        /// What the kernel said; `E2BIG`: the map is full.
        source: MapError,
    },
}
