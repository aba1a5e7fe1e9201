//! Plugins as programs. Ends no process but its own children.

use crate::support::*;
use cni_core::cni::{Environment, ErrorCode};
use cni_core::model::PluginType;
use cni_core::runtime::{Exec, ExecError, Invocation, Options, Output, ProcessExec, Runtime};
use serde_json::json;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

fn script(directory: &Path, name: &str, body: &str) -> PathBuf {
    let file = directory.join(name);
    fs::write(&file, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    file
}

fn exec(program: &Path, stdin: &[u8], timeout: Option<Duration>) -> Result<Output, ExecError> {
    let environment = [("PATH", "/usr/bin:/bin"), ("CNI_COMMAND", "ADD")].into_iter().collect();
    ProcessExec::default().exec(program, &Invocation { environment, stdin: stdin.to_owned(), timeout })
}

#[test]
fn a_program_gets_environment_and_stdin_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let program = script(directory.path(), "p", "cat; echo \"$CNI_COMMAND ${HOME-none}\"; echo log >&2; exit 3");
    let output = exec(&program, b"conf ", None).unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "conf ADD none\n");
    assert_eq!((output.success, &*output.stderr), (false, &b"log\n"[..]));
    assert!(output.status.contains('3'), "{}", output.status);
}

#[test]
fn more_than_a_pipe_holds_goes_through_in_both_directions_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let program = script(directory.path(), "p", "cat; echo end >&2");
    let bytes = vec![b'x'; 1 << 20];
    assert_eq!(exec(&program, &bytes, None).unwrap().stdout, bytes);
    let deaf = script(directory.path(), "deaf", "echo {}");
    assert_eq!(exec(&deaf, &bytes, None).unwrap().stdout, b"{}\n");
}

#[test]
fn a_program_that_takes_too_long_is_killed_and_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let other = directory.path().join("other");
    // Its own child has another session, keeps the pipes, and must live on.
    let body = format!(
        "echo $$ > {0}.new; mv {0}.new {0}; setsid sleep 30 & echo $! > {1}; exec sleep 30",
        pid_file.display(),
        other.display()
    );
    let program = script(directory.path(), "slow", &body);
    let begun = Instant::now();
    let patience = Duration::from_millis(700);
    let error = exec(&program, b"", Some(patience)).unwrap_err();
    assert!(matches!(error, ExecError::TimedOut { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(15), "does not wait for who else has the pipes");
    let pid = |file: &Path| fs::read_to_string(file).unwrap().trim().to_owned();
    assert!(!Path::new("/proc").join(pid(&pid_file)).exists(), "killed and reaped");
    assert!(Path::new("/proc").join(pid(&other)).exists());
    std::process::Command::new("kill").arg(pid(&other)).status().unwrap();
}

#[test]
fn a_child_that_keeps_the_pipes_does_not_hold_the_answer_up() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let program = script(directory.path(), "p", &format!("echo {{}}; sleep 30 & echo $! > {}", pid_file.display()));
    let begun = Instant::now();
    assert_eq!(exec(&program, b"", None).unwrap().stdout, b"{}\n");
    assert!(begun.elapsed() < Duration::from_secs(15));
    let pid = fs::read_to_string(pid_file).unwrap();
    std::process::Command::new("kill").arg(pid.trim()).status().unwrap();
}

#[test]
fn exec_is_tried_again_while_the_program_is_being_written() {
    let directory = tempfile::tempdir().unwrap();
    let program = script(directory.path(), "p", "echo {}");
    let writer = OpenOptions::new().append(true).open(&program).unwrap();
    thread::scope(|scope| {
        let call = scope.spawn(|| exec(&program, b"", None));
        // Long enough for some attempts, far less than the patience.
        thread::park_timeout(Duration::from_millis(30));
        drop(writer);
        assert_eq!(call.join().unwrap().unwrap().stdout, b"{}\n");
    });
}

