//! Services at real sockets, in cgroups and network namespaces of the test's own. Never a packet from outside.

use crate::place::run;
use crate::sockets::{BACKENDS, client, client_in, in_a_namespace, with_backends};
use backend_ebpf::service::{ClientDriver, Config, EbpfServices, Sizes, SocketDriver};
use cni_core::backend::{Change, Engine, ProxyBackend as _, Reconciler};
use cni_core::model::{
    BackendUse, Conditions, EndpointId, FrontendKind, Scheduler, ServiceBackend, ServiceClient, ServiceItem,
    ServiceKey, ServiceName, TrafficScope,
};
use cni_core::policy::model::Protocol;
use cni_core::testkit::engine::fake;
use net_linux::netns::NetNs;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::Path;
use testlab::bed::{Cgroup, Client, serve_named};

pub(crate) const V4: &str = "10.96.0.10:80";
pub(crate) const V6: &str = "[fd96::10]:80";
const MAPPED: &str = "[::ffff:10.96.0.10]:80";

/// A frontend with those backends that are named.
pub(crate) fn item(address: &str, protocol: u8, backends: &str) -> ServiceItem {
    let address: std::net::SocketAddr = address.parse().unwrap();
    let conditions = Conditions { ready: true, serving: true, terminating: false };
    let backends = BACKENDS.iter().filter(|(name, ..)| backends.contains(name)).map(|(_, v4, v6)| ServiceBackend {
        address: if address.is_ipv4() { v4 } else { v6 }.parse().unwrap(),
        port: 8080,
        usage: BackendUse::Active,
        weight: 1,
        conditions,
        local: true,
        node: None,
        zone: None,
    });
    ServiceItem {
        key: ServiceKey { address: address.ip(), port: address.port(), protocol: Protocol(protocol) },
        service: ServiceName { namespace: "red".into(), name: "shop".into() },
        port_name: "".into(),
        kind: FrontendKind::ClusterIp,
        scope: TrafficScope::Cluster,
        scheduler: Scheduler::RoundRobin,
        affinity_seconds: None,
        sources: None,
        health_check_port: None,
        direct_return: false,
        backends: backends.collect(),
    }
}

/// The service at both families, over TCP and UDP.
pub(crate) fn items(backends: &str) -> Vec<ServiceItem> {
    let both = [V4, V6].into_iter().flat_map(|address| [6, 17].map(|protocol| (address, protocol)));
    both.map(|(address, protocol)| item(address, protocol, backends)).collect()
}

/// What serves frontends, and whom; the thread's own network namespace is always among those.
pub(crate) struct Proxy(
    pub(crate) Reconciler<SocketDriver>,
    pub(crate) tokio::runtime::Runtime,
    Reconciler<ClientDriver>,
);

impl Proxy {
    pub(crate) fn open(cgroup: &Path) -> Self {
        Self::open_with(&Config { cgroup: Some(cgroup.to_owned()), ..Config::default() })
    }

    pub(crate) fn open_with(config: &Config) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let driver = SocketDriver::open(config).unwrap();
        let mut clients = Reconciler::new(driver.clients(&fake::node()).unwrap()).unwrap();
        let mut engine = Reconciler::new(driver).unwrap();
        runtime.block_on(engine.resync()).unwrap();
        assert!(runtime.block_on(clients.commit()).is_complete());
        Self(engine, runtime, clients)
    }

    /// Serves a pod's namespace, or no more.
    fn serve(&mut self, pod: &NetNs, served: bool) {
        let endpoint = EndpointId::of("c0ffee", "eth0").unwrap();
        if served { self.serve_as(endpoint, pod, &[]) } else { self.tell(Change::Remove(endpoint)) }
    }

    /// Serves a pod's namespace, as an attachment with these addresses.
    pub(crate) fn serve_as(&mut self, endpoint: EndpointId, pod: &NetNs, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let (netns_cookie, netns_inode) = (pod.cookie().unwrap(), pod.id().inode);
        self.tell(Change::Put(ServiceClient { endpoint, netns_cookie, netns_inode, addresses }));
    }

    fn tell(&mut self, change: Change<ServiceClient>) {
        self.2.stage(change).unwrap();
        self.2.stage(Change::InSync).unwrap();
        assert!(self.1.block_on(self.2.commit()).is_complete());
        assert!(self.1.block_on(self.2.resync()).unwrap().is_none(), "what was written is what is read");
    }

    pub(crate) fn put(&mut self, items: Vec<ServiceItem>) {
        items.into_iter().for_each(|item| self.0.stage(Change::Put(item)).unwrap());
        self.commit();
    }

    fn commit(&mut self) {
        self.0.stage(Change::InSync).unwrap();
        let report = self.1.block_on(self.0.commit());
        assert!(report.is_complete(), "{report:?}");
        let again = self.1.block_on(self.0.resync()).unwrap();
        assert!(again.is_none(), "what was written is what is read: {again:?}");
    }
}

