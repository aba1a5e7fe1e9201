//! Programs at the host's end of a veth. Never takes a foreign program off the hook: ours pass on what they let pass, to whoever
//! else is attached.
//!
//! What is attached stays when we end: a TCX link is held by its pin under a bpffs, a filter of clsact by its interface. Programs
//! hold their maps, so what was committed stays in force.

use super::error::{AttachError, KernelError};
use super::object::{Object, Way};
use aya::programs::links::{FdLink, Link as _, LinkError, LinkOrder, PinnedLink};
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TcAttachType};
use std::path::{Path, PathBuf};

/// Our filter's priority and handle at clsact: the letters `cn`.
const PRIORITY: u16 = 0x636e;
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// Numbers of `include/uapi/asm-generic/errno.h`. `ENOLINK` is what a link of an interface that is gone answers.
const ENOENT: i32 = 2;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOLINK: i32 = 67;

/// How programs are attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hook {
    /// TCX (since Linux 6.6), with links pinned in this folder of a bpffs, which is there.
    Tcx(PathBuf),
    /// Filters of the clsact queueing discipline, which is added where it is not there.
    Clsact,
}

impl Hook {
    /// TCX with pins in this folder where this kernel has it, else clsact. Asks by way of the loopback interface.
    #[must_use]
    pub fn probe(pins: &Path) -> Self {
        match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
            Ok(_) => Self::Tcx(pins.to_owned()),
            Err(_) => Self::Clsact,
        }
    }

    /// The numbers of all programs at one side of an interface, where this hook can be asked.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn programs(&self, way: Way, interface: &str) -> Result<Option<Vec<u32>>, KernelError> {
        match self {
            Self::Tcx(_) => match SchedClassifier::query_tcx(interface, side(way)) {
                Ok((_, programs)) => Ok(Some(programs.iter().map(ProgramInfo::id).collect())),
                Err(source) => Err(failed(way, interface, source.into())),
            },
            Self::Clsact => Ok(None),
        }
    }

    /// Takes our program off an interface of the calling thread's network namespace; one that is not there is off already.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn detach(&self, way: Way, interface: &str) -> Result<(), KernelError> {
        match self {
            Self::Tcx(folder) => match PinnedLink::from_pin(pin(folder, way, interface)) {
                // With its pin goes the last that holds it.
                Ok(link) => link.unpin().map(drop).map_err(|source| failed(way, interface, AttachError::Unpin(source))),
                Err(error) if is_absent(&error) => Ok(()),
                Err(source) => Err(failed(way, interface, source.into())),
            },
            Self::Clsact => {
                let link = filter(way, interface).map_err(|source| failed(way, interface, source.into()))?;
                match link.detach() {
                    // There is no such filter, or no clsact.
                    Err(ProgramError::NetlinkError(error)) if matches!(error.raw_os_error(), Some(ENOENT | EINVAL)) => {
                        Ok(())
                    }
                    result => result.map_err(|source| failed(way, interface, source.into())),
                }
            }
        }
    }
}

impl Object {
    /// Attaches the program of one way at the host's end of a veth, in the calling thread's network namespace, in the place of
    /// an older one of ours: no packet passes in between without one of the two.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach(&mut self, hook: &Hook, way: Way, interface: &str) -> Result<(), KernelError> {
        let name = way.program();
        let program = self.bpf.program_mut(name).ok_or(KernelError::Missing { name })?;
        let program: &mut SchedClassifier =
            program.try_into().map_err(|source: ProgramError| failed(way, interface, source.into()))?;
        let result = match hook {
            Hook::Tcx(folder) => tcx(program, way, interface, &pin(folder, way, interface)),
            Hook::Clsact => clsact(program, way, interface),
        };
        result.map_err(|source| failed(way, interface, source))
    }
}

impl Object {
    /// Attaches the program of one way at the loopback interface of the calling thread's network namespace, which is one to
    /// throw away.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn try_attach(&mut self, hook: &Hook, way: Way) -> Result<(), KernelError> {
        let name = way.program();
        let interface = "lo";
        let program = self.bpf.program_mut(name).ok_or(KernelError::Missing { name })?;
        let program: &mut SchedClassifier =
            program.try_into().map_err(|source: ProgramError| failed(way, interface, source.into()))?;
        let result = match hook {
            // The link goes with what is returned here.
            Hook::Tcx(_) => program
                .attach_with_options(interface, side(way), TcAttachOptions::TcxOrder(LinkOrder::default()))
                .and_then(|link| program.take_link(link))
                .map(drop)
                .map_err(AttachError::from),
            Hook::Clsact => clsact(program, way, interface),
        };
        result.map_err(|source| failed(way, interface, source))
    }
}

fn failed(way: Way, interface: &str, source: AttachError) -> KernelError {
    KernelError::Attach { program: way.program(), interface: interface.to_owned(), source }
}

fn pin(folder: &Path, way: Way, interface: &str) -> PathBuf {
    folder.join(format!("{}-{interface}", way.program()))
}

fn is_absent(error: &LinkError) -> bool {
    matches!(error, LinkError::SyscallError(error) if error.io_error.raw_os_error() == Some(ENOENT))
}

/// Our filter at clsact, if it is there.
fn filter(way: Way, interface: &str) -> Result<SchedClassifierLink, ProgramError> {
    Ok(SchedClassifierLink::attached(interface, side(way), PRIORITY, HANDLE, None)?)
}

const fn side(way: Way) -> TcAttachType {
    match way {
        Way::FromPod => TcAttachType::Ingress,
        Way::ToPod => TcAttachType::Egress,
    }
}

fn tcx(program: &mut SchedClassifier, way: Way, interface: &str, pin: &Path) -> Result<(), AttachError> {
    match PinnedLink::from_pin(pin) {
        Ok(old) => {
            let link = SchedClassifierLink::try_from(FdLink::from(old))?;
            match program.attach_to_link(link) {
                Ok(updated) => {
                    // The pin holds it, not we.
                    drop(program.take_link(updated)?);
                    return Ok(());
                }
                Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(ENOLINK) => {
                    std::fs::remove_file(pin).map_err(AttachError::Unpin)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(error) if is_absent(&error) => {}
        Err(error) => return Err(error.into()),
    }
    // Before forwarding, which takes packets away.
    let options = TcAttachOptions::TcxOrder(LinkOrder::first());
    let attached = program.attach_with_options(interface, side(way), options)?;
    let link = FdLink::try_from(program.take_link(attached)?)?;
    link.pin(pin)?;
    Ok(())
}

fn clsact(program: &mut SchedClassifier, way: Way, interface: &str) -> Result<(), AttachError> {
    match tc::qdisc_add_clsact(interface) {
        Ok(()) => {}
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(EEXIST) => {}
        Err(error) => return Err(ProgramError::from(error).into()),
    }
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, ..NlOptions::default() };
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
