//! `cnidarian lab exec`. Never starts a process: it becomes the command.

use super::{AnyError, ExecArgs};
use std::process::ExitCode;
use testlab::registry::Registry;
use testlab::sandbox;

pub(super) fn exec(args: &ExecArgs) -> Result<ExitCode, AnyError> {
    let (_, entry) = Registry::open()?.find(args.lab.as_deref())?;
    Err(sandbox::exec(&entry, &args.target, &args.command).into())
}
