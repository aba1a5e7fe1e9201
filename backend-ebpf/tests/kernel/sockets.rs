//! Namespaces with backends, for clients at sockets. Never a namespace that was there before.

use net_linux::netns::NetNs;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use std::path::Path;
use std::process::Command;
use testlab::bed::{Client, answer_a_client, serve_named};

/// The client's process; without being asked to, it does nothing.
#[test]
fn a_client_that_is_asked() {
    answer_a_client();
}

/// A client in the calling thread's network namespace.
pub(crate) fn client(cgroup: &Path) -> Client {
    client_in(cgroup, &NetNs::current().unwrap())
}

/// A client in this one.
pub(crate) fn client_in(cgroup: &Path, namespace: &NetNs) -> Client {
    Client::new("sockets::a_client_that_is_asked", cgroup, namespace)
}

/// Backends by name, port 8080.
pub(crate) const BACKENDS: [(&str, &str, &str); 3] =
    [("a", "10.96.1.1", "fd96:1::1"), ("b", "10.96.1.2", "fd96:1::2"), ("c", "10.96.1.3", "fd96:1::3")];

/// A namespace with those backends, and a BPF file system of this thread's own at the usual place.
pub(crate) fn in_a_namespace(work: impl FnOnce() + Send) {
    let namespace = NetNs::new().unwrap();
    namespace
        .run(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
            start_backends();
            work();
        })
        .unwrap();
}

/// The same backends in a namespace that is there already.
pub(crate) fn with_backends(namespace: &NetNs) {
    namespace.run(start_backends).unwrap();
}

/// In the calling thread's namespace.
fn start_backends() {
    let ip = |line: &str| {
        let output = Command::new("ip").args(line.split(' ')).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    };
    ip("link set lo up");
    for (name, v4, v6) in BACKENDS {
        ip(&format!("address add {v4}/32 dev lo"));
        ip(&format!("address add {v6}/128 dev lo nodad"));
        serve_named(v4.parse().unwrap(), name);
        serve_named(v6.parse().unwrap(), name);
    }
}
