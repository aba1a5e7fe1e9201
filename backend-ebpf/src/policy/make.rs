//! Programs of what items say, made by whoever needs them: as entries of the maps, or only as what they mean. Never which are needed:
//! the items say that.

use super::PolicyError;
use super::items::Parts;
use cni_core::policy::model::Direction;
use cni_core::policy::program::{DirectionProgram, PolicyKey};
use std::net::IpAddr;

/// Makes programs.
pub(super) trait Make {
    /// What stands for a program.
    type Program: Copy;

    /// That of one direction at one address.
    ///
    /// # Errors
    /// It cannot be enforced.
    fn program(
        &mut self,
        item: &PolicyKey,
        direction: Direction,
        address: IpAddr,
        program: &DirectionProgram,
        parts: &Parts<'_>,
    ) -> Result<Self::Program, PolicyError>;
}
