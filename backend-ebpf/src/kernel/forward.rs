//! The object of forwarding: loaded, attached, and found again in the kernel by whoever comes next. Never decides what is in
//! its maps.
//!
//! Nothing is pinned. A program stays with its interface, and holds the maps; who comes next asks the hooks for programs, and
//! the programs for their maps.

use super::error::KernelError;
use super::forward_maps::ForwardMaps;
use super::hooks::{self, Hook, Place, Program, Side, priority};
use super::loaded::{fd_of, map_ids};
use super::tcx;
use super::trial;
use super::verifier;
use aya::maps::MapInfo;
use aya::programs::{ProgramFd, ProgramInfo, SchedClassifier};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use backend_ebpf_abi::{FORWARD_VERSION, Settings};
use std::os::fd::AsFd;
use std::sync::OnceLock;

/// Built from `programs/` by `cargo xtask bpf build`.
pub static FORWARD_OBJECT: &[u8] = include_bytes_aligned!("../../objects/forward.o");

/// A program of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Forward {
    /// Says where packets that enter the tunnel device go.
    IntoTunnel,
    /// Takes in what came by the tunnel.
    OutOfTunnel,
    /// Takes pods' packets past the host's stack.
    PastStack,
    /// Takes packets for pods past the host's stack.
    FromUnderlay,
}

impl Forward {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::IntoTunnel, Self::OutOfTunnel, Self::PastStack, Self::FromUnderlay];

    /// The program's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IntoTunnel => "into_tunnel",
            Self::OutOfTunnel => "out_of_tunnel",
            Self::PastStack => "past_stack",
            Self::FromUnderlay => "from_underlay",
        }
    }

    /// Whether it takes packets past the host's stack.
    #[must_use]
    pub const fn is_of_fast_path(self) -> bool {
        matches!(self, Self::PastStack | Self::FromUnderlay)
    }

    /// Where it is attached.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::IntoTunnel => Side::Egress,
            Self::OutOfTunnel | Self::PastStack | Self::FromUnderlay => Side::Ingress,
        }
    }
}

impl Program for Forward {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }

    fn side(self) -> Side {
        self.side()
    }

    /// Policy about the node looks at what is inside of the tunnel, behind the program that takes it out.
    fn place(self) -> Place {
        match self {
            Self::OutOfTunnel => Place::First(priority::OUT_OF_TUNNEL),
            Self::PastStack => Place::Last(priority::PAST_STACK),
            Self::FromUnderlay => Place::Last(priority::FROM_UNDERLAY),
            Self::IntoTunnel => Place::Last(priority::INTO_TUNNEL),
        }
    }

    fn is_urgent(self) -> bool {
        matches!(self, Self::PastStack)
    }
}

/// One load of the object, with maps of its own.
pub struct Generation {
    bpf: Ebpf,
}

impl Generation {
    /// Loads programs and maps with room for so many pods and prefixes. Nothing is attached.
    ///
    /// # Errors
    /// The kernel refuses, or lacks what the object needs.
    pub fn load((pods, prefixes): (u32, u32)) -> Result<Self, KernelError> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("PODS", pods).map_max_entries("WAYS", prefixes);
        let mut bpf = loader.load(FORWARD_OBJECT).map_err(|source| KernelError::Load { source })?;
        for name in Forward::ALL.map(Forward::name) {
            let program = bpf.program_mut(name).ok_or(KernelError::Missing { name })?;
            let program = <&mut SchedClassifier>::try_from(program)
                .map_err(|source| KernelError::Program { program: name, source })?;
            verifier::load(name, program, SchedClassifier::load)?;
        }
        let loaded = Self { bpf };
        loaded.bind()?;
        loaded.unversioned()?.set_settings(Settings { version: FORWARD_VERSION, ..Settings::default() })?;
        Ok(loaded)
    }

    /// Each program holds all maps, so that those stay as long as one of the programs does.
    fn bind(&self) -> Result<(), KernelError> {
        let ids = map_ids(Forward::PastStack, &self.info(Forward::PastStack)?)?;
        let opened = |source| KernelError::Map { map: "of forwarding", verb: "opened", source };
        let maps: Result<Vec<_>, _> = ids.into_iter().map(|id| MapInfo::from_id(id)?.fd()).collect();
        let maps = maps.map_err(opened)?;
        for program in Forward::ALL {
            let holder = self.program(program)?;
            for map in &maps {
                let bound = tcx::bind(holder.as_fd(), map.as_fd());
                bound.map_err(|source| KernelError::Bind { program: program.name(), source })?;
            }
        }
        Ok(())
    }

    /// The program's descriptor.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn program(&self, program: Forward) -> Result<ProgramFd, KernelError> {
        fd_of(program, &self.info(program)?)
    }

    /// What the kernel knows of a program.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn info(&self, program: Forward) -> Result<ProgramInfo, KernelError> {
        let name = program.name();
        let loaded = self.bpf.program(name).ok_or(KernelError::Missing { name })?;
        loaded.info().map_err(|source| KernelError::Program { program: name, source })
    }

    /// Its maps.
    ///
    /// # Errors
    /// The kernel does not give them.
    pub fn maps(&self) -> Result<ForwardMaps, KernelError> {
        let ids = map_ids(Forward::PastStack, &self.info(Forward::PastStack)?)?;
        ForwardMaps::of(ids)?.ok_or(KernelError::Missing { name: "PODS" })
    }

    /// The same before anybody has written their version.
    fn unversioned(&self) -> Result<ForwardMaps, KernelError> {
        let ids = map_ids(Forward::PastStack, &self.info(Forward::PastStack)?)?;
        ForwardMaps::of_any_version(ids)?.ok_or(KernelError::Missing { name: "PODS" })
    }

    /// Gives a program a frame (`BPF_PROG_TEST_RUN`), which goes nowhere, so many times. Answers what it returned (-1 passes the
    /// packet on, 2 drops it, 7 sends it elsewhere), the frame as it is then, and how long a round took on average.
    ///
    /// # Errors
    /// The kernel refuses the frame: one of less than 14 bytes, for example.
    pub fn try_frame(
        &self,
        program: Forward,
        frame: &[u8],
        rounds: u32,
    ) -> Result<(i32, Vec<u8>, std::time::Duration), KernelError> {
        trial::run(&self.bpf, program.name(), frame, rounds)
    }
}

/// The tags of this build's programs, in the order of [`Forward::ALL`]: what tells them from others of the same name. The
/// kernel computes them of the instructions, so it is asked once in a process.
///
/// # Errors
/// The kernel refuses the programs.
pub fn tags() -> Result<[u64; 4], KernelError> {
    static TAGS: OnceLock<[u64; 4]> = OnceLock::new();
    if let Some(tags) = TAGS.get() {
        return Ok(*tags);
    }
    let loaded = Generation::load((1, 1))?;
    let mut tags = [0; 4];
    for (tag, program) in tags.iter_mut().zip(Forward::ALL) {
        *tag = loaded.info(program)?.tag();
    }
    Ok(*TAGS.get_or_init(|| tags))
}

/// A program of ours that was found at an interface.
pub type Attached = hooks::Attached<Forward>;

/// Whether this kernel takes the programs, and has hooks of this kind for them. One may be attached to the loopback interface of the
/// calling thread's network namespace: one of the caller's own.
///
/// # Errors
/// It does not, or has not.
pub fn probe(hook: Hook) -> Result<(), KernelError> {
    tags()?;
    hooks::try_out(hook, Forward::IntoTunnel, || Generation::load((1, 1))?.program(Forward::IntoTunnel))
}