/// How often each backend answered.
fn spread(client: &mut Client, how: &str, to: &str, rounds: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        let (server, peer) = client.ask(how, to).unwrap();
        assert_eq!(peer, to, "{how}: the socket shows the service");
        *counts.entry(server).or_default() += 1;
    }
    counts
}

const WAYS: [(&str, &str); 8] = [
    ("tcp", V4),
    ("tcp", V6),
    ("tcp", MAPPED),
    ("connected", V4),
    ("connected", V6),
    ("udp", V4),
    ("udp", V6),
    ("udp", MAPPED),
];

#[test]
fn connections_are_spread_over_backends_and_sockets_show_the_service() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(items("abc"));
        let mut client = client(&cgroup.0);
        for (how, to) in WAYS {
            let counts = spread(&mut client, how, to, 30);
            assert!(counts.len() == 3 && counts.values().all(|count| *count == 10), "{how} {to}: {counts:?}");
        }
        let (server, peer) = client.ask("tcp", "10.96.1.2:8080").unwrap();
        assert_eq!((server.as_str(), peer.as_str()), ("b", "10.96.1.2:8080"), "a backend itself is no service");
    });
}

#[test]
fn a_removed_backend_gets_no_connection_and_without_one_they_are_refused() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(items("abc"));
        let mut client = client(&cgroup.0);
        proxy.put(items("ac"));
        for (how, to) in WAYS {
            let counts = spread(&mut client, how, to, 20);
            assert_eq!(counts.keys().collect::<Vec<_>>(), ["a", "c"], "{how} {to}");
        }
        proxy.put(items(""));
        for (how, to) in WAYS {
            assert_eq!(client.ask(how, to), Err("ConnectionRefused".to_owned()), "{how} {to}");
        }
        items("").into_iter().for_each(|item| proxy.0.stage(Change::Remove(item.key)).unwrap());
        proxy.commit();
        let error = client.ask("tcp", V4).unwrap_err();
        assert_ne!(error, "ConnectionRefused", "an address that is no service goes where routes say");
    });
}

#[test]
fn a_client_stays_with_its_backend_for_as_long_as_it_is_there() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        let affine =
            |backends, seconds| ServiceItem { affinity_seconds: NonZeroU32::new(seconds), ..item(V4, 6, backends) };
        proxy.put(vec![affine("abc", 3600)]);
        let mut client = client(&cgroup.0);
        let first = spread(&mut client, "tcp", V4, 12);
        assert_eq!(first.len(), 1, "{first:?}");
        let first = first.into_keys().next().unwrap();
        let others: String = ["a", "b", "c"].into_iter().filter(|name| *name != first).collect();
        let kept = format!("{first}{}", &others[..1]);
        proxy.put(vec![affine(&kept, 3600)]);
        assert_eq!(spread(&mut client, "tcp", V4, 12).into_keys().collect::<Vec<_>>(), std::slice::from_ref(&first));
        proxy.put(vec![affine(&others, 3600)]);
        let second = spread(&mut client, "tcp", V4, 12);
        assert!(second.len() == 1 && !second.contains_key(&first), "{second:?}");
    });
}

#[test]
fn maglev_leads_a_client_to_one_backend() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(vec![ServiceItem { scheduler: Scheduler::Maglev, ..item(V4, 6, "abc") }]);
        let mut client = client(&cgroup.0);
        assert_eq!(spread(&mut client, "tcp", V4, 12).len(), 1);
    });
}

