//! `cnidarian lab verify`: from cases of policy to a verdict on real packets. Never leaves anything behind.

use super::run::in_lab;
use super::{AnyError, VerifyArgs};
use crate::policy::text;
use cni_core::policy::cases::{Case, Query, QueryPort};
use serde_json::{Value, json};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use testlab::lab::{Lab, LabError};
use testlab::scenario::{Overrides, Scenario};
use testlab::verify::{Report, Wrong, run as run_cases};

pub(super) fn verify(args: &VerifyArgs) -> Result<ExitCode, AnyError> {
    let mut cases = Vec::new();
    for path in &args.cases {
        cases.extend(testlab::cases::read(path)?);
    }
    let overrides = Overrides { backend: args.backend.clone(), nodes: args.nodes, pods: None };
    let scenario = match &args.scenario {
        Some(file) => Scenario::read(file)?,
        None => Scenario::verify(),
    };
    let mut scenario = scenario.with(&overrides)?;
    scenario.pods.clear();
    if args.policy.is_some() {
        scenario.policy.clone_from(&args.policy);
    }
    let (sample, json) = (args.sample, args.json);
    in_lab(scenario, false, move |lab, cancel| finish(lab, &cases, sample, json, cancel))
}

fn finish(
    lab: Lab,
    cases: &[Case],
    sample: Option<usize>,
    as_json: bool,
    cancel: &AtomicBool,
) -> Result<ExitCode, LabError> {
    let report = run_cases(&lab, cases, sample, cancel)?;
    if as_json {
        println!("{}", serde_json::to_string_pretty(&to_json(&report)).expect("a report has text keys only"));
    } else {
        print(&report);
    }
    if !report.wrong.is_empty() {
        lab.show_logs();
    }
    let left = lab.down()?;
    for line in &left {
        eprintln!("NOT AS EXPECTED  left behind on {line}");
    }
    Ok(if report.wrong.is_empty() && left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn words(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

fn print(report: &Report) {
    for Wrong { case, query, packets, expected, evaluator } in &report.wrong {
        let Query { from, to, proto, port, expect } = query;
        let port = match port {
            Some(QueryPort::Number(number)) => format!(" {number}"),
            Some(QueryPort::Text(text)) => format!(" {text}"),
            None => String::new(),
        };
        println!(
            "{case}: {from} -> {to} {proto}{port}: case: {}, evaluator: {}, packets: {}",
            words(*expect),
            words(evaluator.allowed()),
            words(*packets)
        );
        if expect != expected {
            println!("    with the addresses that the pods have here it should be {}", words(*expected));
        }
        println!("    {}", text::because(evaluator));
    }
    for (why, count) in &report.skipped {
        println!("skipped {count}: {why}");
    }
    if report.translated > 0 {
        println!(
            "{} queries mean something else with the addresses here; the evaluator judged them",
            report.translated
        );
    }
    if report.left_out > 0 {
        println!("{} more queries are not in the sample", report.left_out);
    }
    let skipped: usize = report.skipped.values().sum();
    println!("{} cases, {} queries, {skipped} skipped, {} wrong", report.cases, report.queries, report.wrong.len());
}

fn to_json(report: &Report) -> Value {
    let wrong = |wrong: &Wrong| {
        json!({
            "case": wrong.case, "query": wrong.query, "packets": wrong.packets, "expected": wrong.expected,
            "evaluator": wrong.evaluator.allowed(), "because": text::because(&wrong.evaluator),
        })
    };
    let skipped: serde_json::Map<String, Value> =
        report.skipped.iter().map(|(why, count)| (why.to_string(), json!(count))).collect();
    json!({
        "cases": report.cases, "queries": report.queries, "skipped": skipped, "translated": report.translated,
        "notInSample": report.left_out, "wrong": report.wrong.iter().map(wrong).collect::<Vec<_>>(),
    })
}