#[test]
fn a_program_that_stays_busy_is_try_again_later() {
    let directory = tempfile::tempdir().unwrap();
    let program = script(directory.path(), "p", "echo {}");
    let _writer = OpenOptions::new().append(true).open(&program).unwrap();
    let impatient = ProcessExec { busy_patience: Duration::from_millis(20), ..ProcessExec::default() };
    let invocation = Invocation { environment: Environment::default(), stdin: Vec::new(), timeout: None };
    let error = impatient.exec(&program, &invocation).unwrap_err();
    assert!(matches!(error, ExecError::Busy { .. }), "{error}");
    assert_eq!(cni_core::cni::CniError::from(error).code, ErrorCode::TryAgainLater);
}

#[test]
fn the_first_directory_of_the_path_that_has_the_program_wins() {
    let directory = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| directory.path().join(name));
    for directory in [&a, &b, &c] {
        fs::create_dir(directory).unwrap();
    }
    fs::write(a.join("p"), "not executable").unwrap();
    let (second, _) = (script(&b, "p", ""), script(&c, "p", ""));
    let plugin = PluginType::new("p").unwrap();
    let find = |path: &[PathBuf]| ProcessExec::default().find(&plugin, path);
    assert_eq!(find(&[a.clone(), b, c]).unwrap(), second);
    let error = find(&[a]).unwrap_err();
    assert!(matches!(error, ExecError::NotFound { .. }), "{error}");
    assert!(error.to_string().starts_with("plugin p is not in /"), "{error}");
}

#[test]
fn what_a_program_says_when_it_fails_reaches_the_caller() {
    let directory = tempfile::tempdir().unwrap();
    script(directory.path(), "spec", r#"echo '{"code": 50, "msg": "no addresses", "details": "free some"}'; exit 1"#);
    script(directory.path(), "noise", "echo oops; echo trace >&2; exit 2");
    script(directory.path(), "silent", "exit 1");
    script(directory.path(), "garbage", "echo '{\"ips\": 1}'");
    let runtime = Runtime::new(
        Options::new([directory.path()], directory.path().join("state")),
        Arc::new(ProcessExec::default()),
    );
    for (plugin, code, texts) in [
        ("spec", ErrorCode::NotAvailable, &["plugin spec: ADD of c1/eth0", "no addresses", "free some"][..]),
        ("noise", ErrorCode::INTERNAL, &["exit status: 2", "trace", "oops"]),
        ("silent", ErrorCode::INTERNAL, &["it printed nothing"]),
        ("garbage", ErrorCode::Decode, &["its answer cannot be used"]),
        ("absent", ErrorCode::InvalidConfig, &["plugin absent is not in"]),
    ] {
        let list = list(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": plugin}]}));
        let error = runtime.add(&list, &attachment("c1")).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        for text in texts {
            assert!(error.to_string().contains(text), "{error}");
        }
    }
}

#[test]
fn a_plugin_from_before_version_speaks_0_1_0() {
    let directory = tempfile::tempdir().unwrap();
    script(directory.path(), "old", r#"echo '{"code": 100, "msg": "unknown CNI_COMMAND: VERSION"}'; exit 1"#);
    script(directory.path(), "new", r#"echo '{"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "7.0.0"]}'"#);
    let options = Options::new([directory.path()], directory.path().join("state"));
    let runtime = Runtime::new(options, Arc::new(ProcessExec::default()));
    let versions = |plugin| runtime.versions(&PluginType::new(plugin).unwrap()).unwrap();
    assert_eq!(versions("old"), [cni_core::cni::SpecVersion::V0_1_0]);
    assert_eq!(versions("new"), [cni_core::cni::SpecVersion::V1_0_0]);
    let list = |plugin| list(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": plugin}]}));
    let error = runtime.validate(&list("new")).unwrap_err();
    assert!(error.to_string().contains("plugin new does not speak CNI 1.1.0 but 1.0.0"), "{error}");
}
