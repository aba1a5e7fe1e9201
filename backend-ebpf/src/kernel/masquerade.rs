//! The object of masquerading: loaded, attached to the underlay, and found again in the kernel by whoever comes next. Never
//! decides what is masqueraded.
//!
//! As in forwarding nothing is pinned: the interface holds the programs, and they their maps with the connections in them.

use super::error::KernelError;
use super::hooks::{self, Hook, Hooks, Place, Program, Side, priority};
use super::loaded::{fd_of, map_ids};
use super::masquerade_maps::MasqueradeMaps;
use super::tcx;
use super::trial;
use super::verifier;
use aya::maps::MapInfo;
use aya::programs::{ProgramFd, ProgramInfo, SchedClassifier};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use backend_ebpf_abi::{MASQUERADE_VERSION, Masquerading};
use std::os::fd::AsFd;
use std::sync::OnceLock;

/// Built from `programs/` by `cargo xtask bpf build`.
pub static MASQUERADE_OBJECT: &[u8] = include_bytes_aligned!("../../objects/masquerade.o");

/// A program of the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Masquerade {
    /// Gives pods' packets the node's address.
    Out,
    /// Gives what answers them the pod's.
    In,
}

impl Masquerade {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Out, Self::In];

    /// The program's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "masq_out",
            Self::In => "masq_in",
        }
    }

    /// Where it is attached.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::Out => Side::Egress,
            Self::In => Side::Ingress,
        }
    }
}

impl Program for Masquerade {
    const ALL: &'static [Self] = &Self::ALL;

    fn name(self) -> &'static str {
        self.name()
    }

    fn side(self) -> Side {
        self.side()
    }

    /// Others see packets with the pod's address: it is the first of what comes in, and the last of what goes out.
    fn place(self) -> Place {
        match self {
            Self::In => Place::First(priority::MASQUERADE_IN),
            Self::Out => Place::Last(priority::MASQUERADE_OUT),
        }
    }

    fn is_urgent(self) -> bool {
        false
    }
}

/// Entries that the maps have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Connections; those that were quiet for longest make room.
    pub connections: u32,
    /// Prefixes of pods, and as many that are kept.
    pub prefixes: u32,
}

/// Fragmented packets on their way.
pub(super) const FRAGMENTS: u32 = 4096;

/// One load of the object, with maps of its own.
pub struct Loaded {
    bpf: Ebpf,
}

impl Loaded {
    /// Loads programs and maps. Nothing is attached, and without settings the programs let everything pass as it is.
    ///
    /// # Errors
    /// The kernel refuses, or lacks what the object needs.
    pub fn load(room: Room) -> Result<Self, KernelError> {
        let mut loader = EbpfLoader::new();
        for (map, entries) in [
            ("COMING", room.connections),
            ("LEAVING", room.connections),
            ("MASQ_SOURCES", room.prefixes),
            ("MASQ_KEEP", room.prefixes),
            ("MASQ_FRAGMENTS", FRAGMENTS),
        ] {
            loader.map_max_entries(map, entries);
        }
        let mut bpf = loader.load(MASQUERADE_OBJECT).map_err(|source| KernelError::Load { source })?;
        for name in Masquerade::ALL.map(Masquerade::name) {
            let program = bpf.program_mut(name).ok_or(KernelError::Missing { name })?;
            let program = <&mut SchedClassifier>::try_from(program)
                .map_err(|source| KernelError::Program { program: name, source })?;
            verifier::load(name, program, SchedClassifier::load)?;
        }
        let loaded = Self { bpf };
        loaded.bind()?;
        let ids = map_ids(Masquerade::Out, &loaded.info(Masquerade::Out)?)?;
        let maps = MasqueradeMaps::of_any_version(ids)?;
        let settings = Masquerading { version: MASQUERADE_VERSION, ..Masquerading::default() };
        maps.ok_or(KernelError::Missing { name: "COMING" })?.set_settings(settings)?;
        Ok(loaded)
    }

