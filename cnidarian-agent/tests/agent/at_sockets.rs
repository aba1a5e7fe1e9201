//! Services in eBPF and the agent's life: what stays without it, what goes with the section, what is refused. Never a connection:
//! those are in `tests/services.rs`.

use crate::services::{bgp, put};
use crate::world::{World, until};
use net_linux::marks;
use serde_json::{Value, json};
use testlab::bed::Cgroup;

/// The configuration of services in eBPF at sockets of a cgroup of the test's own.
fn at_sockets(world: &World, cgroup: &Cgroup, more: &[(&str, Value)]) -> Value {
    let mut config = world.config();
    config["services"] = json!({"engine": "ebpf", "cgroup": cgroup.0});
    for (key, value) in more {
        config["services"][*key] = value.clone();
    }
    config
}

/// What is pinned of services for the node.
fn pinned(world: &World) -> Vec<String> {
    let folder = std::path::Path::new(marks::BPFFS_FOLDER).join(world.netns.cookie().unwrap().to_string());
    let files = std::fs::read_dir(folder.join("services")).into_iter().flatten().flatten();
    files.map(|file| file.file_name().into_string().unwrap()).collect()
}

#[test]
fn services_at_sockets_stay_without_the_agent_and_go_with_the_section() {
    let Some(cgroup) = Cgroup::new() else { return };
    let mut world = World::new();
    world.start_with(&at_sockets(&world, &cgroup, &[]));
    let hooks = |world: &World| pinned(world).into_iter().filter(|name| !name.starts_with("maps-")).count();
    until("all programs are attached", || match hooks(&world) {
        8 => Ok(()),
        count => Err(format!("{count}: {:?}\n{}", pinned(&world), world.log())),
    });
    world.kill();
    assert_eq!(hooks(&world), 8, "killed");
    let small = json!({"frontends": 16, "backends": 16});
    world.start_with(&at_sockets(&world, &cgroup, &[("maps", small)]));
    until("there are maps of the new sizes only", || match (hooks(&world), pinned(&world).len()) {
        (8, 9) => Ok(()),
        _ => Err(format!("{:?}\n{}", pinned(&world), world.log())),
    });
    assert!(world.stop().success());
    assert_eq!(hooks(&world), 8, "stopped");
    world.start();
    assert_eq!(pinned(&world), Vec::<String>::new(), "nothing of a proxy that nobody wants is left");
}

#[test]
fn what_services_at_sockets_cannot_do_is_refused_with_its_key() {
    let Some(cgroup) = Cgroup::new() else { return };
    let mut world = World::new();
    let announce = {
        let mut config = bgp(&world);
        config["services"]["engine"] = "ebpf".into();
        config["services"]["cgroup"] = json!(cgroup.0);
        config["services"]["outsideClients"] = false.into();
        config
    };
    for (config, words) in [
        (announce, "outside-clients: it is off: `outsideClients` is false"),
        (at_sockets(&world, &cgroup, &[("maps", json!({"clients": 0}))]), "services.maps.clients is 0; write 1 to"),
        (at_sockets(&world, &cgroup, &[("cgroup", json!("/tmp"))]), "/tmp is no directory of cgroup v2"),
        (at_sockets(&world, &cgroup, &[("cgruop", json!("/tmp"))]), "no such key; did you mean `cgroup`?"),
    ] {
        world.spawn(&config);
        assert!(!world.wait_for_end().success());
        assert!(world.log().contains(words), "{words:?} is not in {}", world.log());
    }
}

/// Room for two frontends: the services' own tables are watched as those of policy are.
#[test]
fn a_table_of_services_that_is_nearly_full_is_a_problem() {
    let Some(cgroup) = Cgroup::new() else { return };
    let mut world = World::new();
    let ports = json!([{"name": "a", "port": 80}, {"name": "b", "port": 81}]);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": "10.96.0.7", "ports": ports}});
    put(&world, "web", &service);
    let mut config = at_sockets(&world, &cgroup, &[("maps", json!({"frontends": 2}))]);
    config["metrics"] = json!({"address": "127.0.0.1:9402"});
    world.start_with(&config);
    until("the table is said to be full", || {
        let (_, text) = world.ask(&["status", "--json"]);
        let told = text.contains("table FRONTENDS of services") && text.contains("2 of 2 entries are used");
        if told { Ok(()) } else { Err(text) }
    });
    let text = crate::flows::scrape(&world);
    for line in [
        "cnidarian_table_entries{part=\"services\",table=\"FRONTENDS\"} 2",
        "cnidarian_table_entries{part=\"services\",table=\"CLIENTS\"} 1",
        "cnidarian_table_entries{part=\"services\",table=\"AFFINITY\"} 0",
        "cnidarian_table_room{part=\"services\",table=\"AFFINITY\"} 65536",
    ] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    // Nothing in its entries says whether they are of use.
    assert!(!text.contains("entries{part=\"services\",table=\"REVERSE\"}"), "{text}");
}

#[test]
fn a_service_for_clients_outside_is_a_problem_where_they_are_not_served() {
    let Some(cgroup) = Cgroup::new() else { return };
    let mut world = World::new();
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "NodePort", "clusterIP": "10.96.0.7", "ports": [{"port": 80, "nodePort": 30080}]}});
    put(&world, "web", &service);
    world.start_with(&at_sockets(&world, &cgroup, &[("outsideClients", false.into())]));
    let problems = |world: &World| {
        let status: Value = serde_json::from_str(&world.ask(&["status", "--json"]).1).unwrap();
        status["problems"].to_string()
    };
    let told = problems(&world);
    assert!(
        told.contains("Service default/web") && told.contains("NodePort: from this node and its pods only"),
        "{told}"
    );
    assert!(world.stop().success());
    world.start_with(&at_sockets(&world, &cgroup, &[]));
    let told = problems(&world);
    assert!(!told.contains("default/web"), "{told}");
}
