//! The signal of a pipe whose reader is gone.

use nix::sys::signal::{SigHandler, Signal, signal};

/// Its default: the process ends. signal(7).
pub(crate) fn end_without_reader() {
    // SAFETY: the default disposition runs no code of ours. It cannot fail for a signal that may be caught.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}
