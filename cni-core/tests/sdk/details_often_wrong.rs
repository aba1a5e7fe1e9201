//! What plugins and runtimes for CNI 1.1 often get wrong, one test for each. Never looks inside: only at what a plugin
//! is called with and what it prints.
//!
//! Two such things need more than one caller or a real program: that GC runs alone while ADDs run side by side is in
//! `concurrency`, that a program whose file is being written is executed again (`ETXTBSY`) is in `processes`.

use crate::support::*;
use cni_core::cni::{AddResult, ErrorCode, NetConf, NetConfList, SpecVersion, Verb};
use cni_core::model::EndpointId;
use cni_core::plugin::Netns;
use cni_core::runtime::{Readiness, RuntimeError};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn conf(version: &str) -> Value {
    json!({"cniVersion": version, "name": "net", "type": "first"})
}

fn chain(version: &str) -> NetConfList {
    list(json!({"cniVersion": version, "name": "net", "plugins": [{"type": "first"}, {"type": "second"}]}))
}

fn valid(ids: &[&str]) -> BTreeSet<EndpointId> {
    ids.iter().map(|id| EndpointId::new(id).unwrap()).collect()
}

#[test]
fn the_gc_key_is_valid_attachments_and_attachments_is_sent_and_read_too() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let runtime = runtime(directory.path(), in_process([Fake::new("first", &log), Fake::new("second", &log)]));
    runtime.gc(&chain("1.1.0"), &valid(&["c1/eth0"])).unwrap();
    let sent = json!([{"containerID": "c1", "ifname": "eth0"}]);
    for entry in log.lock().unwrap().iter() {
        assert_eq!(entry.stdin["cni.dev/valid-attachments"], sent);
        assert_eq!(entry.stdin["cni.dev/attachments"], sent);
    }
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let mut conf = conf("1.1.0");
        conf[key] = sent.clone();
        assert_eq!(NetConf::from_json(conf).unwrap().valid_attachments, Some(valid(&["c1/eth0"])), "{key}");
    }
    // Nothing that either names is freed.
    let mut conf = conf("1.1.0");
    conf["cni.dev/valid-attachments"] = sent;
    conf["cni.dev/attachments"] = json!([{"containerID": "c2", "ifname": "eth0"}]);
    assert_eq!(NetConf::from_json(conf).unwrap().valid_attachments, Some(valid(&["c1/eth0", "c2/eth0"])));
}

#[test]
fn absent_valid_attachments_free_nothing_and_an_empty_list_frees_all() {
    let plugin = Fake::new("first", &Log::default());
    assert_eq!(call_json(&plugin, "ADD", &conf("1.1.0")).0, 0);
    for absent in [conf("1.1.0"), json!({"cni.dev/valid-attachments": null})] {
        let mut with_null = conf("1.1.0");
        with_null.as_object_mut().unwrap().extend(absent.as_object().unwrap().clone());
        assert_eq!(call_json(&plugin, "GC", &with_null), (0, Value::Null));
        assert_eq!(*plugin.interfaces.lock().unwrap(), valid(&["c1/eth0"]));
    }
    let mut empty = conf("1.1.0");
    empty["cni.dev/valid-attachments"] = json!([]);
    assert_eq!(call_json(&plugin, "GC", &empty), (0, Value::Null));
    assert_eq!(*plugin.interfaces.lock().unwrap(), valid(&[]));
}

#[test]
fn errors_go_to_stdout_as_json_with_cni_version() {
    let plugin = Fake::new("first", &Log::default()).failing(Verb::Add, ErrorCode::TryAgainLater);
    let (code, error) = call_json(&plugin, "ADD", &conf("0.4.0"));
    assert_eq!((code, error), (1, json!({"cniVersion": "0.4.0", "code": 11, "msg": "first fails ADD"})));
}

