//! Programs of pods begin at clsact and are moved to TCX. Never is a packet without one of the two, and never does one that takes packets
//! away come to TCX before one that judges them.
//!
//! To attach a program at TCX the kernel waits until all processors have passed through a quiet state, some 10 ms, and keeps
//! everybody from changing interfaces meanwhile; a filter of clsact is there at once. A pod waits for neither: its programs begin as filters
//! while nobody else has a program or a filter there, which would be asked first and could let packets by. Then, while no pod waits,
//! they are put at TCX in their order, and only then is the filter taken away; in between a packet meets both, with one answer.

use super::error::{HookError, KernelError};
use super::forward::Forward;
use super::hooks::{Attached, HANDLE, Hook, Hooks, Place, Program, place};
use super::object::Way;
use super::program::Known;
use super::tcx::{self, Position};
use net_linux::netlink::Batch;
use net_linux::tc::{self, Filter, Side};
use nix::libc::{EEXIST, EINVAL, ENODEV, ENOENT};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Changes of hooks in this process, one after the other, as in the kernel: who found a program at one hook does not change it at another.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static CHANGING: Mutex<()> = Mutex::new(());
    CHANGING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A program that pods wait for.
struct Urgent {
    name: &'static str,
    side: Side,
    place: Place,
}

impl Urgent {
    fn all() -> impl Iterator<Item = Self> {
        fn of<P: Program>() -> impl Iterator<Item = Urgent> {
            let urgent = P::ALL.iter().filter(|program| program.is_urgent());
            urgent.map(|program| Urgent { name: program.name(), side: program.side(), place: program.place() })
        }
        of::<Way>().chain(of::<Forward>())
    }

