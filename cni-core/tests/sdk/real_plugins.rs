//! The reference plugins as Debian packages them (`containernetworking-plugins`, `iproute2`, `util-linux`), in network
//! namespaces of the test's own: the "host" is one too.

use crate::support::*;
use cni_core::cni::{AddResult, CniError, Environment, NetConfList, SpecVersion};
use cni_core::model::{EndpointId, PluginType};
use cni_core::runtime::{Attachment, Options, ProcessExec, Runtime};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};

const PLUGINS: &str = "/usr/lib/cni";

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}: install it"))
}

/// A network namespace with a name, deleted with the value.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(delete_those_of_dead_processes);
        let name = format!("cnisdk-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let output = run("ip", &["netns", "add", &name]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(name)
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    fn ip(&self, arguments: &[&str]) -> String {
        let output = run("ip", &[&["-n", &self.0][..], arguments].concat());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        run("ip", &["netns", "del", &self.0]);
    }
}

/// What a run of these tests left that was killed.
fn delete_those_of_dead_processes() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix("cnisdk-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|id| id == std::process::id().to_string() || !Path::new("/proc").join(id).exists()) {
            run("ip", &["netns", "del", &name]);
        }
    }
}

/// A runtime whose plugins run in the "host" namespace.
fn runtime_in(host: &Namespace, directory: &Path) -> Runtime {
    assert!(Path::new(PLUGINS).join("bridge").exists(), "install containernetworking-plugins");
    for plugin in ["bridge", "ptp", "host-local", "tuning"] {
        let file = directory.join(plugin);
        fs::write(&file, format!("#!/bin/sh\nexec nsenter --net={} {PLUGINS}/{plugin}\n", host.path())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let options = Options::new([directory], directory.join("state"));
    Runtime::new(options, Arc::new(ProcessExec { forward_stderr: true, ..ProcessExec::default() }))
}

fn network(version: &str, plugin: &str, directory: &Path) -> NetConfList {
    let leases = directory.join("leases");
    list(json!({
        "cniVersion": version, "name": "net", "plugins": [
            {"type": plugin, "bridge": "cni0", "ipam": {
                "type": "host-local", "dataDir": leases, "ranges": [[{"subnet": "10.20.0.0/24"}]],
                "routes": [{"dst": "0.0.0.0/0"}]
            }},
            {"type": "tuning", "capabilities": {"mac": true}}
        ]
    }))
}

fn leases(directory: &Path) -> usize {
    let entries = fs::read_dir(directory.join("leases/net")).unwrap();
    entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("10.")).count()
}

#[test]
fn bridge_and_ptp_with_host_local_and_tuning_live_through_add_check_del_in_every_version() {
    for plugin in ["bridge", "ptp"] {
        for version in ["0.3.1", "0.4.0", "1.0.0"] {
            let (directory, host, pod) = (tempfile::tempdir().unwrap(), Namespace::new(), Namespace::new());
            let runtime = runtime_in(&host, directory.path());
            let list = network(version, plugin, directory.path());
            runtime.validate(&list).unwrap();
            let mut attachment = Attachment::new(EndpointId::of("c1", "eth0").unwrap(), pod.path());
            attachment.capability_args = json!({"mac": "02:00:00:00:00:77"}).as_object().unwrap().clone();
            let result = runtime.add(&list, &attachment).unwrap();
            assert_eq!(result.ips[0].address.to_string(), "10.20.0.2/24", "{plugin} {version}");
            assert!(pod.ip(&["addr"]).contains("10.20.0.2"));
            assert!(pod.ip(&["link"]).contains("02:00:00:00:00:77"), "the capability argument arrived");
            assert_eq!(leases(directory.path()), 1);
            match version {
                "0.3.1" => assert!(runtime.check(&list, &attachment).is_err()),
                _ => {
                    runtime.check(&list, &attachment).unwrap();
                    pod.ip(&["addr", "flush", "dev", "eth0"]);
                    runtime.check(&list, &attachment).unwrap_err();
                }
            }
            for _ in 0..2 {
                runtime.del(&list, &attachment).unwrap();
                assert!(!pod.ip(&["link"]).contains("eth0"));
                assert_eq!(leases(directory.path()), 0);
            }
        }
    }
}

#[test]
fn an_interface_that_is_there_fails_the_chain_and_leaves_no_lease() {
    let (directory, host, pod) = (tempfile::tempdir().unwrap(), Namespace::new(), Namespace::new());
    pod.ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "other"]);
    let runtime = runtime_in(&host, directory.path());
    let list = network("1.0.0", "ptp", directory.path());
    let attachment = Attachment::new(EndpointId::of("c1", "eth0").unwrap(), pod.path());
    let error = runtime.add(&list, &attachment).unwrap_err();
    assert!(error.to_string().contains("already exists"), "{error}");
    assert_eq!(leases(directory.path()), 0);
}

