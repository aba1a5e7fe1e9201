//! Runs other programs and says which. Never through a shell.

use crate::error::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The workspace's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where cargo puts programs.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The same cargo that runs us.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// How a person would type it.
fn typed(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default();
    std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Runs to the end, with our own output, and tells.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("==> {}", typed(command));
    quiet(command)
}

/// Runs to the end, with our own output.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    let typed = typed(command);
    let status = command.status().map_err(|source| Error::Start { command: typed.clone(), source })?;
    if status.success() { Ok(()) } else { Err(Error::Failed { command: typed, status }) }
}

/// Runs to the end and gives what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let typed = typed(command);
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|source| Error::Start { command: typed.clone(), source })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(Error::Failed { command: typed, status: output.status })
    }
}
