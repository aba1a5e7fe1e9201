//! `cnidarian policy test`: cases with what is expected of them. Never stops at the first that is wrong.

use super::error::PolicyError;
use super::text;
use cni_core::policy::cases::{Case, Query, QueryPort};
use cni_core::policy::evaluate::Evaluator;
use cni_core::policy::model::Effect;
use serde_json::{Value, json};
use std::path::PathBuf;

/// A query that came out otherwise than expected.
#[derive(Debug)]
struct Wrong {
    query: Query,
    /// `None`: the query itself is at fault.
    got: Option<bool>,
    because: String,
}

/// What came of one case.
#[derive(Debug)]
struct Checked {
    id: String,
    queries: usize,
    wrong: Vec<Wrong>,
    /// What is wrong with its objects.
    notes: Vec<String>,
}

pub(super) fn run(paths: &[PathBuf], as_json: bool) -> Result<bool, PolicyError> {
    let mut checked = Vec::new();
    for path in paths {
        checked.extend(testlab::cases::read(path)?.iter().map(check));
    }
    let queries: usize = checked.iter().map(|case| case.queries).sum();
    let wrong: usize = checked.iter().map(|case| case.wrong.len()).sum();
    if as_json {
        let cases: Vec<Value> = checked.iter().map(to_json).collect();
        let value = json!({"cases": checked.len(), "queries": queries, "wrong": wrong, "results": cases});
        println!("{}", serde_json::to_string_pretty(&value)?);
    } else {
        checked.iter().filter(|case| !case.wrong.is_empty()).for_each(print);
        println!("{} cases, {queries} queries, {wrong} wrong", checked.len());
    }
    Ok(wrong == 0)
}

fn check(case: &Case) -> Checked {
    let scene = case.scene();
    let evaluator = Evaluator::new(&scene.world);
    let check = |query: &Query| {
        let (got, because) = match query.ask(&evaluator, &scene.world) {
            Ok(outcome) if outcome.allowed() == query.expect => return None,
            Ok(outcome) => (Some(outcome.allowed()), text::because(&outcome)),
            Err(error) => (None, error.to_string()),
        };
        Some(Wrong { query: query.clone(), got, because })
    };
    let wrong = case.queries.iter().filter_map(check).collect();
    let problems = scene.problems.iter().filter(|problem| problem.effect != Effect::Warning);
    let notes = scene.broken.iter().map(ToString::to_string).chain(problems.map(ToString::to_string));
    Checked { id: case.id.clone(), queries: case.queries.len(), wrong, notes: notes.collect() }
}

fn words(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

fn port(query: &Query) -> String {
    match &query.port {
        Some(QueryPort::Number(number)) => format!(" {number}"),
        Some(QueryPort::Text(text)) => format!(" {text}"),
        None => String::new(),
    }
}

fn print(case: &Checked) {
    println!("{}: {} of {} wrong", case.id, case.wrong.len(), case.queries);
    for Wrong { query, got, because } in &case.wrong {
        let Query { from, to, proto, expect, .. } = query;
        let got = got.map_or("no answer", words);
        println!("  {from} -> {to} {proto}{}: expected {}, got {got}", port(query), words(*expect));
        println!("    {because}");
    }
    for note in &case.notes {
        println!("  note: {note}");
    }
}

fn to_json(case: &Checked) -> Value {
    let wrong = |Wrong { query, got, because }: &Wrong| json!({"query": query, "got": got, "because": because});
    let wrong: Vec<Value> = case.wrong.iter().map(wrong).collect();
    json!({"id": case.id, "queries": case.queries, "wrong": wrong, "problems": case.notes})
}
