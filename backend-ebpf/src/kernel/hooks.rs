//! Hooks of interfaces, and programs of ours that interfaces hold there: attached, found, taken off, at TCX or at clsact. Never
//! which programs there are, and never a foreign one taken off: ours pass on what they let pass, to whoever else is attached.
//!
//! What is attached stays when we end: the interface holds it, at either hook, and programs hold their maps. A program is known
//! as ours by its name, and at clsact by its place too.
//!
//! ```text
//!              TCX (Linux 6.6)                     clsact
//!  first       before all others                   priorities of our own, below those that `tc` chooses
//!  last        behind all others                   the last priorities
//!  replaced    in one step (BPF_F_REPLACE)         in one step (same priority and handle)
//!  asked       BPF_PROG_QUERY                      a dump of filters
//! ```
//!
//! All programs of a node are at one kind of hook, as everybody asks [`Hook::probe`]: the kernel asks TCX first, so a fast path
//! there would let packets by policy at clsact. Where that is TCX, programs of pods begin at clsact all the same, as the kernel waits for
//! nobody there, and are moved (`settle.rs`).

use super::error::{HookError, KernelError};
use super::program::Known;
use super::settle;
use super::tcx::{self, Position};
use aya::programs::ProgramFd;
use net_linux::link::{Link, LinkId};
use net_linux::netlink::Socket;
pub use net_linux::tc::Side;
use net_linux::tc::{self, Filter};
use nix::libc::{EINVAL, ENODEV, ENOENT, EOPNOTSUPP};
use nix::net::if_::if_nametoindex;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// How programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// TCX (since Linux 6.6).
    Tcx,
    /// Filters of the clsact queueing discipline, which is added where it is not there.
    Clsact,
}

/// A place among others at the same hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Before all that are there; at clsact by this priority.
    First(u16),
    /// Behind all that are there; at clsact by this priority.
    Last(u16),
}

impl Place {
    pub(super) const fn priority(self) -> u16 {
        match self {
            Self::First(priority) | Self::Last(priority) => priority,
        }
    }
}

/// Priorities at clsact: among ours, the order at TCX when policy comes before the datapath, but that the node's is before pods'. `tc` itself
/// gives 49152 and less, downwards.
pub(super) mod priority {
    /// Who says whose a packet is: back from masquerading, and out of the tunnel.
    pub(crate) const MASQUERADE_IN: u16 = 0x6361;
    pub(crate) const OUT_OF_TUNNEL: u16 = 0x6362;
    /// Policy about the node itself, and that of pods.
    pub(crate) const HOST: u16 = 0x6368;
    pub(crate) const POD: u16 = 0x636e;
    /// Who takes packets away, and who gives them the node's address.
    pub(crate) const PAST_STACK: u16 = 0xff61;
    pub(crate) const FROM_UNDERLAY: u16 = 0xff62;
    pub(crate) const INTO_TUNNEL: u16 = 0xff63;
    pub(crate) const MASQUERADE_OUT: u16 = 0xff64;
}

/// Of all our filters.
pub(super) const HANDLE: u32 = 1;

impl From<Place> for Position<'_> {
    fn from(place: Place) -> Self {
        match place {
            Place::First(_) => Self::First,
            Place::Last(_) => Self::Last,
        }
    }
}

/// A program of one of our objects.
pub trait Program: Copy + PartialEq + 'static {
    /// All of the object.
    const ALL: &'static [Self];
    /// Its name.
    fn name(self) -> &'static str;
    /// Where it is attached.
    fn side(self) -> Side;
    /// Among others that are there, where nothing of ours is to be replaced.
    fn place(self) -> Place;
    /// Whether a pod waits for it.
    fn is_urgent(self) -> bool;
}

/// A program of ours that was found at an interface.
#[derive(Debug)]
pub struct Attached<P> {
    /// The interface's index.
    pub interface: u32,
    /// Which program.
    pub program: P,
    /// What the kernel knows of it.
    pub known: Known,
    /// Whether a link holds it there, not the interface itself: somebody else put it there.
    pub linked: bool,
    /// Where it is.
    pub hook: Hook,
}

impl<P: Program> Attached<P> {
    /// The program's descriptor.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn fd(&self) -> Result<OwnedFd, KernelError> {
        self.known.fd().map_err(|source| failed(self.program, self.interface, HookError::Call(source)))
    }
}

/// Whether a program is where it was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// It is.
    Settled,
    /// It is at clsact, and has to be moved to TCX.
    Urgent,
    /// The same, and somebody else may be asked before it.
    Overtaken,
    /// Somebody took it off.
    Missing,
}

