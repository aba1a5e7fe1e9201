//! A program of ours that an interface holds at a TCX hook: attached, found, taken off. Never which programs there are.

use super::error::KernelError;
use super::tcx::{self, Position, Side};
use aya::programs::{ProgramFd, ProgramInfo};
use std::os::fd::AsFd;

/// A program of one of our objects.
pub trait Program: Copy {
    /// Its name.
    fn name(self) -> &'static str;
    /// Where it is attached.
    fn side(self) -> Side;
    /// Among others that are there, where nothing of ours is to be replaced.
    fn place(self) -> Position<'static>;
}

/// A program of ours that was found at an interface.
#[derive(Debug)]
pub struct Attached<P> {
    /// The interface's index.
    pub interface: u32,
    /// Which program.
    pub program: P,
    /// What the kernel knows of it.
    pub info: ProgramInfo,
    /// The maps that it uses.
    pub map_ids: Vec<u32>,
}

impl<P: Program> Attached<P> {
    /// From what the kernel tells.
    pub(super) fn new(interface: u32, program: P, info: ProgramInfo) -> Result<Self, KernelError> {
        Ok(Self { interface, program, map_ids: map_ids(program, &info)?, info })
    }

    /// The program's descriptor.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn fd(&self) -> Result<ProgramFd, KernelError> {
        fd_of(self.program, &self.info)
    }

    /// Takes it off; of an interface that is gone it is off already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&self) -> Result<(), KernelError> {
        match tcx::detach(self.interface, self.program.side(), self.fd()?.as_fd()) {
            Err(source) if !is_gone(&source) => Err(hook(self.program, self.interface, source)),
            _ => Ok(()),
        }
    }
}

/// Attaches a program to an interface, in the place of an older one of ours if there is one: no packet passes in between
/// without one of the two.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn attach<P: Program>(
    program: P,
    interface: u32,
    new: &ProgramFd,
    old: Option<&Attached<P>>,
) -> Result<(), KernelError> {
    let replaced = old.map(Attached::fd).transpose()?;
    let position = replaced.as_ref().map_or(program.place(), |old| Position::InPlaceOf(old.as_fd()));
    tcx::attach(interface, program.side(), new.as_fd(), position).map_err(|source| hook(program, interface, source))
}

pub(super) fn map_ids(program: impl Program, info: &ProgramInfo) -> Result<Vec<u32>, KernelError> {
    let ids = info.map_ids().map_err(|source| KernelError::Program { program: program.name(), source })?;
    Ok(ids.unwrap_or_default())
}

pub(super) fn fd_of(program: impl Program, info: &ProgramInfo) -> Result<ProgramFd, KernelError> {
    info.fd().map_err(|source| KernelError::Program { program: program.name(), source })
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(nix::libc::ENOENT | nix::libc::ENODEV))
}

fn hook(program: impl Program, interface: u32, source: std::io::Error) -> KernelError {
    KernelError::Hook { program: program.name(), interface, source }
}
