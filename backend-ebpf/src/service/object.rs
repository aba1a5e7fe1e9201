//! The object with the programs at sockets, loaded. Never attached here: see `hooks`.

use super::config::Sizes;
use crate::kernel::{KernelError, verifier};
use aya::programs::{CgroupSockAddr, ProgramError, ProgramInfo};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use std::path::{Path, PathBuf};

/// Programs and maps, built from `programs/` by `cargo xtask bpf build`.
pub static OBJECT: &[u8] = include_bytes_aligned!("../../objects/services.o");

/// What a socket does when a program is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// It shows a peer.
    GetPeerName4,
    /// The same over IPv6.
    GetPeerName6,
    /// It receives a datagram.
    RecvMsg4,
    /// The same over IPv6.
    RecvMsg6,
    /// It connects.
    Connect4,
    /// The same over IPv6.
    Connect6,
    /// It sends a datagram.
    SendMsg4,
    /// The same over IPv6.
    SendMsg6,
}

impl Hook {
    /// All, those first that only undo what the others do.
    pub const ALL: [Self; 8] = [
        Self::GetPeerName4,
        Self::GetPeerName6,
        Self::RecvMsg4,
        Self::RecvMsg6,
        Self::Connect4,
        Self::Connect6,
        Self::SendMsg4,
        Self::SendMsg6,
    ];

    /// The name of its program.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GetPeerName4 => "getpeername4",
            Self::GetPeerName6 => "getpeername6",
            Self::RecvMsg4 => "recvmsg4",
            Self::RecvMsg6 => "recvmsg6",
            Self::Connect4 => "connect4",
            Self::Connect6 => "connect6",
            Self::SendMsg4 => "sendmsg4",
            Self::SendMsg6 => "sendmsg6",
        }
    }

    /// Its number in `enum bpf_attach_type` of `include/uapi/linux/bpf.h`.
    pub(super) const fn kind(self) -> u32 {
        match self {
            Self::Connect4 => 10,
            Self::Connect6 => 11,
            Self::SendMsg4 => 14,
            Self::SendMsg6 => 15,
            Self::RecvMsg4 => 19,
            Self::RecvMsg6 => 20,
            Self::GetPeerName4 => 29,
            Self::GetPeerName6 => 30,
        }
    }
}

/// The object in the kernel.
pub struct Programs {
    pub(super) bpf: Ebpf,
}

impl Programs {
    /// Loads maps and programs: maps that are pinned in the folder of a bpffs are used, others are pinned there. Nothing is
    /// attached. Without a folder the maps go with the programs.
    ///
    /// # Errors
    /// The kernel refuses, or lacks what the object needs.
    pub fn load(sizes: &Sizes, folder: Option<&Path>) -> Result<Self, KernelError> {
        let mut loader = EbpfLoader::new();
        for (_, map, entries) in sizes.named() {
            loader.map_max_entries(map, entries);
            if let Some(folder) = folder {
                loader.map_pin_path(map, folder.join(map));
            }
        }
        let mut bpf = loader.load(OBJECT).map_err(|source| KernelError::Load { source })?;
        for hook in Hook::ALL {
            let name = hook.name();
            let program = bpf.program_mut(name).ok_or(KernelError::Missing { name })?;
            let program = <&mut CgroupSockAddr>::try_from(program)
                .map_err(|source| KernelError::Program { program: name, source })?;
            verifier::load(name, program, CgroupSockAddr::load)?;
        }
        Ok(Self { bpf })
    }

    /// Maps that are pinned nowhere in the folder.
    fn unpinned<'a>(&self, sizes: &Sizes, folder: &'a Path) -> impl Iterator<Item = (&'static str, PathBuf)> + use<'a> {
        let pins = sizes.named().into_iter().map(|(_, map, _)| (map, folder.join(map)));
        pins.filter(|(_, pin)| !pin.exists())
    }

    /// Whether all maps are pinned in the folder.
    pub(super) fn are_pinned(&self, sizes: &Sizes, folder: &Path) -> bool {
        self.unpinned(sizes, folder).next().is_none()
    }

    /// Pins those that are not.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn pin_missing(&self, sizes: &Sizes, folder: &Path) -> Result<(), KernelError> {
        for (name, pin) in self.unpinned(sizes, folder) {
            let map = self.bpf.map(name).ok_or(KernelError::Missing { name })?;
            map.pin(pin).map_err(|source| KernelError::Pin { name, source })?;
        }
        Ok(())
    }

    pub(super) fn program(&mut self, hook: Hook) -> Result<&mut CgroupSockAddr, KernelError> {
        let name = hook.name();
        let program = self.bpf.program_mut(name).ok_or(KernelError::Missing { name })?;
        program.try_into().map_err(|source: ProgramError| KernelError::Program { program: name, source })
    }

    /// What the kernel knows of a program: among others, how many instructions its verifier went through.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn info(&self, hook: Hook) -> Result<ProgramInfo, KernelError> {
        let name = hook.name();
        let failed = |source| KernelError::Program { program: name, source };
        let program = self.bpf.program(name).ok_or(KernelError::Missing { name })?;
        <&CgroupSockAddr>::try_from(program).and_then(CgroupSockAddr::info).map_err(failed)
    }
}
