//! What the allocator keeps of freed memory. Never a decision about what the process holds.
//!
//! A view of a large cluster is read in bursts: thousands of objects live for a moment, beside few that stay. glibc keeps
//! the holes, in an arena for each thread, and by itself rarely gives them back.

use crate::sys;

/// Allocations of this size are mapped by themselves and so given back when they are freed. Without it glibc raises its
/// threshold with each such allocation that it sees freed, to 32 MiB (`M_MMAP_THRESHOLD` in mallopt(3)).
const MAPPED_FROM_BYTES: i32 = 1 << 20;

/// Makes the allocator of this process keep less. For a program's `main`, before it starts threads.
pub fn keep_little() {
    sys::heap::tune(2, MAPPED_FROM_BYTES);
}

/// Gives free pages back to the kernel. Takes about a millisecond when there are few.
pub fn give_back() {
    sys::heap::trim();
}
