//! Who may run beside whom (CNI 1.1.0, section 3, "Lifecycle & Ordering"). Never a sleep: plugins wait for each other.

use crate::support::*;
use cni_core::cni::{Environment, NetConfList};
use cni_core::model::{EndpointId, PluginType};
use cni_core::runtime::{Attachment, Exec, ExecError, Invocation, Output};
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

/// How long to wait for what must come.
const LONG: Duration = Duration::from_secs(20);
/// How long to give what must not come.
const SHORT: Duration = Duration::from_millis(300);

#[derive(Default)]
struct State {
    inside: Vec<String>,
    most: usize,
    overlaps: Vec<String>,
}

/// Plugins that stay inside until `meeting` of them are, or the patience ends.
struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
    meeting: usize,
    patience: Duration,
}

impl Meeting {
    fn new(meeting: usize, patience: Duration) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: Condvar::new(), meeting, patience })
    }
}

fn variable(environment: &Environment, name: &str) -> String {
    environment.get(name).map(|value| value.to_string_lossy().into_owned()).unwrap_or_default()
}

impl Exec for Meeting {
    fn find(&self, plugin: &PluginType, _: &[PathBuf]) -> Result<PathBuf, ExecError> {
        Ok(plugin.as_str().into())
    }

    fn exec(&self, _: &Path, invocation: &Invocation) -> Result<Output, ExecError> {
        let verb = variable(&invocation.environment, "CNI_COMMAND");
        let me = format!("{verb} {}", variable(&invocation.environment, "CNI_CONTAINERID"));
        let mut state = self.state.lock().unwrap();
        let beside = state.inside.clone();
        if beside.contains(&me) || (!beside.is_empty() && (verb == "GC" || beside.iter().any(|b| b.starts_with("GC"))))
        {
            state.overlaps.push(format!("{me} beside {beside:?}"));
        }
        state.inside.push(me.clone());
        state.most = state.most.max(state.inside.len());
        self.changed.notify_all();
        let (mut state, _) =
            self.changed.wait_timeout_while(state, self.patience, |state| state.most < self.meeting).unwrap();
        let place = state.inside.iter().position(|other| *other == me).unwrap();
        state.inside.remove(place);
        let stdout = b"{\"cniVersion\": \"1.1.0\"}".to_vec();
        Ok(Output { success: true, status: "exit status: 0".into(), stdout, stderr: Vec::new() })
    }
}

fn network() -> NetConfList {
    list(json!({"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "first"}]}))
}

#[test]
fn adds_of_different_containers_run_in_parallel() {
    let (directory, exec) = (tempfile::tempdir().unwrap(), Meeting::new(4, LONG));
    let runtime = runtime(directory.path(), exec.clone());
    thread::scope(|scope| {
        for container in ["c1", "c2", "c3", "c4"] {
            let runtime = &runtime;
            scope.spawn(move || runtime.add(&network(), &attachment(container)).unwrap());
        }
    });
    assert_eq!(exec.state.lock().unwrap().most, 4);
}

#[test]
fn one_container_has_one_operation_at_a_time() {
    let (directory, exec) = (tempfile::tempdir().unwrap(), Meeting::new(2, SHORT));
    let runtime = runtime(directory.path(), exec.clone());
    thread::scope(|scope| {
        for interface in ["eth0", "eth1", "eth2"] {
            let runtime = &runtime;
            let attachment = Attachment::new(EndpointId::of("c1", interface).unwrap(), "/run/netns/c1");
            scope.spawn(move || runtime.add(&network(), &attachment).unwrap());
        }
    });
    assert_eq!(exec.state.lock().unwrap().most, 1);
}

#[test]
fn gc_is_exclusive_against_add_also_of_another_runtime_with_the_same_directory() {
    for same_runtime in [true, false] {
        let (directory, exec) = (tempfile::tempdir().unwrap(), Meeting::new(2, SHORT));
        let runtimes = [0, 1].map(|_| runtime(directory.path(), exec.clone()));
        thread::scope(|scope| {
            scope.spawn(|| runtimes[0].add(&network(), &attachment("c1")).unwrap());
            // Each stays inside long enough to meet the other, if it may.
            scope.spawn(|| runtimes[usize::from(!same_runtime)].gc(&network(), &[attachment("c1").id].into()).unwrap());
        });
        assert_eq!(exec.state.lock().unwrap().overlaps, Vec::<String>::new(), "same runtime: {same_runtime}");
    }
}

#[test]
fn gc_add_check_and_del_all_get_their_turn_and_never_overlap_where_they_must_not() {
    let (directory, exec) = (tempfile::tempdir().unwrap(), Meeting::new(usize::MAX, Duration::from_millis(1)));
    let runtimes = [0, 1].map(|_| runtime(directory.path(), exec.clone()));
    let all: BTreeSet<_> = (0..6).map(|n| EndpointId::of(&format!("c{}{}", n / 3, n % 3), "eth0").unwrap()).collect();
    thread::scope(|scope| {
        for (index, runtime) in runtimes.iter().enumerate() {
            for container in 0..3 {
                let attachment = attachment(&format!("c{index}{container}"));
                scope.spawn(move || {
                    for _ in 0..10 {
                        runtime.add(&network(), &attachment).unwrap();
                        runtime.check(&network(), &attachment).unwrap();
                        runtime.del(&network(), &attachment).unwrap();
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..10 {
                    assert!(runtime.gc(&network(), &all).unwrap().plugins_asked);
                }
            });
        }
    });
    assert_eq!(exec.state.lock().unwrap().overlaps, Vec::<String>::new());
}
