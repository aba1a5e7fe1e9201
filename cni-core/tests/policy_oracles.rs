//! Cases of public projects: verdicts of np-guard's analyser, and Calico's selector language. Skipped where they are not
//! there; the project's own cases stand beside the code.

use cni_core::policy::cases::Case;
use cni_core::policy::dialect::calico::{canonical_selector, endpoint_selector};
use cni_core::policy::evaluate::Evaluator;
use cni_core::policy::model::{Identity, WorkloadKind};
use flate2::read::GzDecoder;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

/// The recorded cases, or `None` where they are not there.
fn oracle(name: &str) -> Option<PathBuf> {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/oracles"));
    let file = std::env::var_os("CNIDARIAN_ORACLES").map_or_else(beside, PathBuf::from).join(name);
    if file.exists() {
        return Some(file);
    }
    eprintln!("skipped: no {}", file.display());
    None
}

#[derive(Deserialize)]
struct Selectors {
    canonical: Vec<Canonical>,
    invalid: Vec<String>,
    r#match: Vec<Match>,
}

#[derive(Deserialize)]
struct Canonical {
    #[serde(rename = "In")]
    text: String,
    #[serde(rename = "Out")]
    canonical: String,
}

#[derive(Deserialize)]
struct Match {
    selector: String,
    r#match: Vec<BTreeMap<Arc<str>, Arc<str>>>,
    nomatch: Vec<BTreeMap<Arc<str>, Arc<str>>>,
}

/// Recorded from Calico's own parser.
#[test]
fn selectors_of_calico_are_read_as_calico_reads_them() {
    let Some(file) = oracle("calico-selectors.json") else { return };
    let recorded: Selectors = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for Canonical { text, canonical } in &recorded.canonical {
        assert_eq!(canonical_selector(text).as_ref(), Ok(canonical), "{text:?}");
    }
    for text in &recorded.invalid {
        assert!(canonical_selector(text).is_err(), "{text:?} is invalid");
    }
    for Match { selector, r#match, nomatch } in &recorded.r#match {
        let condition = endpoint_selector(selector).unwrap();
        for (labels, expect) in
            r#match.iter().map(|labels| (labels, true)).chain(nomatch.iter().map(|labels| (labels, false)))
        {
            let identity = Identity { labels: Arc::new(labels.clone()), ..Identity::new(WorkloadKind::Pod) };
            assert_eq!(condition.matches(&identity), expect, "{selector:?} on {labels:?}");
        }
    }
}

/// Recorded from np-guard's analyser: 95 clusters, 45,163 verdicts.
#[test]
fn verdicts_of_np_guard_are_ours() {
    let Some(file) = oracle("policy-npguard.jsonl.gz") else { return };
    let lines = BufReader::new(GzDecoder::new(std::fs::File::open(file).unwrap())).lines();
    let mut wrong = Vec::new();
    let mut queries = 0;
    for line in lines {
        let case: Case = serde_json::from_str(&line.unwrap()).unwrap();
        let scene = case.scene();
        let evaluator = Evaluator::new(&scene.world);
        queries += case.queries.len();
        for query in &case.queries {
            let got = query.ask(&evaluator, &scene.world).map(|outcome| outcome.allowed());
            if got != Ok(query.expect) {
                wrong.push(format!("{}: {query:?}: {got:?}", case.id));
            }
        }
    }
    assert!(queries > 0);
    assert!(
        wrong.is_empty(),
        "{} of {queries} are otherwise, the first:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
}
