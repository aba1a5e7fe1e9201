//! The C library's allocator. Never anything where it is not glibc's: others have no such calls.

#[cfg(target_env = "gnu")]
use nix::libc;

/// Bounds the number of arenas, and the size above which an allocation is mapped by itself.
pub(crate) fn tune(arenas: i32, mapped_from_bytes: i32) {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: takes two numbers and touches nothing but the allocator's own settings, under its lock.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
        // SAFETY: as above.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, mapped_from_bytes) };
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = (arenas, mapped_from_bytes);
}

/// Gives free pages back to the kernel.
pub(crate) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time from any thread (malloc_trim(3)): it touches free memory only, under the locks.
    unsafe {
        libc::malloc_trim(0);
    }
}
