//! Services from manifests to a service proxy, which is a recorder here. In network namespaces of the test's own; needs root.
#![allow(clippy::unwrap_used, reason = "the helpers of a test are tests too")]
#![cfg(feature = "vxlan")]

use async_trait::async_trait;
use cni_core::backend::{
    Capabilities, Change, CommitReport, Drift, Engine, Error, OpenRequest, Plan, ProxyBackend, ProxyParts, Result,
    ServiceChange, Translation,
};
use cni_core::model::{NodeName, ServiceItem};
use cnidarian::config::{NodeConfig, PolicyConfig, ServicesConfig, StoreConfig};
use cnidarian::{Node, built_in};
use net_linux::addr::Address;
use net_linux::link::{LinkChange, LinkId, NewLink, NewLinkKind, VethPeer};
use net_linux::netlink::{Batch, Socket};
use net_linux::netns::NetNs;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What a proxy was told, as words.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Told {
    fn say(&self, word: String) {
        self.0.lock().unwrap().push(word);
    }

    fn words(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    async fn until(&self, word: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while !self.words().iter().any(|said| said == word) {
            assert!(Instant::now() < end, "no {word:?} in {:?}", self.words());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

struct Recorder {
    name: &'static str,
    translates: Translation,
    told: Told,
}

impl Recorder {
    fn at_sockets(name: &'static str, told: &Told) -> Self {
        Self { name, translates: Translation::Socket, told: told.clone() }
    }
}

#[async_trait]
impl ProxyBackend for Recorder {
    fn name(&self) -> &str {
        self.name
    }

    fn check(&self, _: &Value) -> Result<()> {
        Ok(())
    }

    fn needs_host_stack(&self) -> bool {
        false
    }

    fn translates(&self) -> Translation {
        self.translates
    }

    async fn open(&self, request: OpenRequest) -> Result<ProxyParts> {
        self.told.say(format!("{} opened with {}", self.name, request.config));
        let recording = Recording { told: self.told.clone(), staged: Vec::new(), nothing: Capabilities::default() };
        Ok(ProxyParts::new(Box::new(recording)))
    }

    fn clear(&self) -> Result<()> {
        self.told.say(format!("{} cleared", self.name));
        Ok(())
    }
}

struct Recording {
    told: Told,
    /// By key: the last counts, as for every engine.
    staged: Vec<(String, String)>,
    nothing: Capabilities,
}

impl Recording {
    fn will_say(&mut self, key: String, word: String) {
        self.staged.retain(|(staged, _)| *staged != key);
        self.staged.push((key, word));
    }
}

#[async_trait]
impl Engine<ServiceItem> for Recording {
    fn capabilities(&self) -> &Capabilities {
        &self.nothing
    }

    fn stage(&mut self, change: ServiceChange) -> Result<()> {
        match change {
            Change::Put(item) => {
                let backends: Vec<String> = item.backends.iter().map(|backend| backend.address.to_string()).collect();
                self.will_say(item.key.to_string(), format!("{} to {}", item.key, backends.join(" ")));
                if item.key.port == 666 {
                    return Err(Error::invalid(item.key.to_string(), "port", "is the beast's"));
                }
            }
            Change::Remove(key) => self.will_say(key.to_string(), format!("{key} gone")),
            Change::InSync => self.will_say(String::new(), "in sync".to_owned()),
            Change::Node(_) | Change::Config(_) => {}
        }
        Ok(())
    }

    fn plan(&self) -> Plan {
        Plan::default()
    }

    async fn commit(&mut self) -> CommitReport {
        self.staged.drain(..).for_each(|(_, word)| self.told.say(word));
        CommitReport::default()
    }

    async fn resync(&mut self) -> Result<Drift> {
        self.told.say("resync".to_owned());
        Ok(Drift::default())
    }
}

/// Runs a test in a fresh namespace with an uplink.
fn on_an_uplink<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send) {
    let inside = || {
        let mut socket = Socket::route().unwrap();
        let peer = VethPeer { name: "wire", mac: None, namespace: None };
        let index = NewLink::new("uplink", NewLinkKind::Veth(peer)).create(&mut socket).unwrap();
        let mut batch = Batch::new();
        for name in ["uplink", "wire"] {
            LinkChange { up: Some(true), ..LinkChange::default() }.add(&mut batch, &LinkId::Name(name));
        }
        Address::new(index, "192.0.2.1/24".parse().unwrap()).create(&mut batch);
        socket.run_all(&mut batch).unwrap();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test());
    };
    NetNs::new().unwrap().run(inside).unwrap();
}

fn config(store: &Path, engine: &str) -> NodeConfig {
    let mut config = NodeConfig::new(NodeName::new("node-1").unwrap());
    config.underlay.interface = Some("uplink".parse().unwrap());
    config.policy = PolicyConfig::none();
    config.store = StoreConfig::Files { directory: store.to_owned() };
    let own = json!({"cgroup": "/here"});
    config.services = Some(ServicesConfig { engine: engine.to_owned(), config: own, ..ServicesConfig::default() });
    config
}

fn put(store: &Path, name: &str, object: &Value) {
    std::fs::write(store.join(format!(".{name}")), object.to_string()).unwrap();
    std::fs::rename(store.join(format!(".{name}")), store.join(format!("{name}.json"))).unwrap();
}

fn service(port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"clusterIP": "10.96.0.7", "ports": [{"port": port}]}})
}