#[test]
fn gc_of_a_1_0_network_frees_what_the_runtime_knows_also_when_the_pod_is_gone() {
    let (directory, host) = (tempfile::tempdir().unwrap(), Namespace::new());
    let runtime = runtime_in(&host, directory.path());
    let list = network("1.0.0", "bridge", directory.path());
    let id = EndpointId::of("c1", "eth0").unwrap();
    let pod = Namespace::new();
    runtime.add(&list, &Attachment::new(id.clone(), pod.path())).unwrap();
    drop(pod);
    let report = runtime.gc(&list, &[].into()).unwrap();
    assert_eq!((report.deleted, report.plugins_asked), (vec![id], false));
    assert_eq!(leases(directory.path()), 0);
}

#[test]
fn a_plugin_of_ours_delegates_to_the_real_host_local() {
    use cni_core::plugin::{About, AddRequest, CheckRequest, DelRequest, GcRequest, Netns, Plugin, StatusRequest};
    struct Delegating;
    impl Plugin for Delegating {
        fn about(&self) -> About {
            About { name: "delegating", version: "1.0.0", spec: SpecVersion::ALL, netns: Netns::NotUsed }
        }
        fn add(&self, request: &AddRequest) -> Result<AddResult, CniError> {
            request.ipam().unwrap().add(|addresses| match request.args.get("FAIL") {
                None => Ok(addresses),
                Some(_) => Err(CniError::interface_exists(&request.ifname)),
            })
        }
        fn del(&self, request: &DelRequest) -> Result<(), CniError> {
            request.ipam().unwrap().forward()
        }
        fn check(&self, request: &CheckRequest) -> Result<(), CniError> {
            request.ipam().unwrap().forward()
        }
        fn status(&self, request: &StatusRequest) -> Result<(), CniError> {
            request.ipam().unwrap().forward()
        }
        fn gc(&self, request: &GcRequest) -> Result<(), CniError> {
            request.ipam().unwrap().forward()
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let conf = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "delegating",
        "ipam": {"type": "host-local", "dataDir": directory.path().join("leases"), "subnet": "10.20.0.0/24"}
    });
    let call = |verb: &str, arguments: &str| {
        let mut environment: Environment = environment(verb);
        environment.set("CNI_PATH", PLUGINS);
        environment.set("CNI_ARGS", arguments);
        let exec = Arc::new(ProcessExec { forward_stderr: true, ..ProcessExec::default() });
        let (code, stdout) = crate::support::call(&Delegating, environment, conf.to_string().as_bytes(), exec);
        (code, serde_json::from_slice::<Value>(&stdout).unwrap_or_default())
    };
    let (code, result) = call("ADD", "");
    assert_eq!((code, &result["ips"][0]["address"]), (0, &json!("10.20.0.2/24")), "{result}");
    assert_eq!(call("CHECK", ""), (0, Value::Null));
    assert_eq!(call("DEL", ""), (0, Value::Null));
    assert_eq!(call("CHECK", "").0, 1);
    let (code, error) = call("ADD", "IgnoreUnknown=1;FAIL=1");
    assert_eq!((code, &error["code"]), (1, &json!(4)), "{error}");
    assert_eq!(leases(directory.path()), 0, "given back before the error");
    let versions = Runtime::new(Options::new([PLUGINS], directory.path()), Arc::new(ProcessExec::default()))
        .versions(&PluginType::new("host-local").unwrap());
    assert!(versions.unwrap().contains(&SpecVersion::V1_0_0));
}
