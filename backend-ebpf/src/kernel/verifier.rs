//! Giving programs to the kernel's verifier. Never takes a signal for a refusal.

use aya::programs::ProgramError;
use std::io::ErrorKind;

/// So often a program is given to the verifier.
const ATTEMPTS: u32 = 10;

/// Loads a program.
///
/// The verifier gives up where a signal comes in between (`EAGAIN` of `do_check` in kernel/bpf/verifier.c), which says nothing of the
/// program.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn load<P>(program: &mut P, load: impl Fn(&mut P) -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 1..ATTEMPTS {
        match load(program) {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {}
            loaded => return loaded,
        }
    }
    load(program)
}
