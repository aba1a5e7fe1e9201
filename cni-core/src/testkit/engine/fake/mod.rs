//! A fake kernel, a backend on it, and network states to walk. Never lenient: it refuses what a kernel refuses.

mod backend;
mod driver;
mod kernel;
mod rig;
mod states;

pub use backend::FakeBackend;
pub use driver::FakeDriver;
pub use kernel::{Errno, FakeKernel, FakeKey, FakeObject, Mark};
pub use rig::{FakeTestbed, rig};
pub use states::{network_states, node};