/// A program at a hook, whosever.
struct At {
    program: u32,
    linked: bool,
    /// Its place at clsact.
    place: Option<(u16, u32)>,
}

impl At {
    fn can_be(&self, program: impl Program) -> bool {
        self.place.is_none_or(|place| place == (program.place().priority(), HANDLE))
    }
}

/// The hooks of the interfaces of one network namespace. Those of TCX are the calling thread's; those of clsact of the thread's
/// that opened them.
pub struct Hooks {
    hook: Hook,
    /// Whether what is put anew goes to TCX at once.
    pub(super) leaves_clsact: bool,
    /// For clsact.
    pub(super) socket: Socket,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("hook", &self.hook).finish_non_exhaustive()
    }
}

impl Hook {
    /// TCX where this kernel has it, else clsact. Asks by way of the loopback interface.
    #[must_use]
    pub fn probe() -> Self {
        match if_nametoindex("lo").map_err(io::Error::from).and_then(|index| tcx::query(index, Side::Ingress)) {
            // Who may not ask may not attach either, and is told so then.
            Err(error) if error.raw_os_error() == Some(EINVAL) => Self::Clsact,
            _ => Self::Tcx,
        }
    }

    /// Those that this kernel has: programs are at the first, and at the others where an older kernel or somebody else put them.
    #[must_use]
    pub fn every() -> Vec<Self> {
        match Self::probe() {
            Self::Tcx => vec![Self::Tcx, Self::Clsact],
            Self::Clsact => vec![Self::Clsact],
        }
    }

    /// The hooks of the calling thread's network namespace.
    ///
    /// # Errors
    /// No netlink socket can be had.
    pub fn open(self) -> Result<Hooks, KernelError> {
        let socket = Socket::route().map_err(|source| KernelError::Hooks { source })?;
        Ok(Hooks { hook: self, leaves_clsact: false, socket })
    }
}

impl Hooks {
    /// Which ones.
    #[must_use]
    pub const fn hook(&self) -> Hook {
        self.hook
    }

    /// Whether clsact is left to others: then programs of new pods are put at TCX at once, and whoever puts them waits.
    pub const fn leave_clsact(&mut self, leaves: bool) {
        self.leaves_clsact = leaves;
    }

    /// All at one side of an interface, those of TCX first. What is moved in between is there once at least.
    fn at(&mut self, interface: u32, side: Side) -> Result<Vec<At>, KernelError> {
        let filters = self.at_clsact(interface, side)?;
        let mut found = if self.hook == Hook::Tcx { at_tcx(interface, side)? } else { Vec::new() };
        found.extend(filters);
        Ok(found)
    }

    fn at_clsact(&mut self, interface: u32, side: Side) -> Result<Vec<At>, KernelError> {
        let found = Filter::dump(&mut self.socket, interface, side);
        let found = found.map_err(|source| unanswered(interface, HookError::Netlink(source)))?;
        let at = |Filter { place, program }| At { program, linked: false, place: Some((place.priority, place.handle)) };
        Ok(found.into_iter().map(at).collect())
    }

