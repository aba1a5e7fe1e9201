//! Bad input: each gets the right code, names the field, and reaches no verb. Never a panic, never an effect.

use crate::support::*;
use cni_core::cni::{AddResult, CniError, IpConfig, SpecVersion};
use cni_core::plugin::{
    self, About, AddRequest, CheckRequest, DelRequest, GcRequest, Io, Netns, Plugin, StatusRequest,
};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

const CONF: &str = r#"{"cniVersion": "1.1.0", "name": "net", "type": "first"}"#;

/// Code and text of the error; the exit code is 1 and no verb was called.
fn refused(environment: cni_core::cni::Environment, stdin: &[u8]) -> (u64, String) {
    let log = Log::default();
    let (exit, stdout) = call(&Fake::new("first", &log), environment, stdin, in_process([]));
    assert_eq!((exit, calls(&log).len()), (1, 0), "{}", String::from_utf8_lossy(&stdout));
    let error: Value = serde_json::from_slice(&stdout).unwrap();
    assert!(SpecVersion::ALL.iter().any(|version| error["cniVersion"] == version.as_str()), "{error}");
    (error["code"].as_u64().unwrap(), format!("{}; {}", error["msg"], error["details"]))
}

#[test]
fn a_hostile_environment_is_code_4_and_names_the_variable() {
    for (name, value) in [
        ("CNI_COMMAND", "add"),
        ("CNI_COMMAND", "ADD; rm"),
        ("CNI_CONTAINERID", "../../etc"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_CONTAINERID", "-rf"),
        ("CNI_CONTAINERID", "a b"),
        ("CNI_CONTAINERID", "é"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "sixteen-bytes-xx"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_NETNS", "run/netns/blue"),
        ("CNI_NETNS", "/run/netns/../../etc/passwd"),
        ("CNI_ARGS", "IP"),
        ("CNI_ARGS", "=1"),
        ("CNI_ARGS", "A=1;;B=2"),
        ("CNI_ARGS", "IP=10.0.0.1;IP=10.0.0.2"),
        ("CNI_PATH", "."),
        ("CNI_PATH", "/opt/cni/bin:plugins"),
    ] {
        let mut environment = environment("ADD");
        environment.set(name, value);
        let (code, text) = refused(environment, CONF.as_bytes());
        assert_eq!(code, 4, "{name}={value}: {text}");
        assert!(text.contains(name), "{name}={value}: {text}");
    }
    let mut no_directory = environment("GC");
    no_directory.set("CNI_PATH", ":");
    assert_eq!(refused(no_directory, CONF.as_bytes()).0, 4);
    for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_ARGS"] {
        let mut environment = environment("ADD");
        environment.set(name, OsStr::from_bytes(b"\xff"));
        assert_eq!(refused(environment, CONF.as_bytes()).0, 4, "{name}");
    }
}

#[test]
fn missing_variables_are_named_together_per_verb() {
    for (verb, needed) in [
        ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"][..]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME"]),
        ("GC", &["CNI_PATH"]),
        ("", &["CNI_COMMAND"]),
    ] {
        let (code, text) = refused([("CNI_COMMAND", verb)].into_iter().collect(), CONF.as_bytes());
        assert_eq!(code, 4, "{verb}");
        assert!(text.contains(&format!("{}: not set", needed.join(", "))), "{verb}: {text}");
    }
    let (_, text) = refused(Default::default(), b"");
    assert!(text.contains("first 1.0.0 is a CNI plugin"), "{text}");
    let status = call(
        &Fake::new("first", &Log::default()),
        [("CNI_COMMAND", "STATUS")].into_iter().collect(),
        CONF.as_bytes(),
        in_process([]),
    );
    assert_eq!(status, (0, Vec::new()), "STATUS needs nothing but its name");
}

