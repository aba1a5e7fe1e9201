//! What a refusal of the kernel's means: its kind at the border of an engine, and what would be right. Never tries again.

use super::error::{AttachError, HookError, KernelError};
use aya::maps::MapError;
use aya::programs::ProgramError;
use aya::programs::tc::TcError;
use cni_core::backend::{Error, ErrorKind};
use std::error::Error as StdError;
use std::fmt::{self, Display};
use std::io;

/// Of `include/uapi/asm-generic/errno-base.h`.
const EPERM: i32 = 1;
const EINTR: i32 = 4;
const E2BIG: i32 = 7;
const EAGAIN: i32 = 11;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const ENODEV: i32 = 19;
const ENOSPC: i32 = 28;

impl KernelError {
    /// The number that the kernel answered, wherever in the chain of causes.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        std::iter::successors(Some(self as &(dyn StdError + 'static)), |error| (*error).source()).find_map(number)
    }

    /// Whether the verifier refuses a program: it will not take it another time. Its numbers (`EACCES`, `EPERM`, `E2BIG`) are not about
    /// rights and sizes then. Where it is cut short by something else, it has said something too.
    pub(crate) fn is_verifiers(&self) -> bool {
        let is_short = || matches!(self.errno(), Some(EINTR | EAGAIN | ENOMEM));
        matches!(self, Self::Refused { log, .. } if !log.is_empty()) && !is_short()
    }

    /// The map that has no room for an entry: tries say it otherwise than hash maps.
    pub(crate) fn full_map(&self) -> Option<&'static str> {
        match self {
            Self::Map { map, verb: "written", .. } if matches!(self.errno(), Some(E2BIG | ENOSPC)) => Some(map),
            _ => None,
        }
    }

    fn kind(&self) -> ErrorKind {
        match (self, self.errno()) {
            (Self::Missing { .. }, _) => ErrorKind::Unsupported,
            (error, _) if error.is_verifiers() => ErrorKind::Unsupported,
            (_, Some(EPERM | EACCES)) => ErrorKind::Denied,
            // Of a map that is made: a size that no kernel takes.
            (Self::Load { .. }, Some(E2BIG)) => ErrorKind::Invalid,
            (_, Some(E2BIG | ENOMEM | ENOSPC)) => ErrorKind::Busy,
            (_, Some(ENODEV)) => ErrorKind::Missing,
            _ => ErrorKind::Kernel,
        }
    }

    /// What would be right; `room` are the keys with the sizes of maps.
    fn advice(&self, room: &str) -> Option<String> {
        Some(match (self, self.errno()) {
            (error, _) if error.is_verifiers() => return None,
            (Self::Load { .. }, Some(EPERM)) => format!(
                "needs CAP_SYS_ADMIN and CAP_NET_ADMIN in the machine's own user namespace; before Linux 5.11 also locked \
                 memory for the maps (RLIMIT_MEMLOCK), or smaller ones ({room})"
            ),
            (_, Some(EPERM)) => "needs CAP_SYS_ADMIN and CAP_NET_ADMIN in the machine's own user namespace".to_owned(),
            (Self::Load { .. }, Some(E2BIG)) => {
                format!("a map of this size is more than the kernel takes: write less ({room})")
            }
            (_, Some(ENOMEM)) => format!(
                "the machine, or the agent's cgroup (memory.max), has no memory for it: give it more, or make maps smaller ({room})"
            ),
            _ => return None,
        })
    }

    /// The refusal and what would be right, for people.
    pub(crate) fn reason(&self, room: &str) -> String {
        match self.advice(room) {
            Some(advice) => format!("{self}; {advice}"),
            None => self.to_string(),
        }
    }

    /// The refusal at the border.
    pub(crate) fn told(self, operation: &'static str, object: impl Display, room: &str) -> Error {
        Error::new(self.kind(), operation, object, self.reason(room)).because(self)
    }
}

/// An operating system's error number, also in errors that stand for another and hide it from the chain (`transparent`).
fn number(error: &(dyn StdError + 'static)) -> Option<i32> {
    let of_program = |error: &ProgramError| match error {
        ProgramError::IOError(error)
        | ProgramError::TcError(TcError::IoError(error))
        | ProgramError::MapError(MapError::IoError(error)) => error.raw_os_error(),
        _ => None,
    };
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.raw_os_error();
    }
    if let Some(error) = error.downcast_ref::<HookError>() {
        return error.errno();
    }
    if let Some(error) = error.downcast_ref::<net_linux::netlink::Error>() {
        return error.errno().map(|errno| errno as i32);
    }
    if let Some(AttachError::Program(error)) = error.downcast_ref() {
        return of_program(error);
    }
    if let Some(MapError::IoError(error)) = error.downcast_ref() {
        return error.raw_os_error();
    }
    error.downcast_ref().and_then(of_program)
}

