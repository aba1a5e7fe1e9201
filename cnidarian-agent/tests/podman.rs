//! A real client: podman of Debian attaches a container with our configuration list. Never a runtime of our own.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]

use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;
use testlab::lab::{Lab, Node, Programs};
use testlab::probe::{PORT, Responder};
use testlab::registry::Registry;
use testlab::scenario::Scenario;

const SCENARIO: &str = "
name: podman
nodes: [{name: node-1}, {name: node-2}]
pods: [{name: there, node: node-2}]
backendConfig: {mode: vxlan}
";

fn programs() -> Programs {
    let cnidarian = PathBuf::from(env!("CARGO_BIN_EXE_cnidarian"));
    let plugin = cnidarian.with_file_name("cnidarian-cni");
    assert!(plugin.is_file(), "build the plugin first: cargo build -p cnidarian-cni");
    Programs { cnidarian, plugin }
}

/// podman with all of its state below one directory, in a node's namespace.
struct Podman<'a> {
    home: &'a Path,
    node: &'a Node,
}

impl Podman<'_> {
    fn configure(&self, programs: &Programs) {
        let networks = self.home.join("net.d");
        fs::create_dir(&networks).unwrap();
        let state = self.node.socket.with_file_name("state");
        let plugin = json!({"type": "cnidarian-cni", "agentSocket": self.node.socket, "stateDir": state});
        let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]});
        fs::write(networks.join("10-pods.conflist"), list.to_string()).unwrap();
        let conf = format!(
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
             [engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\n\
             [network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [{:?}]\nnetwork_config_dir = {networks:?}\n",
            programs.plugin.parent().unwrap()
        );
        fs::write(self.home.join("containers.conf"), conf).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let below = |name: &str| self.home.join(name);
        let mut podman = Command::new("podman");
        podman.env("CONTAINERS_CONF", below("containers.conf"));
        podman.arg("--root").arg(below("root")).arg("--runroot").arg(below("run"));
        podman.arg("--tmpdir").arg(below("tmp")).args(["--storage-driver", "vfs"]).args(args);
        podman.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        self.node.namespace.spawn(&mut podman).unwrap().wait_with_output().unwrap()
    }

    /// An image with nothing but busybox.
    fn make_image(&self) {
        let bin = self.home.join("image/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy("/bin/busybox", bin.join("busybox")).unwrap();
        for name in ["sh", "ping", "nc", "echo"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).unwrap();
        }
        let archive = self.home.join("image.tar");
        let tar = Command::new("tar").arg("-C").arg(self.home.join("image")).arg("-cf").arg(&archive).arg(".").status();
        assert!(tar.unwrap().success());
        let import = self.run(&["import", &archive.to_string_lossy(), "busybox"]);
        assert!(import.status.success(), "{}", String::from_utf8_lossy(&import.stderr));
    }
}

#[test]
fn a_container_of_podman_reaches_a_pod_on_another_node() {
    let programs = programs();
    let cancel = AtomicBool::new(false);
    let scenario = Scenario::parse(SCENARIO).unwrap();
    let lab = Lab::start(scenario, &programs, &Registry::open().unwrap(), false, &cancel).unwrap();
    let _responder = Responder::start(&lab.pods[0].namespace).unwrap();
    let home = tempfile::tempdir().unwrap();
    let podman = Podman { home: home.path(), node: &lab.nodes[0] };
    podman.configure(&programs);
    podman.make_image();
    let [v4, v6] = lab.pods[0].addresses[..] else { panic!("the pod has an address of each family") };
    // The nodes may just be learning of each other.
    let script = format!(
        "ok() {{ for i in 1 2 3 4 5 6 7 8 9 10; do \"$@\" && return 0; done; return 1; }}; \
         ok ping -c 1 -W 1 {v4} && ok ping -c 1 -W 1 {v6} && echo x | nc -w 2 {v4} {PORT} && echo reached"
    );
    let output = podman.run(&["run", "--rm", "--network", "pods", "busybox", "/bin/sh", "-c", &script]);
    let (told, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.trim_end().ends_with("reached"), "{told}\n{errors}");
    assert_eq!(lab.down().unwrap(), Vec::<String>::new());
}