#[test]
fn check_below_0_4_0_and_gc_and_status_below_1_1_0_are_error_1() {
    let log = Log::default();
    let plugin = Fake::new("first", &log);
    for version in SpecVersion::ALL {
        for verb in [Verb::Check, Verb::Gc, Verb::Status] {
            let (code, answer) = call_json(&plugin, verb.as_str(), &conf(version.as_str()));
            if *version >= verb.since() {
                assert_eq!((code, calls(&log).len()), (0, 1), "{verb} {version}: {answer}");
            } else {
                assert_eq!((code, calls(&log).len()), (1, 0), "{verb} {version}");
                assert_eq!(answer["code"], 1, "{verb} {version}");
                assert_eq!(answer["cniVersion"], version.as_str());
                assert!(answer["details"].as_str().unwrap().contains(verb.since().as_str()), "{answer}");
            }
        }
    }
}

#[test]
fn a_runtime_does_not_call_check_gc_or_status_where_the_version_has_none() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let runtime = runtime(directory.path(), in_process([Fake::new("first", &log), Fake::new("second", &log)]));
    let check = runtime.check(&chain("0.3.1"), &attachment("c1")).unwrap_err();
    assert_eq!(check.code(), ErrorCode::IncompatibleVersion);
    assert_eq!(runtime.status(&chain("1.0.0")).unwrap(), Readiness::NotAsked);
    assert!(!runtime.gc(&chain("1.0.0"), &valid(&[])).unwrap().plugins_asked);
    assert_eq!(calls(&log), Vec::<String>::new());
    assert_eq!(runtime.status(&chain("1.1.0")).unwrap(), Readiness::Ready);
}

#[test]
fn del_without_netns_or_prev_result_succeeds() {
    for netns in [Netns::Entered, Netns::NotUsed] {
        let plugin = Fake { netns, ..Fake::new("first", &Log::default()) };
        for gone in ["", "/run/netns/was-deleted-long-ago"] {
            let mut environment = environment("DEL");
            environment.set("CNI_NETNS", gone);
            let answer = call(&plugin, environment, conf("1.1.0").to_string().as_bytes(), in_process([]));
            assert_eq!(answer, (0, Vec::new()), "{netns:?} {gone:?}");
        }
    }
}

#[test]
fn del_goes_on_with_a_prev_result_that_cannot_be_read() {
    let mut conf = conf("1.1.0");
    conf["prevResult"] = json!({"ips": "none"});
    assert_eq!(call_json(&Fake::new("first", &Log::default()), "DEL", &conf), (0, Value::Null));
    assert_eq!(call_json(&Fake::new("first", &Log::default()), "ADD", &conf).1["code"], 6);
}

#[test]
fn ipam_release_needs_no_netns() {
    let log = Log::default();
    let exec = in_process([Fake::new("ipam", &log)]);
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "first", "ipam": {"type": "ipam"}});
    let mut environment = environment("DEL");
    environment.set("CNI_NETNS", "");
    let answer = call(&Fake::new("first", &log), environment, conf.to_string().as_bytes(), exec);
    assert_eq!(answer, (0, Vec::new()));
    assert_eq!(calls(&log), ["first DEL", "ipam DEL"]);
}

#[test]
fn del_goes_in_reverse_order_with_the_final_add_result() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let plugins = ["first", "second"].map(|name| Fake { address: Some("10.1.0.5/24"), ..Fake::new(name, &log) });
    let runtime = runtime(directory.path(), in_process(plugins));
    let added = runtime.add(&chain("1.1.0"), &attachment("c1")).unwrap();
    let added = added.to_json(SpecVersion::V1_1_0).unwrap();
    assert_eq!(added["interfaces"].as_array().unwrap().len(), 2);
    {
        let log = log.lock().unwrap();
        assert!(log[0].stdin.get("prevResult").is_none(), "the first ADD has no result before it");
        assert_eq!(log[1].stdin["prevResult"]["interfaces"].as_array().unwrap().len(), 1);
    }
    assert_eq!(calls(&log), ["first ADD", "second ADD"]);
    runtime.check(&chain("1.1.0"), &attachment("c1")).unwrap();
    assert!(log.lock().unwrap().iter().all(|entry| entry.stdin["prevResult"] == added));
    assert_eq!(calls(&log), ["first CHECK", "second CHECK"]);
    runtime.del(&chain("1.1.0"), &attachment("c1")).unwrap();
    assert!(log.lock().unwrap().iter().all(|entry| entry.stdin["prevResult"] == added));
    assert_eq!(calls(&log), ["second DEL", "first DEL"]);
    runtime.del(&chain("1.1.0"), &attachment("c1")).unwrap();
    assert!(log.lock().unwrap().iter().all(|entry| entry.stdin.get("prevResult").is_none()));
}