/// An error of the library's with its causes: it leaves what the kernel said to them.
pub(super) struct Causes<'a, E>(pub(super) &'a E);

impl<E: StdError> Display for Causes<'_, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        f.write_str(&told)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !told.contains(&text) {
                write!(f, ": {text}")?;
                told = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

/// What the verifier says, behind a refusal.
pub(super) fn of_log(log: &str) -> String {
    if log.is_empty() { String::new() } else { format!("; the verifier says: {log}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aya::EbpfError;
    use aya::sys::SyscallError;
    use cni_core::backend::Retry;

    fn load(number: i32) -> KernelError {
        let io_error = io::Error::from_raw_os_error(number);
        let source = EbpfError::from(MapError::CreateError { name: "VERDICTS".to_owned(), io_error });
        KernelError::Load { source }
    }

    fn refused(number: i32, log: &str) -> KernelError {
        KernelError::Refused { program: "to_pod", log: log.to_owned(), source: io::Error::from_raw_os_error(number) }
    }

    fn written(number: i32) -> KernelError {
        let io_error = io::Error::from_raw_os_error(number);
        let source = SyscallError { call: "bpf_map_update_elem", io_error }.into();
        KernelError::Map { map: "WAYS", verb: "written", source }
    }

    #[test]
    fn a_refusal_has_the_kind_of_its_number_and_says_what_would_be_right() {
        for (error, kind, retry, said) in [
            (load(EPERM), ErrorKind::Denied, Retry::AfterChange, "RLIMIT_MEMLOCK"),
            (load(ENOMEM), ErrorKind::Busy, Retry::Soon, "memory.max"),
            (load(E2BIG), ErrorKind::Invalid, Retry::AfterChange, "write less (policy.maps)"),
            (load(ENOSPC), ErrorKind::Busy, Retry::Soon, "No space left"),
            (load(22), ErrorKind::Kernel, Retry::Soon, "Invalid argument"),
            (refused(EPERM, ""), ErrorKind::Denied, Retry::AfterChange, "CAP_SYS_ADMIN"),
            (refused(ENOMEM, ""), ErrorKind::Busy, Retry::Soon, "memory.max"),
            (refused(ENOMEM, "0: R1=ctx()"), ErrorKind::Busy, Retry::Soon, "memory.max"),
            (refused(EAGAIN, "0: R1=ctx()"), ErrorKind::Kernel, Retry::Soon, "0: R1=ctx()"),
            (refused(EACCES, "R1 !read_ok"), ErrorKind::Unsupported, Retry::AfterChange, "R1 !read_ok"),
            (refused(E2BIG, "too large"), ErrorKind::Unsupported, Retry::AfterChange, "too large"),
            (written(E2BIG), ErrorKind::Busy, Retry::Soon, "Argument list too long"),
            (written(ENOMEM), ErrorKind::Busy, Retry::Soon, "memory.max"),
        ] {
            let named = if matches!(error, KernelError::Load { .. }) { "VERDICTS" } else { "" };
            let told = error.told("open", "policy in eBPF", "policy.maps");
            assert_eq!((told.kind, told.retry), (kind, retry), "{told}");
            assert!(told.detail.contains(said) && told.detail.contains(named), "{told}");
        }
    }

    #[test]
    fn a_map_is_full_where_an_entry_has_no_room_and_nowhere_else() {
        assert_eq!(
            [E2BIG, ENOSPC, ENOMEM].map(|number| written(number).full_map()),
            [Some("WAYS"), Some("WAYS"), None]
        );
        assert_eq!(load(E2BIG).full_map(), None);
    }

    #[test]
    fn a_number_is_found_where_errors_hide_it() {
        let hook = HookError::Call(io::Error::from_raw_os_error(ENODEV));
        let error = KernelError::Hook { program: "to_pod", interface: 7, source: hook };
        assert_eq!(error.errno(), Some(ENODEV), "{error}");
        let source = AttachError::Program(TcError::IoError(io::Error::from_raw_os_error(ENODEV)).into());
        let error = KernelError::Attach { program: "connect4", place: "a cgroup".to_owned(), source };
        assert_eq!(error.errno(), Some(ENODEV), "{error}");
        let source = MapError::IoError(io::Error::from_raw_os_error(ENOMEM));
        assert_eq!(KernelError::Map { map: "WAYS", verb: "opened", source }.errno(), Some(ENOMEM));
    }
}
