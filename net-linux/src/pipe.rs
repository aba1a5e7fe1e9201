//! Output that nobody reads any more. Never for a process that holds connections: it would end with one of them.

use crate::sys;

/// Lets this process end quietly when the reader of its output is gone (`| head`), as programs do whose language does not
/// ignore the signal. For the `main` of a command that prints and ends.
pub fn end_without_reader() {
    sys::pipe::end_without_reader();
}
