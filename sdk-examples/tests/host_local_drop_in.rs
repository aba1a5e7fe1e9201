//! The example `host-local`, executed as a runtime would, against recorded answers and files of the reference plugin.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use flate2::read::GzDecoder;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().with_file_name("examples").join("host-local");
    assert!(program.exists(), "{} is missing: cargo build -p sdk-examples --examples", program.display());
    program
}

/// Exit code and output.
fn call(env: &[(&str, &str)], stdin: &str) -> (i32, Value) {
    let mut child = Command::new(program())
        .env_clear()
        .env("CNI_PATH", "/opt/cni/bin")
        .envs(env.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // VERSION may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

/// File names and contents of a network. The recorder read line breaks as plain newlines.
fn files(network: &Path) -> Value {
    let Ok(entries) = fs::read_dir(network) else { return json!({}) };
    let file = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path()).unwrap().replace("\r\n", "\n");
        (entry.file_name().into_string().unwrap(), text)
    };
    let files: BTreeMap<String, String> =
        entries.map(|entry| file(entry.unwrap())).filter(|(name, _)| name != "lock").collect();
    json!(files)
}

fn replay(case: &Value) {
    let directory = tempfile::tempdir().unwrap();
    for (number, operation) in case["ops"].as_array().unwrap().iter().enumerate() {
        let place = format!("{} {number}", case["id"]);
        let env: Vec<(&str, &str)> =
            operation["env"].as_object().unwrap().iter().map(|(name, v)| (&**name, v.as_str().unwrap())).collect();
        let stdin = operation["stdin"].to_string().replace("{{DIR}}", directory.path().to_str().unwrap());
        let (exit, answer) = call(&env, &stdin);
        let recorded = &operation["result"];
        assert_eq!(json!(exit), recorded["rc"], "{place}: {answer}");
        if let Some(error) = recorded.get("error") {
            assert_eq!(answer["code"], error["code"], "{place}: {answer}");
            // Code 1 is our SDK's own, with a better message.
            if error["code"] != 1 {
                assert_eq!(answer["msg"], error["msg"], "{place}");
            }
        }
        if let Some(ips) = recorded.get("ips") {
            let address = |ip: &Value| json!({"address": ip["address"], "gateway": ip["gateway"]});
            let answered: Vec<Value> = answer["ips"].as_array().unwrap().iter().map(address).collect();
            assert_eq!(&json!(answered), ips, "{place}");
            assert_eq!(answer.get("routes").unwrap_or(&Value::Null), &recorded["routes"], "{place}");
            assert_eq!(answer["cniVersion"], recorded["cniVersion"], "{place}");
        }
        let network = directory.path().join(operation["stdin"]["name"].as_str().unwrap());
        assert_eq!(files(&network), operation["store"], "{place}");
    }
}

#[test]
fn the_program_answers_recorded_scenarios_as_the_reference_does() {
    let directory = std::env::var_os("CNIDARIAN_ORACLES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/oracles"), PathBuf::from);
    let path = directory.join("host-local-traces.json.gz");
    if !path.exists() {
        eprintln!("skipped: {} does not exist; set CNIDARIAN_ORACLES", path.display());
        return;
    }
    let recorded: Value = serde_json::from_reader(GzDecoder::new(File::open(path).unwrap())).unwrap();
    // cni-core replays all of them in process; every fourth shows that the program adds nothing.
    recorded["cases"].as_array().unwrap().iter().step_by(4).for_each(replay);
}

#[test]
fn status_and_gc_do_what_the_reference_leaves_out() {
    let directory = tempfile::tempdir().unwrap();
    let conf = |extra: Value| {
        let mut conf = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "ptp",
            "ipam": {"type": "host-local", "subnet": "10.9.0.0/30", "dataDir": directory.path()},
        });
        conf.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        conf.to_string()
    };
    let add = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "one"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/var/run/netns/one"),
    ];
    assert_eq!(call(&[("CNI_COMMAND", "STATUS")], &conf(json!({}))).0, 0);
    let (exit, result) = call(&add, &conf(json!({})));
    assert_eq!((exit, &result["ips"][0]["address"]), (0, &json!("10.9.0.2/30")));
    let on_disk = fs::read_to_string(directory.path().join("net/10.9.0.2")).unwrap();
    assert_eq!(on_disk, "one\r\neth0", "byte for byte what the reference writes");
    let (exit, error) = call(&[("CNI_COMMAND", "STATUS")], &conf(json!({})));
    assert_eq!((exit, &error["code"]), (1, &json!(50)), "{error}");
    let valid = json!({"cni.dev/valid-attachments": [{"containerID": "one", "ifname": "eth0"}]});
    for (attachments, free) in [(json!({}), false), (valid, false), (json!({"cni.dev/valid-attachments": []}), true)] {
        let (exit, answer) = call(&[("CNI_COMMAND", "GC")], &conf(attachments.clone()));
        assert_eq!(exit, 0, "{answer}");
        assert_eq!(!directory.path().join("net/10.9.0.2").exists(), free, "{attachments}");
    }
}
