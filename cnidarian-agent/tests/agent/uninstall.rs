//! `cnidarian uninstall` after each backend and engine: the namespace is as it was. Never of a node whose pods are to stay.

use crate::world::{Pod, World};
use backend_ebpf::kernel::{Hook, Side};
use net_linux::link::{Link, LinkFilter};
use net_linux::marks;
use net_linux::netlink::Socket;
use net_linux::nexthop::NextHop;
use net_linux::nft::Nft;
use net_linux::route::{Route, RouteFilter};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use testlab::bed::Cgroup;

/// Routes that the kernel itself writes with addresses (`RTPROT_KERNEL` of `include/uapi/linux/rtnetlink.h`).
const BY_KERNEL: u8 = 2;

/// A BPF file system beside the usual one, for as long as this is there.
struct Bpffs(TempDir);

impl Bpffs {
    fn mounted() -> Self {
        let place = TempDir::new().unwrap();
        mount(Some("bpf"), place.path(), Some("bpf"), MsFlags::empty(), Some("mode=0700")).unwrap();
        Self(place)
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// What a node has in its namespace, but for what comes and goes with addresses by itself.
fn shown(world: &World, bpffs: &Bpffs) -> BTreeSet<String> {
    let usual = Path::new(marks::BPFFS_FOLDER);
    let ours = usual.file_name().unwrap();
    let netns = world.netns.cookie().unwrap().to_string();
    let pins = [usual.to_owned(), bpffs.0.path().join(ours)].map(|folder| folder.join(&netns));
    let read = || {
        let mut socket = Socket::route().unwrap();
        let mut found = BTreeSet::new();
        for link in Link::dump(&mut socket, &LinkFilter::default()).unwrap() {
            found.insert(format!("device {}", link.name));
            let hooks = Hook::every().into_iter().flat_map(|hook| [(hook, Side::Ingress), (hook, Side::Egress)]);
            for (hook, side) in hooks {
                let programs = hook.open().unwrap().ids(link.index, side).unwrap();
                found.extend(programs.iter().map(|id| format!("program {id} at {} {hook:?} {side:?}", link.name)));
            }
        }
        let routes = Route::dump(&mut socket, &RouteFilter::default()).unwrap();
        let routes = routes.into_iter().filter(|route| route.protocol != BY_KERNEL);
        found.extend(routes.map(|route| route.to_string()));
        found.extend(NextHop::dump(&mut socket, None).unwrap().iter().map(ToString::to_string));
        let tables = Nft::open().unwrap().tables().unwrap();
        found.extend(tables.into_iter().map(|table| format!("table {}", table.object.id)));
        found
    };
    let mut found = world.netns.run(read).unwrap();
    found.extend(pins.iter().filter(|pins| pins.exists()).map(|pins| format!("pins {}", pins.display())));
    found
}

fn uninstall(world: &World, more: &[&str]) -> (bool, String) {
    let config = world.dir.path().join("agent.yaml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_cnidarian"));
    command.args(["uninstall", "--config"]).arg(config).args(more);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let output = world.netns.spawn(&mut command).unwrap().wait_with_output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Every backend and engine of this build that any kernel of ours opens, each at least once.
fn configs(world: &World, cgroup: Option<&Cgroup>, bpffs: &Bpffs) -> Vec<Value> {
    let with = |backend: &str, own: Value, policy: &str| {
        let mut config = world.config();
        config["backend"] = json!(backend);
        config[backend] = own;
        config["policy"] = json!(policy);
        config
    };
    let mut whole = with("ebpf", json!({"mode": "native", "fastPath": true}), "ebpf");
    if let Some(cgroup) = cgroup {
        whole["services"] = json!({"engine": "ebpf", "cgroup": cgroup.0, "bpffs": bpffs.0.path()});
    }
    vec![
        with("vxlan", json!({}), "nftables"),
        with("vxlan", json!({"mode": "host-gw"}), "none"),
        with("bgp", json!({"asn": 64512, "encapsulation": "CrossSubnet"}), "ebpf"),
        with("ebpf", json!({"mode": "vxlan", "masquerade": "ebpf"}), "nftables"),
        whole,
    ]
}

#[test]
fn after_each_backend_and_engine_the_namespace_is_as_it_was() {
    let (cgroup, bpffs) = (Cgroup::new(), Bpffs::mounted());
    let mut world = World::new();
    let shown = |world: &World| shown(world, &bpffs);
    let before = shown(&world);
    for config in configs(&world, cgroup.as_ref(), &bpffs) {
        let which = format!("{} {} {}", config["backend"], config["policy"], config["services"]);
        world.start_with(&config);
        let pod = Pod::new("pod");
        world.cni("ADD", &pod).ok();
        assert_ne!(shown(&world), before, "{which}");
        let (done, told) = uninstall(&world, &[]);
        assert!(!done && told.contains("in use by process"), "{which}: an agent runs: {told}");
        world.kill();
        let running = shown(&world);
        let (done, told) = uninstall(&world, &[]);
        assert!(!done && told.contains("a pod of this node"), "{which}: a pod is attached: {told}");
        assert_eq!(shown(&world), running, "{which}: refused, and nothing changed");
        let (done, told) = uninstall(&world, &["--pods"]);
        assert!(done, "{which}: {told}");
        assert_eq!(shown(&world), before, "{which}");
        assert!(world.state().join(marks::STATE_DATABASE).exists(), "what was not asked for stays");
        // What is left knows of no pod any more, and the same node starts again.
        world.start_with(&config);
        world.assert_empty();
        world.kill();
        let (done, told) = uninstall(&world, &["--state"]);
        assert!(done, "{which}: {told}");
        assert_eq!(shown(&world), before, "{which}");
        let left: Vec<_> = std::fs::read_dir(world.state()).into_iter().flatten().flatten().collect();
        assert!(!world.state().exists(), "{which}: {left:?}");
        let (done, told) = uninstall(&world, &["--state"]);
        assert!(done, "{which}: once more: {told}");
    }
}