#[test]
fn del_below_0_4_0_has_no_prev_result() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let runtime = runtime(directory.path(), in_process([Fake::new("first", &log), Fake::new("second", &log)]));
    runtime.add(&chain("0.3.1"), &attachment("c1")).unwrap();
    calls(&log);
    runtime.del(&chain("0.3.1"), &attachment("c1")).unwrap();
    assert!(log.lock().unwrap().iter().all(|entry| entry.stdin.get("prevResult").is_none()));
}

#[test]
fn gc_goes_on_over_errors_and_joins_them() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let first = Fake::new("first", &log).failing(Verb::Gc, ErrorCode::Io);
    let second = Fake::new("second", &log).failing(Verb::Gc, ErrorCode::TryAgainLater);
    let runtime = runtime(directory.path(), in_process([first, second]));
    runtime.add(&chain("1.1.0"), &attachment("c1")).unwrap();
    calls(&log);
    let error = runtime.gc(&chain("1.1.0"), &valid(&[])).unwrap_err();
    assert_eq!(calls(&log), ["second DEL", "first DEL", "first GC", "second GC"]);
    let RuntimeError::Gc { failures, .. } = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 2);
    assert!(error.to_string().contains("first fails GC") && error.to_string().contains("second fails GC"), "{error}");
}

#[test]
fn gc_deletes_only_what_is_stale_with_the_arguments_of_its_add() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let runtime = runtime(directory.path(), in_process([Fake::new("first", &log), Fake::new("second", &log)]));
    for container in ["c1", "c2"] {
        let mut attachment = attachment(container);
        attachment.args = "IgnoreUnknown=1;K8S_POD_NAME=a".parse().unwrap();
        runtime.add(&chain("1.1.0"), &attachment).unwrap();
    }
    calls(&log);
    let report = runtime.gc(&chain("1.1.0"), &valid(&["c2/eth0"])).unwrap();
    assert_eq!(report.deleted, [EndpointId::new("c1/eth0").unwrap()]);
    let log = log.lock().unwrap();
    assert_eq!(log[0].variable("CNI_ARGS"), Some("IgnoreUnknown=1;K8S_POD_NAME=a"));
    assert_eq!(log[0].variable("CNI_NETNS"), Some("/run/netns/c1"));
    assert_eq!(log[2].variable("CNI_CONTAINERID"), None, "GC is about no container");
}

#[test]
fn add_fails_if_the_interface_exists() {
    let plugin = Fake::new("first", &Log::default());
    assert_eq!(call_json(&plugin, "ADD", &conf("1.1.0")).0, 0);
    let (code, error) = call_json(&plugin, "ADD", &conf("1.1.0"));
    assert_eq!((code, &error["code"]), (1, &json!(4)));
    assert!(error["msg"].as_str().unwrap().contains("CNI_IFNAME: interface eth0 already exists"), "{error}");
}

#[test]
fn a_runtime_refuses_a_second_add_without_a_del_between() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let runtime = runtime(directory.path(), in_process([Fake::new("first", &log), Fake::new("second", &log)]));
    runtime.add(&chain("1.1.0"), &attachment("c1")).unwrap();
    calls(&log);
    let error = runtime.add(&chain("1.1.0"), &attachment("c1")).unwrap_err();
    assert!(matches!(error, RuntimeError::AlreadyAttached { .. }), "{error}");
    assert_eq!(calls(&log), Vec::<String>::new());
    runtime.del(&chain("1.1.0"), &attachment("c1")).unwrap();
    runtime.add(&chain("1.1.0"), &attachment("c1")).unwrap();
}

