//! Programs at a cgroup. Never takes a foreign program off, nor waits for one: all that are attached are asked.
//!
//! A link is held by its pin. The kernel has no way to give a link of a cgroup another program that the library knows, so a new
//! link is made before the old one goes: in between both programs are asked, and the second finds nothing left to translate.

use super::compile::{Key, Object};
use super::object::{Hook, Programs};
use super::pins::{Pins, failed};
use crate::kernel::{AttachError, KernelError, at_cgroup};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{CgroupAttachMode, loaded_programs};
use cni_core::backend::{Error, ErrorKind, Result};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// A cgroup, open.
pub(super) struct Cgroup {
    file: File,
    /// The number of its directory.
    pub(super) number: u64,
}

impl Cgroup {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| failed("open", path, error))?;
        let number = file.metadata().map_err(|error| failed("open", path, error))?.ino();
        Ok(Self { file, number })
    }

    fn has(&self, hook: Hook, program: u32) -> Result<bool> {
        match at_cgroup(self.file.as_fd(), hook.kind()) {
            Ok(found) => Ok(found.contains(&program)),
            // A cgroup that was removed has none.
            Err(error) if error.raw_os_error() == Some(ENODEV) => Ok(false),
            Err(error) => Err(Error::new(ErrorKind::Kernel, "observe", hook.name(), &error).because(error)),
        }
    }
}

/// The name of a link's pin.
pub(super) fn name(hook: Hook, cgroup: u64) -> String {
    format!("{}-{cgroup}", hook.name())
}

fn parse(name: &str) -> Option<(Hook, u64)> {
    let (hook, cgroup) = name.split_once('-')?;
    Some((Hook::ALL.into_iter().find(|known| known.name() == hook)?, cgroup.parse().ok()?))
}

impl Programs {
    /// The tag of a program of ours.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(super) fn tag(&self, hook: Hook) -> Result<u64, KernelError> {
        self.info(hook).map(|info| info.tag())
    }

    /// Attaches a program and pins its link, in the place of an older one.
    pub(super) fn attach(&mut self, hook: Hook, cgroup: &Cgroup, pins: &Pins) -> Result<()> {
        let name = name(hook, cgroup.number);
        let (new, file) = (pins.new_file(&name), pins.file(&name));
        let refused =
            |source| KernelError::Attach { program: hook.name(), place: format!("cgroup {}", cgroup.number), source };
        let mut pinned = || -> Result<(), AttachError> {
            let program = self.program(hook).map_err(|error| match error {
                KernelError::Program { source, .. } => AttachError::Program(source),
                _ => AttachError::Unpin(std::io::ErrorKind::NotFound.into()),
            })?;
            // A link always lets others be there, too.
            let attached = program.attach(&cgroup.file, CgroupAttachMode::Single)?;
            let link = FdLink::try_from(program.take_link(attached)?)?;
            link.pin(&new)?;
            Ok(())
        };
        pinned().map_err(|source| error_of("create", &name, refused(source)))?;
        std::fs::rename(&new, &file).map_err(|error| failed("create", &file, error))
    }

    /// What is attached by our pins. A link that somebody detached is pinned still, so the cgroup is asked too.
    pub(super) fn attached(&self, pins: &Pins, cgroup: &Cgroup) -> Result<Vec<(Key, Object)>> {
        let mut found = Vec::new();
        for (name, (hook, number)) in pins.names()?.into_iter().filter_map(|name| Some((parse(&name)?, name))).map(swap)
        {
            let program = PinnedLink::from_pin(pins.file(&name))
                .and_then(|link| FdLink::from(link).info())
                .map(|info| info.program_id())
                .map_err(|source| Error::new(ErrorKind::Kernel, "observe", &name, &source).because(source))?;
            let is_there = number != cgroup.number || cgroup.has(hook, program)?;
            let tag = if is_there { self.tag_with_our_maps(hook, program) } else { 0 };
            found.push((Key::Hook(hook, number), Object::Hook(tag)));
        }
        Ok(found)
    }

    /// The tag of the program of this number, 0 where it is gone or uses other maps than ours.
    fn tag_with_our_maps(&self, hook: Hook, program: u32) -> u64 {
        let maps = |info: &aya::programs::ProgramInfo| {
            let mut maps = info.map_ids().ok().flatten()?;
            maps.sort_unstable();
            Some(maps)
        };
        let Ok(own) = self.info(hook) else { return 0 };
        let attached = loaded_programs().flatten().find(|info| info.id() == program);
        attached.filter(|attached| maps(attached) == maps(&own)).map_or(0, |attached| attached.tag())
    }
}

fn swap<A, B>((left, right): (A, B)) -> (B, A) {
    (right, left)
}

/// What the kernel refused, for who holds the engine.
pub(super) fn error_of(operation: &'static str, object: impl std::fmt::Display, source: KernelError) -> Error {
    source.told(operation, object, "services.maps")
}

/// Of `include/uapi/asm-generic/errno-base.h`.
const ENODEV: i32 = 19;
