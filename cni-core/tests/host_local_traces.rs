//! `host-local` against recorded answers and files of the reference plugin.
//!
//! The recordings are not part of the repository: `CNIDARIAN_ORACLES` names their directory.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use cni_core::ipam::host_local::{HostLocal, HostLocalConfig, HostLocalError};
use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

fn oracle(name: &str) -> Option<PathBuf> {
    let directory = std::env::var_os("CNIDARIAN_ORACLES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/oracles"), PathBuf::from);
    let file = directory.join(name);
    if !file.exists() {
        eprintln!("skipped: {name} is not in {}; set CNIDARIAN_ORACLES", directory.display());
        return None;
    }
    Some(file)
}

/// What one operation answers, in the recordings' form.
fn answer(operation: &Value, stdin: &str) -> Value {
    let text = |name: &str| operation["env"][name].as_str().unwrap_or_default();
    let (container, interface) = (text("CNI_CONTAINERID"), text("CNI_IFNAME"));
    let version = operation["stdin"]["cniVersion"].as_str().unwrap_or_default();
    let run = || -> Result<Value, HostLocalError> {
        let host_local = HostLocal::new(HostLocalConfig::parse(stdin.as_bytes(), text("CNI_ARGS"))?);
        let now = SystemTime::now();
        match text("CNI_COMMAND") {
            "ADD" => {
                let result = host_local.add(container, interface, now)?.to_json(version.parse().unwrap()).unwrap();
                let ip = |ip: &Value| json!({"address": ip["address"], "gateway": ip["gateway"]});
                let ips: Vec<Value> = result["ips"].as_array().unwrap().iter().map(ip).collect();
                let routes = result.get("routes").cloned().unwrap_or(json!([]));
                return Ok(json!({"rc": 0, "ips": ips, "routes": routes, "cniVersion": result["cniVersion"]}));
            }
            "DEL" => drop(host_local.del(container, interface, now)?),
            _ => host_local.verify(container, interface)?,
        }
        Ok(json!({"rc": 0}))
    };
    match text("CNI_COMMAND") {
        // These two never reach a plugin's own code.
        "VERSION" => json!({"rc": 0}),
        "CHECK" if matches!(version, "0.3.1" | "0.3.0" | "0.2.0" | "0.1.0") => {
            json!({"rc": 1, "error": {"code": 1, "msg": "config version does not allow CHECK"}})
        }
        _ => run().unwrap_or_else(|error| json!({"rc": 1, "error": {"code": 999, "msg": error.to_string()}})),
    }
}

/// File names and contents of a network. The recorder read line breaks as plain newlines.
fn files(network: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir(network) else { return BTreeMap::new() };
    let file = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).unwrap().replace("\r\n", "\n");
        (entry.file_name().into_string().unwrap(), text)
    };
    entries.map(|entry| file(entry.unwrap())).filter(|(name, _)| name != "lock").collect()
}

#[test]
fn every_recorded_scenario_gets_the_recorded_answers_and_files() {
    let Some(path) = oracle("host-local-traces.json.gz") else { return };
    let recorded: Value = serde_json::from_reader(GzDecoder::new(File::open(path).unwrap())).unwrap();
    let cases = recorded["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 260);
    let mut wrong = Vec::new();
    for case in cases {
        let directory = tempfile::tempdir().unwrap();
        for (number, operation) in case["ops"].as_array().unwrap().iter().enumerate() {
            let stdin = operation["stdin"].to_string().replace("{{DIR}}", directory.path().to_str().unwrap());
            let answer = answer(operation, &stdin);
            let name = operation["stdin"]["name"].as_str().unwrap();
            let files = json!(files(&directory.path().join(name)));
            let mut expected = operation["result"].clone();
            if expected.get("ips").is_some() && expected["routes"].is_null() {
                expected["routes"] = json!([]);
            }
            if answer != expected || files != operation["store"] {
                let expected_files = &operation["store"];
                wrong.push(format!("{} {number}: {answer} {files}\nrecorded: {expected} {expected_files}", case["id"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ, the first:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
}
