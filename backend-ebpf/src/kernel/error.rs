//! What the kernel refuses. Never what that means to who holds an engine: see `refusal`.

use super::refusal::{Causes, of_log};
use aya::EbpfError;
use aya::maps::MapError;
use aya::pin::PinError;
use aya::programs::ProgramError;
use aya::programs::links::LinkError;

/// Something that the kernel refused.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The object cannot be loaded.
    #[error("the eBPF object cannot be loaded: {}", Causes(source))]
    Load {
        /// What the kernel or the loader said.
        source: EbpfError,
    },
    /// The verifier, or a check of the kernel's before it, refuses a program.
    #[error("the kernel refuses the eBPF program {program}: {source}{}", of_log(log))]
    Refused {
        /// Which one.
        program: &'static str,
        /// The end of what the verifier says; empty: it was not asked.
        log: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Another call about a program is refused.
    #[error("the eBPF program {program}: {}", Causes(source))]
    Program {
        /// Which one.
        program: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
    /// A program cannot be attached or taken off.
    #[error("the eBPF program {program} at {interface}: {}", Causes(source))]
    Attach {
        /// Which one.
        program: &'static str,
        /// At which interface.
        interface: String,
        /// What went wrong.
        source: AttachError,
    },
    /// A program cannot be attached to an interface's hook or taken off it.
    #[error("the eBPF program {program} at the interface with index {interface}: {source}")]
    Hook {
        /// Which one.
        program: &'static str,
        /// The interface.
        interface: u32,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A program cannot hold a map.
    #[error("the eBPF program {program} cannot hold a map: {source}")]
    Bind {
        /// Which one.
        program: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The kernel does not tell what is attached to an interface.
    #[error("programs at {interface} cannot be asked for: {}", Causes(source))]
    Query {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: ProgramError,
    },
    /// The object has no such program or map: it is not the one that this version was built with.
    #[error("the eBPF object has no {name}")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A program or map cannot be pinned.
    #[error("{name} cannot be pinned: {}", Causes(source))]
    Pin {
        /// Which one.
        name: &'static str,
        /// What the kernel said.
        source: PinError,
    },
    /// A map cannot be written or read.
    #[error("the eBPF map {map} cannot be {verb}: {}", Causes(source))]
    Map {
        /// Which one.
        map: &'static str,
        /// What was tried.
        verb: &'static str,
        /// What the kernel said; `E2BIG`: the map is full.
        source: MapError,
    },
}

/// Why a program cannot be attached or taken off.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refuses the program at this hook.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The kernel refuses at a TCX hook, or there is no such interface.
    #[error(transparent)]
    Hook(std::io::Error),
    /// The pinned link is none of a program at an interface, or cannot be opened.
    #[error("its pinned link: {0}")]
    Link(#[from] LinkError),
    /// The link cannot be pinned: it needs a folder of a bpffs, and a name without dots.
    #[error("its link cannot be pinned: {0}")]
    Pin(#[from] PinError),
    /// The pin of a link whose interface is gone cannot be removed.
    #[error("the pin of an old link cannot be removed: {0}")]
    Unpin(#[source] std::io::Error),
}
