//! Programs of pods begin at clsact and are moved to TCX. Never is a packet without one of the two, and never does one that takes packets
//! away come to TCX before one that judges them.
//!
//! To attach a program at TCX the kernel waits until all processors have passed through a quiet state, some 10 ms, and keeps
//! everybody from changing interfaces meanwhile; a filter of clsact is there at once. A pod waits for neither: its programs begin as filters
//! while nobody else has a program at TCX, which would be asked first and could let packets by. Then, while no pod waits, they are put at
//! TCX in their order, and only then is the filter taken away; in between a packet meets both, with one answer.

use super::error::{HookError, KernelError};
use super::forward::Forward;
use super::hooks::{Attached, HANDLE, Hook, Hooks, Place, Program};
use super::object::Way;
use super::program::Known;
use super::tcx;
use net_linux::netlink::Batch;
use net_linux::netns::{NetNs, NetNsId};
use net_linux::tc::{self, Filter, Side};
use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Disciplines that we made, to be taken away when nothing is there any more: of one that is forgotten an empty one stays.
pub(super) type Made = BTreeSet<(NetNsId, u32)>;

/// So many are remembered at most.
const MOST: usize = 4096;

/// Changes of hooks in this process, one after the other, as in the kernel: who found a program at one hook does not change it at another.
pub(super) fn alone() -> MutexGuard<'static, Made> {
    static MADE: Mutex<Made> = Mutex::new(Made::new());
    MADE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that pods wait for.
struct Urgent {
    name: &'static str,
    side: Side,
    place: Place,
}

fn urgent() -> impl Iterator<Item = Urgent> {
    fn of<P: Program>() -> impl Iterator<Item = Urgent> {
        let urgent = P::ALL.iter().filter(|program| program.is_urgent());
        urgent.map(|program| Urgent { name: program.name(), side: program.side(), place: program.place() })
    }
    of::<Way>().chain(of::<Forward>())
}

impl Hooks {
    /// Moves programs of ours at one side of an interface from clsact to TCX, those first that are asked first. Nothing is to be done
    /// where hooks are those of clsact, and of an interface that is gone.
    ///
    /// # Errors
    /// The kernel refuses; what could not be moved, and what comes behind it, stays.
    pub fn settle(&mut self, interface: u32, side: Side) -> Result<(), KernelError> {
        if self.hook() == Hook::Clsact {
            return Ok(());
        }
        match self.move_all(&mut alone(), interface, side) {
            Err(error) if error.errno() == Some(nix::libc::ENODEV) => Ok(()),
            done => done.map_err(|source| KernelError::Move { interface, source }),
        }
    }

    pub(super) fn move_all(&mut self, made: &mut Made, interface: u32, side: Side) -> Result<(), HookError> {
        let filters = Filter::dump(&mut self.socket, interface, side)?;
        let mut moved = false;
        // In their order.
        let there = tcx::query(interface, side).map_err(HookError::Call)?;
        let there: Vec<_> = there.iter().filter(|at| !at.linked).filter_map(|at| Known::of(at.program).ok()?).collect();
        for filter in &filters {
            let is_here = |urgent: &Urgent| {
                (urgent.side, urgent.place.priority(), HANDLE) == (side, filter.place.priority, filter.place.handle)
            };
            let Some(urgent) = urgent().find(is_here) else { continue };
            let known = Known::of(filter.program).map_err(HookError::Call)?;
            let Some(known) = known.filter(|known| known.name == urgent.name) else { continue };
            // Who ended between the two steps left both.
            if there.iter().all(|at| at.name != urgent.name) {
                let program = known.fd().map_err(HookError::Call)?;
                tcx::attach(interface, side, program.as_fd(), urgent.place.into()).map_err(HookError::Call)?;
            }
            self.take_away(filter.place)?;
            moved = true;
        }
        if moved { self.tidy(made, interface) } else { Ok(()) }
    }

    /// Puts a program where none of ours is.
    pub(super) fn begin<P: Program>(
        &mut self,
        made: &mut Made,
        program: P,
        interface: u32,
        new: BorrowedFd<'_>,
    ) -> Result<(), HookError> {
        let side = program.side();
        let is_free = || tcx::query(interface, side).is_ok_and(|found| found.is_empty());
        if program.is_urgent() && is_free() {
            let filter = tc::Place { interface, side, priority: program.place().priority(), handle: HANDLE };
            // Where clsact cannot be had, as beside somebody's `ingress`, there is TCX still.
            if self.put(made, filter, new, program.name(), false).is_ok() && is_free() {
                return Ok(());
            }
        }
        self.move_all(made, interface, side)?;
        match tcx::attach(interface, side, new, program.place().into()) {
            // It was moved a moment ago.
            Err(error) if error.raw_os_error() == Some(nix::libc::EEXIST) => Ok(()),
            done => done.map_err(HookError::Call),
        }
    }

    /// Puts a filter of clsact, in the place of one that is there or where none is.
    pub(super) fn put(
        &mut self,
        made: &mut Made,
        place: tc::Place,
        new: BorrowedFd<'_>,
        name: &str,
        is_there: bool,
    ) -> Result<(), HookError> {
        let mut batch = Batch::new();
        if is_there {
            place.replace(&mut batch, new, name);
        } else {
            let is_new = tc::add_clsact(&mut self.socket, place.interface)?;
            if let (true, true, Ok(netns)) = (is_new, made.len() < MOST, NetNs::current()) {
                made.insert((netns.id(), place.interface));
            }
            place.create(&mut batch, new, name);
        }
        Ok(self.socket.run_all(&mut batch)?)
    }

    /// Takes a filter of clsact away.
    pub(super) fn take_away(&mut self, place: tc::Place) -> Result<(), HookError> {
        let mut batch = Batch::new();
        place.delete(&mut batch);
        Ok(self.socket.run_all(&mut batch)?)
    }

    /// Whether a program that was found as a filter is one still. Else it has been moved since.
    pub(super) fn is_filter<P: Program>(&mut self, found: &Attached<P>) -> bool {
        let (interface, side) = (found.interface, found.program.side());
        let mut all = || Filter::dump(&mut self.socket, interface, side);
        found.hook == Hook::Clsact && all().is_ok_and(|all| all.iter().any(|at| at.program == found.known.id))
    }

    /// Takes a clsact away that we made and that is empty again: each packet would pass through it.
    fn tidy(&mut self, made: &mut Made, interface: u32) -> Result<(), HookError> {
        let Ok(netns) = NetNs::current() else { return Ok(()) };
        let key = (netns.id(), interface);
        if !made.contains(&key) {
            return Ok(());
        }
        for side in Side::BOTH {
            if !tc::is_empty(&mut self.socket, interface, side)? {
                return Ok(());
            }
        }
        made.remove(&key);
        // Somebody else may have taken it away.
        let _ = tc::delete_clsact(&mut self.socket, interface);
        Ok(())
    }
}
