//! The object with our programs, loaded. Never attached here: see `attach`.

use super::error::KernelError;
use super::flows::FLOW_MAPS;
use super::read::POLICY_MAPS;
use super::verifier;
use aya::maps::MapData;
use aya::pin::PinError;
use aya::programs::{ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use backend_ebpf_abi::Reason;
use std::path::Path;

/// Programs and maps, built from `programs/` by `cargo xtask bpf build`.
pub static OBJECT: &[u8] = include_bytes_aligned!("../../objects/policy.o");

/// Which way a packet goes: seen from the pod at the host's end of its veth, or from the node at any interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Way {
    /// From a pod: what comes in at the host's end of its veth.
    FromPod,
    /// To it.
    ToPod,
    /// From the node itself: what goes out at an interface.
    FromHost,
    /// To it.
    ToHost,
}

impl Way {
    /// Both of a pod.
    pub const PODS: [Self; 2] = [Self::FromPod, Self::ToPod];
    /// Both of the node itself.
    pub const HOST: [Self; 2] = [Self::FromHost, Self::ToHost];
    /// All of them.
    pub const EVERY: [Self; 4] = [Self::FromPod, Self::ToPod, Self::FromHost, Self::ToHost];

    /// The name of its program.
    #[must_use]
    pub const fn program(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::ToPod => "to_pod",
            Self::FromHost => "from_host",
            Self::ToHost => "to_host",
        }
    }

    /// Whether it is the node's own.
    #[must_use]
    pub const fn is_of_host(self) -> bool {
        matches!(self, Self::FromHost | Self::ToHost)
    }
}

/// How many entries maps have room for. A full map refuses, and what needs it stays closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sizes {
    /// Addresses of local endpoints; and as many of the node itself, at each interface with a policy about it.
    pub endpoints: u32,
    /// Prefixes with an identity, of each family.
    pub identities: u32,
    /// Classes of identities: programs times the identities that they ask for.
    pub peers: u32,
    /// Prefixes of ports, all programs together.
    pub classes: u32,
    /// Verdicts that differ from their class's usual one.
    pub verdicts: u32,
    /// Fragmented packets on their way; older ones make room.
    pub fragments: u32,
    /// Connections; those that were quiet for longest make room, and answers in them are then judged as if they began one.
    pub connections: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            endpoints: 4096,
            identities: 512 * 1024,
            peers: 512 * 1024,
            classes: 128 * 1024,
            verdicts: 512 * 1024,
            fragments: 8192,
            connections: 256 * 1024,
        }
    }
}

impl Sizes {
    /// All of them, named as in a configuration.
    #[must_use]
    pub const fn named(&self) -> [(&'static str, u32); 7] {
        [
            ("endpoints", self.endpoints),
            ("identities", self.identities),
            ("peers", self.peers),
            ("classes", self.classes),
            ("verdicts", self.verdicts),
            ("fragments", self.fragments),
            ("connections", self.connections),
        ]
    }
}

/// What a program said of one packet that was given to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// What the program returned: -1 passes it on, 2 drops it.
    pub action: i32,
    /// Why; `None` when the program left a number that is none.
    pub reason: Option<Reason>,
    /// What policy says, where it was asked.
    pub verdict: backend_ebpf_abi::Verdict,
    /// How long the program ran, the mean of all rounds.
    pub duration: std::time::Duration,
}

/// Maps that a newer object goes on with: connections with the epoch of their verdicts, fragments, counters.
pub const KEPT_MAPS: [&str; 5] = ["CONNECTIONS", "EPOCH", "FRAGMENTS", "HOST_PACKETS", "PACKETS"];

/// Folders of a bpffs with what several objects have in common.
#[derive(Debug, Clone, Copy)]
pub struct Pins<'a> {
    /// What outlives a process: [`KEPT_MAPS`].
    pub kept: &'a Path,
    /// What all objects of one process tell through: [`FLOW_MAPS`]. Another process does not know the numbers in there.
    pub flows: &'a Path,
}

