//! iproute2 and other programs as a second opinion, in the namespace of the calling thread. Never changes namespaces.

use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

/// Runs a program in the namespace of the calling thread.
///
/// # Errors
/// What the program said when it failed.
pub fn try_run(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }
}

/// Runs a program that has to succeed.
pub fn run(line: &str) -> String {
    try_run(line).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs a program and reads its JSON; nothing said is an empty list.
pub fn run_json(line: &str) -> Vec<Value> {
    let text = run(line);
    match serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text }).unwrap() {
        Value::Array(values) => values,
        other => vec![other],
    }
}

/// Runs lines of iproute2 in one process, in this thread's namespace.
pub(super) fn ip_batch(lines: &[String]) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("iproute2");
    child.stdin.take().unwrap().write_all(lines.join("\n").as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{lines:?}");
}

/// A pair of devices, the first of them up with addresses, in this thread's namespace.
pub(super) fn uplink(name: &str, addresses: &[&str]) {
    let mut lines: Vec<String> = vec![
        format!("link add {name} type veth peer name {name}-far"),
        format!("link set {name}-far up"),
        format!("link set {name} up"),
        "link set lo up".to_owned(),
    ];
    lines.extend(addresses.iter().map(|address| {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        format!("address add {address} dev {name} {nodad}")
    }));
    ip_batch(&lines);
}
