//! `cnidarian lab run`: from a scenario to a verdict. Never leaves anything behind, however it ends.

use super::{AnyError, RunArgs};
use cnidarian::config::read_config;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use testlab::lab::{Lab, LabError, Programs};
use testlab::registry::{Registry, State};
use testlab::sandbox;
use testlab::scenario::{Overrides, Scenario};
use tokio::signal::unix::{SignalKind, signal};

pub(super) fn run(args: &RunArgs) -> Result<ExitCode, AnyError> {
    let scenario = match &args.scenario {
        Some(file) => Scenario::read(file)?,
        None => Scenario::standard(),
    };
    let overrides = Overrides { backend: args.backend.clone(), nodes: args.nodes, pods: args.pods };
    let scenario = scenario.with(&overrides)?;
    let (json, keep) = (args.json, args.holder);
    in_lab(scenario, keep, move |lab, cancel| finish(lab, json, keep, cancel))
}

/// Starts a lab and works in it. Ctrl-C ends the work and the lab; a quiet one says nothing of it.
pub(super) fn in_lab(
    scenario: Scenario,
    quiet: bool,
    work: impl FnOnce(Lab, &AtomicBool) -> Result<ExitCode, LabError> + Send + 'static,
) -> Result<ExitCode, AnyError> {
    // What the agents would refuse is refused before anything is made.
    read_config(scenario.parts(), &cnidarian::built_in(), "node-1")?;
    let programs = programs()?;
    let registry = Registry::open()?;
    // Before the first thread: a user namespace is entered by a process with one thread only.
    let user_namespace = sandbox::become_root()?;
    let cancel = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let flag = Arc::clone(&cancel);
        let mut working = tokio::task::spawn_blocking(move || {
            let lab = Lab::start(scenario, &programs, &registry, user_namespace, &flag)?;
            work(lab, &flag)
        });
        let ended = loop {
            tokio::select! {
                ended = &mut working => break ended,
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if !cancel.swap(true, Ordering::SeqCst) && !quiet {
                eprintln!("interrupted; tearing down ...");
            }
        };
        ended.map_err(|error| -> AnyError { error.into() })?.map_err(|error| -> AnyError { error.into() })
    })
}

fn finish(mut lab: Lab, json: bool, keep: bool, cancel: &AtomicBool) -> Result<ExitCode, LabError> {
    let report = lab.probe(cancel)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&report).expect("a report has text keys only"));
    } else {
        print!("{}", report.table());
    }
    let unexpected: Vec<String> = report.unexpected().collect();
    for line in unexpected.iter().take(20) {
        eprintln!("NOT AS EXPECTED  {line}");
    }
    if unexpected.is_empty() {
        eprintln!("all {} probes are as expected", report.findings.len() + report.outside.len());
    } else {
        eprintln!(
            "{} of {} probes are not as expected",
            unexpected.len(),
            report.findings.len() + report.outside.len()
        );
        lab.show_logs();
    }
    if keep {
        lab.hold(if unexpected.is_empty() { State::Ready } else { State::Unexpected }, cancel)?;
    }
    let left = lab.down()?;
    for line in &left {
        eprintln!("NOT AS EXPECTED  left behind on {line}");
    }
    Ok(if unexpected.is_empty() && left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The agent's program is this one; the plugin lies beside it.
fn programs() -> Result<Programs, AnyError> {
    let cnidarian = std::env::current_exe()?;
    let plugin: PathBuf = cnidarian.with_file_name("cnidarian-cni");
    if !plugin.is_file() {
        return Err(format!(
            "the plugin {} is missing; build it with `cargo build -p cnidarian-cni`, or put it beside {}",
            plugin.display(),
            cnidarian.display()
        )
        .into());
    }
    Ok(Programs { cnidarian, plugin })
}
