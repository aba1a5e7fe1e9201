//! Manifests of a person, read into a world. Never a cluster's: those come from a store.

use super::error::PolicyError;
use cni_core::policy::manifests::Manifests;
use cni_core::policy::model::{Effect, Problem};
use cni_core::policy::world::World;
use std::path::PathBuf;

/// What manifests describe.
pub(super) struct Loaded {
    pub(super) manifests: Manifests,
    pub(super) world: World,
    pub(super) problems: Vec<Problem>,
}

/// Reads files and directories that hold something: an empty answer to a mistyped path would mislead.
pub(super) fn manifests(paths: &[PathBuf]) -> Result<Loaded, PolicyError> {
    let loaded = perhaps_none(paths)?;
    if loaded.manifests.objects.is_empty() && loaded.manifests.problems.is_empty() {
        let paths = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(PolicyError::Nothing { paths });
    }
    Ok(loaded)
}

/// Reads files and directories, which may be empty.
pub(super) fn perhaps_none(paths: &[PathBuf]) -> Result<Loaded, PolicyError> {
    let manifests = Manifests::read(paths)?;
    let (world, problems) = World::read(manifests.objects.iter().map(|(object, _)| object));
    Ok(Loaded { manifests, world, problems })
}

impl Loaded {
    /// Says on standard error what was not understood: an answer without it would mislead.
    pub(super) fn warn(&self) {
        for flaw in &self.manifests.problems {
            eprintln!("{flaw}");
        }
        for problem in self.problems.iter().filter(|problem| problem.effect != Effect::Warning) {
            eprintln!("{}", self.placed(problem));
        }
    }

    /// The file and line that a problem is about.
    pub(super) fn place(&self, problem: &Problem) -> Option<String> {
        let place = self.manifests.places(&problem.object).last()?;
        Some(format!("{}:{}", place.file.display(), place.line_of(&problem.path)))
    }

    /// A problem with its place and what became of it.
    pub(super) fn placed(&self, problem: &Problem) -> String {
        let place = self.place(problem).map(|place| format!("{place}: ")).unwrap_or_default();
        let effect = match problem.effect {
            Effect::SubjectClosed => "error (its pods are closed)",
            Effect::RuleClosed => "error (the rule fails closed)",
            Effect::LeftOut => "error (the object is left out)",
            Effect::Warning => "warning",
        };
        format!("{place}{effect}: {problem}")
    }
}
