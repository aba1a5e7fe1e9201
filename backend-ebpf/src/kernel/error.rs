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
    /// A program cannot be attached to a cgroup.
    #[error("the eBPF program {program} at {place}: {}", Causes(source))]
    Attach {
        /// Which one.
        program: &'static str,
        /// At which cgroup.
        place: String,
        /// What went wrong.
        source: AttachError,
    },
    /// Hooks cannot be asked for: there is no netlink socket.
    #[error("hooks of interfaces cannot be asked for: {source}")]
    Hooks {
        /// What the kernel said.
        source: net_linux::netlink::Error,
    },
    /// A program cannot be attached to an interface's hook or taken off it.
    #[error("the eBPF program {program} at the interface with index {interface}: {source}")]
    Hook {
        /// Which one.
        program: &'static str,
        /// The interface.
        interface: u32,
        /// What the kernel said.
        source: HookError,
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
    #[error("programs at the interface with index {interface} cannot be asked for: {source}")]
    Query {
        /// The interface.
        interface: u32,
        /// What the kernel said.
        source: HookError,
    },
    /// The kernel does not let programs of ours be moved from clsact to TCX: they go on at clsact.
    #[error("programs at the interface with index {interface} cannot be moved from clsact to TCX: {source}")]
    Move {
        /// The interface.
        interface: u32,
        /// What the kernel said.
        source: HookError,
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

/// What the kernel says at a hook of an interface.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// By a system call: at TCX, or about the program.
    #[error(transparent)]
    Call(std::io::Error),
    /// By netlink: at clsact.
    #[error(transparent)]
    Netlink(#[from] net_linux::netlink::Error),
}

impl HookError {
    /// The kernel's error number, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Call(error) => error.raw_os_error(),
            Self::Netlink(error) => error.errno().map(|errno| errno as i32),
        }
    }
}

/// Why a program cannot be attached to a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel refuses the program at this hook.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The pinned link cannot be opened.
    #[error("its pinned link: {0}")]
    Link(#[from] LinkError),
    /// The link cannot be pinned: it needs a folder of a bpffs, and a name without dots.
    #[error("its link cannot be pinned: {0}")]
    Pin(#[from] PinError),
    /// The pin of a link whose cgroup is gone cannot be removed.
    #[error("the pin of an old link cannot be removed: {0}")]
    Unpin(#[source] std::io::Error),
}
