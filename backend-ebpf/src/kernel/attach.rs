//! Policy's programs at the host's end of a veth, and at the node's own interfaces. Never what is in their maps.

use super::error::KernelError;
use super::hooks::{Attached, Hooks, Place, Program, Side, priority};
use super::object::{Object, Way};
use std::os::fd::AsFd as _;

impl Program for Way {
    const ALL: &'static [Self] = &Self::EVERY;

    fn name(self) -> &'static str {
        self.program()
    }

    fn side(self) -> Side {
        match self {
            Self::FromPod | Self::ToHost => Side::Ingress,
            Self::ToPod | Self::FromHost => Side::Egress,
        }
    }

    fn place(self) -> Place {
        match self {
            // Before forwarding, which takes packets away.
            Self::FromPod | Self::ToPod => Place::First(priority::POD),
            Self::FromHost => Place::First(priority::HOST),
            // Behind those that say whose a packet is: out of the tunnel, and back from masquerading.
            Self::ToHost => Place::Last(priority::HOST),
        }
    }

    fn is_urgent(self) -> bool {
        matches!(self, Self::FromPod | Self::ToPod)
    }
}

impl Hooks {
    /// The program of one way, of whatever build. One that a link holds is somebody else's.
    fn ours(&mut self, way: Way, interface: u32) -> Result<Vec<Attached<Way>>, KernelError> {
        let mut found = self.find(interface, way.side())?;
        found.retain(|at: &Attached<Way>| at.program == way && !at.linked);
        Ok(found)
    }

    /// Whether a program of ours, of whatever build, is at one side of an interface.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn has_ours(&mut self, way: Way, interface: u32) -> Result<bool, KernelError> {
        Ok(!self.ours(way, interface)?.is_empty())
    }

    /// Takes our program off an interface; one that is not there is off already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take_off(&mut self, way: Way, interface: u32) -> Result<(), KernelError> {
        let older = self.ours(way, interface)?;
        self.detach_all(&older)
    }

    /// One that cannot be taken off keeps no other on.
    fn detach_all(&mut self, older: &[Attached<Way>]) -> Result<(), KernelError> {
        let mut done = Ok(());
        for old in older {
            done = done.and(self.detach(old));
        }
        done
    }
}

impl Object {
    /// Attaches the program of one way at an interface, in the place of an older one of ours: no packet passes in between without
    /// one of the two.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self, hooks: &mut Hooks, way: Way, interface: u32) -> Result<(), KernelError> {
        let refused = |source| KernelError::Program { program: way.program(), source };
        let program = self.program(way)?;
        let (own, fd) = (program.info().map_err(refused)?.id(), program.fd().map_err(refused)?);
        let mut older = hooks.ours(way, interface)?;
        if older.iter().any(|at| at.known.id == own) {
            // While it is moved it is at both hooks.
            older.retain(|at| at.known.id != own);
        } else {
            // One at TCX is the first of them, and behind it a filter goes that was left.
            let replaced = (!older.is_empty()).then(|| older.remove(0));
            hooks.attach(way, interface, fd.as_fd(), replaced.as_ref())?;
        }
        hooks.detach_all(&older)
    }
}