impl Pins<'_> {
    fn paths(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        let kept = KEPT_MAPS.into_iter().map(|name| (name, self.kept));
        kept.chain(FLOW_MAPS.into_iter().map(|name| (name, self.flows)))
    }
}

/// The object in the kernel.
pub struct Object {
    pub(super) bpf: Ebpf,
    /// Maps that somebody else reads.
    pub(super) lent: Vec<(&'static str, MapData)>,
}

/// `sizeof(struct __sk_buff)` and where its control block begins, of `include/uapi/linux/bpf.h`.
const CONTEXT_BYTES: usize = 192;
const CONTROL_BYTES: usize = 48;

impl Object {
    /// Loads maps and programs. Nothing is attached, and without entries the programs drop everything.
    ///
    /// # Errors
    /// The kernel refuses, or lacks what the object needs.
    pub fn load(sizes: &Sizes) -> Result<Self, KernelError> {
        Self::load_of(OBJECT, sizes)
    }

    /// The same of other bytes than [`OBJECT`]'s, with the same programs and maps.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_of(object: &[u8], sizes: &Sizes) -> Result<Self, KernelError> {
        Self::load_with(EbpfLoader::new(), object, sizes)
    }

    /// The same with maps that are pinned already, and the others of those pinned.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_pinned(sizes: &Sizes, pins: &Pins<'_>) -> Result<Self, KernelError> {
        let mut loader = EbpfLoader::new();
        for (name, folder) in pins.paths() {
            loader.map_pin_path(name, folder.join(name));
        }
        Self::load_with(loader, OBJECT, sizes)
    }

    fn load_with(mut loader: EbpfLoader<'_>, object: &[u8], sizes: &Sizes) -> Result<Self, KernelError> {
        for (map, entries) in [
            ("ENDPOINTS", sizes.endpoints),
            ("HOSTS", sizes.endpoints),
            ("IDENTITIES_V4", sizes.identities),
            ("IDENTITIES_V6", sizes.identities),
            ("PEERS", sizes.peers),
            ("TRAFFIC", sizes.classes),
            ("SOURCES", sizes.classes),
            ("VERDICTS", sizes.verdicts),
            ("FRAGMENTS", sizes.fragments),
            ("CONNECTIONS", sizes.connections),
            // Of each identity and program.
            ("MEANINGS", sizes.identities.saturating_mul(2)),
        ] {
            loader.map_max_entries(map, entries);
        }
        let mut bpf = loader.load(object).map_err(|source| KernelError::Load { source })?;
        for way in Way::EVERY {
            let name = way.program();
            let program = bpf.program_mut(name).ok_or(KernelError::Missing { name })?;
            let program = <&mut SchedClassifier>::try_from(program)
                .map_err(|source| KernelError::Program { program: name, source })?;
            verifier::load(name, program, SchedClassifier::load)?;
        }
        Ok(Self { bpf, lent: Vec::new() })
    }

    /// The numbers of its programs of two ways.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn program_ids(&self, [from, to]: [Way; 2]) -> Result<[u32; 2], KernelError> {
        Ok([self.info(from)?.id(), self.info(to)?.id()])
    }

    /// Pins programs and maps of policy under their names, in a folder of a bpffs.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn pin(&mut self, folder: &Path) -> Result<(), KernelError> {
        for way in Way::EVERY {
            let name = way.program();
            let failed = |source: PinError| KernelError::Pin { name, source };
            let program = self.bpf.program_mut(name).ok_or(KernelError::Missing { name })?;
            program.pin(folder.join(name)).map_err(failed)?;
        }
        for name in POLICY_MAPS {
            let map = self.bpf.map(name).ok_or(KernelError::Missing { name })?;
            map.pin(folder.join(name)).map_err(|source| KernelError::Pin { name, source })?;
        }
        Ok(())
    }

    /// Pins what is in no folder though it should be: programs and maps of policy in the first, what outlives an object in the others.
    /// Whether there was any.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn pin_missing(&mut self, folder: &Path, pins: &Pins<'_>) -> Result<bool, KernelError> {
        let mut any = false;
        for way in Way::EVERY {
            let (name, path) = (way.program(), folder.join(way.program()));
            if !path.exists() {
                let program = self.bpf.program_mut(name).ok_or(KernelError::Missing { name })?;
                program.pin(path).map_err(|source| KernelError::Pin { name, source })?;
                any = true;
            }
        }
        let maps = POLICY_MAPS.into_iter().map(|name| (name, folder)).chain(pins.paths());
        for (name, path) in maps.map(|(name, folder)| (name, folder.join(name))) {
            if !path.exists() {
                let pinned = match (self.bpf.map(name), self.lent.iter().find(|(lent, _)| *lent == name)) {
                    (Some(map), _) => map.pin(path),
                    (None, Some((_, data))) => data.pin(path),
                    (None, None) => return Err(KernelError::Missing { name }),
                };
                pinned.map_err(|source| KernelError::Pin { name, source })?;
                any = true;
            }
        }
        Ok(any)
    }

    /// The numbers of the programs of two ways that are pinned in a folder.
    ///
    /// # Errors
    /// They are not there.
    pub fn pinned_program_ids(folder: &Path, [from, to]: [Way; 2]) -> Result<[u32; 2], KernelError> {
        let id = |way: Way| {
            let info = ProgramInfo::from_pin(folder.join(way.program()));
            info.map(|info| info.id()).map_err(|source| KernelError::Program { program: way.program(), source })
        };
        Ok([id(from)?, id(to)?])
    }

    pub(super) fn program(&self, way: Way) -> Result<&SchedClassifier, KernelError> {
        let name = way.program();
        let program = self.bpf.program(name).ok_or(KernelError::Missing { name })?;
        program.try_into().map_err(|source| KernelError::Program { program: name, source })
    }

    /// What the kernel knows of a program: among others, how many instructions its verifier went through.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn info(&self, way: Way) -> Result<ProgramInfo, KernelError> {
        self.program(way)?.info().map_err(|source| KernelError::Program { program: way.program(), source })
    }

    /// Gives the program a frame (`BPF_PROG_TEST_RUN`), which goes nowhere, so many times. It seems to be made on this node.
    ///
    /// # Errors
    /// The kernel refuses the frame: one of less than 14 bytes, for example.
    pub fn judge(&self, way: Way, interface: u32, frame: &[u8], rounds: u32) -> Result<Judgement, KernelError> {
        self.judge_passing(way, [0, interface], frame, rounds)
    }

    /// The same of a frame that came in by an interface before it is at another; 0: by none.
    ///
    /// # Errors
    /// As [`Object::judge`].
    pub fn judge_passing(
        &self,
        way: Way,
        [came_by, interface]: [u32; 2],
        frame: &[u8],
        rounds: u32,
    ) -> Result<Judgement, KernelError> {
        let mut context = [0; CONTEXT_BYTES];
        // The other fields that may be given stay 0.
        context[CAME_BY_AT..][..4].copy_from_slice(&came_by.to_ne_bytes());
        context[INTERFACE_AT..][..4].copy_from_slice(&interface.to_ne_bytes());
        let mut after = [0; CONTEXT_BYTES];
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ctx_out: Some(&mut after),
            repeat: rounds,
            ..TestRunOptions::default()
        };
        let result = self
            .program(way)?
            .test_run(options)
            .map_err(|source| KernelError::Program { program: way.program(), source })?;
        let word = |index: usize| {
            let bytes = after[CONTROL_BYTES + 4 * index..].first_chunk().expect("the control block is within");
            u32::from_ne_bytes(*bytes)
        };
        Ok(Judgement {
            action: result.return_value.cast_signed(),
            reason: Reason::of(word(0)),
            verdict: backend_ebpf_abi::Verdict { enforced: word(1), staged: word(2) },
            duration: result.duration,
        })
    }
}

/// Where `ingress_ifindex` and `ifindex` are in `struct __sk_buff`.
const CAME_BY_AT: usize = 36;
const INTERFACE_AT: usize = 40;
