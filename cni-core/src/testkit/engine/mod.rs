//! Conformance suite of the engine's laws, for every backend, also a user's own. Never judges an engine by what it says of
//! itself: it compares what the kernel holds with what the items compile to.
//!
//! ```
//! use cni_core::testkit::engine::{conformance, fake, Settings};
//!
//! # futures_util::future::FutureExt::now_or_never(async {
//! let mut rig = fake::rig(fake::FakeKernel::default());
//! let states = fake::network_states(Some);
//! let report = conformance(&mut rig, &states, Settings { walks: 5, ..Settings::default() }).await?;
//! println!("{report}");
//! assert!(report.skipped().next().is_none());
//! # Ok::<(), cni_core::testkit::engine::Violation>(())
//! # }).expect("the fake never waits").unwrap();
//! ```
//!
//! A backend author writes a [`Testbed`]: how to open a driver, how to read the kernel, how to begin anew, and, where
//! they can, how to tamper. [`DriverRig`] makes a [`Rig`] of it, with failing writes and kills for free. Who has an
//! engine without a [`Driver`](crate::backend::Driver) (a shared library) writes a [`Rig`].
//!
//! What a rig cannot do ([`Rig::faults`], [`Rig::tamper`], [`Rig::strangers`] are `None`) leaves laws untested; the
//! [`Conformance`] report names them.

mod driver_rig;
pub mod fake;
mod faulty;
mod rig;
mod suite;
mod walk;

pub use driver_rig::{DriverRig, Testbed};
pub use faulty::{Faults, Faulty};
pub use rig::{Compiled, NODE, Rig, Snapshot, Strangers, Tamper, Wanted};
pub use suite::{Conformance, Law, Outcome, Settings, Violation, conformance};

#[cfg(test)]
mod mutants;
#[cfg(test)]
mod tests;
