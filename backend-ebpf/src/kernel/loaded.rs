//! Of a program that was loaded here: its descriptor, its maps. Never loads one.

use super::error::KernelError;
use super::hooks::Program;
use aya::programs::{ProgramFd, ProgramInfo};

pub(super) fn map_ids(program: impl Program, info: &ProgramInfo) -> Result<Vec<u32>, KernelError> {
    let ids = info.map_ids().map_err(|source| KernelError::Program { program: program.name(), source })?;
    Ok(ids.unwrap_or_default())
}

pub(super) fn fd_of(program: impl Program, info: &ProgramInfo) -> Result<ProgramFd, KernelError> {
    info.fd().map_err(|source| KernelError::Program { program: program.name(), source })
}
