//! Programs at the host's end of a veth, and at the node's own interfaces. Never takes a foreign program off the hook: ours pass
//! on what they let pass, to whoever else is attached.
//!
//! What is attached stays when we end: the interface holds it, at either hook, and programs hold their maps. So what was committed
//! stays in force, whatever becomes of pins. At TCX a program is known as ours by its name, and by no link holding it there.

use super::error::{AttachError, KernelError};
use super::object::{Object, Way};
use super::tcx::{self, Position, Side};
use aya::programs::links::Link as _;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TcAttachType};
use nix::net::if_::if_nametoindex;
use std::io::Error as IoError;
use std::os::fd::AsFd as _;

/// Our filters' priorities and handle at clsact: the letters `cn`, and of the node's own `ch`.
const PRIORITY: u16 = 0x636e;
const HOST_PRIORITY: u16 = 0x6368;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Numbers of `include/uapi/asm-generic/errno.h`.
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const EOPNOTSUPP: i32 = 95;

/// How programs are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// TCX (since Linux 6.6).
    Tcx,
    /// Filters of the clsact queueing discipline, which is added where it is not there.
    Clsact,
}

impl Hook {
    /// TCX where this kernel has it, else clsact. Asks by way of the loopback interface.
    #[must_use]
    pub fn probe() -> Self {
        match index("lo").and_then(|index| tcx::query(index, Side::Ingress)) {
            // Who may not ask may not attach either, and is told so then.
            Err(error) if error.raw_os_error() == Some(EINVAL) => Self::Clsact,
            _ => Self::Tcx,
        }
    }

    /// The numbers of all programs at one side of an interface, where this hook can be asked.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn programs(self, way: Way, interface: &str) -> Result<Option<Vec<u32>>, KernelError> {
        if self == Self::Clsact {
            return Ok(None);
        }
        let found = index(interface).and_then(|index| tcx::query(index, way.side()));
        let found = found.map_err(|source| failed(way, interface, AttachError::Hook(source)))?;
        Ok(Some(found.iter().map(|at| at.program).collect()))
    }

    /// Whether a program of ours, of whatever build, is at one side of an interface, where this hook can be asked.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn has_ours(self, way: Way, interface: &str) -> Result<bool, KernelError> {
        match self {
            Self::Clsact => Ok(false),
            Self::Tcx => {
                let found = index(interface).map_err(AttachError::Hook).and_then(|at| ours(way, interface, at));
                Ok(!found.map_err(|source| failed(way, interface, source))?.is_empty())
            }
        }
    }

    /// Takes our program off an interface of the calling thread's network namespace; one that is not there is off already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(self, way: Way, interface: &str) -> Result<(), KernelError> {
        let result = match self {
            Self::Tcx => detach_tcx(way, interface),
            Self::Clsact => detach_clsact(way, interface),
        };
        match result {
            // Who went, perhaps while we were at it, took its programs along; who has come since then has none.
            Err(source)
                if tells_of_none(&source)
                    || index(interface).is_err_and(|error| error.raw_os_error() == Some(ENODEV)) =>
            {
                Ok(())
            }
            result => result.map_err(|source| failed(way, interface, source)),
        }
    }
}

impl Object {
    /// Attaches the program of one way at an interface, in the calling thread's network namespace, in the place of
    /// an older one of ours: no packet passes in between without one of the two.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self, hook: Hook, way: Way, interface: &str) -> Result<(), KernelError> {
        let name = way.program();
        let program = self.bpf.program_mut(name).ok_or(KernelError::Missing { name })?;
        let program: &mut SchedClassifier =
            program.try_into().map_err(|source: ProgramError| failed(way, interface, source.into()))?;
        let result = match hook {
            Hook::Tcx => attach_tcx(program, way, interface),
            Hook::Clsact => attach_clsact(program, way, interface),
        };
        result.map_err(|source| failed(way, interface, source))
    }
}

fn failed(way: Way, interface: &str, source: AttachError) -> KernelError {
    KernelError::Attach { program: way.program(), interface: interface.to_owned(), source }
}

const fn priority(way: Way) -> u16 {
    if way.is_of_host() { HOST_PRIORITY } else { PRIORITY }
}

fn index(interface: &str) -> Result<u32, IoError> {
    if_nametoindex(interface).map_err(IoError::from)
}

