//! How a plugin is run: the one seam between protocol and programs. Never knows what a verb means.

use crate::cni::{CniError, Environment, ErrorCode};
use crate::model::PluginType;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One call of one plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invocation {
    /// The whole environment of the program.
    pub environment: Environment,
    /// What it reads.
    pub stdin: Vec<u8>,
    /// How long it may take. `None`: as long as it wants.
    pub timeout: Option<Duration>,
}

/// What a plugin answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Whether it exited with 0.
    pub success: bool,
    /// How it ended, for people: `exit status: 1`.
    pub status: String,
    /// What it printed for the runtime.
    pub stdout: Vec<u8>,
    /// What it printed for people.
    pub stderr: Vec<u8>,
}

/// A plugin that could not be run, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No such program in the search path.
    #[error("plugin {plugin} is not in {}", directories(.path))]
    NotFound {
        /// The plugin.
        plugin: PluginType,
        /// Where it was looked for.
        path: Vec<PathBuf>,
    },
    /// It is there, but did not start.
    #[error("plugin {} cannot be started: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Its file was being written for the whole time that was spent on trying again (`ETXTBSY`).
    #[error("plugin {} is being written by somebody: replace it with rename, not in place", program.display())]
    Busy {
        /// The program.
        program: PathBuf,
    },
    /// It did not end in time, and was killed.
    #[error("plugin {} did not answer within {timeout:?} and was killed", program.display())]
    TimedOut {
        /// The program.
        program: PathBuf,
        /// The time it had.
        timeout: Duration,
    },
    /// Talking to it failed.
    #[error("plugin {}: {what}: {source}", program.display())]
    Io {
        /// The program.
        program: PathBuf,
        /// What was being done.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
}

fn directories(path: &[PathBuf]) -> String {
    if path.is_empty() {
        return "CNI_PATH, which is empty".to_owned();
    }
    path.iter().map(|directory| directory.display().to_string()).collect::<Vec<_>>().join(":")
}

impl From<ExecError> for CniError {
    fn from(error: ExecError) -> Self {
        let (code, right) = match &error {
            ExecError::NotFound { .. } => {
                (ErrorCode::InvalidConfig, "install the plugin, or correct its type in the network configuration")
            }
            ExecError::Start { .. } => (ErrorCode::Io, "look at the file's mode, format and architecture"),
            ExecError::Busy { .. } => (ErrorCode::TryAgainLater, "try again when the installation is done"),
            ExecError::TimedOut { .. } => (ErrorCode::TryAgainLater, "look at the plugin's own logs"),
            ExecError::Io { .. } => (ErrorCode::Io, "look at the plugin's own logs"),
        };
        Self::new(code, error).details(right)
    }
}

/// Finds and runs plugins. The real one is [`super::ProcessExec`]; tests and embedders that have their plugins in
/// process use [`super::InProcessExec`].
///
/// # Laws
/// 1. `find` answers a program in the first directory of `path` that has one.
/// 2. `exec` gives the plugin the environment and the bytes of the invocation, and nothing else.
/// 3. Calls from several threads run in parallel.
pub trait Exec: Send + Sync {
    /// Looks a plugin up.
    ///
    /// # Errors
    /// [`ExecError::NotFound`].
    fn find(&self, plugin: &PluginType, path: &[PathBuf]) -> Result<PathBuf, ExecError>;

    /// Runs it to its end.
    ///
    /// # Errors
    /// All but [`ExecError::NotFound`]. A plugin that ran and failed is an [`Output`], not an error.
    fn exec(&self, program: &Path, invocation: &Invocation) -> Result<Output, ExecError>;
}

/// Finds a plugin, runs it, and reads its error if it failed: its stdout otherwise.
///
/// # Errors
/// The plugin's own [`CniError`], or one made from what it printed.
pub(crate) fn call(
    exec: &dyn Exec,
    plugin: &PluginType,
    path: &[PathBuf],
    invocation: &Invocation,
) -> Result<Vec<u8>, CniError> {
    let program = exec.find(plugin, path)?;
    let output = exec.exec(&program, invocation)?;
    if output.success {
        return Ok(output.stdout);
    }
    Err(CniError::parse(&output.stdout).unwrap_or_else(|| {
        let printed = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let said = [printed(&output.stderr), printed(&output.stdout)];
        let said: Vec<&str> = said.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        let msg = format!("plugin {plugin} failed without an error object ({})", output.status);
        let details = if said.is_empty() { "it printed nothing".to_owned() } else { said.join("; ") };
        CniError::new(ErrorCode::INTERNAL, msg).details(details)
    }))
}