#[test]
fn services_go_on_without_an_agent_and_the_next_one_finds_them() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let mut first = Proxy::open(&cgroup.0);
        first.put(items("abc"));
        let mut client = client(&cgroup.0);
        drop(first);
        assert_eq!(spread(&mut client, "tcp", V4, 9).len(), 3, "without an agent");
        let mut second = Proxy::open(&cgroup.0);
        items("abc").into_iter().for_each(|item| second.0.stage(Change::Put(item)).unwrap());
        assert!(second.0.plan().steps.is_empty(), "all of it is there: {}", second.0.plan());
        second.put(items("b"));
        assert_eq!(spread(&mut client, "udp", V6, 9).into_keys().collect::<Vec<_>>(), ["b"]);
        drop(second);
        EbpfServices.clear().unwrap();
        EbpfServices.clear().unwrap();
        // The kernel takes a program off a moment after its pin went.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while client.ask("tcp", V4).is_ok() {
            assert!(std::time::Instant::now() < end, "cleared: no service any more");
        }
        assert!(!std::fs::exists("/sys/fs/bpf/cnidarian").unwrap(), "nothing is left, no folder either");
    });
}

#[test]
fn sockets_outside_of_the_cgroup_are_left_alone() {
    let (Some(cgroup), Some(other)) = (Cgroup::new(), Cgroup::new()) else { return };
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.put(items(""));
        let mut client = client(&other.0);
        assert_ne!(client.ask("tcp", V4).unwrap_err(), "ConnectionRefused");
    });
}

fn who_answers(client: &mut Client, to: &str) -> Result<String, String> {
    client.ask("tcp", to).map(|(server, _)| server)
}

#[test]
fn an_agent_serves_its_own_namespaces_only_however_many_share_a_cgroup() {
    let Some(cgroup) = Cgroup::new() else { return };
    let cgroup = &cgroup.0;
    let (pod, stranger) = (NetNs::new().unwrap(), NetNs::new().unwrap());
    [&pod, &stranger].into_iter().for_each(with_backends);
    in_a_namespace(|| {
        let mut first = Proxy::open(cgroup);
        first.put(items("a"));
        let mut of_first = client(cgroup);
        in_a_namespace(|| {
            let mut second = Proxy::open(cgroup);
            second.put(items("b"));
            let mut of_second = client(cgroup);
            for (how, to) in WAYS {
                let answer = |client: &mut Client| client.ask(how, to).map(|(server, _)| server);
                assert_eq!(answer(&mut of_first).as_deref(), Ok("a"), "{how} {to}: the first one's node");
                assert_eq!(answer(&mut of_second).as_deref(), Ok("b"), "{how} {to}: the second one's node");
            }
            let inside = |namespace: &NetNs| namespace.run(|| client(cgroup)).unwrap();
            let (mut in_pod, mut in_stranger) = (inside(&pod), inside(&stranger));
            assert!(who_answers(&mut in_pod, V4).is_err(), "nobody's pod yet");
            second.serve(&pod, true);
            assert_eq!(who_answers(&mut in_pod, V4).as_deref(), Ok("b"), "the second one's pod");
            assert!(who_answers(&mut in_stranger, V4).is_err(), "nobody's pod");
            // What refuses for one node refuses for nobody else.
            second.put(items(""));
            assert_eq!(who_answers(&mut in_pod, V4).unwrap_err(), "ConnectionRefused");
            assert_eq!(who_answers(&mut of_first, V4).as_deref(), Ok("a"));
            assert_ne!(who_answers(&mut in_stranger, V4).unwrap_err(), "ConnectionRefused");
            second.serve(&pod, false);
            assert_ne!(who_answers(&mut in_pod, V4).unwrap_err(), "ConnectionRefused", "nobody's pod any more");
        });
    });
}