/// Whether a hook's error, of which the library makes several kinds, says that there is no such interface.
fn tells_of_none(error: &AttachError) -> bool {
    let code = match error {
        AttachError::Hook(error) | AttachError::Program(ProgramError::IOError(error)) => error.raw_os_error(),
        AttachError::Program(ProgramError::SyscallError(error)) => error.io_error.raw_os_error(),
        AttachError::Program(
            ProgramError::NetlinkError(error) | ProgramError::TcError(TcError::NetlinkError(error)),
        ) => error.raw_os_error(),
        _ => None,
    };
    code == Some(ENODEV)
}

/// Programs of ours at TCX.
fn ours(way: Way, interface: &str, index: u32) -> Result<Vec<ProgramInfo>, AttachError> {
    let held: Vec<u32> = tcx::query(index, way.side())
        .map_err(AttachError::Hook)?
        .into_iter()
        .filter(|at| !at.linked)
        .map(|at| at.program)
        .collect();
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let (_, found) = SchedClassifier::query_tcx(interface, side(way))?;
    let is_ours = |info: &ProgramInfo| held.contains(&info.id()) && info.name_as_str() == Some(way.program());
    Ok(found.into_iter().filter(is_ours).collect())
}

fn attach_tcx(program: &SchedClassifier, way: Way, interface: &str) -> Result<(), AttachError> {
    let index = index(interface).map_err(AttachError::Hook)?;
    let (own, descriptor) = (program.info()?.id(), program.fd()?.as_fd());
    let mut older = ours(way, interface, index)?;
    let there = older.iter().position(|info| info.id() == own).map(|at| older.swap_remove(at));
    if there.is_none() {
        let attached = match older.pop() {
            Some(old) => tcx::attach(index, way.side(), descriptor, Position::InPlaceOf(old.fd()?.as_fd())),
            // Behind those that say whose a packet is: out of the tunnel, and back from masquerading.
            None if way == Way::ToHost => tcx::attach(index, way.side(), descriptor, Position::Last),
            // Before forwarding, which takes packets away.
            None => tcx::attach(index, way.side(), descriptor, Position::First),
        };
        attached.map_err(AttachError::Hook)?;
    }
    older.iter().try_for_each(|old| off(index, way, old))
}

fn detach_tcx(way: Way, interface: &str) -> Result<(), AttachError> {
    let index = index(interface).map_err(AttachError::Hook)?;
    ours(way, interface, index)?.iter().try_for_each(|old| off(index, way, old))
}

fn off(index: u32, way: Way, old: &ProgramInfo) -> Result<(), AttachError> {
    match tcx::detach(index, way.side(), old.fd()?.as_fd()) {
        Err(error) if !matches!(error.raw_os_error(), Some(ENOENT | ENODEV)) => Err(AttachError::Hook(error)),
        _ => Ok(()),
    }
}

impl Way {
    /// The side of the interface.
    pub(crate) const fn side(self) -> Side {
        match self {
            Self::FromPod | Self::ToHost => Side::Ingress,
            Self::ToPod | Self::FromHost => Side::Egress,
        }
    }
}

const fn side(way: Way) -> TcAttachType {
    match way {
        Way::FromPod | Way::ToHost => TcAttachType::Ingress,
        Way::ToPod | Way::FromHost => TcAttachType::Egress,
    }
}

/// Our filter at clsact, if it is there.
fn filter(way: Way, interface: &str) -> Result<SchedClassifierLink, ProgramError> {
    Ok(SchedClassifierLink::attached(interface, side(way), priority(way), HANDLE, None)?)
}

fn attach_clsact(program: &mut SchedClassifier, way: Way, interface: &str) -> Result<(), AttachError> {
    match tc::qdisc_add_clsact(interface) {
        Ok(()) => {}
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(EEXIST) => {}
        Err(error) => return Err(ProgramError::from(error).into()),
    }
    let options = NlOptions { priority: priority(way), handle: HANDLE, ..NlOptions::default() };
    let made = program.attach_with_options(interface, side(way), TcAttachOptions::Netlink(options));
    let attached = match made {
        Err(ProgramError::TcError(TcError::NetlinkError(error))) if error.raw_os_error() == Some(EEXIST) => {
            program.attach_to_link(filter(way, interface)?)?
        }
        made => made?,
    };
    // Its end would take the filter off.
    std::mem::forget(program.take_link(attached)?);
    Ok(())
}

fn detach_clsact(way: Way, interface: &str) -> Result<(), AttachError> {
    match filter(way, interface)?.detach() {
        // There is no such filter, or no clsact.
        Err(ProgramError::NetlinkError(error))
            if matches!(error.raw_os_error(), Some(ENOENT | EINVAL | ENODEV | EOPNOTSUPP)) =>
        {
            Ok(())
        }
        result => Ok(result?),
    }
}