#[test]
fn a_failing_delegate_gets_del_before_its_error_is_returned() {
    let log = Log::default();
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "first", "ipam": {"type": "ipam"}});
    let exec = in_process([Fake::new("ipam", &log).failing(Verb::Add, ErrorCode::TryAgainLater)]);
    let (code, stdout) = call(&Fake::new("first", &log), environment("ADD"), conf.to_string().as_bytes(), exec);
    let error: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!((code, &error["code"], &error["msg"]), (1, &json!(11), &json!("ipam fails ADD")));
    assert_eq!(calls(&log), ["first ADD", "ipam ADD", "ipam DEL"]);
}

#[test]
fn a_chain_that_fails_is_deleted_and_says_what_is_left() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let first = Fake::new("first", &log).failing(Verb::Del, ErrorCode::Io);
    let second = Fake::new("second", &log).failing(Verb::Add, ErrorCode::NotAvailable);
    let runtime = runtime(directory.path(), in_process([first, second]));
    let error = runtime.add(&chain("1.1.0"), &attachment("c1")).unwrap_err();
    assert_eq!(error.code(), ErrorCode::NotAvailable);
    let RuntimeError::Add { left, .. } = &error else { panic!("{error}") };
    assert_eq!(left.len(), 1);
    assert_eq!(calls(&log), ["first ADD", "second ADD", "second DEL", "first DEL"]);
    assert_eq!(runtime.cache().list(&chain("1.1.0").name).unwrap(), []);
}

#[test]
fn every_verb_is_forwarded_to_the_ipam_delegate_with_the_same_input() {
    for verb in ["ADD", "CHECK", "STATUS", "GC", "DEL"] {
        let log = Log::default();
        let conf = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "first", "ipam": {"type": "ipam", "subnet": "10.0.0.0/8"},
            "custom": [1, 2], "cni.dev/valid-attachments": []
        });
        let mut environment = environment(verb);
        environment.set("CNI_ARGS", "A=1");
        environment.set("UNRELATED", "kept");
        let exec = in_process([Fake { address: Some("10.0.0.5/8"), ..Fake::new("ipam", &log) }]);
        let (code, stdout) = call(&Fake::new("first", &log), environment, conf.to_string().as_bytes(), exec);
        assert_eq!(code, 0, "{verb}: {}", String::from_utf8_lossy(&stdout));
        let log = log.lock().unwrap();
        assert_eq!(log.len(), 2, "{verb}");
        assert_eq!(log[1].plugin, "ipam");
        assert_eq!(
            (log[0].verb, &log[0].stdin, &log[0].environment),
            (log[1].verb, &log[1].stdin, &log[1].environment)
        );
    }
}

#[test]
fn a_meta_plugin_delegates_with_a_configuration_of_its_own() {
    use cni_core::cni::CniError;
    use cni_core::plugin::{About, AddRequest, CheckRequest, DelRequest, Delegate, GcRequest, Plugin, StatusRequest};
    struct Meta;
    fn translated<'a>(delegate: Delegate<'a>, conf: &NetConf) -> Result<Delegate<'a>, CniError> {
        let mut own = conf.clone();
        own.other.insert("translated".into(), true.into());
        Ok(delegate.configured(&own)?)
    }
    impl Plugin for Meta {
        fn about(&self) -> About {
            About { name: "meta", version: "1.0.0", spec: SpecVersion::ALL, netns: Netns::NotUsed }
        }
        fn add(&self, request: &AddRequest) -> Result<AddResult, CniError> {
            translated(request.ipam().unwrap(), &request.conf)?.add(Ok)
        }
        fn del(&self, request: &DelRequest) -> Result<(), CniError> {
            translated(request.ipam().unwrap(), &request.conf)?.forward()
        }
        fn check(&self, request: &CheckRequest) -> Result<(), CniError> {
            translated(request.ipam().unwrap(), &request.conf)?.forward()
        }
        fn status(&self, request: &StatusRequest) -> Result<(), CniError> {
            translated(request.ipam().unwrap(), &request.conf)?.forward()
        }
        fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
            translated(request.ipam().unwrap(), &request.conf)?.forward()
        }
    }
    let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "meta", "ipam": {"type": "ipam"}, "own": 1});
    for verb in ["ADD", "CHECK", "STATUS", "GC", "DEL"] {
        let log = Log::default();
        let exec = in_process([Fake::new("ipam", &log)]);
        assert_eq!(call(&Meta, environment(verb), conf.to_string().as_bytes(), exec).0, 0, "{verb}");
        let mut expected = conf.clone();
        expected["translated"] = true.into();
        assert_eq!(log.lock().unwrap()[0].stdin, expected, "{verb}");
    }
}