    fn is_at(&self, place: tc::Place) -> bool {
        (self.side, self.place.priority(), HANDLE) == (place.side, place.priority, place.handle)
    }
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
        let _alone = alone();
        match self.move_all(interface, side) {
            Err(error) if error.errno() == Some(ENODEV) => Ok(()),
            done => done.map_err(|source| KernelError::Move { interface, source }),
        }
    }

    fn move_all(&mut self, interface: u32, side: Side) -> Result<(), HookError> {
        // In their order.
        for filter in Filter::dump(&mut self.socket, interface, side)? {
            let Some(urgent) = Urgent::all().find(|urgent| urgent.is_at(filter.place)) else { continue };
            let Some(known) = named(filter.program, urgent.name)? else { continue };
            let program = known.fd().map_err(HookError::Call)?;
            let there = ours_at_tcx(interface, side, urgent.name)?;
            // Who ended between the two steps left both; whoever came after that put a newer one at TCX, and numbers ascend.
            if there.as_ref().is_none_or(|there| there.id < known.id) {
                bring(interface, side, there, program.as_fd(), urgent.place)?;
            }
            self.take_away(filter.place)?;
        }
        Ok(())
    }

    /// Puts a program where none of ours was found.
    pub(super) fn begin<P: Program>(
        &mut self,
        program: P,
        interface: u32,
        new: BorrowedFd<'_>,
    ) -> Result<(), HookError> {
        let side = program.side();
        if program.is_urgent() && !self.leaves_clsact && self.is_free(interface, side)? {
            let filter = place(program, interface);
            // Where clsact cannot be had, as beside somebody's `ingress`, there is TCX still.
            if self.put(filter, new, program.name(), false).is_ok() && self.is_free(interface, side)? {
                return Ok(());
            }
        }
        self.move_all(interface, side)?;
        let there = ours_at_tcx(interface, side, program.name())?;
        bring(interface, side, there, new, program.place())
    }

    /// Whether nobody else is asked at one side: no program at TCX, and no filter but ours.
    pub(super) fn is_free(&mut self, interface: u32, side: Side) -> Result<bool, HookError> {
        let is_ours = |priority: &u16| Urgent::all().any(|urgent| urgent.place.priority() == *priority);
        Ok(tcx::query(interface, side).map_err(HookError::Call)?.is_empty()
            && tc::priorities(&mut self.socket, interface, side)?.iter().all(is_ours))
    }

    /// Puts a program in the place of a filter of ours, and to TCX where somebody came in between.
    pub(super) fn succeed<P: Program>(
        &mut self,
        program: P,
        filter: tc::Place,
        new: BorrowedFd<'_>,
    ) -> Result<(), HookError> {
        self.put(filter, new, program.name(), true)?;
        if self.is_free(filter.interface, filter.side)? {
            return Ok(());
        }
        self.move_all(filter.interface, filter.side)
    }

    /// Puts a filter of clsact, in the place of one that is there or where none is.
    pub(super) fn put(
        &mut self,
        place: tc::Place,
        new: BorrowedFd<'_>,
        name: &str,
        is_there: bool,
    ) -> Result<(), HookError> {
        let mut batch = Batch::new();
        if is_there {
            place.replace(&mut batch, new, name);
        } else {
            tc::add_clsact(&mut self.socket, place.interface)?;
            place.create(&mut batch, new, name);
        }
        Ok(self.socket.run_all(&mut batch)?)
    }

    /// Takes a filter of clsact away. One that is not there, or without clsact, is away already.
    pub(super) fn take_away(&mut self, place: tc::Place) -> Result<(), HookError> {
        let mut batch = Batch::new();
        place.delete(&mut batch);
        match self.socket.run_all(&mut batch).map_err(HookError::Netlink) {
            Err(error) if matches!(error.errno(), Some(ENOENT | EINVAL)) => Ok(()),
            done => done,
        }
    }

    /// Takes away what was left at clsact of a program that is at TCX: of whoever ended between the two steps. Any of its name, or
    /// only the one of this number.
    pub(super) fn drop_filter(&mut self, place: tc::Place, name: &str, only: Option<u32>) -> Result<(), HookError> {
        for filter in Filter::dump(&mut self.socket, place.interface, place.side)? {
            let is_meant = only.is_none_or(|only| only == filter.program);
            if filter.place == place && is_meant && named(filter.program, name)?.is_some() {
                self.take_away(place)?;
            }
        }
        Ok(())
    }

    /// Whether a program that was found as a filter is one still. Else it has been moved since.
    pub(super) fn is_filter<P: Program>(&mut self, found: &Attached<P>) -> Result<bool, HookError> {
        if found.hook == Hook::Tcx {
            return Ok(false);
        }
        let all = Filter::dump(&mut self.socket, found.interface, found.program.side())?;
        Ok(all.iter().any(|at| at.program == found.known.id))
    }
}

/// A program, if it has this name.
fn named(id: u32, name: &str) -> Result<Option<Known>, HookError> {
    Ok(Known::of(id).map_err(HookError::Call)?.filter(|known| known.name == name))
}

/// The program of ours of a name that is at TCX.
fn ours_at_tcx(interface: u32, side: Side, name: &str) -> Result<Option<Known>, HookError> {
    for at in tcx::query(interface, side).map_err(HookError::Call)?.iter().filter(|at| !at.linked) {
        if let Some(known) = named(at.program, name)? {
            return Ok(Some(known));
        }
    }
    Ok(None)
}

/// Puts a program at TCX, in the place of an older one of ours if there is one. It may be there already.
fn bring(interface: u32, side: Side, older: Option<Known>, new: BorrowedFd<'_>, place: Place) -> Result<(), HookError> {
    let older = older.map(|older| older.fd()).transpose().map_err(HookError::Call)?;
    let position = older.as_ref().map_or_else(|| place.into(), |older| Position::InPlaceOf(older.as_fd()));
    match tcx::attach(interface, side, new, position) {
        Err(error) if error.raw_os_error() == Some(EEXIST) => Ok(()),
        done => done.map_err(HookError::Call),
    }
}
