//! What a predecessor left in force. Never changes it.

use super::super::objects::{Key, Object, Objects, View};
use super::super::place::Place;
use super::super::refused;
use super::super::running::{self, Earlier, pins};
use super::here;
use crate::kernel::{Hook, Hooks, Way};
use cni_core::backend::Result;
use cni_core::model::InterfaceName;
use std::collections::BTreeSet;

/// What a predecessor left in force, until all of ours is.
#[derive(Default)]
pub(super) struct Left {
    pub(super) generations: Vec<u32>,
    pub(super) objects: Objects,
    pub(super) interfaces: BTreeSet<InterfaceName>,
    /// Where the node itself is guarded.
    pub(super) guards: BTreeSet<InterfaceName>,
}

impl Left {
    /// Whether nothing is in force that is not ours.
    pub(super) fn is_empty(&self) -> bool {
        self.generations.is_empty() && self.interfaces.is_empty() && self.guards.is_empty()
    }

    /// All generations that are pinned.
    pub(super) fn read(place: &Place, hooks: &mut Hooks) -> Result<Self> {
        let names = running::interfaces()?;
        let mut left = Self {
            interfaces: running::occupied(hooks, Way::PODS, &names)?,
            guards: running::occupied(hooks, Way::HOST, &names)?,
            ..Self::default()
        };
        for number in place.generations().map_err(|error| pins("list", &error))? {
            left.generations.push(number);
            let Some(earlier) = Earlier::read(place, number, hooks, &names)? else { continue };
            let mut view = View::default();
            earlier.meant.iter().for_each(|write| view.take(write, &names));
            earlier.attached.iter().for_each(|name| view.set_attached(Key::Interface(name.clone()), true));
            earlier.guards.iter().for_each(|name| view.set_attached(Key::Host(name.clone()), true));
            left.guards.extend(earlier.guards.iter().cloned());
            left.interfaces.extend(earlier.attached.iter().cloned());
            for (key, object) in view.objects() {
                // Of two generations with one interface, that whose programs are there is in force.
                let in_force = !matches!(object, Object::Interface { attached: false, .. });
                if in_force || !left.objects.contains_key(key) {
                    left.objects.insert(key.clone(), object.clone());
                }
            }
        }
        Ok(left)
    }
}

/// What is in force in the calling thread's network namespace, read from its pins.
///
/// # Errors
/// The kernel could not be read.
pub fn observe() -> Result<Objects> {
    observe_at(Hook::probe())
}

/// The same by hooks of this kind.
///
/// # Errors
/// As [`observe`].
pub fn observe_at(hook: Hook) -> Result<Objects> {
    Left::read(&here()?, &mut hook.open().map_err(refused)?).map(|left| left.objects)
}