    /// Each program holds all maps, so that those stay as long as one of the programs does.
    fn bind(&self) -> Result<(), KernelError> {
        let opened = |source| KernelError::Map { map: "of masquerading", verb: "opened", source };
        for from in Masquerade::ALL {
            for id in map_ids(from, &self.info(from)?)? {
                let map = MapInfo::from_id(id).and_then(|info| info.fd()).map_err(opened)?;
                for program in Masquerade::ALL {
                    let bound = tcx::bind(self.program(program)?.as_fd(), map.as_fd());
                    bound.map_err(|source| KernelError::Bind { program: program.name(), source })?;
                }
            }
        }
        Ok(())
    }

    /// The program's descriptor.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn program(&self, program: Masquerade) -> Result<ProgramFd, KernelError> {
        fd_of(program, &self.info(program)?)
    }

    /// Attaches a program to an interface, in the place of an older one if there is one: no packet passes in between without one of
    /// the two.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(
        &self,
        hooks: &mut Hooks,
        program: Masquerade,
        interface: u32,
        old: Option<&Attached>,
    ) -> Result<(), KernelError> {
        hooks.attach(program, interface, self.program(program)?.as_fd(), old)
    }

    /// What the kernel knows of a program.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn info(&self, program: Masquerade) -> Result<ProgramInfo, KernelError> {
        let name = program.name();
        let loaded = self.bpf.program(name).ok_or(KernelError::Missing { name })?;
        loaded.info().map_err(|source| KernelError::Program { program: name, source })
    }

    /// Its maps.
    ///
    /// # Errors
    /// The kernel does not give them.
    pub fn maps(&self) -> Result<MasqueradeMaps, KernelError> {
        let ids = map_ids(Masquerade::Out, &self.info(Masquerade::Out)?)?;
        MasqueradeMaps::of(ids)?.ok_or(KernelError::Missing { name: "COMING" })
    }

    /// Gives a program a frame (`BPF_PROG_TEST_RUN`), which goes nowhere, so many times. Answers what it returned (-1 passes the
    /// packet on, 2 drops it), the frame as it is then, and how long a round took on average.
    ///
    /// # Errors
    /// The kernel refuses the frame: one of less than 14 bytes, for example.
    pub fn try_frame(
        &self,
        program: Masquerade,
        frame: &[u8],
        rounds: u32,
    ) -> Result<(i32, Vec<u8>, std::time::Duration), KernelError> {
        trial::run(&self.bpf, program.name(), frame, rounds)
    }
}

/// The tags of this build's programs, in the order of [`Masquerade::ALL`]; see [`super::forward::tags`].
///
/// # Errors
/// The kernel refuses the programs.
pub fn tags() -> Result<[u64; 2], KernelError> {
    static TAGS: OnceLock<[u64; 2]> = OnceLock::new();
    if let Some(tags) = TAGS.get() {
        return Ok(*tags);
    }
    let loaded = Loaded::load(SMALLEST)?;
    let tags = [loaded.info(Masquerade::Out)?.tag(), loaded.info(Masquerade::In)?.tag()];
    Ok(*TAGS.get_or_init(|| tags))
}

/// Room enough to try.
const SMALLEST: Room = Room { connections: 1, prefixes: 1 };

/// Whether this kernel takes the programs, and has hooks of this kind for them; see [`super::forward::probe`].
///
/// # Errors
/// It does not, or has not.
pub fn probe(hook: Hook) -> Result<(), KernelError> {
    tags()?;
    hooks::try_out(hook, Masquerade::Out, || Loaded::load(SMALLEST)?.program(Masquerade::Out))
}

/// A program of ours that was found at an interface.
pub type Attached = hooks::Attached<Masquerade>;

/// Our programs at both sides of an interface; none of one that is not there.
///
/// # Errors
/// The kernel does not tell.
pub fn find(hooks: &mut Hooks, interface: u32) -> Result<Vec<Attached>, KernelError> {
    let mut found = Vec::new();
    for program in Masquerade::ALL {
        found.extend(hooks.find(interface, program.side())?);
    }
    Ok(found)
}