fn slice(addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": endpoints,
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "ports": [{"port": 8080}]})
}

#[test]
fn a_proxy_is_told_of_all_services_before_it_is_in_sync_and_of_every_change_after() {
    on_an_uplink(|| async {
        let store = tempfile::tempdir().unwrap();
        put(store.path(), "web", &service(80));
        put(store.path(), "web-1", &slice(&["10.42.0.9"]));
        let told = Told::default();
        let recorder = |name| Recorder::at_sockets(name, &told);
        let registry = built_in().with_proxy(recorder("one")).with_proxy(recorder("other"));
        let node = Node::open(config(store.path(), "one"), &registry).await.unwrap();
        let words = told.words();
        let place = |word: &str| words.iter().position(|said| said == word).expect(word);
        // What cannot be opened takes nothing away, and two never translate at once.
        assert!(place("one opened with {\"cgroup\":\"/here\"}") < place("other cleared"), "{words:?}");
        assert!(place("other cleared") < place("in sync"), "{words:?}");
        assert!(place("service 10.96.0.7:80/TCP to 10.42.0.9") < place("in sync"), "{words:?}");
        assert_eq!(words.iter().filter(|said| *said == "in sync").count(), 1);
        let bare = "service 10.96.0.7:80/TCP to ";
        assert!(!words.iter().any(|said| said == bare), "told of before its backends: {words:?}");

        put(store.path(), "web-1", &slice(&["10.42.0.9", "10.42.0.10"]));
        told.until("service 10.96.0.7:80/TCP to 10.42.0.9 10.42.0.10").await;
        let shown = node.services().await;
        assert_eq!(shown[0].service, "default/web");
        assert_eq!(shown[0].frontend, "10.96.0.7:80");
        assert_eq!(shown[0].backends[1].address, "10.42.0.10:8080");
        assert_eq!(node.status().services.as_deref(), Some("one"));
        node.resync().await.unwrap();
        told.until("resync").await;
        std::fs::remove_file(store.path().join("web.json")).unwrap();
        told.until("service 10.96.0.7:80/TCP gone").await;
        drop(node);

        let without = Node::open(config(store.path(), ServicesConfig::NONE), &registry).await;
        assert!(without.err().unwrap().to_string().contains("service-addresses"), "nobody to translate, none to tell");
    });
}

#[test]
fn without_a_proxy_all_proxies_are_cleared() {
    on_an_uplink(|| async {
        let store = tempfile::tempdir().unwrap();
        let told = Told::default();
        let registry = built_in().with_proxy(Recorder::at_sockets("one", &told));
        let config = NodeConfig { services: None, ..config(store.path(), "one") };
        let node = Node::open(config, &registry).await.unwrap();
        assert_eq!(told.words(), ["one cleared"]);
        assert_eq!(node.status().services, None);
    });
}

#[cfg(feature = "policy-ebpf")]
#[test]
fn a_policy_engine_that_judges_before_a_proxy_translates_is_refused_before_anything_is_touched() {
    on_an_uplink(|| async {
        let store = tempfile::tempdir().unwrap();
        let told = Told::default();
        let late = Recorder { translates: Translation::Delivery, ..Recorder::at_sockets("late", &told) };
        let registry = built_in().with_proxy(late);
        let mut config = config(store.path(), "late");
        config.policy = PolicyConfig { engine: "ebpf".to_owned(), ..PolicyConfig::default() };
        let refused = Node::open(config.clone(), &registry).await.err().unwrap().to_string();
        assert!(refused.contains("policy ebpf") && refused.contains("no endpoint's address yet"), "{refused}");
        assert!(told.words().is_empty(), "{:?}", told.words());
        // Where it translates before, the two go together.
        let registry = built_in().with_proxy(Recorder::at_sockets("late", &told));
        drop(Node::open(config, &registry).await.unwrap());
    });
}

#[cfg(feature = "services-ipvs")]
#[test]
fn a_kernel_without_ipvs_is_refused_with_what_else_there_is_and_nothing_is_taken_away() {
    on_an_uplink(|| async {
        if net_linux::ipvs::Ipvs::open_loading().is_ok() {
            println!("skipped: this kernel has IPVS");
            return;
        }
        let (store, told) = (tempfile::tempdir().unwrap(), Told::default());
        let registry = built_in().with_proxy(Recorder::at_sockets("one", &told));
        let mut config = config(store.path(), "ipvs");
        config.services.as_mut().unwrap().config = Value::Null;
        let refused = Node::open(config, &registry).await.err().unwrap().to_string();
        assert!(refused.contains("this kernel has no IPVS") && refused.contains("also has services: "), "{refused}");
        assert!(refused.contains("one"), "{refused}");
        assert!(told.words().is_empty(), "{:?}", told.words());
    });
}