    /// The numbers of all programs at one side of an interface, whosever, in their order; none of one that is not there.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn ids(&mut self, interface: u32, side: Side) -> Result<Vec<u32>, KernelError> {
        Ok(self.at(interface, side)?.into_iter().map(|at| at.program).collect())
    }

    /// Programs of one of our objects, of whatever build, at one side of an interface; none of one that is not there.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn find<P: Program>(&mut self, interface: u32, side: Side) -> Result<Vec<Attached<P>>, KernelError> {
        let mut found = Vec::new();
        for at in self.at(interface, side)? {
            let mut candidates = P::ALL.iter().copied().filter(|program| program.side() == side && at.can_be(*program));
            let Some(first) = candidates.next() else { continue };
            let known = Known::of(at.program).map_err(|source| failed(first, interface, HookError::Call(source)))?;
            // It went while we looked.
            let Some(known) = known else { continue };
            let program = std::iter::once(first).chain(candidates).find(|program| program.name() == known.name);
            let hook = if at.place.is_some() { Hook::Clsact } else { Hook::Tcx };
            found.extend(program.map(|program| Attached { interface, program, known, linked: at.linked, hook }));
        }
        Ok(found)
    }

    /// Whether a program is where it was put; `None` where that is not known, as of an interface that is gone.
    pub(crate) fn holds(&mut self, interface: u32, side: Side, program: u32) -> Option<Held> {
        let at_tcx = || tcx::query(interface, side).ok();
        let is_there = |found: &Vec<tcx::At>| found.iter().any(|at| at.program == program);
        let others = if self.hook == Hook::Tcx { at_tcx()? } else { Vec::new() };
        if is_there(&others) {
            return Some(Held::Settled);
        }
        if Filter::dump(&mut self.socket, interface, side).ok()?.iter().any(|at| at.program == program) {
            if self.hook == Hook::Clsact {
                return Some(Held::Settled);
            }
            return Some(if self.is_free(interface, side).ok()? { Held::Urgent } else { Held::Overtaken });
        }
        if self.hook == Hook::Tcx {
            // It may have been moved in between.
            return Some(if is_there(&at_tcx()?) { Held::Settled } else { Held::Missing });
        }
        // Filters of an interface that is gone are none, too.
        Link::get(&mut self.socket, &LinkId::Index(interface)).ok()?.map(|_| Held::Missing)
    }

    /// Attaches a program to an interface, in the place of an older one of ours if there is one: no packet passes in between
    /// without one of the two.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach<P: Program>(
        &mut self,
        program: P,
        interface: u32,
        new: BorrowedFd<'_>,
        old: Option<&Attached<P>>,
    ) -> Result<(), KernelError> {
        let _alone = settle::alone();
        let filter = place(program, interface);
        let mut put = || match (self.hook, old) {
            (Hook::Clsact, old) => self.put(filter, new, program.name(), old.is_some()),
            (Hook::Tcx, None) => self.begin(program, interface, new),
            (Hook::Tcx, Some(old)) if self.is_filter(old)? => self.succeed(program, filter, new),
            (Hook::Tcx, Some(old)) => {
                let old = old.known.fd().map_err(HookError::Call)?;
                let position = Position::InPlaceOf(old.as_fd());
                tcx::attach(interface, program.side(), new, position).map_err(HookError::Call)?;
                self.drop_filter(filter, program.name(), None)
            }
        };
        let done = put();
        done.map_err(|source| failed(program, interface, source))
    }

    /// Takes a program off; of an interface that is gone it is off already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach<P: Program>(&mut self, found: &Attached<P>) -> Result<(), KernelError> {
        let (program, interface) = (found.program, found.interface);
        let _alone = settle::alone();
        let filter = place(program, interface);
        let mut take_off = || {
            if self.hook == Hook::Clsact || self.is_filter(found)? {
                return self.take_away(filter);
            }
            // Of both the one that is asked first goes last.
            let dropped = self.drop_filter(filter, program.name(), Some(found.known.id));
            let off = |old: OwnedFd| tcx::detach(interface, program.side(), old.as_fd());
            dropped.and(found.known.fd().and_then(off).map_err(HookError::Call))
        };
        let done = take_off();
        match done {
            // On a kernel without clsact there is no filter either.
            Err(source) if matches!(source.errno(), Some(ENOENT | ENODEV)) => Ok(()),
            Err(source @ HookError::Netlink(_)) if matches!(source.errno(), Some(EINVAL | EOPNOTSUPP)) => Ok(()),
            done => done.map_err(|source| failed(program, interface, source)),
        }
    }
}

fn at_tcx(interface: u32, side: Side) -> Result<Vec<At>, KernelError> {
    match tcx::query(interface, side) {
        Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(Vec::new()),
        found => {
            let found = found.map_err(|source| unanswered(interface, HookError::Call(source)))?;
            let at = |at: tcx::At| At { program: at.program, linked: at.linked, place: None };
            Ok(found.into_iter().map(at).collect())
        }
    }
}

pub(super) fn place(program: impl Program, interface: u32) -> tc::Place {
    tc::Place { interface, side: program.side(), priority: program.place().priority(), handle: HANDLE }
}

/// Whether this kernel has hooks of this kind. Those of clsact cannot only be asked for: a program is attached to the loopback
/// interface of the calling thread's network namespace, once in a process, as a kernel does not change.
pub(super) fn try_out(
    hook: Hook,
    program: impl Program,
    load: impl FnOnce() -> Result<ProgramFd, KernelError>,
) -> Result<(), KernelError> {
    static CLSACT: OnceLock<()> = OnceLock::new();
    if hook == Hook::Clsact && CLSACT.get().is_some() {
        return Ok(());
    }
    let mut hooks = hook.open()?;
    let loopback = if_nametoindex("lo").map_err(|errno| failed(program, 0, HookError::Call(errno.into())))?;
    if hook == Hook::Clsact {
        hooks.attach(program, loopback, load()?.as_fd(), None)?;
        let _ = CLSACT.set(());
    }
    hooks.ids(loopback, program.side()).map(drop)
}

fn failed(program: impl Program, interface: u32, source: HookError) -> KernelError {
    KernelError::Hook { program: program.name(), interface, source }
}

fn unanswered(interface: u32, source: HookError) -> KernelError {
    KernelError::Query { interface, source }
}
