//! Plugins without programs: values of the embedder's own process. Never starts a process.

use super::exec::{Exec, ExecError, Invocation, Output};
use crate::model::PluginType;
use crate::plugin::{self, Plugin};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Plugins by name. They go through all of [`plugin::run`], so that they see what they would see as programs; a panic
/// is caught and becomes their error. A timeout cannot be kept, since a thread cannot be killed.
#[derive(Clone, Default)]
pub struct InProcessExec {
    plugins: BTreeMap<PluginType, Arc<dyn Plugin + Send + Sync>>,
}

impl InProcessExec {
    /// The same with one more plugin, under the name its `about` says.
    ///
    /// # Errors
    /// [`crate::model::InvalidName`] when that is no name of a plugin.
    pub fn with(mut self, plugin: Arc<dyn Plugin + Send + Sync>) -> Result<Self, crate::model::InvalidName> {
        self.plugins.insert(PluginType::new(plugin.about().name)?, plugin);
        Ok(self)
    }

    fn plugin(&self, program: &Path) -> Option<&Arc<dyn Plugin + Send + Sync>> {
        self.plugins.get(&PluginType::new(program.to_str()?).ok()?)
    }
}

impl Exec for InProcessExec {
    fn find(&self, plugin: &PluginType, path: &[PathBuf]) -> Result<PathBuf, ExecError> {
        let program = PathBuf::from(plugin.as_str());
        match self.plugin(&program) {
            Some(_) => Ok(program),
            None => Err(ExecError::NotFound { plugin: plugin.clone(), path: path.to_owned() }),
        }
    }

    fn exec(&self, program: &Path, invocation: &Invocation) -> Result<Output, ExecError> {
        let plugin = self.plugin(program).ok_or_else(|| ExecError::Start {
            program: program.to_owned(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        let mut stdout = Vec::new();
        let code = plugin::run(
            &**plugin,
            plugin::Io {
                environment: invocation.environment.clone(),
                stdin: &mut invocation.stdin.as_slice(),
                stdout: &mut stdout,
                exec: Arc::new(self.clone()),
            },
        );
        Ok(Output { success: code == 0, status: format!("exit status: {code}"), stdout, stderr: Vec::new() })
    }
}