#[test]
fn a_failing_delegate_fails_the_verb() {
    for verb in [Verb::Check, Verb::Status, Verb::Gc, Verb::Del] {
        let log = Log::default();
        let conf = json!({"cniVersion": "1.1.0", "name": "net", "type": "first", "ipam": {"type": "ipam"}});
        let exec = in_process([Fake::new("ipam", &log).failing(verb, ErrorCode::LimitedConnectivity)]);
        let plugin = Fake::new("first", &log);
        let (code, stdout) = call(&plugin, environment(verb.as_str()), conf.to_string().as_bytes(), exec);
        let error: Value = serde_json::from_slice(&stdout).unwrap();
        assert_eq!((code, &error["code"]), (1, &json!(51)), "{verb}");
    }
}

#[test]
fn capabilities_never_reach_the_plugin_only_the_intersected_runtime_config() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let runtime = runtime(directory.path(), in_process([Fake::new("first", &log), Fake::new("second", &log)]));
    let list = list(json!({
        "cniVersion": "1.1.0", "name": "net", "plugins": [
            {"type": "first", "capabilities": {"mac": true, "portMappings": false, "ips": true}, "prevResult": {"forged": 1}},
            {"type": "second", "runtimeConfig": {"forged": 1}, "prevResult": {"forged": 1}, "cni.dev/forged": 1}
        ]
    }));
    let mut attachment = attachment("c1");
    let given = json!({"mac": "02:00:00:00:00:09", "portMappings": [], "bandwidth": {}});
    attachment.capability_args = given.as_object().unwrap().clone();
    runtime.add(&list, &attachment).unwrap();
    attachment.capability_args.clear();
    runtime.del(&list, &attachment).unwrap();
    let all = std::mem::take(&mut *log.lock().unwrap());
    for entry in &all {
        assert!(entry.stdin.get("capabilities").is_none() && entry.stdin.get("cni.dev/forged").is_none());
        let config = entry.stdin.get("runtimeConfig");
        match entry.plugin {
            "first" => assert_eq!(config, Some(&json!({"mac": "02:00:00:00:00:09"})), "{}", entry.verb),
            _ => assert_eq!(config, None, "{}", entry.verb),
        }
        assert!(entry.stdin.pointer("/prevResult/forged").is_none());
    }
    assert_eq!(all.len(), 4);
}

#[test]
fn the_result_is_in_the_requested_version() {
    for version in SpecVersion::ALL {
        let plugin = Fake { address: Some("10.1.0.5/24"), ..Fake::new("first", &Log::default()) };
        let (code, result) = call_json(&plugin, "ADD", &conf(version.as_str()));
        assert_eq!((code, &result["cniVersion"]), (0, &json!(version.as_str())));
        let old = *version < SpecVersion::V0_3_0;
        assert_eq!(result.get("ip4").is_some(), old, "{version}");
        assert_eq!(result.get("interfaces").is_some(), !old, "{version}");
        let has_family = result.pointer("/ips/0/version").is_some();
        assert_eq!(has_family, !old && *version < SpecVersion::V1_0_0, "{version}");
    }
}

#[test]
fn the_highest_of_cni_versions_is_picked() {
    for (json, picked) in [
        (json!({"cniVersion": "0.3.1", "cniVersions": ["0.4.0", "1.0.0"]}), "1.0.0"),
        (json!({"cniVersion": "1.1.0", "cniVersions": ["0.4.0", "1.0.0"]}), "1.1.0"),
        (json!({"cniVersions": ["1.1.0", "1.2.0", "9.0.0"]}), "1.1.0"),
        (json!({"cniVersion": "9.0.0", "cniVersions": ["0.4.0"]}), "0.4.0"),
        (json!({"cniVersion": "0.4.0"}), "0.4.0"),
        (json!({}), "0.1.0"),
    ] {
        let mut conf = json!({"name": "net", "plugins": [{"type": "first"}]});
        conf.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
        assert_eq!(list(conf).cni_version.as_str(), picked, "{json}");
    }
    let newer = br#"{"name": "net", "cniVersion": "9.0.0", "plugins": [{"type": "first"}]}"#;
    assert_eq!(NetConfList::parse(newer).unwrap_err().code(), ErrorCode::IncompatibleVersion);
}