/// It is answered inside of the pod: a backend's address that is its own does not leave it.
#[test]
fn a_pod_that_is_a_services_only_backend_reaches_itself_by_it() {
    const OWN: [&str; 2] = ["10.96.2.1", "fd96:2::1"];
    let Some(cgroup) = Cgroup::new() else { return };
    let pod = NetNs::new().unwrap();
    let serve = || {
        run("ip link set lo up");
        for own in OWN {
            run(&format!("ip address add {own} dev lo nodad"));
            serve_named(own.parse().unwrap(), "itself");
        }
    };
    pod.run(serve).unwrap();
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        let mut all = items("a");
        for item in &mut all {
            let family = usize::from(item.key.address.is_ipv6());
            item.backends =
                [ServiceBackend { address: OWN[family].parse().unwrap(), ..item.backends[0].clone() }].into();
        }
        proxy.put(all);
        proxy.serve(&pod, true);
        let mut client = client_in(&cgroup.0, &pod);
        for (how, to) in WAYS {
            assert_eq!(spread(&mut client, how, to, 3), [("itself".to_owned(), 3)].into(), "{how} {to}");
        }
    });
}

#[test]
fn a_full_map_is_named_by_its_key_and_other_sizes_are_other_maps_filled_before_programs_use_them() {
    let Some(cgroup) = Cgroup::new() else { return };
    in_a_namespace(|| {
        let sized = |backends| Config {
            cgroup: Some(cgroup.0.clone()),
            maps: Sizes { backends, ..Sizes::default() },
            ..Config::default()
        };
        let mut proxy = Proxy::open_with(&sized(2));
        proxy.0.stage(Change::Put(item(V4, 6, "abc"))).unwrap();
        proxy.0.stage(Change::InSync).unwrap();
        let report = proxy.1.block_on(proxy.0.commit());
        let told = report.failed.iter().find(|failure| failure.error.field == Some("maps.backends"));
        assert!(told.is_some_and(|told| told.error.detail.starts_with("all 2 entries")), "{report:?}");
        let mut client = client(&cgroup.0);
        assert!(client.ask("tcp", V4).is_err(), "no frontend without all of its backends");
        proxy.put(vec![item(V4, 6, "ab")]);
        drop(proxy);
        let mut proxy = Proxy::open_with(&sized(64));
        proxy.put(vec![item(V4, 6, "abc")]);
        assert_eq!(spread(&mut client, "tcp", V4, 9).len(), 3);
        let folders = std::fs::read_dir("/sys/fs/bpf/cnidarian").unwrap().flatten().next().unwrap().path();
        let maps = std::fs::read_dir(folders.join("services")).unwrap().flatten();
        let maps = maps.filter(|file| file.file_name().to_string_lossy().starts_with("maps-")).count();
        assert_eq!(maps, 1, "the small ones are gone");
    });
}

#[test]
fn a_connected_udp_socket_ends_with_its_backend_and_others_go_on() {
    let Some(cgroup) = Cgroup::new() else { return };
    let pod = NetNs::new().unwrap();
    with_backends(&pod);
    in_a_namespace(|| {
        let mut proxy = Proxy::open(&cgroup.0);
        proxy.serve(&pod, true);
        let mut clients = vec![client(&cgroup.0)];
        // Sockets of pods are reached where a namespace can be opened by its number (Linux 6.18).
        if NetNs::by_cookie(pod.cookie().unwrap(), pod.id().inode.try_into().unwrap()).is_ok() {
            clients.push(pod.run(|| client(&cgroup.0)).unwrap());
        } else {
            println!("skipped for pods: this kernel opens no namespace by its number");
        }
        for (held, backend) in [(V4, "10.96.1.1:8080"), (V6, "[fd96:1::1]:8080"), (MAPPED, "[::ffff:10.96.1.1]:8080")] {
            for client in &mut clients {
                proxy.put(items("a"));
                assert_eq!(client.ask("hold", held).unwrap().0, "a", "{held}");
                proxy.put(items("ab"));
                assert_eq!(client.ask("held", held).unwrap().0, "a", "another backend changes nothing");
                proxy.put(items("b"));
                assert_eq!(client.ask("held", held).unwrap_err(), "ConnectionAborted", "{held}");
                assert_eq!(client.ask("connected", held).unwrap().0, "b");
                // Who went there without a service is left alone.
                assert_eq!(client.ask("hold", backend).unwrap().0, "a");
                proxy.put(items("ab"));
                proxy.put(items("b"));
                assert_eq!(client.ask("held", backend).unwrap().0, "a");
            }
        }
    });
}
