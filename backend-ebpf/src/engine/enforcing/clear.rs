//! Taking all of ours away. Never a foreign program.

use super::super::place::Place;
use super::super::refused;
use super::super::running::{self, pins};
use crate::kernel::{Hook, Way};
use cni_core::backend::Result;
use net_linux::netns::NetNs;

/// Takes all programs of ours in the calling thread's network namespace off, and removes all maps and pins: for a node whose
/// policy is switched off, or enforced otherwise. Foreign programs stay, and so does an empty clsact.
///
/// # Errors
/// The kernel refused.
pub fn clear() -> Result<()> {
    // A kernel that tells of no namespace has no eBPF either, and is no failure.
    let Ok(place) = NetNs::current().and_then(|netns| Place::of(&netns)) else { return Ok(()) };
    let here = running::interfaces()?;
    // One that cannot be taken off keeps no other on.
    let mut done = Ok(());
    for hook in Hook::every() {
        let mut hooks = hook.open().map_err(refused)?;
        for ways in [Way::PODS, Way::HOST] {
            for name in running::occupied(&mut hooks, ways, &here)? {
                done = done.and(running::detach(&mut hooks, ways, &name).map_err(refused));
            }
        }
    }
    if !place.exists() {
        return done;
    }
    done.and(place.remove_all().map_err(|error| pins("remove", &error)))
}

/// Whether programs or pins of ours are in the calling thread's network namespace.
///
/// # Errors
/// The kernel could not be read.
pub fn is_there() -> Result<bool> {
    // As in `clear`.
    let Ok(place) = NetNs::current().and_then(|netns| Place::of(&netns)) else { return Ok(false) };
    if place.exists() {
        return Ok(true);
    }
    let here = running::interfaces()?;
    for hook in Hook::every() {
        let mut hooks = hook.open().map_err(refused)?;
        for ways in [Way::PODS, Way::HOST] {
            if !running::occupied(&mut hooks, ways, &here)?.is_empty() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
