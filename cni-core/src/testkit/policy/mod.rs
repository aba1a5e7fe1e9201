//! Random clusters and policies, and what engines must make of compiled items. Never a kernel.
//!
//! ```
//! use cni_core::policy::compile::Compiler;
//! use cni_core::testkit::dice::Dice;
//! use cni_core::testkit::policy::{Items, Scene};
//!
//! let mut dice = Dice::new(7);
//! let scene = Scene::random(&mut dice, 8, 12);
//! let mut compiler = Compiler::new(&scene.node);
//! scene.load(&mut compiler);
//! let mut items = Items::default();
//! for change in compiler.drain() {
//!     items.apply(change);
//! }
//! let connection = scene.connection(&mut dice);
//! println!("{connection:?}: {:?}", scene.decide(&items, &connection));
//! ```

mod interpret;
mod random;
mod rules;
mod scene;

pub use interpret::{Items, Packet};
pub use scene::{Decisions, Scene};