#[test]
fn disable_gc_and_disable_check_are_obeyed() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let runtime = runtime(directory.path(), in_process([Fake::new("first", &log)]));
    let list = list(json!({
        "cniVersion": "1.1.0", "name": "net", "disableGC": true, "disableCheck": "true", "plugins": [{"type": "first"}]
    }));
    runtime.add(&list, &attachment("c1")).unwrap();
    calls(&log);
    assert_eq!(runtime.gc(&list, &valid(&[])).unwrap(), cni_core::runtime::GcReport::default());
    runtime.check(&list, &attachment("c1")).unwrap();
    assert_eq!(calls(&log), Vec::<String>::new());
}

#[test]
fn status_ends_at_the_first_plugin_that_is_not_ready_with_its_code() {
    let (directory, log) = (tempfile::tempdir().unwrap(), Log::default());
    let first = Fake::new("first", &log).failing(Verb::Status, ErrorCode::NotAvailable);
    let runtime = runtime(directory.path(), in_process([first, Fake::new("second", &log)]));
    assert_eq!(runtime.status(&chain("1.1.0")).unwrap_err().code(), ErrorCode::NotAvailable);
    assert_eq!(calls(&log), ["first STATUS"]);
}

#[test]
fn a_bad_namespace_is_code_4_since_code_8_is_not_in_the_specifications_table() {
    let log = Log::default();
    let plugin = Fake { netns: Netns::Entered, ..Fake::new("first", &log) };
    for (path, what) in [
        ("/run/netns/not-there", "is no network namespace"),
        ("/etc/hostname", "is no network namespace"),
        ("/proc/self", "is no network namespace"),
        ("/proc/thread-self/ns/net", "is the plugin's own network namespace"),
    ] {
        for verb in ["ADD", "CHECK"] {
            let mut environment = environment(verb);
            environment.set("CNI_NETNS", path);
            let (code, stdout) = call(&plugin, environment, conf("1.1.0").to_string().as_bytes(), in_process([]));
            let error: Value = serde_json::from_slice(&stdout).unwrap();
            assert_eq!((code, &error["code"]), (1, &json!(4)), "{verb} {path}");
            assert!(error["msg"].as_str().unwrap().contains(&format!("CNI_NETNS: {path} {what}")), "{error}");
        }
    }
    assert_eq!(calls(&log), Vec::<String>::new(), "refused before the effect, not after it");
    let mut own = environment("ADD");
    own.set("CNI_NETNS", "/proc/thread-self/ns/net");
    own.set("CNI_NETNS_OVERRIDE", "1");
    assert_eq!(call(&plugin, own, conf("1.1.0").to_string().as_bytes(), in_process([])).0, 0);
}

#[test]
fn routes_and_interfaces_have_the_fields_of_1_1() {
    let json = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "mtu": 1450, "socketPath": "/run/s", "pciID": "8086:9a01"}],
        "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "advmss": 1360, "priority": 10, "table": 100, "scope": 253}]
    });
    let result = AddResult::from_json(json.clone(), SpecVersion::V1_1_0).unwrap();
    let (route, interface) = (&result.routes[0], &result.interfaces[0]);
    assert_eq!((route.mtu, route.advmss, route.priority), (Some(1400), Some(1360), Some(10)));
    assert_eq!((route.table, route.scope, interface.mtu), (Some(100), Some(253), Some(1450)));
    assert_eq!((interface.socket_path.as_deref(), interface.pci_id.as_deref()), (Some("/run/s"), Some("8086:9a01")));
    assert_eq!(result.to_json(SpecVersion::V1_1_0).unwrap(), json);
}
