//! `cnidarian policy check`. Never changes a file.

use super::error::PolicyError;
use super::{load, text};
use cni_core::policy::lint::lint;
use cni_core::policy::model::Effect;
use serde_json::{Value, json};
use std::path::PathBuf;

pub(super) fn run(paths: &[PathBuf], as_json: bool) -> Result<bool, PolicyError> {
    let mut loaded = load::manifests(paths)?;
    loaded.problems.extend(lint(&loaded.world));
    let flaws: Vec<String> = loaded.manifests.problems.iter().map(ToString::to_string).collect();
    let is_error = |effect: Effect| effect != Effect::Warning;
    let errors = flaws.len() + loaded.problems.iter().filter(|problem| is_error(problem.effect)).count();
    let warnings = flaws.len() + loaded.problems.len() - errors;
    let world = &loaded.world;
    let (policies, workloads) = (world.policies.len(), world.workloads.len());
    if as_json {
        let problems =
            loaded.problems.iter().map(|problem| text::problem_json(problem, loaded.place(problem).as_deref()));
        let value = json!({
            "policies": policies, "workloads": workloads, "errors": errors, "warnings": warnings,
            "files": flaws, "problems": problems.collect::<Vec<Value>>(),
        });
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(errors == 0);
    }
    flaws.iter().for_each(|flaw| println!("{flaw}"));
    let mut lines: Vec<String> = loaded.problems.iter().map(|problem| loaded.placed(problem)).collect();
    lines.sort();
    lines.iter().for_each(|line| println!("{line}"));
    println!("{policies} policies, {workloads} workloads: {errors} errors, {warnings} warnings");
    Ok(errors == 0)
}
