//! The system calls that no safe crate wraps. The only place of this crate with `unsafe`; never any logic.

pub(crate) mod heap;
pub(crate) mod ns;
pub(crate) mod pipe;
pub mod ready;
pub(crate) mod sockopt;
pub(crate) mod tun;