#[test]
fn verbs_about_no_attachment_do_not_look_at_its_variables() {
    for verb in ["GC", "STATUS", "VERSION"] {
        let mut environment = environment(verb);
        environment.set("CNI_CONTAINERID", "../x");
        environment.set("CNI_IFNAME", "a/b");
        let answer = call(&Fake::new("first", &Log::default()), environment, CONF.as_bytes(), in_process([]));
        assert_eq!(answer.0, 0, "{verb}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_has_the_code_of_its_reason() {
    for (stdin, code, named) in [
        ("", 6, "EOF"),
        ("{", 6, "EOF"),
        ("[]", 6, "network configuration"),
        ("null", 6, "network configuration"),
        (r#"{"cniVersion": 1}"#, 6, "cniVersion: "),
        (r#"{"cniVersion": "1.1.0", "name": 1, "type": "first"}"#, 6, "name: "),
        (r#"{"cniVersion": "one", "name": "net", "type": "first"}"#, 6, "one"),
        (r#"{"cniVersion": "1.1.0", "name": "net", "type": "first", "ipam": 1}"#, 6, "ipam: "),
        (
            r#"{"cniVersion": "1.1.0", "name": "net", "type": "first", "prevResult": {"ips": [{}]}}"#,
            6,
            "prevResult: result of CNI 1.1.0: ips[0].address: ",
        ),
        (r#"{"cniVersion": "9.0.0", "name": "net", "type": "first"}"#, 1, "9.0.0"),
        (r#"{"cniVersion": "1.1.0", "type": "first"}"#, 7, "name is missing"),
        (r#"{"cniVersion": "1.1.0", "name": "", "type": "first"}"#, 7, "name is missing"),
        (r#"{"cniVersion": "1.1.0", "name": "../net", "type": "first"}"#, 7, "../net"),
        (r#"{"cniVersion": "1.1.0", "name": "net"}"#, 7, "type is missing"),
        (r#"{"cniVersion": "1.1.0", "name": "net", "type": "../../bin/sh"}"#, 7, "../../bin/sh"),
        (r#"{"cniVersion": "1.1.0", "name": "net", "type": "first", "ipam": {"type": "/bin/sh"}}"#, 7, "ipam.type"),
    ] {
        let (found, text) = refused(environment("ADD"), stdin.as_bytes());
        assert_eq!(found, code, "{stdin}: {text}");
        assert!(text.contains(named), "{stdin}: {text}");
    }
    assert_eq!(refused(environment("ADD"), b"\xff\xfe").0, 6);
}

#[test]
fn gc_with_an_attachment_that_cannot_be_is_refused_as_a_whole() {
    let conf = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "first",
        "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}, {"containerID": "../x", "ifname": "eth0"}]
    });
    let (code, text) = refused(environment("GC"), conf.to_string().as_bytes());
    assert_eq!(code, 7, "{text}");
    assert!(text.contains("cni.dev/valid-attachments"), "{text}");
}

#[test]
fn a_version_the_plugin_does_not_speak_is_code_1_with_those_it_does() {
    let log = Log::default();
    let plugin = Fake { spec: &[SpecVersion::V0_4_0, SpecVersion::V1_0_0], ..Fake::new("first", &log) };
    let (exit, error) = call_json(&plugin, "ADD", &serde_json::from_str(CONF).unwrap());
    assert_eq!((exit, &error["code"], calls(&log).len()), (1, &json!(1), 0));
    assert!(error["details"].as_str().unwrap().contains("0.4.0, 1.0.0"), "{error}");
    let (exit, error) = call_json(&plugin, "GC", &serde_json::from_str(CONF).unwrap());
    assert_eq!((exit, &error["code"], calls(&log).len()), (1, &json!(1), 0));
}

#[test]
fn a_broken_stdin_is_code_5() {
    struct Broken;
    impl std::io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let (log, mut stdout) = (Log::default(), Vec::new());
    let io = Io { environment: environment("ADD"), stdin: &mut Broken, stdout: &mut stdout, exec: in_process([]) };
    assert_eq!(plugin::run(&Fake::new("first", &log), io), 1);
    assert_eq!(serde_json::from_slice::<Value>(&stdout).unwrap()["code"], 5);
    assert_eq!(calls(&log).len(), 0);
}

#[test]
fn version_advertises_what_exists_and_gives_the_asked_version_back() {
    let plugin = Fake { spec: &[SpecVersion::V0_4_0, SpecVersion::V1_0_0], ..Fake::new("first", &Log::default()) };
    for (stdin, version) in [(r#"{"cniVersion": "0.3.1"}"#, "0.3.1"), ("", "1.1.0"), ("x", "1.1.0"), ("{}", "1.1.0")] {
        let environment = [("CNI_COMMAND", "VERSION")].into_iter().collect();
        let (code, stdout) = call(&plugin, environment, stdin.as_bytes(), in_process([]));
        let answer: Value = serde_json::from_slice(&stdout).unwrap();
        assert_eq!(code, 0);
        assert_eq!(answer, json!({"cniVersion": version, "supportedVersions": ["0.4.0", "1.0.0"]}));
    }
}

/// A plugin whose ADD does what the test says.
struct Odd(fn() -> AddResult);

impl Plugin for Odd {
    fn about(&self) -> About {
        About { name: "odd", version: "1.0.0", spec: SpecVersion::ALL, netns: Netns::NotUsed }
    }
    fn add(&self, _: &AddRequest) -> Result<AddResult, CniError> {
        Ok(self.0())
    }
    fn del(&self, _: &DelRequest) -> Result<(), CniError> {
        Ok(())
    }
    fn check(&self, _: &CheckRequest) -> Result<(), CniError> {
        Ok(())
    }
    fn status(&self, _: &StatusRequest) -> Result<(), CniError> {
        Ok(())
    }
    fn gc(&self, _: &GcRequest) -> Result<(), CniError> {
        Ok(())
    }
}

#[test]
fn a_panic_becomes_an_error_object_with_its_message() {
    let (exit, error) = call_json(&Odd(|| panic!("index out of bounds")), "ADD", &serde_json::from_str(CONF).unwrap());
    assert_eq!((exit, &error["code"]), (1, &json!(999)));
    assert!(error["msg"].as_str().unwrap().contains("index out of bounds"), "{error}");
}

#[test]
fn a_result_that_contradicts_itself_is_an_error_and_not_printed() {
    let odd = Odd(|| {
        let ip = IpConfig { interface: Some(0), ..IpConfig::new("10.0.0.5/24".parse().unwrap()) };
        AddResult { ips: vec![ip], ..AddResult::default() }
    });
    let (exit, error) = call_json(&odd, "ADD", &serde_json::from_str(CONF).unwrap());
    assert_eq!((exit, &error["code"]), (1, &json!(999)));
    assert!(error["msg"].as_str().unwrap().contains("ips[0].interface is 0"), "{error}");
}

#[test]
fn a_result_that_the_version_cannot_say_is_code_1() {
    let conf = json!({"cniVersion": "0.2.0", "name": "net", "type": "odd"});
    let (exit, error) = call_json(&Odd(AddResult::default), "ADD", &conf);
    assert_eq!((exit, &error["code"]), (1, &json!(1)));
}

#[test]
fn a_stdout_that_nobody_reads_makes_the_call_fail() {
    struct Closed;
    impl std::io::Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (environment, exec) = (environment("ADD"), in_process([]));
    let io = Io { environment, stdin: &mut CONF.as_bytes(), stdout: &mut Closed, exec };
    assert_eq!(plugin::run(&Odd(AddResult::default), io), 1);
}
